"""Two of a kind side by side: trajectories, one trajectory under two arms, the outcomes of two places.

contrast_runs(left, right).differing    # the steps that differ, in pairs; those that are the same apart
contrast_places(base, tuned)            # task by task: who resolved it, those that differ first, two runs of each
"""

from collections import defaultdict
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any, NamedTuple

from srft.harness.look.web.places import Place
from srft.harness.look.web.timeline import StepView, Timeline
from srft.harness.run.entries import RunEntry


class StepPair(NamedTuple):
    """Two steps; `None` where one run has no step for the other's. differs: of two runs, in what was written or seen;
    of one run under two arms, in verdict or in what is trained."""

    left: StepView | None
    right: StepView | None
    differs: bool


class Contrast(NamedTuple):
    """one_run: whether both sides are the same run, under two arms or critics; then every text is shown once."""

    one_run: bool
    differing: list[StepPair]
    same: list[StepPair]


def contrast_runs(left: Timeline, right: Timeline) -> Contrast:
    """Equal steps stand beside each other also where one side took more steps between them."""
    one_run = left.entry.id == right.entry.id
    told = _judged if one_run else _seen
    pairs = [
        StepPair(one, other, one is None or other is None or told(one) != told(other))
        for one, other in _aligned(left.steps, right.steps)
    ]
    return Contrast(
        one_run,
        differing=[pair for pair in pairs if pair.differs],
        same=[pair for pair in pairs if not pair.differs],
    )


def _aligned(left: list[StepView], right: list[StepView]) -> list[tuple[StepView | None, StepView | None]]:
    matcher = SequenceMatcher(None, list(map(_written, left)), list(map(_written, right)), autojunk=False)
    pairs: list[tuple[StepView | None, StepView | None]] = []
    for _, begin, end, other_begin, other_end in matcher.get_opcodes():
        pairs += zip_longest(left[begin:end], right[other_begin:other_end])
    return pairs


def _written(view: StepView) -> tuple[Any, ...]:
    return view.step.content, view.step.reasoning, tuple(map(str, view.step.tool_calls))


def _seen(view: StepView) -> tuple[Any, ...]:
    return *_written(view), view.step.observation


def _judged(view: StepView) -> tuple[Any, ...]:
    return view.code, (view.mask.state, view.mask.weight) if view.mask else None


class TaskPair(NamedTuple):
    """One task in two places: attempts resolved, and attempts with a known outcome. change: right less left share.

    runs: one of each place to compare, whose outcomes differ where there are such; `None` where a place has none.
    """

    task_id: str
    left: tuple[int, int]
    right: tuple[int, int]
    change: float | None
    runs: tuple[RunEntry, RunEntry] | None

    @property
    def change_words(self) -> str:
        """
        >>> [TaskPair("a", (0, n), (1, n), 1 / n, None).change_words for n in (1, 4)]
        ['gained', '+25 %']
        """
        if not self.change:
            return "same" if self.change == 0 else "–"
        if self.left[1] == self.right[1] == 1:
            return "gained" if self.change > 0 else "lost"
        return f"{'+' if self.change > 0 else '−'}{abs(self.change) * 100:.0f} %"


class PlacePair(NamedTuple):
    """tasks: those with a known outcome in both places. better, worse, same: by how their share of resolved attempts
    changed. alone: tasks with a known outcome in one place alone."""

    tasks: list[TaskPair]
    better: int
    worse: int
    same: int
    alone: int


def contrast_places(left: Place, right: Place) -> PlacePair:
    """Tasks whose share changed come first."""
    of_left, of_right = _outcomes(left), _outcomes(right)
    tasks = [_task_pair(task_id, of_left[task_id], of_right[task_id]) for task_id in of_left.keys() & of_right.keys()]
    tasks.sort(key=lambda task: (-abs(task.change or 0), task.change or 0, task.task_id))
    changes = [task.change or 0 for task in tasks]
    return PlacePair(
        tasks,
        better=sum(change > 0 for change in changes),
        worse=sum(change < 0 for change in changes),
        same=sum(change == 0 for change in changes),
        alone=len(of_left.keys() ^ of_right.keys()),
    )


Attempts = list[tuple[RunEntry, bool]]


def _outcomes(place: Place) -> dict[str, Attempts]:
    """Task -> its attempts with a known outcome, in their order."""
    attempts: dict[str, Attempts] = defaultdict(list)
    for entry in place.standing:
        outcome = place.outcome(entry)
        if outcome is not None:
            attempts[entry.task_id].append((entry, outcome))
    return {task_id: sorted(known, key=lambda one: one[0].attempt) for task_id, known in attempts.items()}


def _task_pair(task_id: str, left: Attempts, right: Attempts) -> TaskPair:
    counts = [(sum(outcome for _, outcome in side), len(side)) for side in (left, right)]
    change = counts[1][0] / counts[1][1] - counts[0][0] / counts[0][1]
    wanted = (False, True) if change > 0 else (True, False) if change < 0 else (None, None)
    chosen = [
        next((entry for entry, outcome in side if outcome == want), side[0][0])
        for side, want in zip((left, right), wanted, strict=True)
    ]
    return TaskPair(task_id, counts[0], counts[1], change, (chosen[0], chosen[1]))
