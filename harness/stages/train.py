"""The train stage: a round's rows and a recipe to a model.

Reads `rows/<arm>/` in the round's folder; writes `model/<arm>/` there (see `srft.train.fit.finetune`).

    recipe = load_recipe("smollm2-135m-cpu")
    config = TrainConfig(rows=Path("rows/srft"), model="models/base", out=Path("model/srft"), recipe=recipe)
    trained = train(config)

Under `torchrun` every process runs this; the first one holds the run's lock and writes.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec

from srft.env.errors import InputError
from srft.env.identity import MAY_CHANGE, adds_by, decides_by, resolved_path
from srft.env.tasks.task import load_tasks
from srft.harness.config.config import read_config
from srft.harness.config.identity import base_model_id, tasks_ids
from srft.harness.run.store import Round
from srft.harness.run.trained import CRITIC_ROWS, arms_on_file, has_rows, rows_command, rows_folder
from srft.harness.serve.memory import out_of_memory
from srft.train.fit.finetune import Trained, finetune
from srft.train.fit.recipe import Recipe, recipe_file
from srft.train.rows.contamination import By, refuse_contamination
from srft.train.rows.rows import VERDICTS, RowTable


def _rows_id(folder: Path, *, base: Path, record: Any) -> str:
    """Rows by what they were made of."""
    return RowTable.open(resolved_path(str(folder), base)).manifest.fingerprint


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `srft train` does.

    rows: a folder of rows. model: what is trained, a folder or a hub name. out: the new model's folder. evaluation:
    tasks that the model will be measured on, which must not be trained on.
    """

    rows: Annotated[Path, decides_by(_rows_id)]
    model: Annotated[str, decides_by(base_model_id)]
    out: Annotated[Path, MAY_CHANGE]
    recipe: Recipe
    evaluation: Annotated[tuple[str, ...], adds_by(tasks_ids)] = ()
    contamination: By = "repository"


def load_recipe(name: str, *, sets: list[str] | None = None) -> Recipe:
    """A recipe of ours by name, or a YAML file, with `key=value` over it. Raises InputError."""
    return read_config(Recipe, file=str(recipe_file(name)), sets=sets or ())


SMALLER = (
    "set gradient_checkpointing: true, a smaller pack_tokens or micro_batch, or fsdp on more GPUs; the same command "
    "with --plan says what each gives"
)


def rows_to_train(round_: Round, arm: str | None) -> Path:
    """The rows of an arm or for a critic, or the only ones there are. Raises InputError."""
    found = [*arms_on_file(round_), *([CRITIC_ROWS] if has_rows(round_, CRITIC_ROWS) else [])]
    if arm is None and len(found) == 1:
        arm = found[0]
    if arm not in found:
        raise InputError(
            f"rows exist for the arms {', '.join(found)} in {round_.path}; choose one with --arm"
            if found
            else f"no rows in {round_.path} yet; make them: {rows_command(round_, arm)}"
        )
    return rows_folder(round_, str(arm))


def train(
    config: TrainConfig,
    *,
    on_log: Callable[[dict[str, Any], int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Trained | None:
    """Train, or resume, or find it done; `None` where it was stopped. Raises InputError, TrainingDiverged, and
    OutOfMemory."""
    table = RowTable.open(config.rows)
    for name in config.evaluation:
        refuse_contamination(
            table.manifest.task_ids, table.manifest.repos, evaluation=load_tasks(name), by=config.contamination
        )
    with out_of_memory(f"training {config.out}", do=SMALLER):
        return finetune(
            table,
            config.recipe,
            model=config.model,
            out=config.out,
            judged=_judged(config.rows, table),
            on_log=on_log,
            stop=stop,
        )


def _judged(folder: Path, table: RowTable) -> RowTable | None:
    """Rows whose runs have verdicts, for the losses by verdict: these, else those of another arm of the same round, so
    that arms which read no labels are measured too."""
    for place in (folder, folder.parent / "srft", *sorted(folder.parent.glob("*"))):
        if (place / "rows.json").exists() and (place / VERDICTS).exists():
            found = table if place == folder else RowTable.open(place)
            if found.verdicts and found.manifest.vocabulary == table.manifest.vocabulary:
                return found
    return None


def is_first_process() -> bool:
    """Whether this process writes: the only one, or torchrun's first."""
    return os.environ.get("RANK", "0") == "0"
