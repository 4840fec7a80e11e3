"""The byte stream to a bash in a container: a hijacked HTTP connection to the engine.

Reads and writes the connection's socket.

    hijacked = client.api.exec_start(exec_id, socket=True)
    channel = DockerChannel(hijacked, lambda: None)
    channel.send(b"echo one\n", timeout_s=1.0)
    channel.receive(timeout_s=1.0)      # b"one\n"
"""

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from srft.env.sandbox.channel import ChannelClosed


class DockerChannel:
    """A hijacked HTTP connection to the engine, its stream demultiplexed.

    Each frame is an 8-byte header (stream number, 3 zero bytes, big-endian length) and its payload.
    """

    def __init__(self, hijacked: Any, exit_code: Callable[[], int | None]) -> None:
        self._hijacked = hijacked  # closing the response that owns the socket is what ends the connection
        self._socket: socket.socket = getattr(hijacked, "_sock", hijacked)
        self._exit_code = exit_code
        self._frame_left = 0
        self._header = b""

    def send(self, content: bytes, timeout_s: float) -> None:
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(content)
        except TimeoutError:
            raise
        except OSError as error:
            raise ChannelClosed from error

    def receive(self, timeout_s: float) -> bytes:
        self._socket.settimeout(max(timeout_s, 1e-4))  # 0 would mean non-blocking, which raises another error
        while True:
            try:
                chunk = self._socket.recv(1 << 18)
            except TimeoutError:
                raise
            except OSError as error:
                raise ChannelClosed from error
            if not chunk:
                raise ChannelClosed
            if payload := self._demultiplex(chunk):
                return payload

    def _demultiplex(self, chunk: bytes) -> bytes:
        parts = []
        at = 0
        while at < len(chunk):
            if self._frame_left:
                part = chunk[at : at + self._frame_left]
                parts.append(part)
                self._frame_left -= len(part)
                at += len(part)
            else:
                taken = chunk[at : at + 8 - len(self._header)]
                self._header += taken
                at += len(taken)
                if len(self._header) == 8:
                    (self._frame_left,) = struct.unpack(">4xL", self._header)
                    self._header = b""
        return b"".join(parts)

    def exit_code(self) -> int | None:
        return self._exit_code()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._hijacked.close()
