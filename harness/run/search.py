"""Search in all texts of a round's trajectories: issue, thinking, messages, commands, observations, patch.

Reads trajectories.jsonl; keeps a full-text index (sqlite's FTS5) in `.search.sqlite3` beside it, which may be deleted
at any time. What was appended since is added, and nothing else. Where the folder cannot be written, the index lies in a
temporary one as long as this process lives.

    search = TextSearch(round_.trajectories.path)
    search.update()                                      # minutes for 20,000 runs the first time
    offsets = search.find('ValidationError "in django"')  # where the lines of the runs begin that hold all of it
    excerpts_of(path, offset, words_of('ValidationError'))[0].step

A word is found where a word of the text begins with it, in either case; words in quotes, exactly in this order.
"""

import contextlib
import hashlib
import itertools
import os
import re
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from loguru import logger

from srft.env.errors import InputError

FILE_NAME = ".search.sqlite3"
BATCH_BYTES = 16 << 20
"""How much is read between two looks at whether somebody wants to stop, and what a killed process loses."""
MARK_BYTES = 1 << 16
EXCERPTS = 3
BEFORE_CHARS, AFTER_CHARS = 60, 120
LOOKED_AT = 100
"""The most hits of one text that are looked at for how many of the words it holds."""
_VERSION = 1

_TABLES = """
CREATE VIRTUAL TABLE IF NOT EXISTS run USING fts5(text, content='', tokenize='unicode61 remove_diacritics 0');
CREATE TABLE IF NOT EXISTS extent(end INTEGER NOT NULL, last INTEGER NOT NULL, mark TEXT NOT NULL);
"""


class _Action(msgspec.Struct, frozen=True):
    arguments: dict[str, Any] = {}


class _Step(msgspec.Struct, frozen=True):
    index: int
    content: str = ""
    reasoning: str | None = None
    action: _Action | None = None
    observation: str | None = None


class _Texts(msgspec.Struct, frozen=True):
    """Of a Trajectory its texts."""

    messages: tuple[dict[str, Any], ...]
    steps: tuple[_Step, ...]
    patch: str | None = None
    demo_messages: int = 0

    def parts(self) -> Iterator[tuple[str, int | None, str]]:
        """(what it is, step, text)."""
        for place, message in enumerate(self.messages):
            if place >= self.demo_messages and message.get("role") == "assistant":
                break
            yield "issue", None, _text(message.get("content"))
        for step in self.steps:
            for argument in step.action.arguments.values() if step.action else ():
                yield "command", step.index, argument if isinstance(argument, str) else ""
            yield "thinking", step.index, step.reasoning or ""
            yield "message", step.index, step.content
            yield "observation", step.index, step.observation or ""
        yield "patch", None, self.patch or ""


_decoder = msgspec.json.Decoder(_Texts)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in content)
    return content if isinstance(content, str) else ""


def words_of(query: str) -> list[str]:
    """The words of a query; what is in quotes is one. Those without a letter or digit are left out.

    >>> words_of('TypeError "not callable" !!')
    ['TypeError', 'not callable']
    """
    found = (quoted or plain for quoted, plain in re.findall(r'"([^"]+)"?|([^\s"]+)', query))
    return [word for word in found if re.search(r"[^\W_]", word)]


class Reach(NamedTuple):
    """How far the index goes, in bytes of the file."""

    end: int
    of: int

    @property
    def is_whole(self) -> bool:
        return self.end >= self.of


