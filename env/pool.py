"""Workspaces: a task's sandbox, started and scrubbed; and a pool that has the next ones warm.

pool = WorkspacePool(backend, mode="stateless")
pool.warm(task)                  # starts in the background
workspace = pool.take(task)      # a few milliseconds if it has had the time
"""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from loguru import logger

from srft.env.backends import Backend
from srft.env.errors import InfrastructureError
from srft.env.hygiene import Start, scrub
from srft.env.sandbox import Limits, Mode, Sandbox, SandboxSpec
from srft.env.task import Task

SCRUBBED_IMAGES = 8
"""How many snapshots of images that had to be repacked are kept: attempts at one task follow one another."""

# What a program that believes to have a terminal would do to an agent: pagers, progress bars.
AGENT_ENV: Mapping[str, str] = MappingProxyType(
    {
        "PAGER": "cat",
        "MANPAGER": "cat",
        "GIT_PAGER": "cat",
        "LESS": "-R",
        "PIP_PROGRESS_BAR": "off",
        "TQDM_DISABLE": "1",
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
    env: Mapping[str, str] = field(default_factory=lambda: AGENT_ENV)

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


class WorkspacePool:
    """Opens workspaces, some of them ahead of their time. Used by many threads."""

    def __init__(self, backend: Backend, settings: WorkspaceSettings | None = None, *, openers: int = 4) -> None:
        self.backend = backend
        self.settings = settings or WorkspaceSettings()
        self._clean: set[str] = set()  # images that were counted once
        self._scrubbed: OrderedDict[str, str] = OrderedDict()  # image -> snapshot of it without its future
        self._warm: dict[str, list[Future[Workspace]]] = defaultdict(list)
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(openers, thread_name_prefix="warm")
        self._closed = False

    def warm(self, task: Task) -> None:
        """Begin to open a workspace for this task, for a later `take`."""
        with self._lock:
            if not self._closed:
                self._warm[task.instance_id].append(self._executor.submit(self._open, task))

    def take(self, task: Task) -> Workspace:
        """A workspace that is the caller's, to close as well. Raises ImageError, EngineError, SandboxDied."""
        with self._lock:
            waiting = self._warm.get(task.instance_id)
            future = waiting.pop(0) if waiting else None
        return future.result() if future is not None else self._open(task)

    def _open(self, task: Task) -> Workspace:
        self.backend.ensure_image(task)
        with self._lock:
            image = self._scrubbed.get(task.image, task.image)
            known_clean = task.image in self._clean
        sandbox = self.backend.open(replace(self.settings.spec(task), image=image))
        sandbox.start()
        try:
            start = scrub(sandbox, known_clean=known_clean)
            self._remember(task.image, sandbox, start)
        except BaseException:
            sandbox.close()
            raise
        return Workspace(sandbox, start)

    def _remember(self, image: str, sandbox: Sandbox, start: Start) -> None:
        """Repacking a large history takes many seconds, counting it some: once an image is enough."""
        if start.repacked and self.backend.snapshots_are_images:
            snapshot = sandbox.snapshot()
            sandbox.disown(snapshot)
            with self._lock:
                self._scrubbed[image] = snapshot
                old = self._scrubbed.popitem(last=False)[1] if len(self._scrubbed) > SCRUBBED_IMAGES else None
            if old:
                self.backend.remove_snapshot(old)
        if not start.repacked or self.backend.snapshots_are_images:
            with self._lock:
                self._clean.add(image)

    def close(self) -> None:
        """Close what was opened and not taken, and end the background work. Idempotent."""
        with self._lock:
            self._closed = True
            futures = [future for waiting in self._warm.values() for future in waiting]
            self._warm.clear()
        for future in futures:
            if not future.cancel():
                try:
                    future.result().sandbox.close()
                except InfrastructureError as error:
                    logger.debug("a workspace that was being warmed had failed: {}", error)
        self._executor.shutdown(wait=True)
        for snapshot in self._scrubbed.values():
            self.backend.remove_snapshot(snapshot)
        self._scrubbed.clear()
