"""Budgets: what a run may take in tokens, dollars, time and disk, watched while it runs.

Reads the sizes of a run's files and the usage in its trajectories and labels; writes nothing.

    with BudgetWatch(Budget(tokens=1_000_000), run.path, stop) as watch:
        ...                                     # stop is set when a budget is spent
    watch.spent                                 # None, or which one, in words
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from loguru import logger

from srft.env.errors import InputError
from srft.harness.loop.loop_config import Budget
from srft.harness.run.tokens import TokenCount, refuse

INTERVAL_S = 2.0


class BudgetWatch:
    """Sets an event when a budget is spent.

    To enter it raises InputError for a broken record; one that comes later causes a warning, and the watch continues.
    """

    def __init__(self, budget: Budget, folder: Path, stop: threading.Event) -> None:
        self._budget, self._folder, self._stop = budget, folder, stop
        self._began = time.monotonic()
        self._count = TokenCount(folder)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="budget")
        self._said: set[str] = set()
        self.spent: str | None = None

    def __enter__(self) -> Self:
        self._look(refuse)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while self.spent is None and not self._ended.wait(INTERVAL_S):
            self._look(self._warn)

    def _warn(self, error: InputError) -> None:
        if str(error) not in self._said:
            self._said.add(str(error))
            logger.warning("budget: {}; the rest is counted on", error)

    def _look(self, broken: Callable[[InputError], None]) -> None:
        self.spent = self._spent(broken)
        if self.spent:
            self._stop.set()

    def _spent(self, broken: Callable[[InputError], None]) -> str | None:
        limits = self._budget
        if limits.wall_s is not None and (seconds := time.monotonic() - self._began) > limits.wall_s:
            return f"budget.wall_s: {seconds:.0f} s of {limits.wall_s:.0f} s are over"
        if limits.usd is not None:
            self._count.look(broken)
            if (usd := self._count.usd) > limits.usd:
                return f"budget.usd: USD {usd:,.2f} of {limits.usd:,.2f} are spent"
        if limits.tokens is not None and (tokens := self._count.look(broken)) > limits.tokens:
            return f"budget.tokens: {tokens:,} tokens of {limits.tokens:,} are spent"
        if limits.disk_gib is not None and (size := _bytes_below(self._folder)) > limits.disk_gib * (1 << 30):
            return f"budget.disk_gib: {self._folder} takes {size / (1 << 30):.1f} GiB of {limits.disk_gib:g}"
        return None


def _bytes_below(folder: Path) -> int:
    """What a folder's files take on disk; one that goes away meanwhile, or cannot be looked at, counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                continue
    return total
