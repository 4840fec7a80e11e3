"""What is running in a run at this moment, for its pages: the version to compare, and the panel.

Reads live.json, and of the other files when they were changed; reads nothing that is in those, so that asking every
two seconds costs next to nothing.

    version_of(library)                         # {"files": "...", "live": "..."}: compare with what it was
    view = live_view(run)                       # None where there is nothing to tell
    view.state, view.stage.name, view.running[0].command
"""

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from srft.harness.look.web.places import Library
from srft.harness.run.live import FILE_NAME, Counts, Doing, LiveStage, State, read_live

FILES = ("trajectories.jsonl", "labels.jsonl", "grades.jsonl", "stages.json")
SHOWN_EPISODES = 50


class Running(NamedTuple):
    """An episode that is running. for_s: since it began; silent_s: since its last step, or its beginning."""

    doing: Doing
    for_s: float
    silent_s: float


class LiveView(NamedTuple):
    """state: whether a process works in the run. stage: the innermost one that counts, `within` the names of those
    around it. for_s: since the stage began. reason: why not all was done."""

    state: State
    stage: LiveStage | None
    within: list[str]
    counts: Counts
    for_s: float
    running: list[Running]
    more_running: int
    reason: str | None


def live_view(run: Path) -> LiveView | None:
    seen = read_live(run)
    if seen is None:
        return None
    now, live = time.time(), seen.live
    stages = live.stages
    stage = stages[-1] if stages else None
    counts = (stage.counts if stage else None) or Counts()
    # The episodes of a process that has ended are not running, whatever it last said.
    doing = sorted(counts.episodes, key=lambda one: one.began_at) if seen.is_running else []
    running = [
        Running(one, max(0.0, now - one.began_at), max(0.0, now - (one.stepped_at or one.began_at)))
        for one in doing[:SHOWN_EPISODES]
    ]
    return LiveView(
        state=seen.state,
        stage=stage,
        within=[one.name for one in stages[:-1]],
        counts=counts,
        for_s=max(0.0, (now if seen.is_running else live.told_at) - stage.began_at) if stage else 0.0,
        running=running,
        more_running=max(0, len(doing) - SHOWN_EPISODES),
        reason=live.reason,
    )


def version_of(library: Library) -> dict[str, str]:
    """What changes when what a page shows does; `live` when the panel alone does."""
    folders = [place.round.path for place in library.places()]
    return {
        "files": changes_of([*(folder / name for folder in folders for name in FILES), library.run / "report.html"]),
        "live": live_version(library.run),
    }


def live_version(run: Path) -> str:
    """Also another one when the process is no more, which no file tells."""
    seen = read_live(run)
    return "" if seen is None else f"{seen.state} {changes_of([run / FILE_NAME])}"


def changes_of(files: Iterable[Path]) -> str:
    """A hash of when and how far the files were written."""
    digest = hashlib.sha256()
    for path in files:
        try:
            status = path.stat()
            digest.update(f"{path}\0{status.st_mtime_ns} {status.st_size}\n".encode(errors="surrogateescape"))
        except OSError:
            continue
    return digest.hexdigest()[:16]
