"""What the report reads of a run's files: of each record the few fields that it needs, so that large runs stay cheap.

    for line in JsonLines(folder / "trajectories.jsonl", EpisodeLine).read(): ...
    read_json(folder / "rows.json", RowsFile).trained_tokens

The files' full records would load torch (rows.json, training.json) or hold every message in memory
(trajectories.jsonl). Fields that are not named here are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from srft.agent.records import Author, StopReason, Usage
from srft.critic.labels.labels import Information, Source, Verdict
from srft.env.errors import InputError
from srft.env.grading.grade import Outcome

T = TypeVar("T")

_NULL = msgspec.Raw(b"null")


class StepLine(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a trajectory. observation, token_ids, logprobs stay undecoded: are they there is all that is asked."""

    observation: msgspec.Raw = _NULL
    exit_code: int | None = None
    timed_out: bool = False
    elided_chars: int = 0
    usage: Usage | None = None
    error: str | None = None
    author: Author = "model"
    token_ids: msgspec.Raw = _NULL
    logprobs: msgspec.Raw = _NULL

    @property
    def failed_tool(self) -> bool | None:
        """Whether the step's command failed, `None` where that is not known; as `srft calibrate` has it."""
        if self.timed_out or self.error == "format":
            return True
        if self.exit_code is None:
            return False if bytes(self.observation) == b"null" else None
        return self.exit_code != 0


class EpisodeLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of trajectories.jsonl."""

    id: str
    task_id: str
    repo: str
    model: str
    attempt: int
    steps: tuple[StepLine, ...]
    patch: str | None
    stop_reason: StopReason
    wall_s: float | None = None
    recorded_resolved: bool | None = None

    @property
    def partial(self) -> dict[str, int]:
        """What some of the model's replies came with -> how many came without it, or with something unusable."""
        replies = [step for step in self.steps if step.author == "model"]
        found = {
            "token ids": [bytes(step.token_ids) != b"null" for step in replies],
            "log-probabilities": [bytes(step.logprobs) != b"null" for step in replies],
        }
        return {name: has.count(False) for name, has in found.items() if any(has) and not all(has)}


class GradeLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of grades.jsonl."""

    instance_id: str
    resolved: bool | None
    outcome: Outcome
    timed_out: bool = False
    grader: str
    patch_hash: str | None = None


class LabelShort(msgspec.Struct, frozen=True, kw_only=True):
    """A label of a critique."""

    step: int
    verdict: Verdict | None


class CritiqueLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of labels.jsonl."""

    trajectory_id: str
    critic: str
    fingerprint: str
    source: Source
    information: Information = "none"
    labels: tuple[LabelShort, ...]
    calls: int = 0
    usage: Usage | None = None
    wall_s: float | None = None
    remarks: dict[str, int] = {}


class RowsFile(msgspec.Struct, frozen=True, kw_only=True):
    """rows.json; see `srft.train.rows.rows.Manifest`."""

    arm: str
    tokenizer: str
    runs: int
    runs_used: int
    rows: int
    tokens: int
    written_tokens: int
    trained_tokens: int
    steps: int
    steps_masked: int
    left_out: dict[str, int] = {}
    dropped: dict[str, int] = {}
    remarks: dict[str, int] = {}
    critics: list[str] = []


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
        raise InputError(f"{path}: expected a mapping of keys to values, got {type(content).__name__}; mend the file")
    return content


def round_folders(run: Path) -> Iterator[tuple[int, Path]]:
    """(number, folder) of a run's rounds, in their order."""
    for folder in sorted(run.glob("round-*")):
        number = folder.name.removeprefix("round-")
        if folder.is_dir() and number.isdecimal():
            yield int(number), folder
