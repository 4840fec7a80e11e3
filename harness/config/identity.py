"""One notion of identity: what the names in a configuration refer to, and whether it can resume a run.

    identity(config, base=Path())                     # {"episode.steps": 30, "prompt": "3f2a...", ...}: what decides
    keep(folder, Identity.of(config, base=Path()))    # identity.json beside run.yaml or loop.yaml
    kept(folder)                                      # what the run was begun with; None where nothing was
    changed(before, now)                              # [Change("prompt", "3f2a...", "91bc...")]

Each field of a configuration says by itself what it is to the result (see `srft.env.identity`). A name counts by what
it stands for: a file by its content, a model by its weights, an endpoint by its model's name, tasks by their rows. What
is not on this machine (a dataset or model of the hub) counts by its name.
"""

import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from srft.agent.importing.columns import KNOWN_TOOLS
from srft.agent.models.endpoint import read_endpoint
from srft.agent.prompts.prompt import Prompt
from srft.env.errors import InputError
from srft.env.identity import additions, file_id, identity, key, resolved_path
from srft.env.tasks.task import Task, load_tasks
from srft.harness.run.store import write_atomic
from srft.train.fit.weights import weights_id

__all__ = ["Change", "Identity", "additions", "changed", "identity", "keep", "kept", "key"]

FILE_NAME = "identity.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run was begun with. decides: setting -> value; adds: the same of what there may be more of."""

    schema_version: int = 1
    decides: dict[str, Any]
    adds: dict[str, Any] = {}

    @classmethod
    def of(cls, config: msgspec.Struct, *, base: Path) -> Self:
        """Raises InputError."""
        made = cls(decides=identity(config, base=base), adds=additions(config, base=base))
        return msgspec.json.decode(msgspec.json.encode(made), type=cls)  # as the file gives it back


class Change(NamedTuple):
    """A setting in which a configuration cannot resume what is there."""

    setting: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.setting} (was {_shown(self.before)}, now {_shown(self.now)})"


def _shown(value: Any) -> str:
    text = "the default" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else f"{text[:100]}..."


def kept(folder: Path) -> Identity | None:
    """What the run in this folder was begun with; `None` where it does not say. Raises InputError."""
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except (msgspec.DecodeError, OSError) as error:
        raise InputError(
            f"{path}: not an identity of this version of srft ({error}); move it away, and the configuration beside it "
            "counts alone"
        ) from None


def keep(folder: Path, made: Identity) -> None:
    """Raises StorageError."""
    write_atomic(folder / FILE_NAME, msgspec.json.encode(made, order="sorted") + b"\n")


def changed(before: Identity, now: Identity, *, may_grow: Collection[str] = ()) -> list[Change]:
    """The settings in which a configuration cannot resume what is there: all that decides, and of what adds, those of
    `may_grow` where there is less of them or another."""
    changes = list(_other(before.decides, now.decides))
    for name in sorted(may_grow):
        if name in before.adds and not _has_grown(before.adds[name], now.adds.get(name)):
            changes += _shrunk(name, before.adds[name], now.adds.get(name))
    return changes


