"""What a benchmark gives: `Row`s; and what it is given: `Bench`.

time_row([0.31, 0.33], peer="docker run -d", peer_s=[0.30, 0.29], goal=Goal(at_least_times=0.77)).met
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from benchmarks.mini import Mini


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of bench.json.

    peer: what ours was compared with and its own figure, or why there is none. ratio: how many times better ours is
    than the peer's (peer's time over ours, our rate over the peer's). met: `None` without a goal or without the peer.
    """

    value: float | None
    unit: str
    peer: str
    ratio: float | None = None
    goal: str | None = None
    met: bool | None = None


@dataclass(frozen=True)
class Bench:
    """What every benchmark gets. quick: fewer rounds."""

    quick: bool

    @cached_property
    def mini(self) -> Mini:
        """The peer, opened when it is first asked for."""
        from benchmarks.mini import open_mini

        return open_mini()

    def close(self) -> None:
        if "mini" in self.__dict__:
            self.mini.close()

    def rounds(self, count: int) -> int:
        return max(3, count // 10) if self.quick else count


@dataclass(frozen=True)
class Goal:
    """What is aimed at; all of it must hold. `text` where the figures alone do not say it."""

    at_most_ms: float | None = None
    at_least_times: float | None = None
    text: str | None = None

    def __str__(self) -> str:
        parts = []
        if self.at_most_ms is not None:
            parts.append(f"<= {self.at_most_ms:g} ms")
        if self.at_least_times is not None:
            parts.append(f">= {self.at_least_times:g}x")
        return self.text or " and ".join(parts)

    def met(self, value_ms: float, ratio: float | None) -> bool | None:
        if self.at_least_times is not None and ratio is None:
            return None
        fast = self.at_most_ms is None or value_ms <= self.at_most_ms
        return fast and (self.at_least_times is None or (ratio or 0.0) >= self.at_least_times)


def rate_row(
    ours_per_s: Sequence[float],
    *,
    unit: str,
    peer: str,
    peer_per_s: Sequence[float] = (),
    goal: Goal | None = None,
    note: str = "",
) -> Row:
    """Medians of rates. Without `peer_per_s`, `peer` says why it is missing."""
    value = median(ours_per_s)
    theirs = median(peer_per_s) if peer_per_s else None
    ratio = value / theirs if theirs else None
    return Row(
        value=round(value, 4),
        unit=unit,
        peer=peer + (f" {theirs:,.3g}" if theirs else "") + (f"; {note}" if note else ""),
        ratio=None if ratio is None else round(ratio, 2),
        goal=str(goal) if goal else None,
        met=goal.met(0.0, ratio) if goal else None,
    )


def time_row(
    ours_s: Sequence[float], *, peer: str, peer_s: Sequence[float] = (), goal: Goal | None = None, note: str = ""
) -> Row:
    """Medians of seconds, in milliseconds. Without `peer_s`, `peer` says why it is missing."""
    value_ms = median(ours_s) * 1e3
    peer_ms = median(peer_s) * 1e3 if peer_s else None
    ratio = peer_ms / value_ms if peer_ms is not None else None
    figure = f" {peer_ms:.1f} ms" if peer_ms is not None else ""
    return Row(
        value=round(value_ms, 4),
        unit="ms",
        peer=peer + figure + (f"; {note}" if note else ""),
        ratio=None if ratio is None else round(ratio, 2),
        goal=str(goal) if goal else None,
        met=goal.met(value_ms, ratio) if goal else None,
    )
