"""Two models, or two arms with all their seeds, on the same tasks, from the files of their runs.

    compare("runs/a", "runs/demo:round-001/evaluation/srft").difference
    compare("runs/demo:round-001/evaluation/all", "runs/demo:round-001/evaluation/srft", seeds=True).p_value

Reads trajectories.jsonl and grades.jsonl; writes nothing, locks nothing. A side is a run, or a folder of one: a
round's, or an evaluation's. Of a run with evaluations it is the model that the run ended with: the one promoted last,
else the best of the last round; else it is the run's newest round with episodes. With seeds, it is that model's arm:
the evaluations beside it of the same arm and other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from srft.env.errors import InputError
from srft.harness.facts.episodes import read_episodes
from srft.harness.facts.evaluations import evaluations_of
from srft.harness.facts.stages import arm_and_seed, places
from srft.harness.run.find import round_folders
from srft.harness.run.stages import Stages
from srft.harness.statistics.paired import (
    Comparison,
    Verdicts,
    arm_interval,
    compare_arms,
    compare_models,
    shared_rates,
)
from srft.harness.statistics.power import Spread, tasks_needed
from srft.harness.statistics.statistics import Interval, rate_interval

NAMED = 3
"""Tasks that a message names."""
BASE = "base"
PLANNED_SEEDS = (3, 4, 5, 6, 8, 10)


class Side(NamedTuple):
    """One of the two. seeds: of each training task -> a verdict an attempt; a task whose attempts are not graded has
    none. is_given: a model that is no training of a recipe: the base."""

    folder: Path
    seeds: list[Mapping[str, Sequence[bool]]]
    is_given: bool = False

    @property
    def tasks(self) -> set[str]:
        return set().union(*self.seeds)

    def on(self, tasks: Sequence[str]) -> list[Verdicts]:
        return [{task: seed.get(task, ()) for task in tasks} for seed in self.seeds]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to find a difference of `effect` between two arms in 80 % of experiments, at 5 %."""

    effect: float
    """A share: 0.05 are five points."""
    seed_spread: float
    """The standard deviation of a seed's share, as these arms' seeds show it; the attempts' noise taken out."""
    tasks: dict[int, int | None]
    """Seeds an arm -> tasks; `None` where no number of tasks makes up for the few seeds."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What `srft compare --json` prints."""

    first: str
    """The folder that was read."""
    second: str
    """The folder that was read."""
    seeds: tuple[int, int]
    tasks: int
    """Those compared: with a verdict in every seed of both."""
    only_in_first: int
    """Tasks that the second has no attempt at, left out (with --common)."""
    only_in_second: int
    """Tasks that the first has no attempt at, left out (with --common)."""
    not_graded: int
    """Tasks of both that one side has no verdict for, left out too."""
    first_rate: float
    first_interval: Interval | None
    """By itself; `None` for an arm of too few seeds."""
    second_rate: float
    second_interval: Interval | None
    """By itself; `None` for an arm of too few seeds."""
    difference: float
    """The second's rate less the first's."""
    interval: Interval | None
    """Of the difference; `None` for arms of too few seeds."""
    better: int
    """Tasks that the second resolves in more of its attempts."""
    worse: int
    """Tasks that the second resolves in less of its attempts."""
    p_value: float | None
    """`None` for arms of too few seeds."""
    test: str | None
    """The name of the test."""
    shows: str
    """What this comparison can show, in a sentence."""
    gained: list[str]
    lost: list[str]
    changed: dict[str, tuple[tuple[int, int], tuple[int, int]]]
    """Task -> (first, second), each (resolved, attempts), of the tasks that are not alike."""
    plan: Plan | None = None
    """With --plan."""


def compare(
    first: str, second: str, *, common: bool = False, seeds: bool = False, plan: float | None = None
) -> Compared:
    """common: runs on different tasks are compared on those that both have. seeds: the models' arms, with all their
    seeds. plan: a difference of shares to plan for. Raises InputError."""
    sides = (read_side(name, seeds=seeds) for name in (first, second))
    return compare_sides(*sides, common=common, seeds=seeds, plan=plan)


