"""The short records of one file, read once and kept up with as it grows; of a large file also on disk.

    index = FileIndex(JsonLines(path, Trajectory), entry_of, RunEntry)
    index.refresh()                                 # what was appended since is read, and nothing else
    index.entries, index.damaged

Reads a file of JSON lines; of large ones it keeps what it has read in `.index.sqlite3` beside them.
"""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote

import msgspec
from loguru import logger

from srft.harness.run.entries import TOOL_ERROR, CritiqueEntry, Entry, GradeEntry, RunEntry, Tally
from srft.harness.run.store import JsonLines

R = TypeVar("R")
E = TypeVar("E", bound=Entry)

FILE_NAME = ".index.sqlite3"
WORTH_KEEPING_BYTES = 16 << 20
"""What a file has grown by before the index on disk is made or brought up to date."""

_VERSION = 2
"""Raise it when what an entry holds changes, and not its fields alone."""

_MARK_BYTES = 1 << 16


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file was read, and by what it is known again."""

    inode: int = 0
    bytes: int = 0
    changed_ns: int = 0
    end: int = 0
    lines: int = 0
    last: int = 0
    """Where the last line read begins."""
    mark: str = ""
    """A hash of the file's beginning and of the last line read, and of how entries are made."""
    damaged: dict[int, tuple[int, str]] = {}
    """Where a line begins that cannot be read -> its number, and why."""

    def is_of(self, path: Path, status: os.stat_result) -> bool:
        """Whether that is the file, perhaps longer. An edit that kept its length is told by its time."""
        if not self.end:
            return True
        if (status.st_ino, status.st_size) == (self.inode, self.bytes):
            return status.st_mtime_ns == self.changed_ns
        return status.st_ino == self.inode and status.st_size >= self.end and _mark(path, self) == self.mark


class FileIndex(Generic[R, E]):
    """The short records of one file, read once and kept up with as it grows. Not thread-safe."""

    def __init__(self, lines: JsonLines[R], shorten: Callable[[R, int], E], kind: type[E]) -> None:
        self.lines, self._shorten = lines, shorten
        self._decoder = msgspec.json.Decoder(kind)
        self.entries: list[E] = []
        self._extent = Extent()
        self._kept = _Kept(lines.path)
        self._is_loaded = False

    @property
    def damaged(self) -> list[str]:
        """Why each of the lines that are left out cannot be read, with its place."""
        return [reason for _, reason in self._extent.damaged.values()]

    def refresh(self) -> bool:
        """Read what is new. A file that was replaced is read from its beginning. Returns whether anything changed."""
        path, before, known = self.lines.path, self._extent.end, self.entries
        try:
            status = path.stat()
        except FileNotFoundError:
            self._forget()
            return before > 0
        if not self._is_loaded:
            self._is_loaded = True
            self._extent, self.entries = self._kept.load(self._decoder) or (Extent(), [])
            for offset, (_, reason) in self._extent.damaged.items():
                self.lines.leave_out(offset, reason)
        elif not self._extent.is_of(path, status):
            self._forget()
        if status.st_size != self._extent.end:
            self._scan(status)
        return self.entries is not known or self._extent.end != before

    def _scan(self, status: os.stat_result) -> None:
        end, lines, last, damaged = self._extent.end, self._extent.lines, self._extent.last, self._extent.damaged
        for line in self.lines.tail(offset=end, number=lines):
            end, lines, last = line.end, line.number, line.offset
            if line.record is None:
                damaged = damaged | {line.offset: (line.number, self.lines.left_out[line.offset])}
            else:
                self.entries.append(self._shorten(line.record, line.offset))
        extent = Extent(
            inode=status.st_ino,
            bytes=status.st_size,
            changed_ns=status.st_mtime_ns,
            end=end,
            lines=lines,
            last=last,
            damaged=damaged,
        )
        self._extent = msgspec.structs.replace(extent, mark=_mark(self.lines.path, extent))
        if end - self._kept.end >= WORTH_KEEPING_BYTES:
            self._kept.keep(self._extent, self.entries)

    def _forget(self) -> None:
        self.entries, self._extent, self._kept.end = [], Extent(), 0


