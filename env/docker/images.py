"""Images: had before an episode needs them, as their Dockerfile is now, and no more kept than the disk may hold.

Reads tasks and the engine; writes images to the engine, and which of them srft got itself, with when each was last
used, to a small state file (`~/.cache/srft/images-<engine>.json` unless told otherwise).

    with ImageStore(engine(), disk_budget_bytes=200 << 30, pulls_per_minute=10) as images:
        images.prefetch(tasks)                  # in the background, a few ahead of the episodes
        with images.hold(task):                 # there now, and not evicted before the block ends
            ...

A task of a task repo is built from its Dockerfile (`build.py`), any other is pulled (`pull.py`). `disk_budget.py` says
what goes when there is no room.
"""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound
from loguru import logger

from srft.env.docker.build import BUILT_LABEL, DEFAULT_BASE_IMAGE, ID_LABEL, build, made_of
from srft.env.docker.disk_budget import DiskBudget
from srft.env.docker.image_record import ImageRecord
from srft.env.docker.pull import pull
from srft.env.docker.snapshots import KEPT, remove_snapshot
from srft.env.docker.token_bucket import TokenBucket
from srft.env.errors import EngineError, ImageError, InfrastructureError
from srft.env.tasks.task import Task

__all__ = ["DEFAULT_BASE_IMAGE", "ImageStore"]

PREFETCH_AHEAD = 4
"""Images that may lie ready and unused: the prefetch waits for the episodes to catch up."""

ROOM_WAIT_S = 300.0
"""How long an image waits until those in use leave it room, before it comes all the same."""


