"""Step Rejection Fine-Tuning for software-engineering agents."""

from importlib.metadata import version
from pathlib import Path

__version__ = version("srft")

_here = Path(__file__).resolve().parent
if not (_here / "env").is_dir():
    # A checkout whose links came out as files (core.symlinks=false, a zip archive): the layers lie at its root.
    __path__.append(str(_here.parents[1]))
