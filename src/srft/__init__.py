"""Step Rejection Fine-Tuning for software-engineering agents.

run = srft.open_run("runs/first")                      # a run as dataframes: run.df(), run.steps_df(), run.labels_df()
"""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srft.harness.frames import RunFrames

__version__ = version("srft")

_here = Path(__file__).resolve().parent
if not (_here / "env").is_dir():
    # A checkout whose links came out as files (core.symlinks=false, a zip archive): the layers lie at its root.
    __path__.append(str(_here.parents[1]))


def open_run(path: "str | Path") -> "RunFrames":
    """A run directory, to be read as dataframes. Raises InputError where it is not one."""
    from srft.harness.frames import open_run

    return open_run(path)
