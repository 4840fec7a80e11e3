"""Two models on the same tasks, from the files of their runs.

    compare("runs/a", "runs/demo:round-001/evaluation/srft").difference

Reads trajectories.jsonl and grades.jsonl; writes nothing, locks nothing. A side is a run, or a folder of one: a
round's, or an evaluation's. Of a run with evaluations it is the model that the run ended with: the one promoted last,
else the best of the last round; else it is the run's newest round with episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from srft.env.errors import InputError
from srft.harness.look.report.episodes import rate_interval, read_episodes
from srft.harness.look.report.evaluations import evaluations_of
from srft.harness.run.find import round_folders
from srft.harness.run.stages import Stages
from srft.harness.statistics.paired import compare_verdicts
from srft.harness.statistics.statistics import Interval

NAMED = 3
"""Tasks that a message names."""


class Side(NamedTuple):
    """One of the two. verdicts: task -> a verdict an attempt; a task whose attempts are not graded has none."""

    folder: Path
    verdicts: Mapping[str, Sequence[bool]]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What `srft compare --json` prints. first, second: the folders that were read.

    only_in_first, only_in_second: tasks that the other side has no attempt at, left out (with --common); not_graded:
    tasks of both that one side has no verdict for, left out too. tasks: those compared. first_interval,
    second_interval: of each by itself. difference: second less first, with the bootstrap's interval over tasks.
    better, worse: how many tasks the second resolves more often, or less. p_value: McNemar's exact test, of several
    attempts a task the sign test over tasks. changed: task -> (first, second), each (resolved, attempts), of the tasks
    that are not alike.
    """

    first: str
    second: str
    tasks: int
    only_in_first: int
    only_in_second: int
    not_graded: int
    first_rate: float
    first_interval: Interval | None
    second_rate: float
    second_interval: Interval | None
    difference: float
    interval: Interval
    better: int
    worse: int
    p_value: float
    gained: list[str]
    lost: list[str]
    changed: dict[str, tuple[tuple[int, int], tuple[int, int]]]


def compare(first: str, second: str, *, common: bool = False) -> Compared:
    """common: runs on different tasks are compared on those that both have. Raises InputError."""
    one, other = read_side(first), read_side(second)
    only_first, only_second = one.verdicts.keys() - other.verdicts.keys(), other.verdicts.keys() - one.verdicts.keys()
    shared = sorted(one.verdicts.keys() & other.verdicts.keys())
    if not shared:
        raise InputError(f"{one.folder} and {other.folder} have no task in common; compare runs on the same tasks")
    if (only_first or only_second) and not common:
        raise InputError(
            f"different tasks: {_some(only_first)} in {one.folder} alone, {_some(only_second)} in {other.folder} "
            f"alone; give --common to compare the {len(shared)} that both have"
        )
    sides = [{task: side.verdicts[task] for task in shared} for side in (one, other)]
    paired = compare_verdicts([sides[0]], [sides[1]])
    if paired is None:
        raise InputError(f"{one.folder} and {other.folder}: no task has a verdict on both sides; grade them first")
    graded = [task for task in shared if sides[0][task] and sides[1][task]]
    rates = [[side[task] for task in graded] for side in sides]
    return Compared(
        first=str(one.folder),
        second=str(other.folder),
        tasks=paired.tasks,
        only_in_first=len(only_first),
        only_in_second=len(only_second),
        not_graded=len(shared) - len(graded),
        first_rate=paired.first_rate,
        first_interval=rate_interval(rates[0]),
        second_rate=paired.second_rate,
        second_interval=rate_interval(rates[1]),
        difference=paired.difference,
        interval=paired.interval,
        better=paired.only_second,
        worse=paired.only_first,
        p_value=paired.p_value,
        gained=paired.gained,
        lost=paired.lost,
        changed={task: (_of(sides[0][task]), _of(sides[1][task])) for task in (*paired.gained, *paired.lost)},
    )


def _of(attempts: Sequence[bool]) -> tuple[int, int]:
    return sum(attempts), len(attempts)


def _some(tasks: set[str]) -> str:
    named = ", ".join(sorted(tasks)[:NAMED])
    return f"{len(tasks)} ({named}{', ...' if len(tasks) > NAMED else ''})" if tasks else "none"


def read_side(name: str) -> Side:
    """A run, a folder of one, or both as RUN:FOLDER. Raises InputError."""
    run, colon, inside = name.rpartition(":")
    folder = Path(run, inside) if colon and not Path(name).exists() else Path(name)
    if not folder.is_dir():
        raise InputError(f"{name}: no such folder; expected a run, or RUN:round-001/evaluation/CELL")
    chosen = _chosen(folder)
    on_file = read_episodes(chosen)
    if on_file is None or not on_file.attempts:
        raise InputError(f"{chosen}: no episodes and no grades in it; expected a run, or RUN:round-001/evaluation/CELL")
    return Side(chosen, on_file.attempts_by_task())


def _chosen(folder: Path) -> Path:
    """The folder with the episodes that a run stands for; the folder itself where it is no run's."""
    rounds = [place for _, place in round_folders(folder)]
    if not rounds:
        return folder
    evaluated = [(place, evaluations_of(place, Stages.read(place), run=folder)) for place in rounds]
    measured = [(place, one) for place, one in evaluated if one.known_by is not None]
    promoted = [one for one in measured if one[1].promotion and one[1].promotion.decision == "promoted"]
    if measured:
        tried = any(one.promotion for _, one in measured)  # and all rolled back: it ended with the first, the base
        place, one = promoted[-1] if promoted else measured[0 if tried else -1]
        return place / "evaluation" / str(one.known_by)
    with_episodes = [
        place for place in rounds if (place / "trajectories.jsonl").exists() or (place / "grades.jsonl").exists()
    ]
    return with_episodes[-1] if with_episodes else rounds[-1]
