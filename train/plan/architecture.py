"""A model in figures, without its weights: from its config.json, or from dimensions that a recipe names.

config, source = read_architecture(recipe, "models/base")
shape = measure(config, recipe)              # built on torch's meta device, adapters included, and counted
shape.parameters, shape.trained
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, PreTrainedConfig

from srft.env.errors import InputError
from srft.train.fit.base import freeze_others, held_type, model_class, with_adapter
from srft.train.fit.recipe import Recipe

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


class Shape(NamedTuple):
    """A model in figures.

    intermediate: the width of the feed-forward that a token goes through, of its experts together.
    query, keys: the widths of all heads together.
    matmul: parameters of the text model's matrices, adapters apart.
    active: those of them that a token goes through.
    adapters: LoRA's parameters.
    base_bytes, trained_bytes: of what is frozen and of what is trained, each in the type it is held in.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    query: int
    keys: int
    vocabulary: int
    parameters: int
    matmul: int
    active: int
    adapters: int
    trained: int
    trained_tensors: int
    base_bytes: int
    trained_bytes: int
    head_is_trained: bool
    has_experts: bool


def read_architecture(recipe: Recipe, model: str | None) -> tuple[PreTrainedConfig, str]:
    """The model's configuration and where it was read. Raises InputError.

    A folder or a model in the hub's cache is looked at first. `plan.model` describes the recipe's own model only; the
    hub is asked last, so that a recipe of ours is planned without a network.
    """
    name = model or recipe.model
    dims = recipe.plan.model if model in (None, recipe.model) else None
    reason = "no name given"
    if name is not None:
        for is_local in (True,) if dims is not None else (True, False):
            try:
                return AutoConfig.from_pretrained(name, local_files_only=is_local), f"config.json of {name}"
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
    if dims is None:
        raise InputError(
            f"--model {name}: its config.json cannot be read ({reason}); give a model's folder, or the architecture in "
            "the recipe's plan.model: {type: llama, hidden_size: ...}"
        )
    try:
        return AutoConfig.for_model(**{"model_type": dims.get("type"), **_without_type(dims)}), "plan.model"
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"plan.model: {' '.join(str(error).split())[:200]}; `type` and dimensions as in config.json"
        ) from None


def _without_type(dims: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in dims.items() if name != "type"}


def measure(config: PreTrainedConfig, recipe: Recipe) -> Shape:
    """Build the model as `finetune` does, without memory, and count. Raises InputError."""
    text = config.get_text_config()
    with torch.device("meta"):
        try:
            model: Any = model_class(config).from_config(config, dtype=getattr(torch, held_type(recipe)))
        except (TypeError, ValueError) as error:
            raise InputError(f"model: cannot be built ({' '.join(str(error).split())[:200]})") from None
        head, table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        freeze_others(model)
        layers = {
            name: weight
            for name, weight in model.named_parameters()
            if weight.dim() > 1 and weight is not head and weight is not table and weight.requires_grad
        }
        base = sum(weight.numel() for weight in model.parameters())
        if recipe.lora is not None:
            model = with_adapter(model, recipe.lora)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    parameters = sum(weight.numel() for weight in model.parameters())
    heads = text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Shape(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=_intermediate(text),
        heads=heads,
        query=heads * head_dim,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * head_dim,
        vocabulary=text.vocab_size,
        parameters=parameters,
        matmul=sum(weight.numel() for weight in layers.values()),
        active=round(sum(weight.numel() * _used_share(name, text) for name, weight in layers.items())),
        adapters=parameters - base,
        trained=sum(weight.numel() for weight in trained),
        trained_tensors=len(trained),
        base_bytes=sum(weight.numel() * weight.element_size() for weight in frozen),
        trained_bytes=sum(weight.numel() * weight.element_size() for weight in trained),
        head_is_trained=head.requires_grad,
        has_experts=any(getattr(text, name, None) for name in EXPERTS),
    )


def _experts(text: Any) -> tuple[int, int]:
    """How many there are in a layer, and how many a token goes through."""
    number = next((int(getattr(text, name)) for name in EXPERTS if getattr(text, name, None)), 1)
    return number, min(int(getattr(text, "num_experts_per_tok", None) or number), number)


def _used_share(name: str, text: Any) -> float:
    """Of a matrix, what one token goes through: of an expert's, the share of the experts that it is sent to."""
    number, used = _experts(text)
    return used / number if ".experts." in name else 1.0


def _intermediate(text: Any) -> int:
    plain = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    number, used = _experts(text)
    if number == 1:
        return int(plain)
    own = getattr(text, "moe_intermediate_size", None) or plain
    shared = (
        getattr(text, "shared_expert_intermediate_size", None) or (getattr(text, "n_shared_experts", None) or 0) * own
    )
    return int(used * own + shared)
