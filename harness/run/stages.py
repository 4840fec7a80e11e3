"""stages.json: which stages of a round are finished, and what each came to.

    stages = Stages.read(round_folder)
    if not stages.done("critique", key):           # the key is a hash of the stage's inputs and configuration
        stages.begin("critique", key)
        ...
        stages.finish("critique", key, wall_s=12.5, figures={"runs": 60})

The file is written anew, whole, when a stage is finished; a stage that is not in it was not finished. What a finished
stage wrote lies beside it, so nothing here is state that a file does not also hold.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger

from srft.env.errors import InputError
from srft.harness.run.store import write_atomic

FILE_NAME = "stages.json"
SCHEMA_VERSION = 1


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One finished stage. wall_s: of the command that finished it; figures: its counts, as the report prints them."""

    key: str
    finished_at: str
    wall_s: float
    figures: dict[str, Any] = {}


class StagesFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file. Stages of a cell are named `train.<cell>`, `serve.<cell>`, `evaluate.<cell>`; of an arm `rows.<arm>`.

    begun: the key of each stage that was begun and not finished since.
    """

    schema_version: int = SCHEMA_VERSION
    stages: dict[str, Stage] = {}
    begun: dict[str, str] = {}


class Stages:
    """The finished stages of one round."""

    def __init__(self, path: Path, content: StagesFile) -> None:
        self.path = path
        self._stages, self._begun = dict(content.stages), dict(content.begun)

    @classmethod
    def read(cls, folder: Path) -> Stages:
        """Those of a round's folder, none where no stage was finished. Raises InputError."""
        path = folder / FILE_NAME
        if not path.exists():
            return cls(path, StagesFile())
        try:
            content = msgspec.json.decode(path.read_bytes(), type=StagesFile)
        except (msgspec.DecodeError, OSError) as error:
            raise InputError(
                f"{path}: not a stages file of this version ({error}); move it away to do the round's stages again"
            ) from None
        return cls(path, content)

    def __getitem__(self, name: str) -> Stage:
        return self._stages[name]

    def __contains__(self, name: str) -> bool:
        return name in self._stages

    def items(self) -> list[tuple[str, Stage]]:
        """(name, stage), in the order in which they were first finished."""
        return list(self._stages.items())

    def done(self, name: str, key: str) -> bool:
        """Whether a stage was finished from these very inputs."""
        return name in self._stages and self._stages[name].key == key

    def others(self, name: str, key: str) -> str | None:
        """The key of other inputs, from which what lies there of this stage was made; `None`: there is nothing."""
        before = self._begun.get(name) or (self._stages[name].key if name in self._stages else None)
        return None if before == key else before

    def begin(self, name: str, key: str) -> None:
        """Note a stage as begun from these inputs; on disk when this returns. Raises StorageError."""
        self._begun[name] = key
        self._stages.pop(name, None)
        self._write()

    def forget(self, names: Iterable[str]) -> None:
        """Note stages as not finished; on disk with what is noted next."""
        for name in names:
            self._stages.pop(name, None)

    def finish(self, name: str, key: str, *, wall_s: float, figures: dict[str, Any]) -> None:
        """Note a stage as finished; on disk when this returns. Raises StorageError."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._stages[name] = Stage(key=key, finished_at=now, wall_s=round(wall_s, 3), figures=figures)
        self._begun.pop(name, None)
        self._write()

    def _write(self) -> None:
        content = msgspec.json.encode(StagesFile(stages=self._stages, begun=self._begun))
        write_atomic(self.path, msgspec.json.format(content, indent=2) + b"\n")


def set_aside(path: Path, key: str) -> None:
    """Rename what was made from other inputs, so that nothing is lost and nothing mixed up."""
    if path.exists():
        aside = path.with_name(f".{path.name}.{key}")
        shutil.rmtree(aside, ignore_errors=True)  # set aside before, and made again from the same since
        logger.warning("{}: made from other inputs than there are now; set aside as {}", path, aside.name)
        path.rename(aside)