def compare_sides(
    one: Side, other: Side, *, common: bool = False, seeds: bool = False, plan: float | None = None
) -> Compared:
    """As `compare`, of sides that are read. Raises InputError."""
    only_first, only_second = one.tasks - other.tasks, other.tasks - one.tasks
    shared = sorted(one.tasks & other.tasks)
    if not shared:
        raise InputError(f"{one.folder} and {other.folder} have no task in common; compare runs on the same tasks")
    if (only_first or only_second) and not common:
        raise InputError(
            f"different tasks: {_some(only_first)} in {one.folder} alone, {_some(only_second)} in {other.folder} "
            f"alone; give --common to compare the {len(shared)} that both have"
        )
    if other.is_given and not one.is_given and seeds:
        raise InputError(f"{other.folder} is the base model; give it first, and the arm second")
    sides = one.on(shared), other.on(shared)
    found = _comparison(one, other, sides, seeds=seeds)
    if found is None:
        raise InputError(f"{one.folder} and {other.folder}: no task has a verdict on both sides; grade them first")
    changed = {task: (_of(sides[0], task), _of(sides[1], task)) for task in (*found.gained, *found.lost)}
    return Compared(
        first=str(one.folder),
        second=str(other.folder),
        seeds=found.seeds,
        tasks=found.tasks,
        only_in_first=len(only_first),
        only_in_second=len(only_second),
        not_graded=len(shared) - found.tasks,
        first_rate=found.first_rate,
        first_interval=_interval(sides, 0, is_model=one.is_given or not seeds),
        second_rate=found.second_rate,
        second_interval=_interval(sides, 1, is_model=other.is_given or not seeds),
        difference=found.difference,
        interval=found.interval,
        better=found.only_second,
        worse=found.only_first,
        p_value=found.p_value,
        test=found.test,
        shows=found.shows,
        gained=found.gained,
        lost=found.lost,
        changed=changed,
        plan=None if plan is None else _plan(plan, sides),
    )


def _comparison(
    one: Side, other: Side, sides: tuple[list[Verdicts], list[Verdicts]], *, seeds: bool
) -> Comparison | None:
    if seeds and not other.is_given:
        names = (_arm(one.folder), _arm(other.folder))
        return compare_arms(*sides, names=names, first_is_given=one.is_given)
    return compare_models(sides[0][0], sides[1][0])


def _interval(sides: tuple[list[Verdicts], list[Verdicts]], which: int, *, is_model: bool) -> Interval | None:
    """Of one side by itself, on the tasks that are compared."""
    shared = shared_rates(*sides)
    tasks = shared.tasks if shared else []
    if is_model:
        return rate_interval([sides[which][0][task] for task in tasks])
    return arm_interval([{task: seed[task] for task in tasks} for seed in sides[which]])


def _plan(effect: float, sides: tuple[list[Verdicts], list[Verdicts]]) -> Plan:
    shared = shared_rates(*sides)
    if shared is None or max(len(shared.first_ST), len(shared.second_ST)) < 2 or len(shared.tasks) < 2:
        raise InputError(
            "--plan measures how far seeds differ, and neither side has two seeds; give --seeds, and an arm that was "
            "trained with several"
        )
    spread = Spread.measured(shared.first_ST, shared.second_ST)
    tasks = {seeds: tasks_needed(effect, seeds=seeds, spread=spread) for seeds in PLANNED_SEEDS}
    return Plan(effect=effect, seed_spread=spread.seeds, tasks=tasks)


def _arm(folder: Path) -> str:
    return arm_and_seed(folder.name)[0]


def _of(seeds: Sequence[Verdicts], task: str) -> tuple[int, int]:
    return sum(sum(seed[task]) for seed in seeds), sum(len(seed[task]) for seed in seeds)


def _some(tasks: set[str]) -> str:
    named = ", ".join(sorted(tasks)[:NAMED])
    return f"{len(tasks)} ({named}{', ...' if len(tasks) > NAMED else ''})" if tasks else "none"


def read_side(name: str, *, seeds: bool = False) -> Side:
    """A run, a folder of one, or both as RUN:FOLDER; with all the seeds of its arm. Raises InputError."""
    run, colon, inside = name.rpartition(":")
    folder = Path(run, inside) if colon and not Path(name).exists() else Path(name)
    if not folder.is_dir():
        raise InputError(f"{name}: no such folder; expected a run, or RUN:round-001/evaluation/CELL")
    chosen = _chosen(folder)
    on_file = read_episodes(chosen)
    if on_file is None or not on_file.attempts:
        raise InputError(f"{chosen}: no episodes and no grades in it; expected a run, or RUN:round-001/evaluation/CELL")
    is_given = chosen.name == BASE
    others = [place for place in places(chosen.parent) if place != chosen and _arm(place) == _arm(chosen)]
    found = [on_file, *map(read_episodes, others if seeds and not is_given else ())]
    return Side(chosen, [one.attempts_by_task() for one in found if one is not None and one.attempts], is_given)


def _chosen(folder: Path) -> Path:
    """The folder with the episodes that represent a run; the folder itself where it is no run's."""
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
