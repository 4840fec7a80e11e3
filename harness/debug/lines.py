"""The history of a session: a point before each step, and the lines of points that its forks are.

Holds records; reads and writes nothing.

    lines = Lines()
    lines.arrive(point)            # the start, then one a step
    lines.fork(2)                  # a new line that has the points 0 to 2 of this one, which stays as it was
    lines.switch(0)                # and back

Lines share their points, so that a step's label is its own in every line that has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from srft.agent.records import Step, Trajectory
from srft.agent.tools.edit import Editor
from srft.env.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Point:
    """What it takes to come back: the state of an episode before a step.

    number: its own within the session. snapshot, directory: of the sandbox; no snapshot where the episode is over.
    finished: the record of the episode where it is over.
    """

    number: int
    messages: tuple[dict[str, Any], ...]
    steps: tuple[Step, ...]
    format_errors: int
    seen_ids: Sequence[int]
    editor: Editor
    snapshot: str | None
    directory: str | None
    finished: Trajectory | None = None


@dataclass
class Line:
    """Points 0 to n of one course of the episode. parent, begun_at: the line and the step that it leaves; `None`: the
    first."""

    number: int
    points: list[Point]
    parent: int | None = None
    begun_at: int = 0


class Fork(NamedTuple):
    """A line in short, as it is listed. stop_reason: how it ended; `None` where it can continue."""

    fork: int
    steps: int
    parent: int | None
    begun_at: int
    stop_reason: str | None
    is_here: bool


class Lines:
    """All lines of a session, one of them the one that it is on."""

    def __init__(self) -> None:
        self._here = Line(0, [])
        self._lines = [self._here]

    @property
    def here(self) -> Line:
        return self._here

    @property
    def all(self) -> tuple[Line, ...]:
        return tuple(self._lines)

    @property
    def tip(self) -> Point:
        return self._here.points[-1]

    def arrive(self, point: Point) -> None:
        self._here.points.append(point)

    def end(self, point: Point) -> None:
        """The last point again, over: no further step was taken."""
        self._here.points[-1] = point

    def point(self, step: int) -> Point:
        """The place before that step of this line. Raises InputError."""
        steps = len(self._here.points) - 1
        if not 0 <= step <= steps:
            raise InputError(f"step {step}: there is no such place; this line has the places 0 to {steps}")
        return self._here.points[step]

    def end_of(self, number: int) -> Point:
        """The last place of that line. Raises InputError."""
        if not 0 <= number < len(self._lines):
            raise InputError(f"fork {number}: there is none; this session has the forks 0 to {len(self._lines) - 1}")
        return self._lines[number].points[-1]

    def fork(self, step: int) -> None:
        """Stand before that step: on a new line, unless this one ends there. Raises InputError."""
        if self.point(step) is not self.tip:
            points = self._here.points[: step + 1]
            self._here = Line(len(self._lines), points, parent=self._here.number, begun_at=step)
            self._lines.append(self._here)

    def switch(self, number: int) -> None:
        """Stand at the end of that line. Raises InputError."""
        self.end_of(number)
        self._here = self._lines[number]

    def listed(self) -> list[Fork]:
        return [
            Fork(
                line.number,
                len(line.points) - 1,
                line.parent,
                line.begun_at,
                end.stop_reason if (end := line.points[-1].finished) else None,
                line is self._here,
            )
            for line in self._lines
        ]
