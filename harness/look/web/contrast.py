"""Two of a kind side by side: trajectories, one trajectory under two arms, the outcomes of two places.

contrast_runs(left, right)              # two Timelines: the steps in pairs
contrast_places(base, tuned)            # task by task: who resolved it, those that differ first
"""

from collections import defaultdict
from itertools import zip_longest
from typing import NamedTuple

from srft.harness.look.web.places import Place
from srft.harness.look.web.timeline import StepView, Timeline


class StepPair(NamedTuple):
    """Steps of one number; `None` where a run was over. differs: in verdict, weight or what was written."""

    left: StepView | None
    right: StepView | None
    differs: bool


def contrast_runs(left: Timeline, right: Timeline) -> list[StepPair]:
    return [StepPair(one, other, _differs(one, other)) for one, other in zip_longest(left.steps, right.steps)]


def _differs(one: StepView | None, other: StepView | None) -> bool:
    if one is None or other is None:
        return True
    return (one.code, one.weight, one.step.content) != (other.code, other.weight, other.step.content)


class TaskPair(NamedTuple):
    """One task in two places: attempts resolved, and attempts with a known outcome. change: right less left share."""

    task_id: str
    left: tuple[int, int]
    right: tuple[int, int]
    change: float | None


class PlacePair(NamedTuple):
    """better, worse, same: tasks by how their share of resolved attempts changed; those in one place alone apart."""

    tasks: list[TaskPair]
    better: int
    worse: int
    same: int


def contrast_places(left: Place, right: Place) -> PlacePair:
    """Tasks whose share changed come first."""
    counts_left, counts_right = _counts(left), _counts(right)
    tasks = []
    for task_id in sorted(counts_left.keys() | counts_right.keys()):
        one, other = counts_left.get(task_id, (0, 0)), counts_right.get(task_id, (0, 0))
        known = one[1] and other[1]
        tasks.append(TaskPair(task_id, one, other, other[0] / other[1] - one[0] / one[1] if known else None))
    changes = [task.change for task in tasks if task.change is not None]
    tasks.sort(key=lambda task: (-abs(task.change or 0), task.change or 0, task.task_id))
    return PlacePair(
        tasks,
        better=sum(change > 0 for change in changes),
        worse=sum(change < 0 for change in changes),
        same=sum(change == 0 for change in changes),
    )


def _counts(place: Place) -> dict[str, tuple[int, int]]:
    """Task -> (attempts resolved, attempts with a known outcome)."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for entry in place.standing:
        outcome = place.outcome(entry)
        if outcome is not None:
            outcomes[entry.task_id].append(outcome)
    return {task_id: (sum(known), len(known)) for task_id, known in outcomes.items()}
