"""Step Rejection Fine-Tuning for software-engineering agents."""

from importlib.metadata import version

__version__ = version("srft")
