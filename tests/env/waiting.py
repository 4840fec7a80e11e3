"""Waiting for what another thread, another process or the engine does.

wait_until(lambda: not exists(container))      # within a minute; else an AssertionError
"""

import time
from collections.abc import Callable

WITHIN_S = 60.0


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < deadline, f"not so within {WITHIN_S} s"
        time.sleep(0.05)
