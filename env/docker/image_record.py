"""A record of the images that srft pulled or built and their last use: what may be removed, and in which order.

Reads and writes one JSON file, shared between processes; a second file beside it, with the suffix .lock, is the lock,
and a folder with the suffix .held has a lock for each image that some process uses now.

    record = ImageRecord(Path("images.json"))
    record.add("demo/x:latest")
    record.by_use()      # ['demo/x:latest']
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loguru import logger

from srft.env.errors import InputError


class ImageRecord:
    """{image: seconds since the epoch at its last use}, for the images that srft got. Shared between processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".lock").touch()
        except OSError as error:
            raise InputError(
                f"{path}: the record of images cannot be kept there ({error}); set XDG_CACHE_HOME"
            ) from None

    def add(self, image: str) -> None:
        with self._changing() as used_at:
            used_at[image] = time.time()

    def touch(self, image: str) -> None:
        """Note a use, of an image that is ours."""
        with self._changing() as used_at:
            if image in used_at:
                used_at[image] = time.time()

    def drop(self, image: str) -> None:
        with self._changing() as used_at:
            used_at.pop(image, None)

    def by_use(self) -> list[str]:
        """Our images, the least recently used first."""
        with self._changing() as used_at:
            return sorted(used_at, key=lambda image: used_at[image])

    @contextlib.contextmanager
    def held(self, image: str) -> Iterator[None]:
        """As long as the block lasts, or until this process ends, nobody is `alone_with` the image."""
        with self._lock_file(image).open("w") as locked:
            fcntl.flock(locked, fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def alone_with(self, image: str) -> Iterator[bool]:
        """Whether no process holds the image; where none does, who comes to waits for the block's end."""
        with self._lock_file(image).open("w") as locked:
            try:
                fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _lock_file(self, image: str) -> Path:
        folder = self._path.with_suffix(".held")
        folder.mkdir(exist_ok=True)
        return folder / hashlib.sha256(image.encode()).hexdigest()[:16]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, float]]:
        with self._lock, self._path.with_suffix(".lock").open("w") as locked:
            fcntl.flock(locked, fcntl.LOCK_EX)
            before = self._path.read_bytes() if self._path.exists() else b"{}"
            used_at = self._parsed(before)
            yield used_at
            after = json.dumps(used_at, indent=1, sort_keys=True).encode()
            if after != before:
                self._write(after)

    def _write(self, content: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, self._path)
        except OSError as error:
            # A full disk is no reason to stop the episodes: an image not noted here is only never evicted.
            logger.warning("{}: cannot be written ({}); srft will not evict what it gets now", self._path, error)

    def _parsed(self, content: bytes) -> dict[str, float]:
        try:
            parsed: dict[str, Any] = json.loads(content)
            return {str(image): float(used_at) for image, used_at in parsed.items()}
        except (ValueError, AttributeError, TypeError):
            # Nothing of ours is lost but the right to remove images that srft got.
            logger.warning("{}: not readable; srft begins a new one and leaves the images it named alone", self._path)
            return {}
