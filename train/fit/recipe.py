"""Recipes: how a model is trained. YAML files in `recipes/`, or the user's own.

recipe = load_recipe("smollm2-135m-cpu")    # of srft.harness.stages.train
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
    """Low-rank adapters, in peft's names.

    rank: of the two matrices of each adapter.
    alpha: an adapter's output counts alpha / rank times.
    dropout: of an adapter's input.
    modules: "all-linear", or the names of the layers that get one.
    """

    rank: Count = 16
    alpha: Count = 32
    dropout: Share = 0.0
    modules: str | tuple[str, ...] = "all-linear"


class Assumptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--plan` cannot read off the rows and the machine.

    gpus: processes, one a GPU; this machine's unless given.
    gpu: one of `machine.GPUS`; this machine's unless given.
    mfu: the share of the peak that is reached.
    tokens_per_s: a pace measured before, of all processes together; it wins over FLOPs.
    rows: how many, where they are not made yet.
    row_tokens: of each of those.
    trained_share: of their tokens.
    model: the architecture in the words of its config.json, `type` first, where that file is not at hand.
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

    about: for people.
    model: the base model the recipe is meant for; `--model` wins.
    lora: adapters; `null` trains all weights.
    weights: the type of the saved model, and of weights that are not trained; what is trained is held in float32.
    compute: the type of the forward and backward passes.
    attention: "auto" takes flash-attention where it is installed, else "documents": torch's fused call, document by
        document. Or a name of transformers: flash_attention_2, _3, _4, sdpa, eager, kernels-community/...
    router_loss: of models with experts, the weight of the loss that balances their load; `null` leaves it out.
    gradient_checkpointing: keep each layer's input alone, and compute the layer again in the backward pass.
    activation_offload: with gradient_checkpointing, keep those inputs in the host's memory.
    liger: the kernels of liger-kernel for norms, rotations and MLPs (a GPU).
    pack_tokens: rows are put side by side up to this length; `null` packs none.
    packs_per_step: in one optimizer step, over all processes.
    micro_batch: packs that a process takes through the model at once.
    epochs: how often to go over the rows.
    steps: optimizer steps in the place of epochs.
    learning_rate: its peak.
    schedule: of the learning rate, after the warm-up.
    warmup_steps: over which the learning rate grows to its peak.
    weight_decay: AdamW's.
    max_grad_norm: longer gradients are cut to it.
    optimizer: a name of transformers' (`optim`).
    held_out: the share of the tasks whose rows are not trained on but give the held-out loss.
    evaluate_every: steps between two held-out losses; `null` takes it at the end alone.
    save_every: steps between two checkpoints; `null` writes none.
    checkpoints: how many are kept.
    log_every: steps between two logged losses.
    logger: where they are sent besides.
    fsdp: shard weights, gradients and optimizer over the processes (FSDP2).
    seed: of adapters, dropout, the order of the rows, and which tasks are held out.
    trainer: further settings of transformers' TrainingArguments, by its names (`srft.train.fit.arguments` has the
        few that are refused).
    plan: for `--plan` alone; training does not read it.
    """

    about: Annotated[str, MAY_CHANGE] = ""
    model: Annotated[str | None, MAY_CHANGE] = None
    lora: Lora | None = None
    weights: Literal["float32", "bfloat16"] = "float32"
    compute: Literal["float32", "bfloat16"] = "bfloat16"
    attention: str = "auto"
    router_loss: Positive | None = None
    gradient_checkpointing: bool = False
    activation_offload: Annotated[bool, MAY_CHANGE] = False
    liger: bool = False
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
    trainer: dict[str, Any] = {}
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
