"""Half-open intervals of whole numbers, and unions, gaps and differences of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Interval:
    """The whole numbers from `start` up to, but not including, `end`."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"interval ends at {self.end}, before its start {self.start}")

    def __len__(self) -> int:
        return self.end - self.start

    def __contains__(self, point: int) -> bool:
        return self.start <= point < self.end

    def overlaps(self, other: Interval) -> bool:
        """Whether at least one number lies in both."""
        return max(self.start, other.start) < min(self.end, other.end)

    def touches(self, other: Interval) -> bool:
        """Whether the two overlap or one begins where the other ends."""
        return self.start <= other.end and other.start <= self.end

    def shift(self, by: int = 1) -> Interval:
        """The same length, `by` further to the right."""
        return Interval(self.start + by, self.end + by)

    def intersection(self, other: Interval) -> Interval | None:
        """The numbers in both; None where there are none."""
        if not self.overlaps(other):
            return None
        return Interval(max(self.start, other.start), min(self.end, other.end))

    def minus(self, other: Interval) -> list[Interval]:
        """What is left of this interval without `other`: no piece, one, or two."""
        pieces = []
        if self.start < other.start:
            pieces.append(Interval(self.start, min(self.end, other.start)))
        if other.end < self.end:
            pieces.append(Interval(max(self.start, other.end), self.end))
        return pieces


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """The fewest intervals that cover the same numbers, in order; empty ones are dropped."""
    merged: list[Interval] = []
    for interval in sorted(intervals):
        if len(interval) == 0:
            continue
        if merged and merged[-1].touches(interval):
            last = merged.pop()
            interval = Interval(last.start, max(last.end, interval.end))
        merged.append(interval)
    return merged


def gaps(intervals: Iterable[Interval]) -> list[Interval]:
    """The stretches between the intervals that none of them covers."""
    covered = merge(intervals)
    return [Interval(left.end, right.start) for left, right in zip(covered, covered[1:])]


def covered_length(intervals: Iterable[Interval]) -> int:
    """How many numbers lie in at least one interval."""
    return sum(len(interval) for interval in merge(intervals))


def parse(text: str, separator: str = "-") -> Interval:
    """Read "3-7" as the numbers 3 to 7 with both ends, and "3" as the number 3 alone."""
    first, found, last = text.partition(separator)
    if not first:
        raise ValueError(f"no number before {separator!r} in {text!r}")
    if not found:
        last = first
    return Interval(int(first), int(last) + 1)
