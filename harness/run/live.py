"""live.json: what the process that works in a run is doing at this moment, for others to see.

Reads and writes `RUN/live.json`, which is replaced whole about once a second while something changes, and `.live.lock`,
which the process holds as long as it lives: one that was killed cannot say that it ended, but it has let the lock go.

    with Telling(run_folder) as telling, telling.stage("collect", round_folder, progress.counts):
        ...                                          # another process meanwhile: read_live(run_folder).is_running
    state_of(run_folder)                             # running, finished, stopped, or None: not known
"""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple, Self

import msgspec
from loguru import logger

from srft.harness.run.locks import WITHOUT_FLOCK

FILE_NAME, LOCK_NAME = "live.json", ".live.lock"
INTERVAL_S = 1.0
BEAT_S = 5.0
"""The file is written this often although nothing changed."""
LOST_AFTER_S = 120.0
"""A process that has not written for so long is not working, whatever its lock says."""

State = Literal["running", "finished", "stopped"]


class Doing(msgspec.Struct, frozen=True, kw_only=True):
    """An episode that is running."""

    task_id: str
    attempt: int
    began_at: float
    """In seconds since 1970, as in the next two records."""
    step: int | None = None
    """The number of its last step, from 0; `None` before the first."""
    command: str = ""
    """What that step ran, its first line."""
    stepped_at: float | None = None
    """When that step ended."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stage is; `None` is not known. See `srft.harness.stages.progress.Progress`."""

    total: int = 0
    resumed: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    steps: int = 0
    tokens: int = 0
    """Reply tokens, as the server counts them."""
    cost_usd: float | None = None
    eta_s: float | None = None
    after: str = ""
    """What is still to be done when the last one has ended, in words, such as `grading 34`."""
    episodes: tuple[Doing, ...] = ()
    failures: tuple[str, ...] = ()
    """The last few, as `task: reason`."""


class LiveStage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage that is running."""

    name: str
    folder: str
    """Where it works, relative to the run."""
    began_at: float
    counts: Counts | None = None
    """`None` for a stage that does not count."""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The file."""

    schema_version: int = 1
    pid: int
    host: str
    began_at: float
    told_at: float
    """When this was written."""
    stages: tuple[LiveStage, ...] = ()
    """What is running, a stage within another one after it."""
    last: str = ""
    """The stage that ended last."""
    complete: bool | None = None
    """Whether all was done; `None` while the process is at work, and for ever of one that was killed."""
    reason: str | None = None
    """Why not all was done."""


class Seen(NamedTuple):
    """live.json, and whether the process that wrote it is at work."""

    live: Live
    is_running: bool

    @property
    def state(self) -> State:
        if self.is_running:
            return "running"
        return "finished" if self.live.complete else "stopped"


def read_live(run: Path) -> Seen | None:
    """`None` where no process has told anything, or the file is of another version."""
    path = run / FILE_NAME
    try:
        live = msgspec.json.decode(path.read_bytes(), type=Live)
        told_at = path.stat().st_mtime
    except (OSError, msgspec.DecodeError):
        return None
    is_fresh = time.time() - told_at < LOST_AFTER_S
    return Seen(live, live.complete is None and is_fresh and _is_held(run / LOCK_NAME))


def _is_held(path: Path) -> bool:
    """Whether some process holds the lock; where a file system has no locks, its holder is believed while it writes."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        return error.errno in WITHOUT_FLOCK
    finally:
        os.close(descriptor)
    return False


class Telling:
    """Says what this process does in a run. Nothing is written before the first stage begins. Thread-safe."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._stages: list[tuple[LiveStage, Callable[[], Counts] | None]] = []
        self._began_at = time.time()
        self._last, self._written, self._written_at = "", b"", 0.0
        self._complete: bool | None = None
        self._reason: str | None = None
        self._descriptor: int | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.incomplete(str(error).split("\n")[0] or type(error).__name__)
        self.close()

    @contextmanager
    def stage(self, name: str, folder: Path, counts: Callable[[], Counts] | None = None) -> Iterator[None]:
        """A stage, until the block ends. counts: asked about once a second, from another thread."""
        inside = folder.relative_to(self._run).as_posix() if folder.is_relative_to(self._run) else str(folder)
        entry = (LiveStage(name=name, folder=inside, began_at=time.time()), counts)
        with self._lock:
            self._stages.append(entry)
        self._start()
        self._tell()
        try:
            yield
        finally:
            with self._lock:
                self._stages.remove(entry)
                self._last = name
            self._tell()

    def incomplete(self, reason: str) -> None:
        """Note that not all was done, when the stage is over. Within another stage, that one decides what it means."""
        if not self._stages:
            self._reason = self._reason or reason

    def close(self) -> None:
        """Say that this process has ended."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        self._complete = self._reason is None
        self._tell()
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._thread = self._descriptor = None

    def _start(self) -> None:
        if self._thread is not None:
            return
        with suppress(OSError):  # without the lock it is believed while it writes
            self._descriptor = os.open(self._run / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # a reader holds it for a moment at most
        self._thread = threading.Thread(target=self._repeat, daemon=True, name="live")
        self._thread.start()

    def _repeat(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            stages = tuple(
                msgspec.structs.replace(stage, counts=counts()) if counts else stage for stage, counts in self._stages
            )
            told = Live(
                pid=os.getpid(),
                host=socket.gethostname(),
                began_at=self._began_at,
                told_at=0.0,
                stages=stages,
                last=self._last,
                complete=self._complete,
                reason=self._reason,
            )
            content, now = msgspec.json.encode(told), time.time()
            if content == self._written and now - self._written_at < BEAT_S:
                return
            path = self._run / FILE_NAME
            try:
                # Not fsynced: what it says is of use now or never.
                temporary = path.with_name(f".{FILE_NAME}.tmp")
                with open(temporary, "wb") as file:
                    file.write(msgspec.json.encode(msgspec.structs.replace(told, told_at=now)))
                os.replace(temporary, path)
            except OSError as error:
                if not self._written_at:
                    logger.warning("{}: cannot be written ({}), so nobody sees this run live", path, error.strerror)
            self._written, self._written_at = content, now


def state_of(run: Path) -> State | None:
    """How a run is, by what its processes told; `None` where they told nothing."""
    seen = read_live(run)
    return None if seen is None else seen.state
