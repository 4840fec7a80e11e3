"""Configurations: typed, from defaults, a YAML file and `--set key=value`, in this order of strength.

    config = read_config(CollectConfig, file="collect.yaml", sets=["episode.steps=30"], tasks="tasks.jsonl")

An unknown key or a wrong value is one error that names where it was given (file, `--set` or option), the key, what was
expected and the nearest known key.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
import yaml

from srft.agent.demonstrator.demonstrator import DemonstratorConfig
from srft.agent.limits import EpisodeLimits
from srft.agent.models.openai import OpenAIConfig
from srft.env.backends import check_kind
from srft.env.errors import InputError
from srft.env.grading.container import OFFICIAL_CAPABILITIES, OFFICIAL_NETWORK, GradingContainer
from srft.env.identity import ADDS, INSIDE_RUN, MAY_CHANGE, adds_by, decides_by, resolved_path
from srft.env.sandbox.contract import Limits, Mode
from srft.harness.config.errors import Given, wrong_value
from srft.harness.config.explain import struct_in
from srft.harness.config.identity import model_id, prompt_id, tasks_id

C = TypeVar("C", bound=msgspec.Struct)

MORE_THAN_0 = msgspec.Meta(gt=0)


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agent's sandboxes are made. `null` is no limit.

    kind: auto, docker, local, or MODULE:NAME of a backend of one's own. What `auto` came to is kept in run.yaml, and a
    run that goes on in another kind is refused.
    """

    kind: Annotated[str, MAY_CHANGE] = "auto"
    mode: Mode = "stateless"
    network: str = "none"
    memory_gib: Annotated[float, MORE_THAN_0] | None = 4.0
    cpus: Annotated[float, MORE_THAN_0] | None = None
    pids: Annotated[int, MORE_THAN_0] | None = 1024

    def __post_init__(self) -> None:
        check_kind(self.kind, where="sandbox.kind")

    @property
    def limits(self) -> Limits:
        return Limits(memory_bytes=_bytes(self.memory_gib), cpus=self.cpus, pids=self.pids)


class ImagesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How images are had. `null` is no limit.

    disk_budget_gib: what images and snapshots may take on the engine's disk; the least recently used of those that srft
    got go first. pulls_per_minute: requests to registries. platform: as in `docker pull --platform`, say linux/amd64 on
    a machine with an ARM processor; `null`: the engine's own.
    """

    disk_budget_gib: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = None
    pulls_per_minute: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = None
    platform: str | None = None


class GradingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How patches are graded. `null` is no limit.

    enabled: grade each attempt when it ends. workers: gradings at a time. timeout_s: for one task's tests. memory_gib,
    cpus, pids: what the tests of one patch may use. network: `bridge` (the engine's default, as the official grader has
    it), `none`, or a network of the engine's; never the host's. capabilities: of the container beyond the engine's
    default ones; the official grader gives it SYS_ADMIN.
    """

    enabled: Annotated[bool, ADDS] = True
    workers: Annotated[int, MORE_THAN_0, MAY_CHANGE] = 2
    timeout_s: Annotated[float, MORE_THAN_0, MAY_CHANGE] = 1800.0
    memory_gib: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = 8.0
    cpus: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = None
    pids: Annotated[Annotated[int, MORE_THAN_0] | None, MAY_CHANGE] = 4096
    network: str = OFFICIAL_NETWORK
    capabilities: tuple[str, ...] = OFFICIAL_CAPABILITIES

    @property
    def container(self) -> GradingContainer:
        """What the tests may use. Raises InputError for the host's network."""
        limits = Limits(memory_bytes=_bytes(self.memory_gib), cpus=self.cpus, pids=self.pids)
        return GradingContainer(network=self.network, capabilities=self.capabilities, limits=limits)


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * (1 << 30))


class RayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Ray cluster to work on. address: `auto` (the one this machine belongs to) or HOST:PORT; `null`: threads of this
    machine. cpus: that one episode, grading or critique takes of a node."""

    address: Annotated[str | None, MAY_CHANGE] = None
    cpus: Annotated[float, MORE_THAN_0, MAY_CHANGE] = 1.0


class EpisodesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How episodes are done.

    attempts: episodes a task. workers: episodes at a time. seed: of the first attempt; each further one adds 1. warm:
    open a worker's next workspace while it is busy. infra_retries: further tries of an episode that infrastructure, not
    the agent, ended. prompt: a name of ours or a YAML file. format: how the model writes its actions. openai: how a
    model is asked and how it samples, whatever serves it. demonstrator: the teacher that needs no endpoint. ray: many
    machines.
    """

    attempts: Annotated[int, MORE_THAN_0, ADDS] = 1
    workers: Annotated[int, MORE_THAN_0, MAY_CHANGE] = 4
    seed: int = 0
    warm: Annotated[bool, MAY_CHANGE] = True
    infra_retries: Annotated[int, msgspec.Meta(ge=0), MAY_CHANGE] = 2
    prompt: Annotated[str, decides_by(prompt_id)] = "default"
    format: Literal["backtick", "xml", "json", "native"] = "backtick"
    episode: EpisodeLimits = EpisodeLimits()
    openai: OpenAIConfig = OpenAIConfig()
    demonstrator: DemonstratorConfig = DemonstratorConfig()
    ray: RayConfig = RayConfig()
    sandbox: SandboxConfig = SandboxConfig()
    images: ImagesConfig = ImagesConfig()
    grading: GradingConfig = GradingConfig()


