"""Truncates a command's output to its head and its tail, whatever its length.

Reads chunks of bytes, gives bytes or text; nothing else.

    kept = HeadTail(limit_bytes=1000)
    kept.append(b"1\n2\n")
    kept.text()      # KeptText(text='1\n2\n', elided_at=4, elided_bytes=0)
"""

import re
from typing import NamedTuple


class HeadTail:
    """The first and the last bytes of a stream of any length, in bounded memory.

    >>> kept = HeadTail(limit_bytes=6)
    >>> for chunk in (b"abcd", b"efgh", b"ij"): kept.append(chunk)
    >>> kept.head(), kept.tail(), kept.elided_bytes
    (b'abc', b'hij', 4)
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self._head_bytes = limit_bytes // 2
        self._tail_bytes = limit_bytes - self._head_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def append(self, chunk: bytes) -> None:
        if room := self._head_bytes - len(self._head):
            self._head += chunk[:room]
            chunk = chunk[room:]
        self._tail += chunk
        if len(self._tail) > 2 * self._tail_bytes:  # trimmed in gulps, so that each byte is moved once
            self._trim()

    def _trim(self) -> None:
        excess = max(0, len(self._tail) - self._tail_bytes)
        del self._tail[:excess]
        self._dropped += excess

    @property
    def elided_bytes(self) -> int:
        self._trim()
        return self._dropped

    def head(self) -> bytes:
        return bytes(self._head)

    def tail(self) -> bytes:
        self._trim()
        return bytes(self._tail)

    def text(self) -> "KeptText":
        """It decoded. A character that the elision cuts is left out and counted with it."""
        head, tail = self.head(), self.tail()
        if not self._dropped:
            text = (head + tail).decode(errors="replace")
            return KeptText(text, len(text), 0)
        head = re.sub(rb"([\xc0-\xf7]|[\xe0-\xf7][\x80-\xbf]|[\xf0-\xf7][\x80-\xbf]{2})\Z", b"", head)
        tail = re.sub(rb"\A[\x80-\xbf]{1,3}", b"", tail)
        cut_bytes = len(self._head) + len(self._tail) - len(head) - len(tail)
        before = head.decode(errors="replace")
        return KeptText(before + tail.decode(errors="replace"), len(before), self._dropped + cut_bytes)


class KeptText(NamedTuple):
    """What was kept of a stream: `elided_bytes` are missing at `elided_at` characters into `text`."""

    text: str
    elided_at: int
    elided_bytes: int
