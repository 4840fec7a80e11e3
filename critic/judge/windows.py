"""Windows on a run that is too long to be judged at once, and how their verdicts come together.

    plan_windows(Window(0, 6), [40, 40, 40, 40, 40, 40], room=130, overlap=1)
    # [Window(first=0, end=3), Window(first=2, end=5), Window(first=4, end=6)]

The merge rule: a step that several windows judge takes the verdict of the window in which it lies further from the
nearest edge; where that is equal, of the later window, which has seen more of what followed. A verdict wins over an
abstention.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from srft.critic.judge.answers import Opinion


class Window(NamedTuple):
    """The steps from `first` up to, and without, `end`."""

    first: int
    end: int

    def edge_distance(self, step: int) -> int:
        """How many steps of the window lie between this one and the nearest edge."""
        return min(step - self.first, self.end - 1 - step)


def plan_windows(span: Window, costs: Sequence[int], *, room: float, overlap: int) -> list[Window]:
    """Windows that cover a span, each as long as the room allows, one step at least.

    costs: what each step of the run takes of the room (N,). overlap: steps that a window shares with the one before,
    at most a third of that one, and fewer where a new step would not fit in beside them.
    """
    windows, first = [], span.first
    while True:
        end, used = first + 1, costs[first]
        while end < span.end and used + costs[end] <= room:
            used += costs[end]
            end += 1
        windows.append(Window(first, end))
        if end >= span.end:
            return windows
        first = _overlapping(end, costs, room=room, most=min(overlap, (end - first) // 3))


def _overlapping(end: int, costs: Sequence[int], *, room: float, most: int) -> int:
    """Where the window after one that ends here begins: as far back as leaves room for the step that is new in it."""
    first, used = end, costs[end]
    while first > end - most and used + costs[first - 1] <= room:
        first -= 1
        used += costs[first]
    return first


def merge(judged: Iterable[tuple[Window, Mapping[int, Opinion]]]) -> dict[int, Opinion]:
    """Step -> the opinion that counts, by the rule above, in whichever order the windows come."""
    merged: dict[int, Opinion] = {}
    weights: dict[int, tuple[bool, int, int]] = {}
    for window, opinions in judged:
        for step, opinion in opinions.items():
            weight = (opinion.verdict is not None, window.edge_distance(step), window.first)
            if step not in merged or weight >= weights[step]:
                merged[step], weights[step] = opinion, weight
    return dict(sorted(merged.items()))