def _mark(path: Path, extent: Extent) -> str:
    kinds = [kind.__struct_fields__ for kind in (RunEntry, CritiqueEntry, GradeEntry, Tally)]
    digest = hashlib.sha256(f"{_VERSION} {TOOL_ERROR.fingerprint} {kinds}".encode())
    with path.open("rb") as file:
        digest.update(file.read(min(_MARK_BYTES, extent.end)))
        file.seek(extent.last)
        digest.update(file.read(min(extent.end - extent.last, _MARK_BYTES)))
    return digest.hexdigest()[:16]


_TABLES = """
CREATE TABLE IF NOT EXISTS file(name TEXT PRIMARY KEY, extent BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS entry(file TEXT, offset INTEGER, content BLOB NOT NULL, PRIMARY KEY (file, offset))
    WITHOUT ROWID;
"""
_unkept: set[Path] = set()
"""Indexes that cannot be written: said once."""


class _Kept:
    """What the index on disk has of one file. end: how far it goes."""

    def __init__(self, source: Path) -> None:
        self._source, self._path, self.end = source, source.parent / FILE_NAME, 0

    def load(self, decoder: msgspec.json.Decoder[E]) -> tuple[Extent, list[E]] | None:
        """`None` where there is nothing, or it is of another file or version: it is made again."""
        if not self._path.exists():
            return None
        try:
            with contextlib.closing(sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True)) as index:
                extent = self._extent(index)
                if extent is None or not self._is_of(extent):
                    return None
                asked = "SELECT content FROM entry WHERE file = ? ORDER BY offset"
                entries = [decoder.decode(content) for (content,) in index.execute(asked, (self._source.name,))]
        except (sqlite3.Error, msgspec.DecodeError):
            return None
        self.end = extent.end
        return extent, entries

    def _extent(self, index: sqlite3.Connection) -> Extent | None:
        row = index.execute("SELECT extent FROM file WHERE name = ?", (self._source.name,)).fetchone()
        return msgspec.json.decode(row[0], type=Extent) if row else None

    def keep(self, extent: Extent, entries: list[E]) -> None:
        """Add what is new, in one transaction. An index that cannot be read is made anew."""
        try:
            try:
                self._write(extent, entries)
            except sqlite3.OperationalError:
                raise
            except (sqlite3.DatabaseError, msgspec.DecodeError):
                self._path.unlink()
                self._write(extent, entries)
        except (sqlite3.Error, OSError) as error:
            if self._path not in _unkept:
                _unkept.add(self._path)
                logger.warning("{}: no index is kept, so the next command reads the run again ({})", self._path, error)
        else:
            self.end = extent.end

    def _write(self, extent: Extent, entries: list[E]) -> None:
        name = self._source.name
        with contextlib.closing(sqlite3.connect(self._path)) as index:
            index.executescript(_TABLES)
            with index:
                index.execute("BEGIN IMMEDIATE")
                before = self._extent(index)
                # What another process has written meanwhile, or what could not be read, is written anew.
                begin = self.end if before and before.end == self.end and self._is_of(before) else 0
                if not begin:
                    index.execute("DELETE FROM entry WHERE file = ?", (name,))
                new = ((name, one.offset, msgspec.json.encode(one)) for one in entries if one.offset >= begin)
                index.executemany("INSERT INTO entry VALUES (?, ?, ?)", new)
                index.execute("INSERT OR REPLACE INTO file VALUES (?, ?)", (name, msgspec.json.encode(extent)))

    def _is_of(self, extent: Extent) -> bool:
        return extent.is_of(self._source, self._source.stat()) and _mark(self._source, extent) == extent.mark
