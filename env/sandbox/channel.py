"""The byte stream to a bash, which each backend opens in its own way.

Reads and writes nothing itself: `local/channel.py` has file descriptors, `docker/channel.py` a connection to the
engine, and `shell.py` says what travels.

    channel.send(b"echo one\n", timeout_s=1.0)
    channel.receive(timeout_s=1.0)      # b"one\n"
"""

from typing import Protocol


class ChannelClosed(Exception):
    """The other end of a byte stream is gone."""


class Channel(Protocol):
    """Two-way byte stream to a bash: its stdin, and its stdout and stderr."""

    def send(self, content: bytes, timeout_s: float) -> None:
        """Send all of it. Raises ChannelClosed, TimeoutError."""

    def receive(self, timeout_s: float) -> bytes:
        """What has come, at least one byte. Raises ChannelClosed at its end, TimeoutError."""

    def exit_code(self) -> int | None:
        """The exit code of the bash behind it once it has ended, where that can be known."""

    def close(self) -> None:
        """Let go of it. Idempotent."""
