"""Where a session's tests are graded: a folder for the while, of which the logs stay.

scratch = Scratch()
scratch.round                                   # a round with nothing in it
scratch.clear()                                 # all gone but the logs, which the verdicts name
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from srft.harness.run.store import Round


class Scratch:
    """A folder below the system's for temporary files."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="srft-debug-"))
        self.round = Round(self.path)

    @property
    def logs(self) -> Path | None:
        """The logs of the tests that were run; `None` where none were."""
        return self.round.logs if self.round.logs.is_dir() else None

    def clear(self) -> None:
        """Remove all but the logs. Idempotent."""
        for entry in self.path.iterdir() if self.path.is_dir() else ():
            if entry != self.round.logs:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or gone before
            self.path.rmdir()
