"""The disk budget of images: room is made before one is pulled or built, and what is removed frees its space.

Reads the engine's images and the record of those that srft got; removes of these the least recently used.

    budget = DiskBudget(client, record, limit_bytes=200 << 30, unused=store.unused)
    with budget.room("demo/x:latest", wait_s=300):      # others are removed until one of the usual size fits
        ...                                             # pull or build it
    budget.shrink(keep="demo/x:latest")                 # it may be larger than any before it

Counted are the images that srft got and the snapshots of images that it uses, shared layers once. Before an image the
snapshots go that `WorkspacePool` keeps of it: as long as one is there, the image's layers are too.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

import docker
from docker.errors import APIError, ImageNotFound
from loguru import logger

from srft.env.docker.image_record import ImageRecord
from srft.env.docker.layers import chains_of, layers_of
from srft.env.docker.snapshots import KEPT, is_snapshot

LOOK_AGAIN_S = 1.0
"""A container that ends is not announced."""


class _Stored(NamedTuple):
    """An image on the engine that counts. name: in the record; `None` for a snapshot. kept: a pool's snapshot."""

    id: str
    name: str | None
    kept: bool
    layers: Mapping[str, int]

    def is_made_of(self, image: "_Stored") -> bool:
        return self.id != image.id and image.layers.keys() <= self.layers.keys()


class _Room(NamedTuple):
    """What is missing for an image that takes `wanted` bytes. others: there are images whose users may end."""

    over: int
    wanted: int
    others: bool


