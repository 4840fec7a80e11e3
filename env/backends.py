"""Sandbox backends: a container engine, or this machine.

backend = choose_backend("auto")
backend.ensure_image(task)
with backend.open(SandboxSpec(image=task.image)) as sandbox: ...
"""

import importlib
import operator
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Protocol, Self

from loguru import logger

from srft.env.errors import EngineError, ImageError, InputError
from srft.env.sandbox.contract import Sandbox, SandboxSpec
from srft.env.tasks.task import Task

KINDS = ("auto", "docker", "local")
"""The backends that have names of their own; MODULE:NAME is somebody's (see `choose_backend`)."""


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


class _Live:
    """What runs has no copy: Gymnasium copies what an environment was made with."""

    def __deepcopy__(self, _memo: object) -> Self:
        return self


class DockerBackend(_Live):
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


class LocalBackend(_Live):
    """Processes of this machine, in bubblewrap."""

    name = "local"
    snapshots_are_images = False

    def open(self, spec: SandboxSpec) -> Sandbox:
        from srft.env.local.sandbox import LocalSandbox

        return LocalSandbox(spec)

    def ensure_image(self, task: Task) -> None:
        from srft.env.local.images import ensure_local_image

        ensure_local_image(task)

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """Local images are built when they are first needed."""

    def hold(self, task: Task) -> AbstractContextManager[None]:
        self.ensure_image(task)
        return nullcontext()

    def image_id(self, image: str) -> str | None:
        from srft.env.local.rootfs import load_image

        try:
            return load_image(image).digest
        except ImageError:
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
    kind: str = "auto",
    *,
    disk_budget_bytes: int | None = None,
    pulls_per_minute: float | None = None,
    platform: str | None = None,
) -> Backend:
    """The backend of that name; `auto` is Docker where an engine answers, else bubblewrap.

    A name with a colon is MODULE:NAME of somebody's own: a class or a function that is called without arguments. Raises
    InputError, EngineError.
    """
    check_kind(kind)
    if ":" in kind:
        return _own_backend(kind)
    if kind == "local":
        return _local_backend()
    try:
        return DockerBackend(disk_budget_bytes=disk_budget_bytes, pulls_per_minute=pulls_per_minute, platform=platform)
    except EngineError as error:
        if kind == "docker":
            raise
        logger.warning("taking the local sandbox: {}", error)
    return _local_backend()


def check_kind(kind: str, *, where: str = "sandbox") -> str:
    """The name as it is. where: who gave it. Raises InputError where no backend can have it."""
    if kind not in KINDS and not re.fullmatch(r"[\w.]+:[\w.]+", kind):
        podman = " For Podman: docker, and DOCKER_HOST with its socket." if kind == "podman" else ""
        raise InputError(f"{where} {kind}: choose {', '.join(KINDS)} or MODULE:NAME of a Backend of your own.{podman}")
    return kind


def _own_backend(name: str) -> Backend:
    module, _, attribute = name.partition(":")
    try:
        found = operator.attrgetter(attribute)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise InputError(f"sandbox {name!r}: {error}; expected MODULE:NAME of a Backend of your own") from error
    backend: Backend = found()
    wanted = {*Backend.__annotations__, *(attribute for attribute in vars(Backend) if not attribute.startswith("_"))}
    if missing := sorted(attribute for attribute in wanted if not hasattr(backend, attribute)):
        raise InputError(f"sandbox {name!r}: no Backend; it has no {', '.join(missing)} (see srft.env.backends)")
    return backend


def _local_backend() -> Backend:
    from srft.env.local.sandbox import check_bubblewrap

    check_bubblewrap()
    return LocalBackend()
