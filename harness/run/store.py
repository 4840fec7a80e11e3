"""Runs on disk: a folder, with JSON lines that are only ever appended to.

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
import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec
from loguru import logger

from srft.agent.records import StopReason, Trajectory
from srft.critic.labels.labels import Critique
from srft.env.errors import InputError, SrftError, StorageError
from srft.env.grading.grade import Grade, patch_hash

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


NAMED_LINES = 5
"""Of a file's lines that cannot be read, so many are named on stderr."""

_named: dict[Path, set[int]] = {}
"""File -> where its lines begin that were named by this process."""


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
        with self._lock:
            try:
                file = self.path.open("ab+", buffering=0)
            except OSError as error:
                raise _storage_error(self.path, error) from error
            with file, _locked(file):
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
        offset = good = bad = 0
        if not self.path.exists():
            return
        with self.path.open("rb") as lines:  # bytes: text mode would take U+2028 for the end of a line
            for number, line in enumerate(lines, 1):
                if line.endswith(b"\n"):
                    try:
                        record = self._decode(line, number)
                    except InputError as error:
                        bad += 1
                        self._leave_out(offset, error)
                    else:
                        good += 1
                        yield offset, record
                offset += len(line)
        if bad and not good:
            first = next(iter(self.left_out.values()))
            raise InputError(f"{first}; no line of the file can be read: is it of another version of srft?")

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
                    self._leave_out(offset, error)
                else:
                    yield record

    def at(self, offset: int) -> T:
        """The record whose line begins there. Raises InputError."""
        with self.path.open("rb") as lines:
            lines.seek(offset)
            return self._decode(lines.readline(), f"byte {offset}")

    def _leave_out(self, offset: int, error: InputError) -> None:
        """Count a line that cannot be read, and say so once."""
        self.left_out.setdefault(offset, str(error))
        named = _named.setdefault(self.path.absolute(), set())
        if offset not in named and len(named) < NAMED_LINES:
            named.add(offset)
            logger.warning("{}; this line is left out, all others are used", error)

    def _decode(self, line: bytes, place: int | str) -> T:
        try:
            if self._whole is not None:
                self._whole.decode(line)
            return self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            name = self._whole.type.__name__ if self._whole else self.kind.__name__
            raise InputError(
                f"{self.path}:{place}: not a {name} of this version of srft ({error}); correct the line or remove it"
            ) from None

    def cut_torn_line(self) -> int:
        """Cut off what a killed process left of its last line; returns how many bytes that were."""
        try:
            with self._lock, self.path.open("rb+", buffering=0) as file, _locked(file):
                return _cut(file)
        except FileNotFoundError:
            return 0


@contextlib.contextmanager
def _locked(file: FileIO) -> Iterator[None]:
    """Until the end no other process holds the file's lock."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor too: closing it is not enough


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


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """A trajectory in short: what the stages after it need of it, without its messages and token ids."""

    task_id: str
    attempt: int
    model: str
    patch: str | None
    stop_reason: StopReason


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a trajectory comes from: what the contamination guard needs of it."""

    task_id: str
    repo: str


class Round:
    """The files of one round."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trajectories = JsonLines(path / "trajectories.jsonl", Trajectory)
        self.outlines = JsonLines(path / "trajectories.jsonl", Outline, whole=Trajectory)
        self.origins = JsonLines(path / "trajectories.jsonl", Origin, whole=Trajectory)
        self.grades = JsonLines(path / "grades.jsonl", Grade)
        self.critiques = JsonLines(path / "labels.jsonl", Critique)
        self.predictions = path / "predictions.jsonl"
        self.logs = path / "logs"

    def evaluation(self, name: str) -> "Round":
        """The files of a model's runs on held-out tasks, which are a round's: its folder made, its torn lines cut."""
        return _opened(Round(self.path / "evaluation" / name))

    def grades_by_patch(self) -> dict[tuple[str, str], Grade]:
        """(task id, patch hash) -> the newest grade that is a verdict."""
        graded = (grade for grade in self.grades.read() if grade.resolved is not None)
        return {(grade.instance_id, grade.patch_hash): grade for grade in graded if grade.patch_hash is not None}

    def finished(self, *, in_order: bool = False) -> Iterator[Trajectory]:
        """The trajectories that stand: of each task's attempt the last one, in the order of the file.

        in_order: of task and attempt; in the file they stand as the workers were ready. Two passes, the first over the
        short form: an episode that was done again stands in the file twice.
        """
        last = {(short.task_id, short.attempt): offset for offset, short in self.outlines.read_with_offsets()}
        offsets = [last[episode] for episode in sorted(last)] if in_order else sorted(last.values())
        yield from self.trajectories.read_at(offsets)


def resolved(trajectory: Trajectory, grades: Mapping[tuple[str, str], Grade]) -> bool | None:
    """A trajectory's outcome: by its grade, else as it was recorded elsewhere; `None` where neither is known."""
    grade = grades.get((trajectory.task_id, patch_hash(trajectory.patch)))
    return trajectory.recorded_resolved if grade is None else grade.resolved


class Run:
    """A run directory, locked for this process while it is entered."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock_descriptor: int | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock_descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be a run directory ({error.strerror}); name another with --run"
            ) from None
        try:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_descriptor)
            raise InputError(
                f"{self.path}: another srft process works in it; wait for it, or name another run"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def round(self, number: int) -> Round:
        """A round's files, its folder made and its torn lines cut."""
        return _opened(Round(self.path / f"round-{number:03d}"))


def _opened(round_: Round) -> Round:
    try:
        round_.path.mkdir(parents=True, exist_ok=True)
        for lines in (round_.trajectories, round_.grades, round_.critiques):
            if torn_bytes := lines.cut_torn_line():
                logger.warning("{}: cut off {} bytes of a line that was never finished", lines.path, torn_bytes)
    except OSError as error:
        raise _storage_error(round_.path, error) from error
    return round_
