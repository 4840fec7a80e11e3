"""run.yaml: what a collection was asked to do, and what it ran on.

It lies in the run's folder, or, where a loop collects more than once, in the folder of the round or evaluation.

    folder = config_folder(run.round(0))
    refuse_another_config(config, folder)          # InputError when run.yaml says otherwise
    write_config(config, folder, backend="docker")
    kept_config(folder).tasks
"""

import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import yaml

from srft.env.errors import InputError
from srft.env.tasks.task import Task, load_tasks
from srft.harness.config.config import CollectConfig, from_run, inside_run, run_root
from srft.harness.config.identity import Identity, changed, keep
from srft.harness.config.identity import kept as kept_identity
from srft.harness.run.store import Round, write_atomic

FILE_NAME = "run.yaml"


def config_folder(round_: Round) -> Path:
    """Where the run.yaml of a round's collection lies: beside its runs if it is there, else in the run's folder."""
    return round_.path if (round_.path / FILE_NAME).exists() else round_.path.parent


def _read(folder: Path) -> dict[str, Any]:
    """What run.yaml holds, nothing where there is none. Raises InputError."""
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or CollectConfig.KEPT_AS not in content:
        raise InputError(f"{path}: not a run's configuration; expected a mapping with the key collect")
    return content


def kept_config(folder: Path) -> CollectConfig | None:
    """The configuration that was begun with; `None` where nothing was collected yet. Raises InputError."""
    content = _read(folder)
    if not content:
        return None
    try:
        return msgspec.convert(from_run(content[CollectConfig.KEPT_AS], folder), CollectConfig, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"{folder / FILE_NAME}: {error}") from None


def tasks_of_round(round_: Round, *, tasks: str | None = None, only: Iterable[str] | None = None) -> list[Task]:
    """The tasks that a round was collected on, or those of another source. Raises InputError."""
    folder = config_folder(round_)
    config = kept_config(folder)
    source = tasks or (config.tasks if config else None)
    if source is None:
        raise InputError(f"{folder}: not a run (it has no run.yaml); give --predictions, or another --run")
    return load_tasks(source, only=only or (config.only if config and not tasks else None) or None)


def refuse_collected(folder: Path, *, do: str) -> None:
    """Raises InputError where episodes were collected in this run: by itself, or in the rounds of a loop. A collection
    counts what is on file as its own attempts. do: what was asked for, say "import"."""
    names = (FILE_NAME, "loop.yaml", f"round-*/{FILE_NAME}", f"round-*/*/*/{FILE_NAME}")
    found = next((path for name in names for path in folder.glob(name)), None)
    if found is not None:
        raise InputError(
            f"{folder}: episodes were collected in this run (it has a {found.relative_to(folder)}), and a collection "
            f"would count others as its own attempts; {do} into another run"
        )


def refuse_another_config(config: CollectConfig, folder: Path, round_: Round) -> None:
    """Raises InputError for a configuration that does not continue what is there, and where that was imported."""
    kept, path = kept_config(folder), round_.trajectories.path
    if kept is None and path.exists() and path.stat().st_size:
        raise InputError(
            f"{folder}: has trajectories but no run.yaml, so they were imported, and a collection would count them "
            "as its own attempts; collect into another --run"
        )
    if kept and (changes := changed(begun_with(kept, folder), identity_in(config, folder), may_grow=("tasks",))):
        raise InputError(
            f"{folder / FILE_NAME}: this run was begun with another {', '.join(map(str, changes))}; give what it was "
            "begun with, or another --run"
        )


def begun_with(kept: CollectConfig, folder: Path) -> Identity:
    """What the run was begun with; of a run that keeps no identity, what its configuration comes to now."""
    return kept_identity(folder) or identity_in(kept, folder)


def identity_in(config: CollectConfig, folder: Path) -> Identity:
    """A configuration's identity in a run, wherever that lies and however its path is spelled. Raises InputError."""
    inside = msgspec.structs.replace(config, tasks=inside_run(config.tasks, folder))
    return Identity.of(inside, base=run_root(folder))


def refuse_another_backend(backend: str, folder: Path) -> None:
    """Raises InputError when a run would be resumed in another kind of sandbox than it was started in."""
    kept = _read(folder).get("backend", backend)
    if kept != backend:
        raise InputError(
            f"{folder / FILE_NAME}: this run was begun with the sandbox {kept}, and now it is {backend}; start the "
            "engine again, ask for the same with --sandbox, or give another --run"
        )


def write_config(
    config: CollectConfig, folder: Path, *, backend: str, images: dict[str, str | None] | None = None
) -> None:
    """Write run.yaml, the tasks and attempts of earlier commands kept. `images`: name -> content id, once known."""
    kept = kept_config(folder) or config
    config = msgspec.structs.replace(
        config,
        attempts=max(kept.attempts, config.attempts),
        attempts_by_task={**kept.attempts_by_task, **config.attempts_by_task},
        only=tuple(dict.fromkeys((*kept.only, *config.only))) if kept.only and config.only else (),
    )
    keep(folder, identity_in(config, folder))
    config = msgspec.structs.replace(config, tasks=inside_run(config.tasks, folder))
    content = {
        **software(),
        "backend": backend,
        CollectConfig.KEPT_AS: msgspec.to_builtins(config),
        "images": _known_images(_read(folder).get("images", {}), images or {}),
    }
    write_atomic(folder / FILE_NAME, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def _known_images(before: dict[str, str | None], now: dict[str, str | None]) -> dict[str, str | None]:
    """What an image was is not forgotten when it is not here any more."""
    return {name: now.get(name) or before.get(name) for name in (*before, *now)}


def software(*further: str) -> dict[str, Any]:
    """What a run was done with: the versions of srft, Python and the packages that decide what comes out."""
    packages = ("swebench", "docker", "gymnasium", "openai", *further)
    return {
        "srft": version("srft"),
        "git": _git_commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _git_commit() -> str | None:
    """The commit of the source tree that runs; `None` for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return asked.stdout.strip() or None
