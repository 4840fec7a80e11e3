"""A bash's stdin and stdout as file descriptors: the byte stream of every local sandbox.

Reads and writes the descriptors, without blocking; `shell.py` says what travels on them.

    process = subprocess.Popen(BASH, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    channel = process_channel(process, lambda: None)
    channel.send(b"echo one\n", timeout_s=1.0)
    channel.receive(timeout_s=1.0)      # b"one\n"
"""

import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

from srft.env.sandbox.channel import ChannelClosed

END_TIMEOUT_S = 10.0


class FdChannel:
    """A bash's stdin and stdout as two file descriptors. `close` may come from another thread.

    Descriptors in use by another thread are closed when that thread leaves: a number closed under it could by then
    mean another file. It leaves when the sandbox's processes are dead, which is the closing sandbox's next act.
    """

    def __init__(self, *, stdin: int, stdout: int, exit_code: Any) -> None:
        self._stdin, self._stdout = stdin, stdout
        self._exit_code = exit_code
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False
        os.set_blocking(stdin, False)
        os.set_blocking(stdout, False)

    @contextlib.contextmanager
    def _use(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise ChannelClosed
            self._users += 1
        try:
            yield
        except OSError as error:
            raise error if isinstance(error, TimeoutError) else ChannelClosed from error
        finally:
            with self._lock:
                self._users -= 1
                if self._closed and not self._users:
                    self._release()

    def _release(self) -> None:
        os.close(self._stdin)
        os.close(self._stdout)

    def send(self, content: bytes, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        left = memoryview(content)
        with self._use():
            while left:
                try:
                    left = left[os.write(self._stdin, left) :]
                except BlockingIOError:
                    self._wait(self._stdin, select.POLLOUT, deadline)

    def receive(self, timeout_s: float) -> bytes:
        with self._use():
            self._wait(self._stdout, select.POLLIN, time.monotonic() + timeout_s)
            if chunk := os.read(self._stdout, 1 << 16):
                return chunk
            raise ChannelClosed

    def _wait(self, fd: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        if self._closed:
            raise ChannelClosed

    def exit_code(self) -> int | None:
        return self._exit_code()

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                if not self._users:
                    self._release()


def process_channel(process: "subprocess.Popen[bytes]", exit_code: Any) -> FdChannel:
    """Takes over a process's pipes: Popen would close them when it is collected."""
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = os.dup(process.stdin.fileno()), os.dup(process.stdout.fileno())
    process.stdin.close()
    process.stdout.close()
    return FdChannel(stdin=stdin, stdout=stdout, exit_code=exit_code)


def wait_or_kill(process: "subprocess.Popen[bytes]") -> int | None:
    try:
        return process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
