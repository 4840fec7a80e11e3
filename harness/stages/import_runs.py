"""Import: runs of other systems, added to a run's trajectories.

Reads files of runs (`agent/importing/importers.py`) and, if given, an official report of their verdicts; appends to the
`trajectories.jsonl` of round 0. Writes no run.yaml: nothing was collected here, and a trajectory carries all that is
known of it. A run has either imported or collected trajectories: a collection counts what is on file as its attempts.

    with Run("runs/recorded") as run:
        imported = import_runs(["runs.jsonl.gz"], run, report="model.run.json")
        imported.added, imported.resolved, imported.damaged

The same command again adds nothing: a run whose task, model and messages are on file, as whichever attempt, is known.
A task's attempts are numbered on from those on file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from srft.agent.importing.importers import as_attempt, read_runs
from srft.agent.importing.readers.report import read_report
from srft.agent.importing.readers.tally import Tally
from srft.agent.records import Trajectory
from srft.env.errors import InputError
from srft.harness.run.run_yaml import refuse_collected
from srft.harness.run.store import JsonLines, Round, Run


class Imported(NamedTuple):
    """What an import came to.

    read: runs that are whole. added: of those, the ones now on file that were not before; on_file: the others. The
    counts up to stop_reasons are of the added runs; unknown: neither resolved nor not. formats: file -> format.
    damaged: one message a run; dropped, left_out: as in `Tally`. unreported: runs whose task the report has no verdict
    for.
    """

    read: int
    added: int
    on_file: int
    resolved: int
    unresolved: int
    unknown: int
    steps: int
    stop_reasons: dict[str, int]
    formats: dict[str, str]
    damaged: list[str]
    dropped: dict[str, int]
    left_out: dict[str, int]
    unreported: int | None


class _OnFile(msgspec.Struct, frozen=True, kw_only=True):
    """What tells a trajectory from another, without its messages."""

    id: str
    task_id: str
    attempt: int


def import_runs(
    files: Iterable[str | Path],
    run: Run,
    *,
    format: str = "auto",
    report: str | Path | None = None,
    into: Round | None = None,
) -> Imported:
    """Add the runs of these files. Raises InputError for a file without any run that can be read, and for a run
    directory that was collected in. into: the round of a loop that imports its runs; round 0 unless given.

    The report is checked against all runs before the first is added. Raises InputError where it contradicts a verdict
    that a run came with, or cannot tell which of a task's runs it is about.
    """
    if into is None:
        refuse_collected(run.path, do="import")
    files, round_ = list(files), into or run.round(0)
    verdicts = None if report is None else read_report(report)
    if verdicts is not None:
        _check_report(files, verdicts, format=format, report=report)
    known = _Known(round_)
    tally, counts, stop_reasons = Tally(), Counter[str](), Counter[str]()
    for trajectory in _read(files, format=format, tally=tally):
        if verdicts is not None:
            counts["unreported"] += trajectory.task_id not in verdicts
            trajectory = _judged(trajectory, verdicts)
        numbered = known.number(trajectory)
        if numbered is None:
            counts["on_file"] += 1
            continue
        round_.trajectories.append(numbered)
        counts[_outcome(numbered)] += 1
        counts["added"] += 1
        counts["steps"] += len(numbered.steps)
        stop_reasons[f"{numbered.stop_reason} ({numbered.detail})" if numbered.detail else numbered.stop_reason] += 1
    return Imported(
        read=tally.read,
        **{name: counts[name] for name in ("added", "on_file", "resolved", "unresolved", "unknown", "steps")},
        stop_reasons=dict(stop_reasons.most_common()),
        formats=tally.formats,
        damaged=tally.damaged,
        dropped=dict(tally.dropped),
        left_out=dict(tally.left_out),
        unreported=None if verdicts is None else counts["unreported"],
    )


def _read(files: Iterable[str | Path], *, format: str, tally: Tally) -> Iterator[Trajectory]:
    for file in files:
        yield from read_runs(file, format=format, tally=tally)


def _outcome(trajectory: Trajectory) -> str:
    names: dict[bool | None, str] = {True: "resolved", False: "unresolved", None: "unknown"}
    return names[trajectory.recorded_resolved]


class _Known:
    """The runs on file, and the next attempt of each task."""

    def __init__(self, round_: Round) -> None:
        self._ids: set[str] = set()
        self._attempts: defaultdict[str, list[int]] = defaultdict(list)
        for trajectory in JsonLines(round_.trajectories.path, _OnFile).read():
            self._add(trajectory.id, trajectory.task_id, trajectory.attempt)

    def _add(self, identity: str, task_id: str, attempt: int) -> None:
        self._ids.add(identity)
        self._attempts[task_id].append(attempt)

    def number(self, trajectory: Trajectory) -> Trajectory | None:
        """The run as its task's next attempt; `None` where it is on file as one of the earlier ones."""
        attempts = self._attempts[trajectory.task_id]
        if any(as_attempt(trajectory, attempt).id in self._ids for attempt in attempts):
            return None
        numbered = as_attempt(trajectory, max(attempts, default=-1) + 1)
        self._add(numbered.id, numbered.task_id, numbered.attempt)
        return numbered


def _judged(trajectory: Trajectory, verdicts: Mapping[str, bool]) -> Trajectory:
    verdict = verdicts.get(trajectory.task_id, trajectory.recorded_resolved)
    return msgspec.structs.replace(trajectory, recorded_resolved=verdict)


def _check_report(
    files: Iterable[str | Path], verdicts: Mapping[str, bool], *, format: str, report: str | Path | None
) -> None:
    patches: dict[str, str | None] = {}
    for trajectory in _read(files, format=format, tally=Tally()):
        task_id = trajectory.task_id
        if task_id not in verdicts:
            continue
        if trajectory.recorded_resolved not in (None, verdicts[task_id]):
            raise InputError(
                f"{report}: {task_id} is {_word(verdicts[task_id])} there, and its run came with the verdict "
                f"{_word(trajectory.recorded_resolved)}; is it the report of these runs?"
            )
        if patches.setdefault(task_id, trajectory.patch) != trajectory.patch:
            raise InputError(
                f"{report}: a report has one verdict a task, and {task_id} has runs with different patches here; "
                "import the runs of one report at a time"
            )


def _word(resolved: bool | None) -> str:
    return "resolved" if resolved else "not resolved"