class CollectConfig(EpisodesConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `srft collect` does.

    tasks: what load_tasks reads. only: these instance ids. attempts_by_task: instance id -> its episodes, where they
    are not `attempts`. model: what open_model opens: an endpoint's URL (`http://host/v1#name`), `demonstrator`,
    `local:DIR`, `replay:FILE` or `script:FILE`.
    KEPT_AS: the key under which run.yaml has it.
    """

    KEPT_AS: ClassVar[str] = "collect"

    tasks: Annotated[str, adds_by(tasks_id)]
    model: Annotated[str, decides_by(model_id)]
    only: Annotated[tuple[str, ...], ADDS] = ()
    attempts_by_task: Annotated[dict[str, Annotated[int, MORE_THAN_0]], ADDS] = {}

    def episodes_of(self, task_ids: Iterable[str]) -> Iterator[tuple[str, int]]:
        """(task id, attempt) of each episode that is asked for."""
        for task_id in task_ids:
            for attempt in range(self.attempts_by_task.get(task_id, self.attempts)):
                yield task_id, attempt


def read_config(kind: type[C], *, file: str | None = None, sets: Iterable[str] = (), **options: Any) -> C:
    """A configuration of that type. `options` that are `None` were not given. Raises InputError, and of it MissingKey.

    file: YAML of the type's own keys; of a type that runs keep (KEPT_AS), a run's loop.yaml or run.yaml too.
    """
    merged: dict[str, Any] = _read_yaml(Path(file)) if file else {}
    kept_as: str = getattr(kind, "KEPT_AS", "")
    if "srft" in merged and isinstance(merged.get(kept_as), dict):
        merged = from_run(merged[kept_as], Path(str(file)).parent)  # beside it stand the versions that it ran with
    _refuse_unknown(kind, merged, file or "")
    given: list[Given] = []
    for text in sets:
        _set(kind, merged, text)
        given.append(Given(tuple(text.partition("=")[0].split(".")), f"--set {text}"))
    for key, value in options.items():
        if value is not None:
            _put(merged, key.split("."), value)
            given.append(Given(tuple(key.split(".")), f"{key} (given as an option)"))
    try:
        return msgspec.convert(merged, kind, strict=False)
    except msgspec.ValidationError as error:
        raise wrong_value(kind, error, file=file, given=given) from None


def run_root(folder: Path) -> Path:
    """The run that a folder with a run.yaml belongs to: a loop keeps those of its rounds below its own folder."""
    return next((above for above in (folder, *folder.parents[:3]) if (above / "loop.yaml").exists()), folder)


def from_run(kept: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A kept configuration with its paths inside the run as they are from here. folder: where it is kept."""
    tasks = kept.get("tasks")
    if not isinstance(tasks, str) or not tasks.startswith(INSIDE_RUN):
        return kept
    return {**kept, "tasks": str(resolved_path(tasks, run_root(folder)))}


def inside_run(path: str, folder: Path) -> str:
    """A path as a configuration keeps it: relative to the run where it lies there, so that the run may be moved."""
    root = run_root(folder).resolve()
    absolute = Path(path).resolve()
    return f"{INSIDE_RUN}{absolute.relative_to(root)}" if absolute.is_relative_to(root) else path


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); --config wants a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of keys to values, got {type(content).__name__}")
    return {key: _unshared(value) for key, value in content.items()}


def _unshared(value: Any) -> Any:
    """Without YAML's anchors: a group that stands in two places is set in each by itself."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def _set(kind: type[msgspec.Struct], merged: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text}: expected key=value, say --set episode.steps=30")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {text}: the value is not YAML ({' '.join(str(error).split())})") from None
    nested: dict[str, Any] = {}
    _put(nested, key.split("."), parsed)
    _refuse_unknown(kind, nested, f"--set {text}")
    _put(merged, key.split("."), parsed)


def _put(merged: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        nested = merged.setdefault(key, {})
        if not isinstance(nested, dict):
            raise InputError(f"{'.'.join(keys)}: {key} is a value, not a group of keys")
        merged = nested
    merged[keys[-1]] = value


def _refuse_unknown(kind: type[msgspec.Struct], content: Mapping[str, Any], where: str, above: str = "") -> None:
    """msgspec refuses unknown keys too, but does not name the one that was meant."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in content.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            meant = f"did you mean {above}{near[0]}?" if near else f"known keys: {', '.join(fields)}"
            raise InputError(f"{where}: unknown key {above}{key}; {meant}")
        if isinstance(value, dict) and (nested := struct_in(fields[key])):
            _refuse_unknown(nested, value, where, f"{above}{key}.")
