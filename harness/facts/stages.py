"""What a round's files say besides its episodes and labels: rows, trainings, and the stages' own notes.

    trainings(round_folder)["srft"].held_out_losses
    rows_of_arms(round_folder, run)["srft"].masked_share

A cell is a trained model: an arm, or `<arm>.<seed>` where several seeds are trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from srft.env.errors import InputError
from srft.harness.facts.episodes import relative
from srft.harness.facts.records import ArmRows, Promotion, Training
from srft.harness.run.files import TrainingFile, read_json
from srft.harness.run.stages import Stages
from srft.harness.run.store import Round as RoundFiles
from srft.harness.run.trained import rows_folder, rows_on_file

CURVE_POINTS = 400
"""Of a loss curve, in the report: more do not show."""


def arm_and_seed(cell: str) -> tuple[str, int | None]:
    """
    >>> arm_and_seed("srft.2"), arm_and_seed("srft")
    (('srft', 2), ('srft', None))
    """
    arm, dot, seed = cell.rpartition(".")
    return (arm, int(seed)) if dot and seed.isdecimal() else (cell, None)


def rows_of_arms(round_: RoundFiles, run: Path) -> dict[str, ArmRows]:
    """Arm -> its rows.json. Raises InputError."""
    names = ("runs", "runs_used", "rows", "tokens", "written_tokens", "trained_tokens", "masked_share")
    further = ("steps", "steps_masked", "left_out", "dropped", "remarks", "tokenizer")
    return {
        arm: ArmRows(
            arm=arm,
            file=relative(rows_folder(round_, arm) / "rows.json", run),
            critics=list(rows.critics),
            **{name: getattr(rows, name) for name in (*names, *further)},
        )
        for arm, rows in rows_on_file(round_).items()
    }


def training_files(folder: Path) -> dict[str, TrainingFile]:
    """Cell -> its training.json. Raises InputError."""
    paths = {place.name: place / "training.json" for place in places(folder / "model")}
    found = {cell: read_json(path, TrainingFile) for cell, path in paths.items()}
    return {cell: file for cell, file in found.items() if file is not None}


def training(file: TrainingFile, path: str, *, clock_s: float | None) -> Training:
    """clock_s: of the stage, where it is known; else what the trainer says of its own loop."""
    runtimes = [entry["train_runtime"] for entry in file.log if "train_runtime" in entry]
    return Training(
        file=path,
        model=file.model,
        tasks=len(file.task_ids),
        held_out_tasks=len(file.held_out_tasks),
        figures={name: _finite(value) for name, value in file.figures.items()},
        learning_rate=file.recipe.get("learning_rate"),
        epochs=file.recipe.get("epochs"),
        wall_s=clock_s if clock_s is not None else sum(runtimes) if runtimes else None,
        losses=_curve(file.log, "loss"),
        held_out_losses=_curve(file.log, "eval_loss"),
    )


def _finite(value: float | int | None) -> float | int | None:
    return None if value is None or not math.isfinite(value) else value


def _curve(log: Sequence[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    """(step, value), thinned to each n-th; what is no number has no place in a picture."""
    values = {entry["step"]: entry[key] for entry in log if isinstance(entry.get(key), int | float)}
    points = [(step, float(value)) for step, value in sorted(values.items()) if math.isfinite(value)]
    each = math.ceil(len(points) / CURVE_POINTS) or 1
    return points[::each]


def promotion(stages: Stages) -> Promotion | None:
    """What the promote stage noted; its further keys stay in stages.json. Raises InputError."""
    if "promote" not in stages:
        return None
    figures = {name: value for name, value in stages["promote"].figures.items() if name in Promotion.__struct_fields__}
    try:
        return msgspec.convert(figures, Promotion)
    except msgspec.ValidationError as error:
        raise InputError(f"{stages.path}: the stage promote: {error}; do the stage again with `srft loop`") from None


def unfinished(folder: Path, stages: Stages) -> list[str]:
    """Stages that have left files and are not finished by stages.json; none where that file is not there."""
    if not stages.items():
        return []
    left = [f"evaluate.{place.name}" for place in places(folder / "evaluation")]
    left += [f"train.{place.name}" for place in places(folder / "model")]
    left += ["collect"] if (folder / "trajectories.jsonl").exists() and "import" not in stages else []
    return sorted(name for name in left if name not in stages)


def set_aside(folder: Path, run: Path) -> list[str]:
    """What a loop moved away because its inputs have changed since: its name begins with a dot."""
    kinds = (folder / kind for kind in ("evaluation", "model", "rows"))
    return sorted(relative(place, run) for kind in kinds for place in kind.glob(".*") if place.is_dir())


def places(folder: Path) -> list[Path]:
    """The folders in it that count."""
    return sorted(place for place in folder.glob("*") if place.is_dir() and not place.name.startswith("."))


def figures_of(stages: Stages, name: str) -> dict[str, Any]:
    """A stage's figures, none where it is not finished."""
    return stages[name].figures if name in stages else {}


def clock_of(stages: Stages, name: str) -> float | None:
    return stages[name].wall_s if name in stages else None
