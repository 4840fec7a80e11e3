"""Runs on disk: a folder, with JSON lines that are only ever appended to.

Reads and writes trajectories.jsonl, labels.jsonl and grades.jsonl; `index.py` has what they come to.

    with Run("runs/first") as run:                         # locked: one process works in a run
        grades = run.round(0).grades                       # JsonLines[Grade]
        grades.append(grade)                               # on disk when it returns
        [grade.resolved for grade in grades.read()]

A line is there whole or not at all: what a killed process left half-written is cut off by whoever opens the run or
appends next, and an append that meets a full disk takes its half line back. Labels are given while a stage works in the
run, so each file has a lock of its own, held while something is cut or appended. A record is read back before it is
written. A line that cannot be read all the same (cut short by hand, of another version) costs that line: it is left
out, said once and counted in `left_out`.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, TypeVar

import msgspec
from loguru import logger

from srft.agent.records import Trajectory
from srft.critic.labels.labels import Critique
from srft.env.errors import InputError, SrftError, StorageError
from srft.env.grading.grade import Grade
from srft.harness.run.live import Telling
from srft.harness.run.locks import Lock, alone_in, holder, take

if TYPE_CHECKING:
    from srft.harness.run.entries import GradeEntry
    from srft.harness.run.index import Index

T = TypeVar("T")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or as it was before. Raises StorageError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise _storage_error(path, error) from error


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot be written ({error.strerror}); everything recorded before is intact: make room, then give the "
        "same command again"
    )


class UnreadableRecord(SrftError):
    """A record that would not be read back. It is not written, and the file is as it was."""


READ_BYTES = 1 << 20
NAMED_LINES = 5
"""Of a file's lines that cannot be read, so many are named on stderr."""

_named: dict[Path, set[int]] = {}
"""File -> where its lines begin that were named by this process."""


class ReadLine(NamedTuple, Generic[T]):
    """A finished line: its number, counted from 1, where it begins and ends, its record; `None`: it cannot be read."""

    number: int
    offset: int
    end: int
    record: T | None


