"""The recorded run that a session starts in: one of ours, or of any system that `srft import` reads.

run = recorded_run(Path("runs/first/round-000/trajectories.jsonl"), task_id="flask__flask-1", attempt=None)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from srft.agent.importing.importers import read_runs
from srft.agent.records import Trajectory
from srft.env.errors import InputError
from srft.harness.run.store import JsonLines


def recorded_run(path: Path, *, task_id: str, attempt: int | None) -> Trajectory:
    """The first run on the task, or that of the attempt. Raises InputError."""
    seen: list[int] = []
    for run in _runs(path):
        if run.task_id == task_id:
            if attempt in (None, run.attempt):
                return run
            seen.append(run.attempt)
    there = f"it has the attempts {', '.join(map(str, seen))}" if seen else "name a file that has one with --replay"
    wanted = "" if attempt is None else f", attempt {attempt}"
    raise InputError(f"{path}: no run on {task_id}{wanted}; {there}")


def _runs(path: Path) -> Iterator[Trajectory]:
    """Our own records as they are: read as a chat they would lose whose each step was."""
    return JsonLines(path, Trajectory).read() if _is_ours(path) else read_runs(path)


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):  # not there, gzipped, a folder: `read_runs` says what is wrong, if anything
        return False
    return isinstance(first, dict) and {"schema_version", "steps", "stop_reason"} <= first.keys()
