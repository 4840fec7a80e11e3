"""A ceiling in dollars: whether one more run may be judged.

Reads and writes nothing; the stage tells it what is begun and what it came to cost.

    ceiling = Ceiling(20.0, spent=18.5, estimate=lambda trajectory: 0.11)
    ceiling.refuses(trajectory)                 # None, and the run is reserved for; or why it is not begun
    ceiling.ended(trajectory.id, 0.09)

What is under way counts by its estimate, so that many workers do not go over the ceiling together. Where there are no
prices, the first run's cost, as the server says it, is waited for; where the server says none either, nothing more is
begun.
"""

import threading
from collections.abc import Callable

from srft.agent.records import Trajectory

_UNKNOWN = (
    "max_usd: neither the server nor the configuration says what a call costs, so no ceiling can be kept; set "
    "judge.openai.usd_per_million_prompt and _completion, or leave max_usd out"
)


class Ceiling:
    """Shared by the threads of a stage. spent: on file before. estimate: of a run; `None` where there are no prices."""

    def __init__(self, most_usd: float, *, spent: float, estimate: Callable[[Trajectory], float | None]) -> None:
        self._most_usd, self._spent, self._estimate = most_usd, spent, estimate
        self._reserved: dict[str, float] = {}
        self._largest: float | None = None
        self._is_unknown = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Take back what was reserved: all is looked at anew."""
        with self._lock:
            self._reserved.clear()

    def waits(self, trajectory: Trajectory) -> bool:
        """Whether it is to be known first what the runs under way come to."""
        expected = self._expected(trajectory)
        with self._lock:
            if not self._reserved or self._is_unknown:
                return False
            return expected is None or self._spent + sum(self._reserved.values()) + expected > self._most_usd

    def refuses(self, trajectory: Trajectory) -> str | None:
        """Why a run is not to be begun; `None` where it may be, and is reserved for."""
        expected = self._expected(trajectory)
        with self._lock:
            if self._is_unknown:
                return _UNKNOWN
            spent, under_way = self._spent, sum(self._reserved.values())
            if spent + under_way + (expected or 0.0) > self._most_usd or spent >= self._most_usd:
                return (
                    f"max_usd: USD {spent:.4f} of {self._most_usd:g} are spent"
                    + (f", {under_way:.4f} are under way" if under_way else "")
                    + f", and the next run would cost about {expected or 0.0:.4f}; raise it and give the same command "
                    "again"
                )
            self._reserved[trajectory.id] = expected or 0.0
            return None

    def ended(self, run_id: str, usd: float | None) -> None:
        """A run is judged, or has failed, and has cost this much; `None` where nobody says."""
        with self._lock:
            self._reserved.pop(run_id, None)
            self._is_unknown = self._is_unknown or usd is None
            self._spent += usd or 0.0
            self._largest = max(self._largest or 0.0, usd or 0.0)

    def _expected(self, trajectory: Trajectory) -> float | None:
        """The estimate, else the largest cost so far."""
        estimated = self._estimate(trajectory)
        return self._largest if estimated is None else estimated
