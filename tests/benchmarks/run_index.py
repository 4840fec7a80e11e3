"""Reading a run of 20,000 trajectories: what a resumed collection and a report wait for, and the memory that they take.

The peer is srft itself at the last commit that read the files anew for each command, in a worktree of its own. Each
figure is of a process of its own, from after its imports on; `index` is the first reading, which makes the index on
disk, the others find it there. Peaks of memory stand beside the times.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.recorded_runs import NO_RUNS, recorded_runs
from benchmarks.rows import Bench, Row
from benchmarks.tiny_task import ROOT
from benchmarks.viewer import GOAL_MB, QUICK_RUNS, RUNS, write_runs

BEFORE = "a352eeb"
WORKER = Path(__file__).with_name("run_index_worker.py")
WHAT = ("report", "resume", "show")


class Taken(NamedTuple):
    """Of one process."""

    seconds: float
    peak_mb: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.peak_mb:.0f} MB"


def run_index(bench: Bench) -> dict[str, Row]:
    if not (recorded := recorded_runs()):
        return {"run_index": Row(value=None, unit="s", peer=NO_RUNS)}
    count = QUICK_RUNS if bench.quick else RUNS
    with tempfile.TemporaryDirectory(prefix="srft-bench-") as name:
        folder = Path(name, "run")
        folder.mkdir()
        size = write_runs(folder, [run.trajectory for run in recorded], count)
        del recorded
        with _before(Path(name, "before")) as source:
            before = {what: _take(what, folder, source) for what in WHAT} if source else {}
        made = _take("resume", folder, ROOT / "src")
        after = {what: _take(what, folder, ROOT / "src") for what in WHAT}
    data = f"{count:,} trajectories, {size / 1e9:.1f} GB"
    rows = {"run_index_made": Row(value=made.seconds, unit="s", peer=f"no peer; {made.peak_mb:.0f} MB; {data}")}
    return rows | {f"run_{what}": _row(after[what], before.get(what), data) for what in WHAT}


def _row(after: Taken, before: Taken | None, data: str) -> Row:
    peer = f"{before} at {BEFORE}" if before else f"no peer: the commit {BEFORE} is not in this checkout"
    return Row(
        value=after.seconds,
        unit="s",
        peer=f"{peer}; ours {after.peak_mb:.0f} MB; {data}",
        ratio=before.seconds / after.seconds if before else None,
        goal=f"faster, at most {GOAL_MB:g} MB",
        met=before.seconds > after.seconds and after.peak_mb <= GOAL_MB if before else None,
    )


@contextmanager
def _before(folder: Path) -> Iterator[Path | None]:
    """The sources of the peer; `None` where this checkout does not have them."""
    git = ["git", "-C", str(ROOT), "worktree"]
    added = subprocess.run([*git, "add", "--detach", str(folder), BEFORE], capture_output=True, check=False)
    try:
        yield folder / "src" if added.returncode == 0 else None
    finally:
        if added.returncode == 0:
            subprocess.run([*git, "remove", "--force", str(folder)], capture_output=True, check=False)


def _take(what: str, folder: Path, source: Path) -> Taken:
    done = subprocess.run(
        [sys.executable, str(WORKER), what, str(folder)],
        env=os.environ | {"PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, peak_mb = re.findall(r"[\d.]+", done.stdout)
    return Taken(float(seconds), float(peak_mb))
