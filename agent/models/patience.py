"""Retries of a request: for minutes, in growing pauses, as the server asks, within bounds.

patience = Patience(retry_s=600, max_retries=None, stop=None)
while patience.waits(retry_after_s=None):       # sleeps; False when the bounds are reached
    ...
patience.tried                                  # 'after 7 tries in 600 s'
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0


class Patience:
    """One request's tries. retry_s: counted from its first failure. stop: when set, every pause ends."""

    def __init__(self, *, retry_s: float, max_retries: int | None, stop: threading.Event | None) -> None:
        self._retry_s, self._max_retries = retry_s, max_retries
        self._stop = stop or threading.Event()
        self._first_failure_s: float | None = None
        self.retries = 0
        self.why_no_more = ""

    @property
    def tried(self) -> str:
        if not self.retries:
            return self.why_no_more.removeprefix("; ")
        retries = "1 retry" if self.retries == 1 else f"{self.retries} retries"
        waited_s = 0.0 if self._first_failure_s is None else time.monotonic() - self._first_failure_s
        return f"after {retries} in {waited_s:.0f} s{self.why_no_more}"

    def waits(self, retry_after_s: float | None = None) -> bool:
        """Sleep until the next try; False where there is none. retry_after_s: what the server asks for."""
        now_s = time.monotonic()
        self._first_failure_s = now_s if self._first_failure_s is None else self._first_failure_s
        left_s = self._retry_s - (now_s - self._first_failure_s)
        if self._stop.is_set() or left_s <= 0 or (self._max_retries is not None and self.retries >= self._max_retries):
            return False
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self.retries, 20), LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)
        if retry_after_s is not None:
            if retry_after_s > left_s:
                self.why_no_more = f"; it asks for a pause of {retry_after_s:.0f} s, which is more than retry_s leaves"
                return False
            pause_s = retry_after_s
        self.retries += 1
        return not self._stop.wait(min(pause_s, left_s))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date; `None` where it asks for nothing.

    >>> retry_after_s({"retry-after": "2.5"}), retry_after_s({"retry-after-ms": "1500"}), retry_after_s({})
    (2.5, 1.5, None)
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            return max(0.0, float(text) * unit_s)
        except ValueError:
            pass
        try:
            until = parsedate_to_datetime(text)
        except ValueError:
            continue
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    return None
