"""Images: had before an episode needs them, and no more of them kept than the disk may hold.

Reads tasks and the engine; writes images to the engine, and which of them srft got itself, with when each was last
used, to a small state file (`~/.cache/srft/images-<engine>.json` unless told otherwise).

    with ImageStore(engine(), disk_budget_bytes=200 << 30, pulls_per_minute=10) as images:
        images.prefetch(tasks)                  # in the background, a few ahead of the episodes
        with images.hold(task):                 # there now, and not evicted before the block ends
            ...

A task of a task repo is built from its Dockerfile, any other is pulled. A build gets what `build.py` says, and
the build argument BASE_IMAGE (`$SRFT_BASE_IMAGE`, else srft/base:bookworm), for `ARG BASE_IMAGE` and
`FROM ${BASE_IMAGE}`.
"""

import contextlib
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import docker
import requests
from docker.errors import APIError, BuildError, DockerException, ImageNotFound
from loguru import logger

from srft.env.docker.build import make_context
from srft.env.docker.image_record import ImageRecord
from srft.env.docker.token_bucket import TokenBucket
from srft.env.errors import EngineError, ImageError, InfrastructureError
from srft.env.tasks.task import Task

DEFAULT_BASE_IMAGE = "srft/base:bookworm"

PREFETCH_AHEAD = 4
"""Images that may lie ready and unused: the prefetch waits for the episodes to catch up."""

BUILD_SILENCE_S = 3600
"""How long a build step may print nothing; pip is quiet for long."""

PULL_ATTEMPTS = 3
PULL_BACKOFF_S = 5.0
PASSING_PULL_ERRORS = ("toomanyrequests", "429", "timeout", "timed out", "connection reset", "unexpected eof", "503")

# The diff id of a layer that holds nothing (1,024 zero bytes): history lists it with a size of 0.
_EMPTY_LAYER = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