class JsonLines(Generic[T]):
    """One file of records of one type. Threads and processes may append to it at once.

    whole: the full record where `kind` is a short form of it: a line that is none of these is left out as well, so that
    all readers of a file leave out the same lines. left_out: where a line begins that could not be read -> why, of all
    that was read so far.
    """

    def __init__(self, path: Path, kind: type[T], *, whole: type[msgspec.Struct] | None = None) -> None:
        self.path = path
        self.kind = kind
        self.left_out: dict[int, str] = {}
        self._whole = msgspec.json.Decoder(whole) if whole else None
        self._decoder = msgspec.json.Decoder(kind)
        self._lock = threading.Lock()

    def append(self, record: T) -> None:
        """Add one record; it is on disk when this returns.

        Raises StorageError, UnreadableRecord; the file is then as it was.
        """
        with self.alone() as append:
            append(record)

    @contextlib.contextmanager
    def alone(self) -> Iterator[Callable[[T], None]]:
        """Gives an `append`; nobody else appends meanwhile, so that a record may depend on those before it. Raises
        StorageError, UnreadableRecord."""
        with self._lock, contextlib.ExitStack() as opened:
            try:
                file = opened.enter_context(self.path.open("ab+", buffering=0))
                opened.enter_context(alone_in(file, self.path))
            except OSError as error:
                raise _storage_error(self.path, error) from error
            yield lambda record: self._append(file, record)

    def _append(self, file: FileIO, record: T) -> None:
        line = self._encode(record)
        try:
            if torn_bytes := _cut(file):
                logger.warning("{}: cut off {} bytes of a line that was never finished", self.path, torn_bytes)
            size = file.seek(0, os.SEEK_END)
            try:
                written = 0
                while written < len(line):
                    written += os.write(file.fileno(), line[written:])
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        except OSError as error:
            raise _storage_error(self.path, error) from error

    def _encode(self, record: T) -> bytes:
        """The record's line. Raises UnreadableRecord where it would not be read back."""
        try:
            line = msgspec.json.encode(record) + b"\n"
            self._decoder.decode(line)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UnreadableRecord(
                f"{self.path}: a {self.kind.__name__} is not written, as it would not be read back ({error}); that is "
                "a fault of srft: please report it"
            ) from error
        return line

    def read(self) -> Iterator[T]:
        """Every record that can be read, oldest first. Raises InputError where there are lines and none can."""
        for _, record in self.read_with_offsets():
            yield record

    def read_with_offsets(self) -> Iterator[tuple[int, T]]:
        """(where its line begins, record), oldest first. Raises InputError as `read`."""
        good = False
        for line in self.tail():
            if line.record is not None:
                good = True
                yield line.offset, line.record
        if not good:
            self.refuse_unreadable()

    def refuse_unreadable(self) -> None:
        """Raises InputError for a file of which lines were read and none was a record."""
        if self.left_out:
            first = next(iter(self.left_out.values()))
            raise InputError(f"{first}; no line of the file can be read: is it of another version of srft?")

    def tail(self, *, offset: int = 0, number: int = 0) -> Iterator[ReadLine[T]]:
        """The finished lines from there on; from the beginning, `left_out` counts anew. number: lines before."""
        if not offset:
            self.left_out.clear()
        if not self.path.exists():
            return
        with self.path.open("rb", buffering=READ_BYTES) as lines:  # bytes: text mode would take U+2028 for a line's end
            lines.seek(offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    return  # still being written, or torn: it counts when it is finished
                number, end = number + 1, offset + len(line)
                try:
                    record: T | None = self._decode(line, number)
                except InputError as error:
                    self.leave_out(offset, str(error))
                    record = None
                yield ReadLine(number, offset, end, record)
                offset = end

    def read_at(self, offsets: Iterable[int]) -> Iterator[T]:
        """The records whose lines begin there, but for those that cannot be read."""
        if not self.path.exists():
            return
        with self.path.open("rb") as lines:
            for offset in offsets:
                lines.seek(offset)
                try:
                    record = self._decode(lines.readline(), f"byte {offset}")
                except InputError as error:
                    self.leave_out(offset, str(error))
                else:
                    yield record

    def at(self, offset: int) -> T:
        """The record whose line begins there. Raises InputError."""
        with self.path.open("rb") as lines:
            lines.seek(offset)
            return self._decode(lines.readline(), f"byte {offset}")

    def leave_out(self, offset: int, error: str) -> None:
        """Count a line that cannot be read, and say so once."""
        self.left_out.setdefault(offset, error)
        named = _named.setdefault(self.path.absolute(), set())
        if offset not in named and len(named) < NAMED_LINES:
            named.add(offset)
            logger.warning("{}; this line is left out, all others are used", error)

    def _decode(self, line: bytes, place: int | str) -> T:
        try:
            if self._whole is not None:
                self._whole.decode(line)
            return self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            name = self._whole.type.__name__ if self._whole else self.kind.__name__
            raise InputError(
                f"{self.path}:{place}: not a {name} of this version of srft ({' '.join(str(error).split())}); correct "
                "the line or remove it"
            ) from None

    def cut_torn_line(self) -> int:
        """Cut off what a killed process left of its last line; returns how many bytes that were."""
        try:
            with self._lock, self.path.open("rb+", buffering=0) as file, alone_in(file, self.path):
                return _cut(file)
        except FileNotFoundError:
            return 0


def _cut(file: FileIO) -> int:
    """Cut off a last line without its end; returns its bytes. Only under the file's lock: else it may be whole by now,
    and its writer be told so."""
    content_end = _end_of_last_line(file)
    torn_bytes = file.seek(0, os.SEEK_END) - content_end
    if torn_bytes:
        file.truncate(content_end)
    return torn_bytes


def _end_of_last_line(file: FileIO) -> int:
    """The offset after the last newline of a binary file, 0 where it has none."""
    end = file.seek(0, os.SEEK_END)
    block_bytes = 1  # nearly always the newline itself
    while end > 0:
        begin = max(0, end - block_bytes)
        block_bytes = 1 << 20
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


class Round:
    """The files of one round, or of a model's evaluation. Nothing is made or locked: see `Run.round`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trajectories = JsonLines(path / "trajectories.jsonl", Trajectory)
        self.grades = JsonLines(path / "grades.jsonl", Grade)
        self.critiques = JsonLines(path / "labels.jsonl", Critique)
        self.predictions = path / "predictions.jsonl"
        self.logs = path / "logs"
        self._index: Index | None = None

    def index(self) -> "Index":
        """What the files hold now, in short. Raises InputError for a file of which no line can be read."""
        from srft.harness.run.index import Index

        if self._index is None:
            self._index = Index(self)
        self._index.refresh()
        self._index.refuse_unreadable()
        return self._index

    def evaluation(self, name: str) -> "Round":
        """The files of a model's runs on held-out tasks, which are a round's: its folder made, its torn lines cut."""
        return _opened(Round(self.path / "evaluation" / name))

    def grades_by_patch(self) -> "dict[tuple[str, str], GradeEntry]":
        """(task id, patch hash) -> the newest grade that is a verdict, in short."""
        return {key: grade for key, grade in self.index().grades.items() if grade.resolved is not None}

    def finished(self, *, in_order: bool = False) -> Iterator[Trajectory]:
        """The trajectories that stand: of each task's attempt the last one, in the order of the file.

        in_order: of task and attempt; in the file they stand as the workers were ready.
        """
        standing = self.index().standing
        if in_order:
            standing = sorted(standing, key=lambda run: (run.task_id, run.attempt))
        yield from self.trajectories.read_at(run.offset for run in standing)


LOCK_NAME = ".lock"


class Run:
    """A run directory, locked for this process while it is entered."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.live = Telling(self.path)
        """What is told of this process's work, for those who look at the run meanwhile."""
        self._lock: Lock | None = None
        self._is_new = False

    def __enter__(self) -> Self:
        self._is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = take(self.path / LOCK_NAME)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be a run directory ({error.strerror}); name another with --run"
            ) from None
        if self._lock is None:
            who = holder(self.path / LOCK_NAME)
            raise InputError(
                f"{self.path}: another srft process works in it{f' ({who})' if who else ''}; wait for it, or name "
                "another run"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.__exit__(kind, error, trace)
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._is_new and isinstance(error, InputError):
            self._remove_empty()

    def _remove_empty(self) -> None:
        """Take back a folder that was made for an input that was then refused; what was written stays."""
        (self.path / LOCK_NAME).unlink(missing_ok=True)
        for folder in [*sorted((one for one in self.path.rglob("*") if one.is_dir()), reverse=True), self.path]:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()

    def round(self, number: int) -> Round:
        """A round's files, its folder made and its torn lines cut. Of a run that must be there already ask `find.py`
        first: a mistyped name or number makes no folder."""
        return self.at(self.path / f"round-{number:03d}")

    def at(self, folder: Path) -> Round:
        """The files of a round's or an evaluation's folder, which is made, their torn lines cut."""
        return _opened(Round(folder))


def _opened(round_: Round) -> Round:
    try:
        round_.path.mkdir(parents=True, exist_ok=True)
        for lines in (round_.trajectories, round_.grades, round_.critiques):
            if torn_bytes := lines.cut_torn_line():
                logger.warning("{}: cut off {} bytes of a line that was never finished", lines.path, torn_bytes)
    except OSError as error:
        raise _storage_error(round_.path, error) from error
    return round_
