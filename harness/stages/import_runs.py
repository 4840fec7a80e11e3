"""Import: runs of other systems, added to a run's trajectories.

Reads files, folders and Hub datasets (`agent/importing/importers.py`) and, if given, an official report of their
verdicts; appends to the `trajectories.jsonl` of round 0. Writes no run.yaml: nothing was collected here, and a
trajectory carries all that is known of it. A run has either imported or collected trajectories: a collection counts
what is on file as its attempts.

    with Run("runs/recorded") as run:
        imported = import_runs(["nebius/SWE-rebench-openhands-trajectories"], run, choice=Choice(outcome="unresolved"))
        imported.added, imported.resolved, imported.damaged

One run is in memory at a time, and of those on file 100 bytes each. The same command again adds what is missing and
nothing else: a run whose task, model and messages are on file, as whichever attempt, is known. A task's attempts are
numbered on from those on file.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from srft.agent.importing.columns import Dataset
from srft.agent.importing.importers import as_attempt, read_runs
from srft.agent.importing.readers import Tally
from srft.agent.importing.readers.report import read_report
from srft.agent.importing.readers.source import sources
from srft.agent.records import Trajectory, trajectory_id
from srft.env.errors import InputError
from srft.harness.run.run_yaml import refuse_collected
from srft.harness.run.store import Round, Run
from srft.harness.stages.progress import Progress

OTHER_TASK = "runs on tasks that --only does not name"
OTHER_OUTCOME = "runs of another outcome than --outcome"
_COUNTS = ("added", "on_file", "resolved", "unresolved", "unknown", "steps", "steps_with_exit_code", "patches", "tools")


Outcome = Literal["resolved", "unresolved", "all"]


class Choice(NamedTuple):
    """Which of the runs are imported, and how they are read.

    format: a key of `FORMATS`, a description, or "auto". tools: descriptions of tools for runs without any. only: task
    ids. outcome: the verdict that they came with. limit: at most so many, those counted that are on file already.
    """

    format: str | Dataset = "auto"
    tools: tuple[dict[str, Any], ...] = ()
    only: tuple[str, ...] | None = None
    outcome: Outcome = "all"
    limit: int | None = None


ALL = Choice()


class Imported(NamedTuple):
    """What an import came to.

    read: runs that are whole. added: of those chosen, the ones now on file that were not before; on_file: the others.
    The counts from resolved to stop_reasons are of the added runs; unknown: neither resolved nor not; patches, tools:
    how many runs have them; steps_with_exit_code: how many steps say how their command ended. formats: source ->
    format. damaged: one message a run, the first thousand; damaged_runs: how many. dropped, left_out: as in `Tally`.
    unreported: runs whose task the report has no verdict for. not_found: tasks of `only` without a run. stopped:
    whether it was told to stop before the end.
    """

    read: int
    added: int
    on_file: int
    resolved: int
    unresolved: int
    unknown: int
    steps: int
    steps_with_exit_code: int
    patches: int
    tools: int
    stop_reasons: dict[str, int]
    formats: dict[str, str]
    damaged: list[str]
    damaged_runs: int
    dropped: dict[str, int]
    left_out: dict[str, int]
    unreported: int | None
    not_found: list[str]
    stopped: bool


def check_input(files: Iterable[str | Path], folder: Path, choice: Choice) -> None:
    """Raises InputError where nothing can be imported, before a run directory is made: a name without anything behind
    it, a first source without a run that can be read, or a run directory that was collected in."""
    refuse_collected(folder, do="import")
    files = list(files)
    for file in files:
        sources(file)
    for file in files[:1]:
        next(read_runs(file, format=choice.format, tally=Tally()), None)


def import_runs(
    files: Iterable[str | Path],
    run: Run,
    *,
    choice: Choice = ALL,
    report: str | Path | None = None,
    stop: threading.Event | None = None,
    watch: Callable[[Progress], AbstractContextManager[None]] | None = None,
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
        _check_report(files, verdicts, choice=choice, report=report)
    adding = _Adding(_Known(round_), round_, choice, _Progress(total=choice.limit or 0))
    shown = watch(adding.progress) if watch else nullcontext()
    with shown, run.live.stage("import", round_.path, adding.progress.counts):
        is_through = adding.all_of(files, verdicts, stop or threading.Event())
    missing = set(choice.only or ()) - adding.tasks if is_through else set()
    is_stopped = stop is not None and stop.is_set()
    return adding.summary(unreported=verdicts is not None, not_found=sorted(missing), stopped=is_stopped)


class _Progress(Progress):
    """How many runs there will be is not known before they are read."""

    @property
    def eta_s(self) -> float | None:
        return super().eta_s if self.total else None


class _Adding:
    """An import under way: what is on file, what was added, and what was counted."""

    def __init__(self, known: _Known, round_: Round, choice: Choice, progress: Progress) -> None:
        self._known, self._round, self._choice, self.progress = known, round_, choice, progress
        self._tally, self._counts, self._stop_reasons = Tally(), Counter[str](), Counter[str]()
        self.tasks: set[str] = set()

    def all_of(self, files: list[str | Path], verdicts: Mapping[str, bool] | None, stop: threading.Event) -> bool:
        """Whether it came to the end, and neither to the limit nor to a stop."""
        chosen = 0
        for trajectory in _read(files, choice=self._choice, tally=self._tally):
            if verdicts is not None:
                self._counts["unreported"] += trajectory.task_id not in verdicts
                trajectory = _judged(trajectory, verdicts)
            if self._is_chosen(trajectory):
                chosen += 1
                self._add(trajectory)
            if stop.is_set() or chosen == self._choice.limit:
                return False
        return True

    def _is_chosen(self, trajectory: Trajectory) -> bool:
        choice = self._choice
        if choice.only is not None:
            if trajectory.task_id not in choice.only:
                self._tally.dropped[OTHER_TASK] += 1
                return False
            self.tasks.add(trajectory.task_id)
        if choice.outcome not in ("all", _outcome(trajectory)):
            self._tally.dropped[OTHER_OUTCOME] += 1
            return False
        return True

    def _add(self, trajectory: Trajectory) -> None:
        numbered = self._known.number(trajectory)
        if numbered is None:
            self._counts["on_file"] += 1
            self.progress.add(resumed=1)
            return
        self._round.trajectories.append(numbered)
        detail = f" ({numbered.detail})" if numbered.detail else ""
        self._stop_reasons[f"{numbered.stop_reason}{detail}"] += 1
        self._counts.update(
            {
                _outcome(numbered): 1,
                "added": 1,
                "steps": len(numbered.steps),
                "steps_with_exit_code": sum(step.exit_code is not None for step in numbered.steps),
                "patches": int(numbered.patch is not None),
                "tools": int(bool(numbered.tools)),
            }
        )
        self.progress.add(done=1, steps=len(numbered.steps))

    def summary(self, *, unreported: bool, not_found: list[str], stopped: bool) -> Imported:
        tally = self._tally
        return Imported(
            read=tally.read,
            **{name: self._counts[name] for name in _COUNTS},
            stop_reasons=dict(self._stop_reasons.most_common()),
            formats=tally.formats,
            damaged=tally.damaged,
            damaged_runs=tally.damaged_runs,
            dropped=dict(tally.dropped),
            left_out=dict(tally.left_out),
            unreported=self._counts["unreported"] if unreported else None,
            not_found=not_found,
            stopped=stopped,
        )


def _read(files: Iterable[str | Path], *, choice: Choice, tally: Tally) -> Iterator[Trajectory]:
    for file in files:
        yield from read_runs(file, format=choice.format, tally=tally, tools=choice.tools)


def _outcome(trajectory: Trajectory) -> str:
    names: dict[bool | None, str] = {True: "resolved", False: "unresolved", None: "unknown"}
    return names[trajectory.recorded_resolved]


class _Known:
    """The runs on file, and the next attempt of each task."""

    def __init__(self, round_: Round) -> None:
        self._keys: set[str] = set()  # of the runs that this command has added
        self._ids: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
        self._next: Counter[str] = Counter()
        for run in round_.index().runs:
            self._ids[run.task_id, run.model][run.attempt] = run.id
            self._next[run.task_id] = max(self._next[run.task_id], run.attempt + 1)

    def number(self, trajectory: Trajectory) -> Trajectory | None:
        """The run as its task's next attempt; `None` where it is on file as one of the earlier ones."""
        if (key := _id(trajectory, -1)) in self._keys:
            return None
        on_file = self._ids.get((trajectory.task_id, trajectory.model), {})
        if any(_id(trajectory, attempt) == id_ for attempt, id_ in on_file.items()):
            return None
        self._keys.add(key)
        attempt = self._next[trajectory.task_id]
        self._next[trajectory.task_id] = attempt + 1
        return trajectory if trajectory.attempt == attempt else as_attempt(trajectory, attempt)


def _id(run: Trajectory, attempt: int) -> str:
    """The id that a run has as an attempt of its task."""
    return trajectory_id(task_id=run.task_id, model=run.model, attempt=attempt, messages=run.messages)


def _judged(trajectory: Trajectory, verdicts: Mapping[str, bool]) -> Trajectory:
    verdict = verdicts.get(trajectory.task_id, trajectory.recorded_resolved)
    return msgspec.structs.replace(trajectory, recorded_resolved=verdict)


def _check_report(
    files: Iterable[str | Path], verdicts: Mapping[str, bool], *, choice: Choice, report: str | Path | None
) -> None:
    patches: dict[str, str | None] = {}
    for trajectory in _read(files, choice=choice, tally=Tally()):
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
