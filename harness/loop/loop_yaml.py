"""loop.yaml: what a loop was asked to do, and with which software.

keep_loop_config(config, run)          # InputError where the run was begun with another configuration
kept_loop_config(run.path).arms
"""

from pathlib import Path

import msgspec
import yaml

from srft.env.errors import InputError
from srft.harness.config.config import differing_keys
from srft.harness.loop.loop_config import LoopConfig
from srft.harness.run.run_yaml import software
from srft.harness.run.store import Run, write_atomic

FILE_NAME = "loop.yaml"

# A finished loop goes on with more of these (and with other runs begins anew from its import on); the others decide
# what came out so far.
FREE_KEYS = ("rounds", "arms", "seeds", "budget", "may_fail", "preset", "plan", "runs")
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
    """Write loop.yaml. Raises InputError for a configuration that does not go on with what is there."""
    kept = kept_loop_config(run.path)
    if kept and (changed := _changed(kept, config)):
        raise InputError(
            f"{run.path / FILE_NAME}: this loop was begun with another {', '.join(changed)}; go on with the same, or "
            "give another --run"
        )
    if kept and kept.seeds[0] != config.seeds[0]:
        raise InputError(
            f"{run.path / FILE_NAME}: the first of this loop's seeds is {kept.seeds[0]}, whose models bear the arm's "
            f"name alone; give it first, not {config.seeds[0]}, or another --run"
        )
    content = {**software(*PACKAGES), LoopConfig.KEPT_AS: msgspec.to_builtins(config)}
    write_atomic(run.path / FILE_NAME, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def _changed(kept: LoopConfig, config: LoopConfig) -> list[str]:
    """The keys in which a configuration does not go on with what is there. A loop that imports its runs may be given
    later what only its further stages need."""
    later = {name for name in ("teachers", "tasks", "evaluation") if config.runs and not getattr(kept, name)}
    return differing_keys(_essence(kept), _essence(config), besides={*FREE_KEYS, *later})


def _essence(config: LoopConfig) -> LoopConfig:
    """Without how many work at a time."""
    return msgspec.structs.replace(
        config,
        collect=msgspec.structs.replace(config.collect, workers=1),
        evaluate=msgspec.structs.replace(config.evaluate, workers=1),
    )