class ImageStore:
    """The images of one engine. Thread-safe; two threads that want one image get it once.

    disk_budget_bytes: what the images that srft got may take, shared layers counted once; `None` is no limit. Over it,
        the least recently used go, after the image that broke it has come: leave room for one more. Images that srft
        did not get are never removed, nor are held ones, nor those of any container, running or not.
    pulls_per_minute: the limit on requests to registries.
    prefetch_failures: image -> message, for what the background could not get. `ensure` tries those again.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        *,
        disk_budget_bytes: int | None = None,
        pulls_per_minute: float | None = None,
        state_file: Path | None = None,
    ) -> None:
        self._client = client
        self._disk_budget_bytes = disk_budget_bytes
        self._pulls = TokenBucket(pulls_per_minute)
        self._record = ImageRecord(state_file or _default_state_file(client))
        self._lock = threading.Condition()
        self._evicting = threading.Lock()
        self._getting: dict[str, threading.Lock] = {}
        self._held: Counter[str] = Counter()
        self._ahead: set[str] = set()
        self._layers: dict[str, dict[str, int]] = {}
        self._closed = False
        self.evicted: list[str] = []
        self.prefetch_failures: dict[str, str] = {}

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
        """Have the task's image on the engine. Raises ImageError, EngineError."""
        image = task.image
        with self._lock:
            getting = self._getting.setdefault(image, threading.Lock())
        with getting, _engine_errors(image):
            if self._present(image):
                self._record.touch(image)
                return
            if task.dockerfile is not None and task.dockerfile.is_file():
                self._build(image, task.dockerfile)
            else:
                self._pull(image)
            self._record.add(image)
        self._evict(keep=image)

    @contextlib.contextmanager
    def hold(self, task: Task) -> Iterator[None]:
        """Keep the image, once it is here, until the block ends. To have it is `ensure`'s work."""
        with self._lock:
            self._held[task.image] += 1
        self._no_longer_ahead(task.image)
        try:
            yield
        finally:
            with self._lock:
                self._held[task.image] -= 1
            self._record.touch(task.image)

    def _no_longer_ahead(self, image: str) -> None:
        with self._lock:
            self._ahead.discard(image)
            self._lock.notify_all()

    def prefetch(self, tasks: Iterable[Task], *, threads: int = 1, ahead: int = PREFETCH_AHEAD) -> None:
        """Get the tasks' images in their order in the background, at most `ahead` of them not held yet.

        Returns at once. Give it the tasks that will be held: one that never is keeps its place. A failure is logged and
        kept in `prefetch_failures`; the episode that needs the image says more.
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
                if task.image in self._held:  # held now or before: the episodes were faster
                    continue
                self._ahead.add(task.image)
            try:
                self.ensure(task)
            except InfrastructureError as error:
                logger.warning("prefetch: {}", error)
                self.prefetch_failures[task.image] = str(error)
                self._no_longer_ahead(task.image)

    def _present(self, image: str) -> bool:
        try:
            self._client.images.get(image)
        except ImageNotFound:
            return False
        return True

    def _pull(self, image: str) -> None:
        for attempt in range(1, PULL_ATTEMPTS + 1):
            self._pulls.take()
            try:
                self._client.images.pull(image)
                return
            except APIError as error:
                reason = error.explanation or str(error)
                passing = any(sign in reason.lower() for sign in PASSING_PULL_ERRORS)
                if not passing or attempt == PULL_ATTEMPTS:
                    raise ImageError(
                        f"image {image}: not on this engine, and pulling it failed ({reason.strip()}); check its name "
                        "and the way to its registry (docker login, proxy), or load or build it under that name"
                    ) from error
                logger.warning("image {}: pull {} of {} failed ({})", image, attempt, PULL_ATTEMPTS, reason)
                time.sleep(PULL_BACKOFF_S * attempt)

    def _build(self, image: str, dockerfile: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="srft-build-") as folder:
            context = Path(folder, "context")
            base = os.environ.get("SRFT_BASE_IMAGE") or DEFAULT_BASE_IMAGE
            build_args = {"BASE_IMAGE": base} | make_context(context, dockerfile)
            try:
                self._client.images.build(
                    path=str(context),
                    tag=image,
                    buildargs=build_args,
                    labels={"srft.image": "built"},
                    rm=True,
                    forcerm=True,
                    timeout=BUILD_SILENCE_S,
                )
            except (BuildError, APIError) as error:
                log = [line.get("stream", "") for line in getattr(error, "build_log", ())]
                logger.debug("image {}: the build's log:\n{}", image, "".join(log))
                reason = getattr(error, "msg", None) or getattr(error, "explanation", None) or str(error)
                raise ImageError(
                    f"image {image}: building it from {dockerfile} failed ({str(reason).strip()}"
                    f"{_last_line(log)}); mend the Dockerfile, or its base image or CA bundle (see "
                    "srft.env.docker.build)"
                ) from error

    def _evict(self, *, keep: str) -> None:
        """Remove least recently used images of ours until the budget holds."""
        if self._disk_budget_bytes is None:
            return
        with self._evicting, _engine_errors(keep):
            layers = {image: found for image in self._record.by_use() if (found := self._layers_of(image)) is not None}
            for image in list(layers):
                if _union_bytes(layers.values()) <= self._disk_budget_bytes:
                    return
                if image != keep and self._remove_unused(image):
                    del layers[image]
            if (over := _union_bytes(layers.values()) - self._disk_budget_bytes) > 0:
                logger.warning("images take {} bytes more than the disk budget, and all of them are in use", over)

    def _remove_unused(self, image: str) -> bool:
        """Remove it unless an episode or a container uses it. Returns whether it is gone."""
        with self._lock:
            getting = self._getting.setdefault(image, threading.Lock())
        if not getting.acquire(blocking=False):
            return False
        try:
            with self._lock:
                if self._held[image] or image in self._ahead:
                    return False
            if self._client.api.containers(all=True, filters={"ancestor": image}):
                return False
            # Whoever comes to hold it from here on waits for `getting`, and then finds it missing and gets it again.
            self._client.images.remove(image, force=False)
        except ImageNotFound:
            pass
        except APIError as error:
            if error.status_code != 409:
                raise
            return False  # a container has come to use it meanwhile
        finally:
            getting.release()
        self._record.drop(image)
        self.evicted.append(image)
        logger.info("image {}: evicted", image)
        return True

    def _layers_of(self, image: str) -> dict[str, int] | None:
        """{chain of layers: bytes of the last}, `None` for an image that is gone."""
        try:
            found = self._client.images.get(image)
        except ImageNotFound:
            self._record.drop(image)
            return None
        if found.id not in self._layers:
            sizes = [step["Size"] for step in reversed(found.history()) if step["Size"]]
            digests = [digest for digest in found.attrs["RootFS"].get("Layers", ()) if digest != _EMPTY_LAYER]
            if len(sizes) == len(digests):
                chains = {"/".join(digests[: n + 1]): size for n, size in enumerate(sizes)}
            else:  # the engine's history and layers do not match: count the image for itself
                chains = {str(found.id): found.attrs["Size"]}
            self._layers[str(found.id)] = chains
        return self._layers[str(found.id)]


def _union_bytes(images: Iterable[dict[str, int]]) -> int:
    """The disk that images take together: a layer that several have lies there once.

    >>> _union_bytes([{"a": 10, "a/b": 5}, {"a": 10, "a/c": 1}])
    16
    """
    return sum({chain: size for layers in images for chain, size in layers.items()}.values())


def _last_line(log: list[str]) -> str:
    """What the failing step said last; the builder's own lines stand between."""
    lines = [line.strip() for line in "".join(log).splitlines()]
    own = ("--->", "Step ", "Removing intermediate container")
    said = [line for line in lines if line and not line.startswith(own)]
    return f"; its last line was: {said[-1]}" if said else ""


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
