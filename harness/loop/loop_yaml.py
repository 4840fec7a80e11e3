"""loop.yaml: what a loop was asked to do, and with which software.

keep_loop_config(config, run)          # InputError where the run was begun with another configuration
kept_loop_config(run.path).arms
"""

from pathlib import Path

import msgspec
import yaml

from srft.env.errors import InputError
from srft.harness.config.identity import Change, Identity, changed, keep
from srft.harness.config.identity import kept as kept_identity
from srft.harness.loop.loop_config import LoopConfig
from srft.harness.run.run_yaml import software
from srft.harness.run.store import Run, write_atomic

FILE_NAME = "loop.yaml"

GROWS = ("tasks", "evaluation", "teachers", "collect.attempts", "evaluate.attempts")
"""Of these a loop may be given more, and not less: the runs that are there would be of no task or attempt that it has.
Its rounds, arms and seeds may be more or fewer; with other `runs` it begins anew from its import on."""

PACKAGES = ("torch", "transformers", "accelerate", "peft")


def kept_loop_config(folder: Path) -> LoopConfig | None:
    """The configuration that a loop was begun with; `None` where there is none. Raises InputError."""
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        return msgspec.convert(yaml.safe_load(path.read_text())[LoopConfig.KEPT_AS], LoopConfig, strict=False)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, TypeError, KeyError, msgspec.ValidationError) as error:
        raise InputError(f"{path}: not the configuration of a loop ({' '.join(str(error).split())})") from None


def keep_loop_config(config: LoopConfig, run: Run) -> None:
    """Write loop.yaml. Raises InputError for a configuration that cannot resume what is there."""
    kept = kept_loop_config(run.path)
    made = Identity.of(config, base=Path())
    if kept and (changes := _changes(kept_identity(run.path) or Identity.of(kept, base=Path()), made)):
        raise InputError(
            f"{run.path / FILE_NAME}: this loop was begun with another {', '.join(map(str, changes))}; give what it "
            "was begun with, or another --run"
        )
    if kept and kept.seeds[0] != config.seeds[0]:
        raise InputError(
            f"{run.path / FILE_NAME}: the first of this loop's seeds is {kept.seeds[0]}, whose models bear the arm's "
            f"name alone; give it first, not {config.seeds[0]}, or another --run"
        )
    content = {**software(*PACKAGES), LoopConfig.KEPT_AS: msgspec.to_builtins(config)}
    write_atomic(run.path / FILE_NAME, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
    keep(run.path, made)


def _changes(before: Identity, now: Identity) -> list[Change]:
    """The settings in which a configuration cannot resume what is there. Other labels in the file that is the
    critic have the stages after it done again."""
    changes = changed(before, now, may_grow=GROWS)
    return [it for it in changes if it.setting != "critic" or _kind_of_critic(it.before) != _kind_of_critic(it.now)]


def _kind_of_critic(critic: str | None) -> str:
    kind, _, rest = (critic or "tool_error").partition(" ")
    return kind if kind in ("file", "oracle") else f"{kind} {rest}"
