r"""The markers that frame a command's output, told from the output itself.

Reads a channel, gives output to a sink and markers to the caller. A marker (`shell.py` says who prints it, and when) is

    RS NONCE KIND NUMBER DIRECTORY RS      # RS is the byte 0x1e; b"\x1e0123456789abcdef E 0 /testbed\x1e"

    reader = MarkerReader(channel, nonce)
    reader.read(deadline, output.extend, lambda: None)      # Marker(kind='E', number=0, directory='/testbed')
"""

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from srft.env.sandbox.channel import Channel, ChannelClosed

RS = b"\x1e"
LIVENESS_INTERVAL_S = 0.5
LONGEST_MARKER_BYTES = 1 << 16
_AFTER_START = re.compile(rb"([BES]) ([0-9]{1,9}) ([^\x1e]{0,%d})\x1e" % LONGEST_MARKER_BYTES)


class Marker(NamedTuple):
    """`B` with a process group, `E` with an exit code and the directory, `S` with a process."""

    kind: str
    number: int
    directory: str


class MarkerReader:
    """Splits a channel's bytes into output and the markers of one nonce. Whatever is not exactly a marker is output."""

    def __init__(self, channel: Channel, nonce: str) -> None:
        self._channel = channel
        self._start = b"\x1e%s " % nonce.encode()
        self._pending = b""

    def read(self, deadline: float, sink: Callable[[bytes], None], idle: Callable[[], None]) -> Marker | None:
        """The next marker, what stands before it given to `sink`; `None` at the deadline (of time.monotonic).

        `idle` is called every LIVENESS_INTERVAL_S and may raise. Raises ChannelClosed.
        """
        next_idle = time.monotonic() + LIVENESS_INTERVAL_S
        while True:
            if marker := self._take_marker(sink):
                return marker
            now = time.monotonic()
            if now >= deadline:
                return None
            if now >= next_idle:
                idle()
                next_idle = time.monotonic() + LIVENESS_INTERVAL_S
            try:
                self._pending += self._channel.receive(max(0.0, min(deadline, next_idle) - now))
            except TimeoutError:
                continue
            except ChannelClosed:
                self.flush(sink)
                raise

    def _take_marker(self, sink: Callable[[bytes], None]) -> Marker | None:
        if RS not in self._pending:  # nearly always, and quicker to see than that nothing matches
            self.flush(sink)
            return None
        if whole := self._find():
            sink(self._pending[: whole.start() - len(self._start)])
            self._pending = self._pending[whole.end() :]
            kind, number, directory = (field.decode(errors="surrogateescape") for field in whole.groups())
            return Marker(kind, int(number), directory)
        # What follows the last RS may be the beginning of a marker, if it is that of any.
        at = self._pending.rfind(RS)
        rest = self._pending[at:]
        beginning = rest.startswith(self._start) or self._start.startswith(rest)
        if not beginning or len(rest) > len(self._start) + 12 + LONGEST_MARKER_BYTES:
            rest = b""
        sink(self._pending[: len(self._pending) - len(rest)])
        self._pending = rest
        return None

    def _find(self) -> re.Match[bytes] | None:
        at = self._pending.find(self._start)
        while at >= 0:
            # Compiled once for all nonces: to compile takes longer than the whole round trip.
            if whole := _AFTER_START.match(self._pending, at + len(self._start)):
                return whole
            at = self._pending.find(self._start, at + 1)
        return None

    def flush(self, sink: Callable[[bytes], None]) -> None:
        sink(self._pending)
        self._pending = b""
