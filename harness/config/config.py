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
from srft.harness.stages.hooks import HooksConfig

C = TypeVar("C", bound=msgspec.Struct)

MORE_THAN_0 = msgspec.Meta(gt=0)


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agent's sandboxes are made. `null` is no limit."""

    kind: Annotated[str, MAY_CHANGE] = "auto"
    """`auto`, `docker`, `local`, or MODULE:NAME of your own backend. What `auto` chose is kept in run.yaml, and a run
    that continues in another kind is refused."""
    mode: Mode = "stateless"
    """`stateless`: each command starts in the task's directory with a fresh environment; `persistent`: one shell for
    the whole episode."""
    network: str = "none"
    """The network of the sandbox: `none`, or one of the engine's."""
    memory_gib: Annotated[float, MORE_THAN_0] | None = 4.0
    """Memory of one sandbox."""
    cpus: Annotated[float, MORE_THAN_0] | None = None
    """Processors of one sandbox."""
    pids: Annotated[int, MORE_THAN_0] | None = 1024
    """Processes in one sandbox."""

    def __post_init__(self) -> None:
        check_kind(self.kind, where="sandbox.kind")

    @property
    def limits(self) -> Limits:
        return Limits(memory_bytes=_bytes(self.memory_gib), cpus=self.cpus, pids=self.pids)


class ImagesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How images are had. `null` is no limit."""

    disk_budget_gib: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = None
    """Disk that images and snapshots may take on the engine; the least recently used of those that srft fetched or made
    are removed first."""
    pulls_per_minute: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = None
    """Requests to registries in a minute."""
    platform: str | None = None
    """The platform of images, as in `docker pull --platform`, say linux/amd64 on a machine with an ARM processor;
    `null`: the engine's own."""


class GradingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How patches are graded. `null` is no limit."""

    enabled: Annotated[bool, ADDS] = True
    """Whether to grade each attempt when it ends."""
    workers: Annotated[int, MORE_THAN_0, MAY_CHANGE] = 2
    """Gradings at a time."""
    timeout_s: Annotated[float, MORE_THAN_0, MAY_CHANGE] = 1800.0
    """Seconds for the tests of one task."""
    memory_gib: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = 8.0
    """Memory for the tests of one patch."""
    cpus: Annotated[Annotated[float, MORE_THAN_0] | None, MAY_CHANGE] = None
    """Processors for the tests of one patch."""
    pids: Annotated[Annotated[int, MORE_THAN_0] | None, MAY_CHANGE] = 4096
    """Processes for the tests of one patch."""
    network: str = OFFICIAL_NETWORK
    """The network of the grading container: `bridge` (the engine's default, as the official grader has it), `none`, or
    a network of the engine's; never the host's."""
    capabilities: tuple[str, ...] = OFFICIAL_CAPABILITIES
    """Capabilities of the grading container beyond the engine's defaults; the official grader gives it SYS_ADMIN."""

    @property
    def container(self) -> GradingContainer:
        """What the tests may use. Raises InputError for the host's network."""
        limits = Limits(memory_bytes=_bytes(self.memory_gib), cpus=self.cpus, pids=self.pids)
        return GradingContainer(network=self.network, capabilities=self.capabilities, limits=limits)


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * (1 << 30))


class RayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Ray cluster to work on."""

    address: Annotated[str | None, MAY_CHANGE] = None
    """The Ray cluster: `auto` (the one this machine belongs to) or HOST:PORT; `null` uses threads of this machine."""
    cpus: Annotated[float, MORE_THAN_0, MAY_CHANGE] = 1.0
    """Processors of a node that one episode, grading or critique takes."""


class EpisodesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How episodes are done."""

    attempts: Annotated[int, MORE_THAN_0, ADDS] = 1
    """Episodes of each task."""
    workers: Annotated[int, MORE_THAN_0, MAY_CHANGE] = 4
    """Episodes at a time."""
    seed: int = 0
    """The seed of a task's first attempt; each further attempt adds 1."""
    warm: Annotated[bool, MAY_CHANGE] = True
    """Whether to open a worker's next workspace while it is still busy."""
    infra_retries: Annotated[int, msgspec.Meta(ge=0), MAY_CHANGE] = 2
    """How often an episode that infrastructure ended is tried again."""
    prompt: Annotated[str, decides_by(prompt_id)] = "default"
    """The prompt: `default`, `mini`, `short`, or a YAML file."""
    format: Literal["backtick", "xml", "json", "native"] = "backtick"
    """How the model writes its actions."""
    episode: EpisodeLimits = EpisodeLimits()
    openai: OpenAIConfig = OpenAIConfig()
    """How a model is asked and how it samples, whatever serves it."""
    demonstrator: DemonstratorConfig = DemonstratorConfig()
    """The scripted teacher, which needs no endpoint."""
    ray: RayConfig = RayConfig()
    """A Ray cluster that runs the episodes."""
    sandbox: SandboxConfig = SandboxConfig()
    images: ImagesConfig = ImagesConfig()
    grading: GradingConfig = GradingConfig()


class CollectConfig(EpisodesConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `srft collect` does."""

    KEPT_AS: ClassVar[str] = "collect"
    """The key under which run.yaml keeps it."""

    tasks: Annotated[str, adds_by(tasks_id)]
    """The tasks: a hub dataset, a file of rows, or a task repo."""
    model: Annotated[str, decides_by(model_id)]
    """The model: an endpoint's URL (`http://host/v1#name`), `demonstrator`, `local:DIR`, `replay:FILE` or
    `script:FILE`."""
    only: Annotated[tuple[str, ...], ADDS] = ()
    """Instance ids to collect on; all tasks unless given."""
    attempts_by_task: Annotated[dict[str, Annotated[int, MORE_THAN_0]], ADDS] = {}
    """Instance id -> its number of episodes, where that is not `attempts`."""
    hooks: Annotated[HooksConfig, MAY_CHANGE] = HooksConfig()
    """A command or a webhook to tell when the collection ends and when it fails."""

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
            given.append(Given(tuple(key.split(".")), _as_option(kind, key, value)))
    try:
        return msgspec.convert(merged, kind, strict=False)
    except msgspec.ValidationError as error:
        raise wrong_value(kind, error, file=file, given=given) from None


OPTIONS = {
    "sandbox.kind": "sandbox",
    "collect.sandbox.kind": "sandbox",
    "evaluate.sandbox.kind": "sandbox",
    "grading.enabled": "grade",
    "batch.enabled": "batch",
    "runs.from": "runs",
    "critics": "critic",
    "labels": "critic",
}
"""Keys whose option has another name than the key's last part."""


def _as_option(kind: type[msgspec.Struct], key: str, value: Any) -> str:
    """A value as the command line gave it."""
    name = "arm" if f"{kind.__name__}.{key}" == "RowsConfig.arms" else OPTIONS.get(key, key.rpartition(".")[2])
    name = name.replace("_", "-")
    words = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return f"--{name} {words}"


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
    """Without YAML's anchors: a group that is in two places is set in each by itself."""
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