class TextSearch:
    """The index of one file. Its methods may be called from several threads."""

    def __init__(self, source: Path) -> None:
        self._source, self._path = source, source.parent / FILE_NAME
        self._lock = threading.Lock()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._updating: threading.Thread | None = None

    # ---- asking ----

    def reach(self) -> Reach:
        size = self._source.stat().st_size if self._source.exists() else 0
        try:
            with self._open() as index:
                extent = self._extent(index)
        except sqlite3.Error:
            return Reach(0, size)
        # A last line without its end is not there yet.
        return Reach(extent[0], min(size, self._last_end(extent[0], size)))

    def _last_end(self, end: int, size: int) -> int:
        """Where the last finished line ends, if only one that is still being written comes after the index."""
        if size - end > MARK_BYTES or size <= end:
            return size
        with self._source.open("rb") as file:
            file.seek(end)
            return end + file.read(size - end).rfind(b"\n") + 1

    def find(self, query: str) -> set[int]:
        """Where the lines begin of the runs that hold all words, as far as the index goes. Raises InputError."""
        words = words_of(query)
        if not words:
            raise InputError(f"text {query}: nothing to search for in it; give a word")
        asked = " ".join('"' + word.replace('"', '""') + '" *' for word in words)
        try:
            with self._open() as index:
                if not self._extent(index)[0]:
                    return set()
                return {offset for (offset,) in index.execute("SELECT rowid FROM run WHERE run MATCH ?", (asked,))}
        except sqlite3.Error as error:
            logger.warning("{}: cannot be read ({}); it is made again", self._path, error)
            self._remove()
            return set()

    # ---- keeping it up ----

    def update(self, stop: threading.Event | None = None) -> None:
        """Read what is not in the index yet. Another thread that does so already is waited for."""
        with self._lock:
            try:
                while not (stop and stop.is_set()) and self._add_batch():
                    pass
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and self._temporary is None:
                    self._temporary = tempfile.TemporaryDirectory(prefix="srft-search-")
                    logger.info(
                        "{}: cannot be written ({}); the index is kept for this command alone", self._path, error
                    )
                    self._path = Path(self._temporary.name) / FILE_NAME
                else:
                    logger.warning("{}: cannot be read ({}); it is made again", self._path, error)
                    self._remove()
                while not (stop and stop.is_set()) and self._add_batch():
                    pass

    def update_aside(self) -> None:
        """The same in a thread of its own, unless one is at it."""
        if self._updating is None or not self._updating.is_alive():
            self._updating = threading.Thread(target=self.update, daemon=True, name="search")
            self._updating.start()

    def _add_batch(self) -> bool:
        """Whether there was anything to add."""
        if not self._source.exists():
            return False
        with self._open() as index:
            index.executescript(_TABLES)
            end, _ = self._extent(index)
            if not end:
                self._empty(index)
            added, last, new_end = [], 0, end
            for offset, line in _lines(self._source, end):
                last, new_end = offset, offset + len(line)
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    # Else the line is damaged: whoever shows the run says so.
                    added.append((offset, "\n".join(text for _, _, text in _decoder.decode(line).parts() if text)))
                if new_end - end >= BATCH_BYTES:
                    break
            if new_end == end:
                return False
            with index:
                index.executemany("INSERT INTO run(rowid, text) VALUES (?, ?)", added)
                index.execute("DELETE FROM extent")
                index.execute("INSERT INTO extent VALUES (?, ?, ?)", (new_end, last, self._mark(new_end, last)))
            return True

    def _empty(self, index: sqlite3.Connection) -> None:
        """Of a file that was replaced all is read again."""
        if index.execute("SELECT count(*) FROM extent").fetchone()[0]:
            index.executescript("DROP TABLE run; DELETE FROM extent;" + _TABLES)

    def _extent(self, index: sqlite3.Connection) -> tuple[int, int]:
        """(how far the index goes, where the last line in it begins); 0 of another file."""
        try:
            row = index.execute("SELECT end, last, mark FROM extent").fetchone()
        except sqlite3.OperationalError:  # made by nobody yet
            return 0, 0
        if row is None or row[2] != self._mark(row[0], row[1]):
            return 0, 0
        return row[0], row[1]

    def _mark(self, end: int, last: int) -> str:
        """What the file is known again by: its beginning, and the last line that was read."""
        digest = hashlib.sha256(f"{_VERSION}".encode())
        try:
            with self._source.open("rb") as file:
                digest.update(file.read(min(MARK_BYTES, end)))
                file.seek(last)
                digest.update(file.read(min(end - last, MARK_BYTES)))
        except OSError:
            return ""
        return digest.hexdigest()[:16]

    def _remove(self) -> None:
        for ending in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                os.unlink(f"{self._path}{ending}")

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self._path, timeout=30)) as index:
            index.execute("PRAGMA journal_mode=WAL")  # one reads while the other adds
            index.execute("PRAGMA synchronous=OFF")  # it can be made again
            yield index


def _lines(path: Path, offset: int) -> Iterator[tuple[int, bytes]]:
    """(where it begins, line) of the finished lines from there on."""
    with path.open("rb", buffering=1 << 20) as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            yield offset, line
            offset += len(line)


# ---- excerpts ----


class Excerpt(NamedTuple):
    """A place of a run that holds a word. part: issue, command, thinking, message, observation or patch; pieces: the
    text around it, (piece, whether it is what was searched for)."""

    part: str
    step: int | None
    pieces: list[tuple[str, bool]]


def excerpts_of(path: Path, offset: int, words: list[str], *, most: int = EXCERPTS) -> list[Excerpt]:
    """The first places of a run that hold the words, a step at most once; those with more of them first."""
    with path.open("rb") as file:
        file.seek(offset)
        try:
            texts = _decoder.decode(file.readline())
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []
    pattern = pattern_of(words)
    found: dict[int | str, tuple[int, Excerpt]] = {}
    for part, step, text in texts.parts():
        if (first := pattern.search(text)) is None:
            continue
        some = itertools.islice(pattern.finditer(text, first.start()), LOOKED_AT)
        holds = len({match[0].lower() for match in some}) if len(words) > 1 else 1
        place: int | str = part if step is None else step
        if place not in found or holds > found[place][0]:
            found[place] = (holds, Excerpt(part, step, _pieces(text, first.start(), pattern)))
        if sum(count == len(words) for count, _ in found.values()) == most:
            break
    ranked = sorted(found.values(), key=lambda one: -one[0])
    return [excerpt for _, excerpt in ranked[:most]]


def pattern_of(words: list[str]) -> re.Pattern[str]:
    """What finds the words as the index does: each from the beginning of a word on, whatever is between its parts."""
    each = (r"[\W_]+".join(map(re.escape, re.findall(r"[^\W_]+", word))) for word in words)
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(sorted(each, key=len, reverse=True))})", re.IGNORECASE)


def _pieces(text: str, at: int, pattern: re.Pattern[str]) -> list[tuple[str, bool]]:
    """The text around a place, on one line."""
    begin, end = max(0, at - BEFORE_CHARS), min(len(text), at + AFTER_CHARS)
    shown = " ".join(text[begin:end].split())
    pieces: list[tuple[str, bool]] = [("… ", False)] if begin else []
    done = 0
    for match in pattern.finditer(shown):
        pieces += [(shown[done : match.start()], False), (match[0], True)]
        done = match.end()
    pieces.append((shown[done:] + (" …" if end < len(text) else ""), False))
    return [piece for piece in pieces if piece[0]]
