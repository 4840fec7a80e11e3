"""Budgets: what a run may take in tokens, time and disk, watched while it goes on.

Reads the sizes of a run's files and the usage in its trajectories and labels; writes nothing.

    with BudgetWatch(Budget(tokens=1_000_000), run.path, stop) as watch:
        ...                                     # stop is set when a budget is spent
    watch.spent                                 # None, or which one, in words
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from srft.agent.records import Usage
from srft.harness.loop_config import Budget

INTERVAL_S = 2.0


class _Counted(msgspec.Struct):
    """Of a step or of a critique, its usage alone."""

    usage: Usage | None = None


class _Line(msgspec.Struct):
    """A trajectory (steps) or a critique (usage), in short."""

    steps: tuple[_Counted, ...] = ()
    usage: Usage | None = None


class TokenCount:
    """The tokens in the records below a folder. Each file is read on from where the last look ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._decoder = msgspec.json.Decoder(_Line)
        self.tokens = 0

    def look(self) -> int:
        """All tokens so far: prompts and replies."""
        for name in ("trajectories.jsonl", "labels.jsonl"):
            for path in self._folder.rglob(name):
                for line in self._new_lines(path):
                    record = self._decoder.decode(line)
                    usages = [record.usage, *(step.usage for step in record.steps)]
                    self.tokens += sum((it.prompt_tokens or 0) + (it.completion_tokens or 0) for it in usages if it)
        return self.tokens

    def _new_lines(self, path: Path) -> Iterator[bytes]:
        with path.open("rb") as lines:
            lines.seek(self._offsets.get(path, 0))
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._offsets[path] = self._offsets.get(path, 0) + len(line)
                yield line


class BudgetWatch:
    """Sets an event when a budget is spent."""

    def __init__(self, budget: Budget, folder: Path, stop: threading.Event) -> None:
        self._budget, self._folder, self._stop = budget, folder, stop
        self._began = time.monotonic()
        self._count = TokenCount(folder)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="budget")
        self.spent: str | None = None

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while self.spent is None and not self._ended.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        self.spent = self._spent()
        if self.spent:
            self._stop.set()

    def _spent(self) -> str | None:
        limits = self._budget
        if limits.wall_s is not None and (seconds := time.monotonic() - self._began) > limits.wall_s:
            return f"budget.wall_s: {seconds:.0f} s of {limits.wall_s:.0f} s are over"
        if limits.tokens is not None and (tokens := self._count.look()) > limits.tokens:
            return f"budget.tokens: {tokens:,} tokens of {limits.tokens:,} are spent"
        if limits.disk_gib is not None and (size := _bytes_below(self._folder)) > limits.disk_gib * (1 << 30):
            return f"budget.disk_gib: {self._folder} takes {size / (1 << 30):.1f} GiB of {limits.disk_gib:g}"
        return None


def _bytes_below(folder: Path) -> int:
    """What a folder's files take on disk; one that goes away meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
