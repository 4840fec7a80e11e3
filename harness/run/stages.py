"""stages.json: which stages of a round are finished, and what each came to.

    stages = Stages.read(round_folder)
    if not stages.done("critique", key):           # the key is a hash of the stage's inputs and configuration
        stages.begin("critique", key)
        ...
        stages.finish("critique", key, wall_s=12.5, figures={"runs": 60})

The file is written anew, whole, when a stage is finished; a stage that is not in it was not finished. What a finished
stage wrote lies beside it, so nothing here is state that a file does not also hold.

    stages.retire("train.srft", [folder])          # made from other inputs: set aside as .srft.<key>, with its record
    stages.restore("train.srft", key, [folder])    # True where it was made from these very inputs before

A key is one hash, or two with a `+` between them (`joint_key`): of what decides, and of how much there is. What was
made under the same first hash is resumed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

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

    begun: the key of each stage that was begun and not finished since. aside: stage -> key -> what it came to, of what
    was set aside when its inputs changed.
    """

    schema_version: int = SCHEMA_VERSION
    stages: dict[str, Stage] = {}
    begun: dict[str, str] = {}
    aside: dict[str, dict[str, Stage]] = {}


class Stages:
    """The finished stages of one round."""

    def __init__(self, path: Path, content: StagesFile) -> None:
        self.path = path
        self._stages, self._begun = dict(content.stages), dict(content.begun)
        self._aside = {name: dict(records) for name, records in content.aside.items()}

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

    def unfinished(self) -> list[str]:
        """Those that were begun and not finished since."""
        return list(self._begun)

    def done(self, name: str, key: str) -> bool:
        """Whether a stage was finished from these very inputs."""
        return name in self._stages and self._stages[name].key == key

    def others(self, name: str, key: str) -> str | None:
        """The key of other inputs, from which what lies there of this stage was made; `None`: there is nothing, or it
        is resumed."""
        before = self._of(name)
        return None if before is None or _decides(before) == _decides(key) else before

    def _of(self, name: str) -> str | None:
        """The key of what lies there of a stage."""
        return self._begun.get(name) or (self._stages[name].key if name in self._stages else None)

    def begin(self, name: str, key: str) -> None:
        """Note a stage as begun from these inputs; on disk when this returns. Raises StorageError."""
        self._begun[name] = key
        self._stages.pop(name, None)
        self._aside.get(name, {}).pop(key, None)  # what was made of it before is not what is made now
        self._write()

    def retire(self, name: str, paths: Sequence[Path] = ()) -> None:
        """Note a stage as not finished, and set aside what it made (`paths`), together with what it came to.

        Killed at any point, it is taken up again: the record goes first, and says of what lies there whose it is.
        """
        before = self._of(name)
        if before is None:
            return
        if (record := self._stages.pop(name, None)) is not None:
            self._aside.setdefault(name, {})[before] = record
        if paths:
            self._begun[name] = before
        else:
            self._begun.pop(name, None)
        self._write()
        for path in paths:
            set_aside(path, before)

    def restore(self, name: str, key: str, paths: Sequence[Path] = ()) -> bool:
        """Bring back what was made from these inputs before they changed; whether it was finished then."""
        if any(aside_path(path, key).exists() for path in paths):
            self._begun[name] = key  # from here on what lies there is of this key
            self._write()
        for path in paths:
            aside = aside_path(path, key)
            if aside.exists() and not path.exists():
                logger.info("{}: made from these inputs before; back from {}", path, aside.name)
                aside.rename(path)
        record = self._aside.get(name, {}).get(key)
        if record is None or (paths and not paths[0].exists()):
            return False
        del self._aside[name][key]
        self._stages[name] = record
        self._begun.pop(name, None)
        self._write()
        return True

    def finish(self, name: str, key: str, *, wall_s: float, figures: dict[str, Any]) -> None:
        """Note a stage as finished; on disk when this returns. Raises StorageError."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._stages[name] = Stage(key=key, finished_at=now, wall_s=round(wall_s, 3), figures=figures)
        self._begun.pop(name, None)
        self._write()

    def _write(self) -> None:
        content = msgspec.json.encode(StagesFile(stages=self._stages, begun=self._begun, aside=self._aside))
        write_atomic(self.path, msgspec.json.format(content, indent=2) + b"\n")


def joint_key(decides: str, adds: str) -> str:
    """A key whose first part says what is made, and whose second how much of it."""
    return f"{decides}+{adds}"


def _decides(key: str) -> str:
    return key.partition("+")[0]


def aside_path(path: Path, key: str) -> Path:
    """Where something lies while its inputs are others."""
    return path.with_name(f".{path.name}.{_decides(key)}")


def set_aside(path: Path, key: str) -> None:
    """Rename what was made from other inputs, so that nothing is lost and nothing mixed up."""
    if path.exists():
        aside = aside_path(path, key)
        remove(aside)  # set aside before, and made again from the same since
        logger.warning("{}: made from other inputs than there are now; set aside as {}", path, aside.name)
        path.rename(aside)


def remove(path: Path) -> None:
    """Remove a file or a folder, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Aside(NamedTuple):
    """Something that was set aside. of: the path whose place it had; what: what it holds, in words."""

    path: Path
    of: Path
    size_bytes: int
    what: str


_ASIDE = re.compile(r"\.(.+)\.([0-9a-f]{16})")
_PLACES = ("", "model", "evaluation", "rows")


def set_aside_below(folder: Path) -> Iterator[Aside]:
    """All that was set aside in a run's rounds."""
    rounds = sorted(folder.glob("round-[0-9][0-9][0-9]"))
    for place in (round_ / name for round_ in rounds for name in _PLACES):
        for path in sorted(place.glob(".*.*")):
            if match := _ASIDE.fullmatch(path.name):
                yield Aside(path, path.with_name(match[1]), _bytes_in(path), _what(path))


def _what(path: Path) -> str:
    """What a path holds, in words: a model with what it was trained on, or how many lines a file has."""
    record = path / "training.json"
    if record.is_file():
        try:
            trained = msgspec.json.decode(record.read_bytes())
            return f"a model, trained on the arm {trained['arm']} from {trained['model']}"
        except (msgspec.DecodeError, OSError, KeyError, TypeError):
            return "a model whose training.json cannot be read"
    runs = path / "trajectories.jsonl" if path.is_dir() else path
    if runs.suffix == ".jsonl" or ".jsonl." in runs.name:
        with suppress(OSError), runs.open("rb") as lines:
            return f"{'an evaluation of ' if path.is_dir() else ''}{sum(1 for _ in lines)} runs"
    return "a training that was not finished" if path.parent.name == "model" else "a record of this round"


def _bytes_in(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
