"""A run's small files as the report reads them.

    read_json(folder / "training.json", TrainingFile).figures

The full record would load torch. Fields that are not named here are passed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from srft.env.errors import InputError

T = TypeVar("T")


class TrainingFile(msgspec.Struct, frozen=True, kw_only=True):
    """training.json; see `srft.train.fit.finetune.Trained`."""

    model: str
    arm: str
    recipe: dict[str, Any]
    versions: dict[str, str]
    task_ids: list[str]
    held_out_tasks: list[str]
    figures: dict[str, float | int | None]
    log: list[dict[str, Any]]


class PracticeSourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """One source in practice.json; see `srft.env.practice.record.SourceRecord`."""

    mutants: int
    not_called: int
    unreliable_tests: int
    tried: int
    kept: int
    dropped: dict[str, int]


class PracticeTask(msgspec.Struct, frozen=True, kw_only=True):
    """One task in practice.json."""

    part: str
    kind: str


class PracticeFile(msgspec.Struct, frozen=True, kw_only=True):
    """practice.json; see `srft.env.practice.record.Manifest`."""

    settings: dict[str, Any]
    missing: int = 0
    sources: dict[str, PracticeSourceFile] = {}
    tasks: tuple[PracticeTask, ...] = ()


def read_json(path: Path, kind: type[T]) -> T | None:
    """A JSON file as that record; `None` where it is not there. Raises InputError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read for the report ({error}); move it away, or make it again with this version of srft"
        ) from None


def read_yaml(path: Path) -> dict[str, Any] | None:
    """A YAML file that holds a mapping; `None` where it is not there. Raises InputError."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, got {type(content).__name__}; fix the file")
    return content
