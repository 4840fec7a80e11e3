"""Recipes: how a model is trained. YAML files in `recipes/`, or the user's own.

recipe = read_recipe("smollm2-135m-cpu")
recipe.packs_per_step, recipe.learning_rate
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from srft.env.errors import InputError
from srft.env.identity import MAY_CHANGE

RECIPES = Path(__file__).parents[1] / "recipes"

Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Lora(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters (peft's names). modules: "all-linear", or the names of the layers that get one."""

    rank: Count = 16
    alpha: Count = 32
    dropout: Share = 0.0
    modules: str | tuple[str, ...] = "all-linear"


class Assumptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--plan` cannot read off the rows and the machine.

    gpus: processes, one a GPU. gpu: one of `plan.GPUS`; both are this machine's unless given. mfu: the share of the
    peak that is reached. tokens_per_s: a pace measured before, of all processes together; it wins over FLOPs.
    rows, row_tokens, trained_share: of rows that are not made yet. model: the architecture in the words of its
    config.json, `type` first, where that file is not at hand.
    """

    gpus: Count | None = None
    gpu: str | None = None
    mfu: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    tokens_per_s: Positive | None = None
    rows: Count = 1000
    row_tokens: Annotated[int, msgspec.Meta(ge=2)] = 16384
    trained_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    model: dict[str, Any] | None = None


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that `srft train` does, the rows and the model apart.

    model: the base model the recipe is meant for; `--model` wins. lora: `null` trains all weights. weights: the type
    in which they are held; compute: that of the forward and backward passes. attention: "auto" takes flash-attention
    where it is there, else one fused call a document.
    pack_tokens: rows are put side by side up to this length; `null` packs none. packs_per_step: in one optimizer step,
    over all processes; micro_batch: packs that a process takes through the model at once. steps: `null` goes over the
    rows `epochs` times. held_out: the share of the tasks whose rows are not trained on but give the held-out loss.
    evaluate_every, save_every: steps. fsdp: shard weights, gradients and optimizer over the processes (FSDP2).
    plan: for `--plan` alone; training does not read it.
    """

    about: Annotated[str, MAY_CHANGE] = ""
    model: Annotated[str | None, MAY_CHANGE] = None
    lora: Lora | None = None
    weights: Literal["float32", "bfloat16"] = "float32"
    compute: Literal["float32", "bfloat16"] = "bfloat16"
    attention: str = "auto"
    gradient_checkpointing: bool = False
    pack_tokens: Count | None = 32768
    packs_per_step: Count = 8
    micro_batch: Count = 1
    epochs: Positive = 3.0
    steps: Count | None = None
    learning_rate: Positive = 5e-5
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] = 5
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.01
    max_grad_norm: Positive = 1.0
    optimizer: str = "adamw_torch_fused"
    held_out: Share = 0.0
    evaluate_every: Count | None = None
    save_every: Annotated[Count | None, MAY_CHANGE] = 50
    checkpoints: Annotated[Count, MAY_CHANGE] = 2
    log_every: Count = 1
    logger: Annotated[Literal["none", "tensorboard", "wandb", "trackio"], MAY_CHANGE] = "none"
    fsdp: bool = False
    seed: int = 0
    plan: Annotated[Assumptions, MAY_CHANGE] = Assumptions()


def recipe_file(name: str) -> Path:
    """A recipe of ours by name, or a YAML file. Raises InputError."""
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        return path
    known = sorted(file.stem for file in RECIPES.glob("*.yaml"))
    if name not in known:
        raise InputError(f"--recipe {name}: no such recipe; expected a .yaml file, or one of {', '.join(known)}")
    return RECIPES / f"{name}.yaml"