class ImageStore:
    """The images of one engine. Thread-safe; two threads that want one image get it once.

    disk_budget_bytes: what the images that srft got and its snapshots may take, shared layers counted once; `None` is
        no limit. Before an image comes, the least recently used go until one of the usual size has room. Images that
        srft did not get are never removed, nor are held ones, nor those of any container, running or not.
    pulls_per_minute: the limit on requests to registries. platform: as in `docker pull --platform`.
    prefetch_failures: image -> message, for what the background could not get. `ensure` tries those again.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        *,
        disk_budget_bytes: int | None = None,
        pulls_per_minute: float | None = None,
        platform: str | None = None,
        state_file: Path | None = None,
    ) -> None:
        self._client = client
        self._platform = platform
        self._pulls = TokenBucket(pulls_per_minute)
        self._record = ImageRecord(state_file or _default_state_file(client))
        self._lock = threading.Condition()
        self._getting: dict[str, threading.Lock] = {}
        self._held: Counter[str] = Counter()
        self._ahead: set[str] = set()
        self._closed = False
        self.budget = (
            None
            if disk_budget_bytes is None
            else DiskBudget(client, self._record, limit_bytes=disk_budget_bytes, unused=self._unused)
        )
        self.prefetch_failures: dict[str, str] = {}

    @property
    def evicted(self) -> list[str]:
        return self.budget.evicted if self.budget else []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the prefetch end after what it is doing. Holds stay good."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def ensure(self, task: Task) -> None:
        """Have the task's image on the engine, as its Dockerfile is now. Raises ImageError, EngineError.

        It may be evicted at any time; `hold` it to use it.
        """
        with self._getting_of(task.image), _engine_errors(task.image):
            there = self._inspect(task.image)
            if there is not None and self._is_current(task, there):
                self._record.touch(task.image)
                if self.budget:
                    self.budget.count_snapshots_of(there["Id"])
                return
            with self.budget.room(task.image, wait_s=ROOM_WAIT_S) if self.budget else contextlib.nullcontext():
                self._get(task)
            self._record.add(task.image)
            if there is not None:
                self._forget(there)
        if self.budget:
            with _engine_errors(task.image):
                self.budget.shrink(keep=task.image)

    def _getting_of(self, image: str) -> threading.Lock:
        with self._lock:
            return self._getting.setdefault(image, threading.Lock())

    def _inspect(self, image: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client.api.inspect_image(image)
        except ImageNotFound:
            return None
        return found

    def _is_current(self, task: Task, there: dict[str, Any]) -> bool:
        """Whether an image is what the task's Dockerfile would give: one that srft has not built is its maker's."""
        labels = (there.get("Config") or {}).get("Labels") or {}
        if task.dockerfile is None or not task.dockerfile.is_file() or labels.get(BUILT_LABEL) != "built":
            return True
        if labels.get(ID_LABEL) == made_of(self._client.api, task.dockerfile):
            return True
        logger.info("image {}: {} or what it builds on has changed; building again", task.image, task.dockerfile)
        return False

    def _get(self, task: Task) -> None:
        if task.dockerfile is not None and task.dockerfile.is_file():
            self._build(task.image, task.dockerfile)
        else:
            pull(self._client.api, task.image, platform=self._platform, before_each=self._pulls.take)
            if self._inspect(task.image) is None:
                raise ImageError(
                    f"image {task.image}: the engine says that it was pulled, and does not have it; try again"
                )

    def _build(self, image: str, dockerfile: Path) -> None:
        build(self._client.api, image, dockerfile, platform=self._platform, keep_cache=self.budget is None)

    def _forget(self, replaced: dict[str, Any]) -> None:
        """Remove an image whose name has gone to a newer one, unless it has another or is in use; and what pools keep
        of it."""
        now = self._inspect(replaced["Id"])
        if now is None or now["RepoTags"]:
            return
        api = self._client.api
        for kept in api.images(name=KEPT):
            layers = (self._inspect(kept["Id"]) or {}).get("RootFS", {}).get("Layers", [])
            if layers[: len(now["RootFS"]["Layers"])] == now["RootFS"]["Layers"]:
                remove_snapshot(api, kept["Id"])
        remove_snapshot(api, now["Id"])

    @contextlib.contextmanager
    def hold(self, task: Task) -> Iterator[None]:
        """Have the image, and keep it until the block ends: neither this process nor another of this machine evicts
        it. Raises ImageError, EngineError."""
        with self._lock:
            self._held[task.image] += 1
        self._no_longer_ahead(task.image)
        try:
            with self._record.held(task.image):
                self.ensure(task)
                yield
        finally:
            with self._lock:
                self._held[task.image] -= 1
                self._lock.notify_all()
            self._record.touch(task.image)
            if self.budget:
                self.budget.released()

    @contextlib.contextmanager
    def _unused(self, image: str) -> Iterator[bool]:
        """Whether nobody has it or gets it, in any process. Whoever comes to until the block ends waits for that, and
        then finds it missing and gets it again."""
        getting = self._getting_of(image)
        if not getting.acquire(blocking=False):
            yield False
            return
        try:
            with self._lock:
                wanted = bool(self._held[image]) or image in self._ahead
            if wanted:
                yield False
                return
            with self._record.alone_with(image) as is_alone:
                yield is_alone
        finally:
            getting.release()

    def _no_longer_ahead(self, image: str) -> None:
        with self._lock:
            self._ahead.discard(image)
            self._lock.notify_all()

    def prefetch(self, tasks: Iterable[Task], *, threads: int = 1, ahead: int = PREFETCH_AHEAD) -> None:
        """Get the tasks' images in their order in the background, at most `ahead` of them not held yet.

        Returns at once. Give it the tasks that will be held: one that never is keeps its place. A failure is logged and
        kept in `prefetch_failures`; the episode that needs the image says more. Under a disk budget it waits for room.
        """
        queue = iter({task.image: task for task in tasks}.values())
        for _ in range(threads):
            threading.Thread(target=self._prefetch, args=(queue, ahead), name="prefetch", daemon=True).start()

    def _prefetch(self, queue: Iterator[Task], ahead: int) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._closed or len(self._ahead) < ahead)
                task = None if self._closed else next(queue, None)
                if task is None:
                    return
            try:
                if self._has_come_ahead(task):
                    self.ensure(task)
            except InfrastructureError as error:
                logger.warning("prefetch: {}", error)
                self.prefetch_failures[task.image] = str(error)
                self._no_longer_ahead(task.image)

    def _has_come_ahead(self, task: Task) -> bool:
        """Waits until there is room for one more. `False`: the episodes were faster, or it is over."""
        while True:
            with _engine_errors(task.image):
                room = self.budget is None or self._inspect(task.image) is not None or self.budget.has_room(task.image)
            with self._lock:
                if self._closed or task.image in self._held:  # held now or before
                    return False
                if room:
                    self._ahead.add(task.image)
                    return True
                self._lock.wait(timeout=1.0)


def _default_state_file(client: docker.DockerClient) -> Path:
    with _engine_errors("-"):
        engine_id = "".join(letter for letter in str(client.info()["ID"]) if letter.isalnum())
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "srft", f"images-{engine_id}.json")


@contextlib.contextmanager
def _engine_errors(image: str) -> Iterator[None]:
    try:
        yield
    except APIError as error:
        raise EngineError(f"image {image}: the container engine refused: {error.explanation or error}") from error
    except (requests.RequestException, DockerException) as error:
        raise EngineError(f"image {image}: the container engine does not answer ({error}); is it running?") from error
