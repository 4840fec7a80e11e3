"""Where sandboxes come from: a container engine, or this machine.

backend = choose_backend("auto")
backend.ensure_image(task)
with backend.open(SandboxSpec(image=task.image)) as sandbox: ...
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Literal, Protocol

from loguru import logger

from srft.env.errors import EngineError
from srft.env.sandbox.contract import Sandbox, SandboxSpec
from srft.env.tasks.task import Task

Kind = Literal["auto", "docker", "local", "unsandboxed"]


class Backend(Protocol):
    """Opens sandboxes and has their images ready. Used by many threads."""

    name: str
    snapshots_are_images: bool
    """Whether `SandboxSpec.image` may be a snapshot that was disowned."""

    def open(self, spec: SandboxSpec) -> Sandbox:
        """A sandbox, not started."""

    def ensure_image(self, task: Task) -> None:
        """Have the task's image on this machine. Raises ImageError, EngineError."""

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """Begin to have the images of these tasks, in their order, in the background."""

    def hold(self, task: Task) -> AbstractContextManager[None]:
        """The task's image, on this machine and not evicted until the block ends. Raises ImageError, EngineError."""

    def image_id(self, image: str) -> str | None:
        """The id of an image's content; `None` where it is not here or has none."""

    def keep_snapshot(self, sandbox: Sandbox) -> str | None:
        """A disowned snapshot of the sandbox as it is; `None` where there is no room for one, or it would not hold all
        of the files. Only where snapshots are images. Raises SandboxDied, EngineError."""

    def remove_snapshot(self, snapshot: str) -> None:
        """Remove a disowned snapshot, unless a sandbox still uses it: then the reaper will."""

    def reap(self, *, everything: bool = False) -> list[str]:
        """Remove what dead srft processes left behind; returns what that was."""

    def close(self) -> None:
        """End background work."""


class DockerBackend:
    """Containers of the engine at DOCKER_HOST."""

    name = "docker"
    snapshots_are_images = True

    def __init__(
        self,
        *,
        disk_budget_bytes: int | None = None,
        pulls_per_minute: float | None = None,
        platform: str | None = None,
    ) -> None:
        from srft.env.docker.images import ImageStore
        from srft.env.docker.sandbox import engine

        self._platform = platform
        self.images = ImageStore(
            engine(), disk_budget_bytes=disk_budget_bytes, pulls_per_minute=pulls_per_minute, platform=platform
        )

    def open(self, spec: SandboxSpec) -> Sandbox:
        from srft.env.docker.sandbox import DockerSandbox

        return DockerSandbox(replace(spec, platform=self._platform))

    def ensure_image(self, task: Task) -> None:
        self.images.ensure(task)

    def prefetch(self, tasks: Iterable[Task]) -> None:
        self.images.prefetch(tasks)

    def hold(self, task: Task) -> AbstractContextManager[None]:
        return self.images.hold(task)

    def image_id(self, image: str) -> str | None:
        from srft.env.docker.sandbox import image_id

        return image_id(image)

    def keep_snapshot(self, sandbox: Sandbox) -> str | None:
        from srft.env.docker.sandbox import DockerSandbox

        assert isinstance(sandbox, DockerSandbox), "a backend is given its own sandboxes"
        if sandbox.mounted() or (self.images.budget and not self.images.budget.fits(sandbox.written_bytes())):
            return None
        snapshot = sandbox.snapshot()
        sandbox.disown(snapshot)
        return snapshot

    def remove_snapshot(self, snapshot: str) -> None:
        from srft.env.docker.sandbox import engine
        from srft.env.docker.snapshots import remove_snapshot

        remove_snapshot(engine().api, snapshot)

    def reap(self, *, everything: bool = False) -> list[str]:
        from srft.env.docker.sandbox import reap

        return reap(everything=everything)

    def close(self) -> None:
        self.images.close()


class LocalBackend:
    """Processes of this machine, in bubblewrap unless `confined` is False."""

    snapshots_are_images = False

    def __init__(self, *, confined: bool = True) -> None:
        self.name = "local" if confined else "unsandboxed"
        self._confined = confined

    def open(self, spec: SandboxSpec) -> Sandbox:
        from srft.env.local.sandbox import LocalSandbox

        return LocalSandbox(spec, confinement="bubblewrap" if self._confined else "none")

    def ensure_image(self, task: Task) -> None:
        from srft.env.local.images import ensure_local_image

        ensure_local_image(task)

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """Local images are built when they are first needed."""

    def hold(self, task: Task) -> AbstractContextManager[None]:
        self.ensure_image(task)
        return nullcontext()

    def image_id(self, image: str) -> str | None:
        return None

    def keep_snapshot(self, sandbox: Sandbox) -> str | None:
        raise AssertionError("a local snapshot belongs to its sandbox")

    def remove_snapshot(self, snapshot: str) -> None:
        raise AssertionError("a local snapshot belongs to its sandbox")

    def reap(self, *, everything: bool = False) -> list[str]:
        from srft.env.local.sandbox import reap_local

        return reap_local(everything=everything)

    def close(self) -> None:
        """Nothing runs in the background."""


def choose_backend(
    kind: Kind = "auto",
    *,
    disk_budget_bytes: int | None = None,
    pulls_per_minute: float | None = None,
    platform: str | None = None,
) -> Backend:
    """The backend of that name; `auto` is Docker where an engine answers, else bubblewrap. Raises EngineError."""
    if kind == "unsandboxed":
        return LocalBackend(confined=False)
    if kind == "local":
        return _confined_backend()
    try:
        return DockerBackend(disk_budget_bytes=disk_budget_bytes, pulls_per_minute=pulls_per_minute, platform=platform)
    except EngineError as error:
        if kind == "docker":
            raise
        logger.warning("taking the local sandbox: {}", error)
    return _confined_backend()


def _confined_backend() -> Backend:
    from srft.env.local.sandbox import check_bubblewrap

    check_bubblewrap()
    return LocalBackend()
