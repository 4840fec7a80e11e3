"""Locks between processes: of a run directory, and of one file while it is appended to.

    with alone_in(file): ...                  # an open file; waits for the others
    lock = take(run / ".lock")                # None where another process holds it
    lock.release()

The locks are flock's: a process that ends, however it ends, gives its locks back. Some file systems have no flock
(Lustre without the mount option, some FUSE ones): there a marker file beside the file is the lock, which filelock
makes, and takes away where the process that made it on this machine has ended.
"""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import filelock
from loguru import logger

WITHOUT_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
"""What flock answers on a file system that does not have it."""

MARKER_ENDING = ".soft"


class Lock:
    """A lock that this process holds. Give it back with `release`."""

    def __init__(self, descriptor: int, marker: filelock.SoftFileLock | None = None) -> None:
        self._descriptor, self._marker = descriptor, marker

    def release(self) -> None:
        if self._marker is not None:
            self._marker.release()
        os.close(self._descriptor)


def take(path: Path) -> Lock | None:
    """The lock of a file, which is made; `None` where another process holds it. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        if error.errno not in WITHOUT_FLOCK:
            os.close(descriptor)
            raise
        marker = _marker(path)
        try:
            marker.acquire(timeout=0)
        except filelock.Timeout:
            os.close(descriptor)
            return None
        logger.info("{}: the file system has no flock; {} is the lock", path.parent, marker.lock_file)
        return Lock(descriptor, marker)
    return Lock(descriptor)


def holder(path: Path) -> str:
    """Who holds a lock that is a marker file, in words; empty where that is not known."""
    try:
        pid, host, *_ = Path(f"{path}{MARKER_ENDING}").read_text().split("\n")
    except (OSError, ValueError, UnicodeDecodeError):
        return ""
    here = " (this machine)" if host.strip() == socket.gethostname() else ""
    return f"process {pid.strip()} on {host.strip()}{here}; where it has ended, remove {path}{MARKER_ENDING}"


@contextlib.contextmanager
def alone_in(file: FileIO, path: Path) -> Iterator[None]:
    """Until the end no other process holds the file's lock; others are waited for. Raises OSError."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in WITHOUT_FLOCK:
            raise
        with _marker(path):
            yield
        return
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor too: closing it is not enough


def _marker(path: Path) -> filelock.SoftFileLock:
    return filelock.SoftFileLock(f"{path}{MARKER_ENDING}", thread_local=False)
