"""A limit on how often something is done in a minute, over all threads.

Reads a clock, writes nothing.

    pulls = TokenBucket(10)
    pulls.take()      # 0.0 for the first ten, then the seconds that it waited
"""

import threading
import time
from collections.abc import Callable


class TokenBucket:
    """Lets `per_minute` callers through a minute, a burst of as many at once; `None` lets all through.

    `clock` and `wait` are time.monotonic and time.sleep unless a test says otherwise.
    """

    def __init__(
        self,
        per_minute: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        if per_minute is not None and per_minute <= 0:
            raise ValueError(f"expected more than 0 a minute, got {per_minute}; give None for no limit")
        self._per_minute = per_minute
        self._clock = clock
        self._wait = wait
        self._tokens = max(1.0, per_minute or 0)
        self._filled_at = clock()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Wait for the turn. Returns the seconds waited."""
        if self._per_minute is None:
            return 0.0
        with self._lock:
            now = self._clock()
            earned = (now - self._filled_at) * self._per_minute / 60
            # A debt is a place in the queue: whoever comes next waits the longer.
            self._tokens = min(max(1.0, self._per_minute), self._tokens + earned) - 1
            self._filled_at = now
            delay_s = max(0.0, -self._tokens * 60 / self._per_minute)
        if delay_s:
            self._wait(delay_s)
        return delay_s