class DiskBudget:
    """Keeps what srft has on the engine below a limit. Thread-safe; who asks for room first gets it first.

    unused: image -> whether nobody in any process has or gets it; as long as the context lasts, nobody can.
    evicted: the images removed, in their order.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        record: ImageRecord,
        *,
        limit_bytes: int,
        unused: Callable[[str], AbstractContextManager[bool]],
    ) -> None:
        self._client, self._record, self._limit_bytes, self._unused = client, record, limit_bytes, unused
        self._changing = threading.Condition()
        self._reserved: Counter[object] = Counter()
        self._waiting: list[object] = []
        self._layers: dict[str, dict[str, int]] = {}
        self._chains: dict[str, tuple[str, ...]] = {}
        self._bases: set[str] = set()
        self.evicted: list[str] = []

    @contextlib.contextmanager
    def room(self, image: str, *, wait_s: float) -> Iterator[None]:
        """Room for an image of the usual size until the block ends. Where all others are in use, waits for it.

        After `wait_s` it continues without room, and says so.
        """
        ticket = object()
        self._take_room(image, ticket, wait_s)
        try:
            yield
        finally:
            with self._changing:
                del self._reserved[ticket]
                self._changing.notify_all()

    def _take_room(self, image: str, ticket: object, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        with self._changing:
            self._waiting.append(ticket)
            try:
                while True:
                    is_next, is_late = self._waiting[0] is ticket, time.monotonic() >= until
                    found = self._free(image) if is_next or is_late else None
                    if found is not None and (found.over <= 0 or is_late or not found.others):
                        break
                    self._changing.wait(min(LOOK_AGAIN_S, max(0.0, until - time.monotonic())))
            finally:
                self._waiting.remove(ticket)
                self._changing.notify_all()
            self._reserved[ticket] = found.wanted
        self._tell(found.over)

    def has_room(self, image: str) -> bool:
        """Whether an image of the usual size fits, others removed that nobody uses, and nobody else waits for room."""
        with self._changing:
            return not self._waiting and self._free(image).over <= 0

    def fits(self, more_bytes: int) -> bool:
        """Whether so much more fits beside what is there."""
        with self._changing:
            return self._used(self._survey()) + self._reserved.total() + more_bytes <= self._limit_bytes

    def shrink(self, *, keep: str) -> None:
        """Remove what is over the limit, but not the image `keep`."""
        with self._changing:
            over, _ = self._evict(self._survey(), keep, wanted=0)
        self._tell(over)

    def released(self) -> None:
        """Somebody has done with an image."""
        with self._changing:
            self._changing.notify_all()

    @staticmethod
    def _tell(over: int) -> None:
        if over > 0:
            logger.warning("images take {} bytes more than the disk budget, and all of them are in use", over)

    def _free(self, image: str) -> "_Room":
        """Make room for one more image, which takes as much as the largest there does for itself."""
        stored = self._survey()
        wanted = max((*self._own_bytes(stored), *self._reserved.values()), default=0)
        over, left = self._evict(stored, image, wanted=wanted)
        return _Room(over, wanted, others=bool(self._reserved) or any(one.name not in (None, image) for one in left))

    def _own_bytes(self, stored: list[_Stored]) -> Iterator[int]:
        """What each image takes beyond the layers that others on the engine have too, say its base image."""
        ids = {one["Id"] for one in self._client.api.images()}
        shared = Counter(chain for id_ in ids for chain in self._chains_of(id_))
        for one in stored:
            if one.name is not None:
                yield sum(size for chain, size in one.layers.items() if shared[chain] <= 1)

    def _evict(self, stored: list[_Stored], keep: str, *, wanted: int) -> tuple[int, list[_Stored]]:
        """Remove snapshots and images until there is room. Returns how many bytes are missing, and what is left."""

        def over() -> int:
            return self._used(stored) + self._reserved.total() + wanted - self._limit_bytes

        images = [one for one in stored if one.name is not None]
        for one in stored:
            if over() > 0 and one.kept and not any(one.is_made_of(image) for image in images):
                stored = [other for other in stored if other is not one or not self._remove(one.id)]
        for image in images:
            if over() <= 0:
                break
            if image.name == keep or image.name is None or self._frees_nothing(image, stored):
                continue
            with self._unused(image.name) as is_unused:
                if is_unused:
                    stored = self._without(image, stored, over)
        return over(), stored

    def _without(self, image: _Stored, stored: list[_Stored], over: Callable[[], int]) -> list[_Stored]:
        """What is left when an image that nobody uses goes: its snapshots first, and it where that is not enough."""
        assert image.name is not None
        for snapshot in [one for one in stored if one.kept and one.is_made_of(image)]:
            if self._remove(snapshot.id):
                stored.remove(snapshot)
        if (
            over() <= 0
            or any(child.is_made_of(image) for child in stored)
            or not self._remove(image.name, id_=image.id)
        ):
            return stored
        stored.remove(image)
        self._record.drop(image.name)
        self.evicted.append(image.name)
        logger.info("image {}: evicted", image.name)
        return stored

    def _frees_nothing(self, image: _Stored, stored: list[_Stored]) -> bool:
        """Whether another image than a kept snapshot is made of it: the engine would only take its name away."""
        return any(one.is_made_of(image) and not one.kept for one in stored)

    def _remove(self, image: str, *, id_: str | None = None) -> bool:
        """Remove it from the engine unless a container or another image needs it. Returns whether it is gone."""
        try:
            if id_ is not None and (
                self._client.api.containers(all=True, filters={"ancestor": id_}) or self._has_children(id_)
            ):
                return False
            self._client.api.remove_image(image)
        except ImageNotFound:
            pass
        except APIError as error:
            if error.status_code != 409:
                raise
            return False  # a container has come to use it meanwhile
        return True

    def _has_children(self, id_: str) -> bool:
        return any(one.get("ParentId") == id_ for one in self._client.api.images(all=True))

    def _used(self, stored: Iterable[_Stored]) -> int:
        return union_bytes(one.layers for one in stored)

    def _survey(self) -> list[_Stored]:
        """What counts, images by their last use and then snapshots. Of an image that is gone the record is dropped."""
        found = self._client.api.images()
        by_name = {name: one["Id"] for one in found for name in (*(one["RepoTags"] or ()), *(one["RepoDigests"] or ()))}
        stored = []
        for name in self._record.by_use():
            id_ = by_name.get(name) or self._id_of(name)
            if id_ is None:
                self._record.drop(name)
            else:
                stored.append(_Stored(id_, name, False, self._layers_of(id_)))
        bases = [*(one.layers for one in stored), *map(self._layers_of, self._bases)]
        for one in found:
            if is_snapshot(one["Labels"]):
                kept = any(name.startswith(f"{KEPT}:") for name in one["RepoTags"] or ())
                layers = self._layers_of(one["Id"])
                if any(base and base.keys() <= layers.keys() for base in bases):
                    stored.append(_Stored(one["Id"], None, kept, layers))
        return stored

    def count_snapshots_of(self, id_: str) -> None:
        """Of an image that srft did not get; those of its own images count anyway."""
        with self._changing:
            self._bases.add(id_)

    def _id_of(self, name: str) -> str | None:
        try:
            return str(self._client.api.inspect_image(name)["Id"])
        except ImageNotFound:
            return None

    def _chains_of(self, id_: str) -> tuple[str, ...]:
        if id_ not in self._chains:
            with contextlib.suppress(ImageNotFound):
                self._chains[id_] = chains_of(self._client.api, id_)
        return self._chains.get(id_, ())

    def _layers_of(self, id_: str) -> dict[str, int]:
        if id_ not in self._layers:
            with contextlib.suppress(ImageNotFound):  # it has gone meanwhile
                self._layers[id_] = layers_of(self._client.api, id_)
        return self._layers.get(id_, {})


def union_bytes(images: Iterable[Mapping[str, int]]) -> int:
    """The disk that images take together: a layer that several have lies there once.

    >>> union_bytes([{"a": 10, "a/b": 5}, {"a": 10, "a/c": 1}])
    16
    """
    return sum({chain: size for layers in images for chain, size in layers.items()}.values())
