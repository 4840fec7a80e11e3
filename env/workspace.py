"""Workspaces: a task's sandbox, started, set up and scrubbed; and a pool that has the next ones warm.

pool = WorkspacePool(backend, WorkspaceSettings(mode="stateless"))
pool.warm(task)                  # starts in the background
workspace = pool.take(task)      # a few milliseconds if it has had the time
"""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from loguru import logger

from srft.env.backends import Backend
from srft.env.errors import EngineError, ImageError, InfrastructureError
from srft.env.git.patch import Another, Patch, take_patch
from srft.env.git.record import Start
from srft.env.git.scrub import run_setup, scrub
from srft.env.sandbox.contract import Limits, Mode, Sandbox, SandboxSpec
from srft.env.tasks.task import Task

SCRUBBED_IMAGES = 32
"""How many snapshots of scrubbed images are kept: attempts at one task follow one another."""

CLOSERS = 4

# What a program that believes to have a terminal would do to an agent: pagers, progress bars.
AGENT_ENV: Mapping[str, str] = MappingProxyType(
    {
        "PAGER": "cat",
        "MANPAGER": "cat",
        "GIT_PAGER": "cat",
        "LESS": "-R",
        "PIP_PROGRESS_BAR": "off",
        "TQDM_DISABLE": "1",
        # Git refuses to work in a repository that is another user's, as those of images with a USER are.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }
)

# The official images keep a task's interpreter in a conda environment; others have it on PATH.
ACTIVATE = (
    "if [ -f /opt/miniconda3/bin/activate ]; then source /opt/miniconda3/bin/activate && conda activate testbed; fi"
)


@dataclass(frozen=True)
class WorkspaceSettings:
    """How an agent's sandbox is made. `None` limits are no limits."""

    mode: Mode = "stateless"
    network: str = "none"
    limits: Limits = field(default_factory=Limits)
    init: str = ACTIVATE
    env: Mapping[str, str] = field(default_factory=lambda: dict(AGENT_ENV))

    def spec(self, task: Task) -> SandboxSpec:
        return SandboxSpec(
            image=task.image,
            workdir=task.view.workdir,
            mode=self.mode,
            init=self.init,
            env=dict(self.env),
            network=self.network,
            limits=self.limits,
            labels={"srft.task": task.instance_id},
        )


@dataclass(frozen=True)
class Workspace:
    """A sandbox in which an agent may begin, and where it began."""

    sandbox: Sandbox
    start: Start
    another: Another
    """Opens one more in the same state, for as long as the patch needs it."""

    def patch(self, *, kill: bool = True) -> Patch:
        """What was changed since the start; kill: as in `take_patch`. Raises PatchError, SandboxDied."""
        return take_patch(self.sandbox, self.start, kill=kill, another=self.another)


class _Origin(NamedTuple):
    """What a workspace is made of: tasks with the same one begin in the same state."""

    image: str
    image_id: str | None
    setup: str


class _Scrubbed(NamedTuple):
    """A snapshot of an image in which the agent may begin as it is."""

    snapshot: str
    start: Start


class WorkspacePool:
    """Opens workspaces, some of them ahead of their time, and closes them in the background. Used by many threads.

    An image is set up and scrubbed for the first episodes on it; where snapshots are images, later ones start from one.
    """

    def __init__(self, backend: Backend, settings: WorkspaceSettings | None = None, *, openers: int = 4) -> None:
        self.backend = backend
        self.settings = settings or WorkspaceSettings()
        self._seen: set[_Origin] = set()
        self._scrubbed: OrderedDict[_Origin, _Scrubbed] = OrderedDict()
        self._warm: dict[str, list[Future[Workspace]]] = defaultdict(list)
        self._lock = threading.Lock()
        self._openers = ThreadPoolExecutor(openers, thread_name_prefix="warm")
        self._closers = ThreadPoolExecutor(CLOSERS, thread_name_prefix="close")
        self._closed = False

    def __deepcopy__(self, _memo: object) -> "WorkspacePool":
        return self  # Gymnasium copies what an environment was made with; what runs has no copy

    def warm(self, task: Task) -> None:
        """Begin to open a workspace for this task, for a later `take`."""
        with self._lock:
            if not self._closed:
                self._warm[task.instance_id].append(self._openers.submit(self._open, task))

    def take(self, task: Task) -> Workspace:
        """A workspace that is the caller's, to `release`. Raises ImageError, EngineError, SandboxDied."""
        with self._lock:
            waiting = self._warm.get(task.instance_id)
            future = waiting.pop(0) if waiting else None
        if future is None or future.cancel():  # not begun yet: no reason to wait for its turn
            return self._open(task)
        return future.result()

    def release(self, workspace: Workspace) -> None:
        """Close a workspace; removing a container takes a while, and nobody waits for it."""
        try:
            self._closers.submit(workspace.sandbox.close)
        except RuntimeError:  # the pool is closed
            workspace.sandbox.close()

    def _open(self, task: Task) -> Workspace:
        with self.backend.hold(task):  # from here on until a container has it
            return self._opened(task)

    def _opened(self, task: Task) -> Workspace:
        origin = _Origin(task.image, self.backend.image_id(task.image), task.agent_setup)
        with self._lock:
            scrubbed = self._scrubbed.get(origin)
            if scrubbed is not None:
                self._scrubbed.move_to_end(origin)
        if scrubbed is not None:
            try:
                return self._workspace(task, self._started(task, scrubbed.snapshot), scrubbed.start)
            except ImageError as error:
                logger.warning("{}: the scrubbed snapshot is gone ({}); scrubbing again", task.image, error)
                with self._lock:
                    self._scrubbed.pop(origin, None)
        sandbox = self._started(task, task.image)
        try:
            run_setup(sandbox, task.agent_setup)
            start = scrub(sandbox)
            self._keep(origin, sandbox, start)
        except BaseException:
            sandbox.close()
            raise
        return self._workspace(task, sandbox, start)

    def _workspace(self, task: Task, sandbox: Sandbox, start: Start) -> Workspace:
        @contextmanager
        def another() -> Iterator[tuple[Sandbox, Start]]:
            workspace = self._open(task)
            try:
                yield workspace.sandbox, workspace.start
            finally:
                self.release(workspace)

        return Workspace(sandbox, start, another)

    def _started(self, task: Task, image: str) -> Sandbox:
        sandbox = self.backend.open(replace(self.settings.spec(task), image=image))
        sandbox.start()
        return sandbox

    def _keep(self, origin: _Origin, sandbox: Sandbox, start: Start) -> None:
        """Snapshot what was scrubbed: when it is wanted again, or at once when it took long.

        A volume is in no snapshot: what is in it would come back from the image as it was, future and all.
        """
        with self._lock:
            wanted = (start.repacked or origin in self._seen) and origin not in self._scrubbed
            self._seen.add(origin)
        if not (wanted and self.backend.snapshots_are_images) or start.in_volume:
            return
        try:
            snapshot = self.backend.keep_snapshot(sandbox)
        except EngineError as error:
            logger.warning("{}: no snapshot ({}); the next workspace is scrubbed anew", origin.image, error)
            return
        if snapshot is None:
            return
        with self._lock:
            replaced = [self._scrubbed.pop(origin, None)]  # by a thread that was as quick
            self._scrubbed[origin] = _Scrubbed(snapshot, start)
            while len(self._scrubbed) > SCRUBBED_IMAGES:
                replaced.append(self._scrubbed.popitem(last=False)[1])
        for scrubbed in filter(None, replaced):
            self.backend.remove_snapshot(scrubbed.snapshot)

    def close(self) -> None:
        """Close what was opened and not taken, and end the background work. Idempotent."""
        with self._lock:
            self._closed = True
            futures = [future for waiting in self._warm.values() for future in waiting]
            self._warm.clear()
        for future in futures:
            if not future.cancel():
                try:
                    self.release(future.result())
                except InfrastructureError as error:
                    logger.debug("a workspace that was being warmed had failed: {}", error)
        self._openers.shutdown(wait=True)
        self._closers.shutdown(wait=True)
        for scrubbed in self._scrubbed.values():
            self.backend.remove_snapshot(scrubbed.snapshot)
        self._scrubbed.clear()
