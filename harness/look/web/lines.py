"""A JSON-lines file as short records with byte offsets: read once, kept up to date as the file grows.

Reads a file that another process may be appending to; writes its index beside the run, which may be deleted any time.

    runs = Lines(path, shorten=entry_of, kind=Entry, cache=folder / "runs.index")
    runs.refresh()                            # True where something changed
    runs.records[3], runs.at(runs.records[3].span)          # the short record, and the whole line

A line that is not finished yet is left for later; one that cannot be read is counted in `damaged`, with its reason.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Generic, NamedTuple, TypeVar

import msgspec
from loguru import logger

from srft.env.errors import StorageError
from srft.harness.run.store import write_atomic

T = TypeVar("T")

VERSION = 1
"""Of the index files: raise it when a short record changes."""

WORTH_KEEPING_S = 0.5
"""A scan that took less is done again sooner than its index is written."""

UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
"""What reading a line may raise; ValueError is that of `json`, RecursionError that of a line nested too deep."""

_MARK_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20


class Span(NamedTuple):
    """Where a line lies."""

    offset: int
    length: int


class Damaged(NamedTuple):
    """A line that cannot be read: its number, counted from 1, and why."""

    line: int
    reason: str


class Extent(msgspec.Struct, frozen=True):
    """How far a file was read. mark: a hash of its first and its last line read, by which another file is told."""

    end: int = 0
    lines: int = 0
    last: Span | None = None
    mark: str = ""
    version: int = VERSION


class Lines(Generic[T]):
    """The short records of one file. Not thread-safe: its place has the lock.

    shorten: (line, its span) -> the short record; msgspec's errors make the line a damaged one. kind: the records'
    type, for the index. cache: where the index is kept.
    """

    def __init__(self, path: Path, *, shorten: Callable[[bytes, Span], T], kind: type[T], cache: Path) -> None:
        self.path, self._shorten, self._cache = path, shorten, cache
        self._decoder = msgspec.json.Decoder(kind)
        self._cached_end = 0
        self.records: list[T] = []
        self.damaged: list[Damaged] = []
        self._extent = Extent()
        self._inode: tuple[int, int] | None = None
        self._loaded = False

    def refresh(self) -> bool:
        """Read what is new. A file that was replaced is read from its beginning. Returns whether anything changed."""
        try:
            with self.path.open("rb", buffering=_BUFFER_BYTES) as file:
                status = os.fstat(file.fileno())
                is_first, self._loaded = not self._loaded, True
                if is_first:
                    self._load(file, status.st_size)
                state = (status.st_ino, status.st_mtime_ns)
                if status.st_size == self._extent.end and state == self._inode:
                    return False
                is_other = not self._is_continued(file, status.st_size)
                if is_other:
                    self._forget()
                before = self._extent.end
                self._scan(file)
                self._inode = state
                return is_first or is_other or self._extent.end != before
        except FileNotFoundError:
            was_there = bool(self.records or self.damaged)
            self._forget()
            return was_there

    def at(self, span: Span) -> bytes:
        """A line, whole."""
        with self.path.open("rb") as file:
            file.seek(span.offset)
            return file.read(span.length)

    def _forget(self) -> None:
        self.records, self.damaged, self._extent, self._inode = [], [], Extent(), None
        self._cached_end = 0

    def _is_continued(self, file: BinaryIO, size: int) -> bool:
        """Whether the file still begins with what was read of it."""
        extent = self._extent
        if extent.last is None:
            return True
        return size >= extent.end and _mark(file, extent.last) == extent.mark

    def _scan(self, file: BinaryIO) -> None:
        began = time.monotonic()
        offset, number, last = self._extent.end, self._extent.lines, self._extent.last
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                break  # still being written, or torn: it counts when it is finished
            span = Span(offset, len(line))
            offset, number = offset + len(line), number + 1
            last = span
            if line.strip():
                self._add(line, span, number)
        if last is not None:
            self._extent = Extent(offset, number, last, _mark(file, last))
        if time.monotonic() - began > WORTH_KEEPING_S:
            self._keep()

    def _add(self, line: bytes, span: Span, number: int) -> None:
        try:
            self.records.append(mended(line, lambda content: self._shorten(content, span)))
        except UNREADABLE as error:
            self.damaged.append(Damaged(number, " ".join(str(error).split())))

    # ---- the index on disk ----

    def _load(self, file: BinaryIO, size: int) -> None:
        """Take the index on disk, where it is this file's."""
        try:
            head, _, body = self._cache.read_bytes().partition(b"\n")
            extent = msgspec.json.decode(head, type=Extent)
            if extent.version != VERSION or extent.last is None or size < extent.end:
                return
            if _mark(file, extent.last) != extent.mark:
                return
            damaged, _, body = body.partition(b"\n")
            self.damaged = msgspec.json.decode(damaged, type=list[Damaged])
            self.records = self._decoder.decode_lines(body)
            self._extent, self._cached_end = extent, extent.end
        except (OSError, msgspec.DecodeError):  # none, or not ours: it is made again
            self.records, self.damaged = [], []

    def _keep(self) -> None:
        if self._extent.end == self._cached_end:
            return
        encode = msgspec.json.encode
        body = b"".join(encode(record) + b"\n" for record in self.records)
        content = encode(self._extent) + b"\n" + encode(self.damaged) + b"\n" + body
        try:
            self._cache.parent.mkdir(exist_ok=True)
            write_atomic(self._cache, content)
            self._cached_end = self._extent.end
        except (OSError, StorageError) as error:
            logger.warning("no index is kept, so the next start reads {} again ({})", self.path, error)


def mended(line: bytes, read: Callable[[bytes], T]) -> T:
    """What `read` makes of a line; where that fails for bytes that are no UTF-8, or for half a surrogate pair, of the
    line with replacement characters in their place: to look at a run, that is better than nothing. Raises UNREADABLE.
    """
    try:
        return read(line)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = json.loads(line.decode(errors="replace"))
        return read(json.dumps(content, ensure_ascii=False).encode(errors="replace"))


def _mark(file: BinaryIO, last: Span) -> str:
    """A hash of the beginning of a file and of a line."""
    digest = hashlib.sha256()
    for offset, length in ((0, min(_MARK_BYTES, last.offset + last.length)), (last.offset, last.length)):
        file.seek(offset)
        digest.update(file.read(min(length, _MARK_BYTES)))
    return digest.hexdigest()[:16]
