"""Budgets: what a run may take in tokens, time and disk, watched while it goes on.

Reads the sizes of a run's files and the usage in its trajectories and labels; writes nothing.

    with BudgetWatch(Budget(tokens=1_000_000), run.path, stop) as watch:
        ...                                     # stop is set when a budget is spent
    watch.spent                                 # None, or which one, in words
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from loguru import logger

from srft.agent.records import Usage
from srft.env.errors import InputError
from srft.harness.loop.loop_config import Budget

INTERVAL_S = 2.0
KINDS = {"trajectories.jsonl": "Trajectory", "labels.jsonl": "Critique"}


class _Counted(msgspec.Struct):
    """Of a step or of a critique, its usage alone."""

    usage: Usage | None = None


class _Line(msgspec.Struct):
    """A trajectory (steps) or a critique (usage), in short."""

    steps: tuple[_Counted, ...] = ()
    usage: Usage | None = None


def _refuse(error: InputError) -> None:
    raise error


@dataclass
class _Place:
    """How far into a file one has read."""

    offset: int = 0
    lines: int = 0


class TokenCount:
    """The tokens in the records below a folder. Each file is read on from where the last look ended.

    A file is known by its inode, not its name: what is set aside meanwhile stays counted, and is not counted again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[tuple[int, int], _Place] = {}
        self._decoder = msgspec.json.Decoder(_Line)
        self.tokens = 0

    def look(self, broken: Callable[[InputError], None] = _refuse) -> int:
        """All tokens so far: prompts and replies. broken: told of a line that is no record, and of a file that cannot
        be read; each line once, the rest counts on. Raises InputError unless `broken` is given."""
        for folder, _, names in os.walk(self._folder):  # folders that go away meanwhile are passed over
            for name in KINDS.keys() & names:
                path = Path(folder, name)
                for number, line in self._new_lines(path, broken):
                    try:
                        self.tokens += _tokens_of(self._decoder.decode(line))
                    except (msgspec.DecodeError, UnicodeDecodeError) as error:
                        broken(
                            InputError(
                                f"{path}:{number}: not a {KINDS[name]} of this version of srft ({error}); move the "
                                "file away to begin anew, or mend the line"
                            )
                        )
        return self.tokens

    def _new_lines(self, path: Path, broken: Callable[[InputError], None]) -> Iterator[tuple[int, bytes]]:
        """(number, line) of the whole ones since the last look."""
        try:
            with path.open("rb") as lines:
                state = os.fstat(lines.fileno())
                place = self._places.setdefault((state.st_dev, state.st_ino), _Place())
                if state.st_size < place.offset:  # another file, in the inode of one that was removed
                    place.offset = place.lines = 0
                lines.seek(place.offset)
                for line in lines:
                    if not line.endswith(b"\n"):
                        return
                    place.offset, place.lines = place.offset + len(line), place.lines + 1
                    yield place.lines, line
        except FileNotFoundError:  # set aside or removed since it was listed
            return
        except OSError as error:
            broken(
                InputError(f"{path}: cannot be read ({error.strerror}), so its tokens do not count; mend its rights")
            )


def _tokens_of(record: _Line) -> int:
    usages = [record.usage, *(step.usage for step in record.steps)]
    return sum((it.prompt_tokens or 0) + (it.completion_tokens or 0) for it in usages if it)


class BudgetWatch:
    """Sets an event when a budget is spent.

    To enter it raises InputError for a broken record; one that comes later is warned of, and the watch goes on.
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
        self._look(_refuse)
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
            logger.warning("budget.tokens: {}; the rest is counted on", error)

    def _look(self, broken: Callable[[InputError], None]) -> None:
        self.spent = self._spent(broken)
        if self.spent:
            self._stop.set()

    def _spent(self, broken: Callable[[InputError], None]) -> str | None:
        limits = self._budget
        if limits.wall_s is not None and (seconds := time.monotonic() - self._began) > limits.wall_s:
            return f"budget.wall_s: {seconds:.0f} s of {limits.wall_s:.0f} s are over"
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