def _other(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield Change(name, before.get(name), now.get(name))


def _has_grown(before: Any, now: Any) -> bool:
    """Whether all that there was is there still."""
    if isinstance(before, dict) and isinstance(now, dict):
        return all(now.get(name) == value for name, value in before.items())
    if isinstance(before, list) and isinstance(now, list):
        return now[: len(before)] == before
    if isinstance(before, int | float) and isinstance(now, int | float):
        return now >= before
    return bool(before == now)


def _shrunk(name: str, before: Any, now: Any) -> list[Change]:
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [Change(name, before, now)]
    differing = [member for member, value in before.items() if now.get(member) != value]
    named = ", ".join(differing[:3]) + (", ..." if len(differing) > 3 else "")
    return [Change(name, f"{len(before)} tasks", f"{len(now)}, of which {len(differing)} are gone or others: {named}")]


def prompt_id(name: str, *, base: Path, record: Any) -> str:
    """An agent's prompt, by its texts."""
    return Prompt.load(_named(name, base)).fingerprint


def _named(name: str, base: Path) -> str:
    """A file's path where it is one, else a name of ours."""
    return str(resolved_path(name, base)) if Path(name).suffix in {".yaml", ".yml"} else name


def tasks_id(name: str, *, base: Path, record: Any) -> dict[str, str] | str:
    """Task id -> a hash of all in it that an agent or a grader sees. A dataset of the hub counts by its name."""
    path = resolved_path(name, base)
    if not path.exists():
        return f"dataset {name}"
    if path.is_dir():
        return task_ids(load_tasks(str(path)))
    state = path.stat()
    return dict(_task_ids_in(str(path), state.st_ino, state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=20)
def _task_ids_in(file: str, inode: int, size: int, modified_ns: int) -> dict[str, str]:
    """A command asks for the same file several times, and it may have many rows."""
    return task_ids(load_tasks(file))


def task_ids(tasks: list[Task]) -> dict[str, str]:
    return {task.instance_id: key(task.fingerprint, task.problem_statement, task.patch) for task in tasks}


def tasks_ids(names: tuple[str, ...], *, base: Path, record: Any) -> list[Any]:
    """The same of several."""
    return [tasks_id(name, base=base, record=record) for name in names]


def base_model_id(name: str, *, base: Path, record: Any) -> str:
    """A model folder by its weights."""
    path = resolved_path(name, base)
    return weights_id(str(path) if path.exists() else name)


def model_id(name: str, *, base: Path, record: Any) -> str:
    """Who is asked: an endpoint's model by its name there, a folder by its weights, a file by its content."""
    kind, _, file = name.partition(":")
    if endpoint := read_endpoint(name):
        settings = getattr(record, "openai", None) or record.collect.openai
        return f"endpoint {endpoint.name or settings.name}"
    if kind == "local" and file:
        return f"local {base_model_id(file, base=base, record=record)}"
    if kind in {"replay", "script"} and file:
        path = resolved_path(file, base)
        return f"{kind} {file_id(path)}" if path.exists() else f"{kind} that is not there: {file}"
    return name


def model_ids(names: tuple[str, ...], *, base: Path, record: Any) -> list[str]:
    """The same of several."""
    return [model_id(name, base=base, record=record) for name in names]


def critic_id(name: str, *, base: Path, record: Any) -> str:
    """Who judges: `file` and the content of its labels, `endpoint` and the model's name there, `local` and the weights
    of a trained critic, or a rule's name."""
    kind, _, file = name.partition(":")
    if kind in {"file", "oracle"} and file:
        return f"{kind} {file_id(resolved_path(file, base))}"
    if endpoint := read_endpoint(name):
        return f"endpoint {endpoint.name or record.judge.openai.name}"
    if kind == "local" and file:
        return f"local {base_model_id(file, base=base, record=record)}"
    return name


def runs_ids(names: tuple[str, ...], *, base: Path, record: Any) -> list[list[str]]:
    """Other programs' runs: of files their names and contents, of folders all that is below, of datasets the names."""
    return [_runs_id(name, base) for name in names]


def _runs_id(name: str, base: Path) -> list[str]:
    path, split = resolved_path(name, base), ""
    if not path.exists():
        folder, _, split = str(path).rpartition(":")
        if not folder or not Path(folder).is_dir():
            return [f"dataset {name}"]
        path = Path(folder)
    if path.is_file():
        return [f"{path.name} {file_id(path)}"]
    below = sorted(file for file in path.rglob("*") if file.is_file())
    return [split, *(f"{file.relative_to(path)} {file_id(file)}" for file in below)]


def report_id(name: str, *, base: Path, record: Any) -> list[str]:
    """An official report, as runs are told."""
    return _runs_id(name, base)


def tools_id(name: str, *, base: Path, record: Any) -> str:
    """The tools of a scaffold that is known by its name; of a file by its content."""
    return name if name in KNOWN_TOOLS else file_id(resolved_path(name, base))
