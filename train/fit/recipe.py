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
    """Low-rank adapters, in peft's names."""

    rank: Count = 16
    """The rank of each adapter."""
    alpha: Count = 32
    """An adapter's output is multiplied by alpha / rank."""
    dropout: Share = 0.0
    """The dropout of an adapter's input."""
    modules: str | tuple[str, ...] = "all-linear"
    """The layers that get an adapter: "all-linear", or their names."""


class Assumptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--plan` cannot read off the rows and the machine."""

    gpus: Count | None = None
    """Training processes, one for each GPU; this machine's unless given."""
    gpu: str | None = None
    """The GPU, one of `machine.GPUS`; this machine's unless given."""
    mfu: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """The share of the GPU's peak that is reached."""
    tokens_per_s: Positive | None = None
    """A pace measured before, of all processes together; it is used instead of FLOPs."""
    rows: Count = 1000
    """The number of rows, where they are not made yet."""
    row_tokens: Annotated[int, msgspec.Meta(ge=2)] = 16384
    """Tokens of one of those rows."""
    trained_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    """The share of their tokens that is trained."""
    model: dict[str, Any] | None = None
    """The architecture in the words of its config.json, `type` first, where that file is not at hand."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that `srft train` does, the rows and the model apart."""

    about: Annotated[str, MAY_CHANGE] = ""
    """What the recipe is for."""
    model: Annotated[str | None, MAY_CHANGE] = None
    """The base model the recipe is meant for; `--model` wins."""
    lora: Lora | None = None
    """Adapters to train; `null` trains all weights."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """The type of the saved model, and of weights that are not trained; what is trained is held in float32."""
    compute: Literal["float32", "bfloat16"] = "bfloat16"
    """The type of the forward and backward passes."""
    attention: str = "auto"
    """The attention: "auto" takes flash-attention where it is installed, else "documents": torch's fused call, document
    by document. Or a name of transformers: flash_attention_2, _3, _4, sdpa, eager, kernels-community/..."""
    router_loss: Positive | None = None
    """The weight of the loss that balances the load of experts; `null` leaves it out."""
    gradient_checkpointing: bool = False
    """Whether to keep only each layer's input, and compute the layer again in the backward pass."""
    activation_offload: Annotated[bool, MAY_CHANGE] = False
    """With gradient_checkpointing, whether to keep those inputs in the host's memory."""
    liger: bool = False
    """Whether to use liger-kernel for norms, rotations and MLPs (needs a GPU)."""
    pack_tokens: Count | None = 32768
    """Rows are packed side by side up to this length; `null`: one row in a pack."""
    packs_per_step: Count = 8
    """Packs in one optimizer step, over all processes."""
    micro_batch: Count = 1
    """Packs that a process takes through the model at once."""
    epochs: Positive = 3.0
    """How often the rows are trained on."""
    steps: Count | None = None
    """Optimizer steps, instead of epochs."""
    learning_rate: Positive = 5e-5
    """The highest learning rate."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """The schedule of the learning rate after the warm-up."""
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Steps over which the learning rate grows to its highest value."""
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.01
    """The weight decay of AdamW."""
    max_grad_norm: Positive = 1.0
    """The norm that longer gradients are cut to."""
    optimizer: str = "adamw_torch_fused"
    """The optimizer, by its name in transformers (`optim`)."""
    held_out: Share = 0.0
    """The share of the tasks whose rows are not trained on but give the held-out loss."""
    evaluate_every: Count | None = None
    """Steps between two held-out losses; `null`: only at the end."""
    save_every: Annotated[Count | None, MAY_CHANGE] = 50
    """Steps between two checkpoints; `null`: none."""
    checkpoints: Annotated[Count, MAY_CHANGE] = 2
    """The number of checkpoints that are kept."""
    log_every: Count = 1
    """Steps between two logged losses."""
    logger: Annotated[Literal["none", "tensorboard", "wandb", "trackio"], MAY_CHANGE] = "none"
    """Where losses are logged besides training.json."""
    fsdp: bool = False
    """Whether to shard weights, gradients and optimizer over the processes (FSDP2)."""
    replicas: Annotated[Count, MAY_CHANGE] = 1
    """Under fsdp, groups of processes that each hold all shards (HSDP): on several machines one for each, so that
    layers are gathered within a machine and only gradients travel between them."""
    sequence_parallel: Annotated[Count, MAY_CHANGE] = 1
    """Processes that share each sequence, for rows too long for one (Ulysses): each holds a part of its tokens, and for
    attention all tokens of a part of the heads. It divides the number of processes and of attention heads."""
    seed: int = 0
    """The seed of adapters, dropout, the order of the rows, and the held-out tasks."""
    trainer: dict[str, Any] = {}
    """Further settings of transformers' TrainingArguments, by its names (`srft.train.fit.arguments` has the few that
    are refused)."""
    plan: Annotated[Assumptions, MAY_CHANGE] = Assumptions()
    """Assumptions of `--plan`; training does not read them."""


def recipe_file(name: str) -> Path:
    """A recipe of ours by name, or a YAML file. Raises InputError."""
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        return path
    known = sorted(file.stem for file in RECIPES.glob("*.yaml"))
    if name not in known:
        raise InputError(f"--recipe {name}: no such recipe; expected a .yaml file, or one of {', '.join(known)}")
    return RECIPES / f"{name}.yaml"
