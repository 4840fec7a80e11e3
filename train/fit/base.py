"""The base model as it is trained: loaded, its text model found, sizes compared with the rows, adapters added.

    loaded = load_model("models/base", recipe, renderer, table, several=True, on_gpu=False)
    loaded.model(batch=batch), loaded.forward.apart

What is trained is held in float32 (masters) whatever the recipe's `weights` says: an update of AdamW at usual learning
rates is smaller than half a step of bfloat16, so that most weights would never move. `weights` is the type of what is
frozen, and of the model that is saved.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from torch import distributed
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from srft.env.errors import InputError
from srft.train.fit.attention import DOCUMENTS, choose_attention
from srft.train.fit.loss import LossForward, decoder_of, install_loss
from srft.train.fit.recipe import Lora, Recipe
from srft.train.fit.weights import base_of
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowTable

_DEQUANTIZED = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
"""Types of published weights that transformers turns back into bfloat16 as it loads them."""


_INDEXER = ".indexer."


class Loaded(NamedTuple):
    """model: what the trainer takes, adapters included. forward: of the model inside it."""

    model: torch.nn.Module
    forward: LossForward


def load_model(
    name: str, recipe: Recipe, renderer: Renderer, table: RowTable, *, several: bool, on_gpu: bool
) -> Loaded:
    """Raises InputError where the model does not go with the rows, or cannot be trained.

    several: whether a sequence ever holds more than one document.
    """
    own = Renderer.load(name).vocabulary if name != table.manifest.tokenizer else renderer.vocabulary
    if own != table.manifest.vocabulary:
        raise InputError(
            f"--model {name}: its tokenizer is not the one that {table.folder} was made with "
            f"({table.manifest.tokenizer}); make the rows again with --tokenizer {name}"
        )
    base = base_of(name)
    whole = base or name
    config = _config(whole)
    family = model_class(config)
    _refuse_long_rows(config, table, several=several)
    options = {"dtype": getattr(torch, held_type(recipe)), **_dequantized(whole, config)}
    if recipe.fsdp and os.environ.get("RANK", "0") != "0":
        model = _without_weights(family, whole, options, in_float32=recipe.lora is None)
    else:
        try:
            model = family.from_pretrained(whole, **options)
        except (OSError, ValueError, ImportError) as error:
            raise InputError(f"--model {name}: cannot be loaded ({' '.join(str(error).split())[:300]})") from None
    if base is not None and recipe.lora is None:
        model = merged(model, name)
    if recipe.fsdp and recipe.lora is not None:
        _agree_on_types(model)
    _refuse_other_tokens(name, model, table)
    half = recipe.compute == "bfloat16"
    attention = choose_attention(recipe.attention, model, on_gpu=on_gpu, in_half_precision=half)
    if recipe.sequence_parallel > 1:
        attention = _of_shared_sequences(recipe)
    forward = install_loss(model, attention=attention, router_loss=recipe.router_loss)
    freeze_others(model)
    _stop_at(model, renderer.stop_ids)
    if recipe.lora is None:
        return Loaded(model, forward)
    return Loaded(with_adapter(model, recipe.lora) if base is None else with_earlier(model, name, recipe.lora), forward)


def _of_shared_sequences(recipe: Recipe) -> str:
    if recipe.attention not in ("auto", "documents"):
        raise InputError(
            f"recipe: attention {recipe.attention}: with sequence_parallel {recipe.sequence_parallel} only srft's own "
            "attention can be used; set attention: documents"
        )
    return DOCUMENTS


def held_type(recipe: Recipe) -> str:
    """The type that the base model is loaded in. Under FSDP accelerate itself casts what is trained to float32, and
    does so when the computation is in bfloat16 alone."""
    if recipe.lora is not None or (recipe.fsdp and recipe.compute == "bfloat16"):
        return recipe.weights
    return "float32"


def _config(name: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"--model {name}: its config.json cannot be read ({' '.join(str(error).split())[:300]}); is it a model's "
            "folder or name, and is its architecture in this version of transformers?"
        ) from None


def model_class(config: PreTrainedConfig) -> Any:
    """transformers' class to load a checkpoint with: a composite one stays whole, and its text model is trained.

    Raises InputError for what is no decoder of text.
    """
    kind, written = config.model_type, (getattr(config, "architectures", None) or [None])[0]
    composite = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind)
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    if getattr(config, "is_encoder_decoder", False) or (causal is None and composite is None):
        raise InputError(
            f"model type {kind}: it is no decoder that writes text (transformers has no causal language model of it); "
            "name a decoder, or a checkpoint whose config.json has the model_type of its text model"
        )
    is_composite = composite is not None and (written == composite or causal is None)
    return AutoModelForImageTextToText if is_composite else AutoModelForCausalLM


def _dequantized(name: str, config: PreTrainedConfig) -> dict[str, Any]:
    """What makes plain weights of a checkpoint whose weights are quantized. Raises InputError where nothing does."""
    quantized: Any = getattr(config, "quantization_config", None)
    if quantized is None:
        return {}
    method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized.quant_method
    method = str(getattr(method, "value", method))
    if method not in _DEQUANTIZED:
        raise InputError(
            f"--model {name}: its weights are quantized ({method}) and cannot be trained; name the checkpoint in "
            "bfloat16 that it was made from"
        )
    import transformers

    return {"quantization_config": getattr(transformers, _DEQUANTIZED[method])(dequantize=True)}


def _without_weights(family: Any, name: str, options: dict[str, Any], *, in_float32: bool) -> PreTrainedModel:
    """The model with weights that nobody has written to, which take no memory: the first process alone loads them, and
    accelerate sends the others their shards. (transformers 5.24 itself loads them in every process; accelerate 1.15
    tells an optimizer's weights apart by their addresses, which torch's meta device has none of.)

    in_float32: what is trained, as accelerate would cast it, which would write to it.
    """
    config = AutoConfig.from_pretrained(name)
    if "quantization_config" in options:
        del config.quantization_config
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = family.from_config(config, dtype=torch.float32 if in_float32 else options["dtype"])
    for module in model.modules():
        for key, weight in module._parameters.items():
            if weight is not None:
                module._parameters[key] = torch.nn.Parameter(torch.empty_like(weight, device="cpu"))
    model.tie_weights()
    model.generation_config = generation_config_of(name) or model.generation_config
    return model


def generation_config_of(name: str) -> GenerationConfig | None:
    """`None` where the model has none of its own."""
    try:
        return GenerationConfig.from_pretrained(name)
    except OSError:
        return None


def _agree_on_types(model: PreTrainedModel) -> None:
    """Hold each weight in the type in which the first process loaded it: some are kept in float32."""
    if not distributed.is_initialized():
        return
    types: list[Any] = [{name: weight.dtype for name, weight in model.named_parameters()}]
    distributed.broadcast_object_list(types, src=0)
    for name, weight in model.named_parameters():
        if weight.dtype != types[0][name]:
            weight.data = torch.empty_like(weight.data, dtype=types[0][name])


def _refuse_long_rows(config: PreTrainedConfig, table: RowTable, *, several: bool) -> None:
    """Raises InputError for rows longer than the model's positions, and for packs that would change its rotations."""
    text = config.get_text_config()
    longest = int(table.used_tokens_N.max()) - 1
    positions = getattr(text, "max_position_embeddings", None)
    if isinstance(positions, int) and longest > positions:
        raise InputError(
            f"{table.folder}: a row of {longest:,} tokens, and the model has {positions:,} positions; make the rows "
            f"again with --set max_tokens={positions}, or extend the model's positions in its config.json (YaRN)"
        )
    rope: Any = getattr(text, "rope_parameters", None) or {}
    kind = rope.get("rope_type")
    original = rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
    if several and kind in {"longrope", "dynamic"} and longest > (original or positions or longest):
        raise InputError(
            f"model type {config.model_type}: one row of more than {original:,} tokens would change the rotations "
            f"({kind}) of all that are packed with it; say pack_tokens: null and micro_batch: 1"
        )


def _refuse_other_tokens(name: str, model: PreTrainedModel, table: RowTable) -> None:
    """Raises InputError where rows hold token ids that the embedding has no vectors for."""
    size = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr,index,arg-type]
    highest = table.highest_token_id()
    if highest >= size:
        raise InputError(
            f"--model {name}: the rows hold token id {highest}, and the embedding has {size:,} vectors: tokens were "
            "added to the tokenizer and not to the model. Resize it (model.resize_token_embeddings), save it, and "
            "train that"
        )


def freeze_others(model: PreTrainedModel) -> None:
    """What is beside the text model and its head is not trained: an image encoder, heads of other uses. Nor is what the
    loss has no gradient for: indexers, which choose what is attended to (DeepSeek V3.2, GLM 5)."""
    text = {id(weight) for part in (decoder_of(model), model.get_output_embeddings()) for weight in part.parameters()}
    for name, weight in model.named_parameters():
        if id(weight) not in text or _INDEXER in name:
            weight.requires_grad_(False)


def _stop_at(model: PreTrainedModel, end_ids: Sequence[int]) -> None:
    """Have servers stop where the model was taught to: its own configuration may name another token."""
    known = model.generation_config.eos_token_id
    ids = [] if known is None else [known] if isinstance(known, int) else list(known)
    if missing := [end_id for end_id in end_ids if end_id not in ids]:
        model.generation_config.eos_token_id = [*ids, *missing]


def with_adapter(model: PreTrainedModel, lora: Lora) -> torch.nn.Module:
    """Raises InputError for modules that are not there, or that the loss would not see."""
    from peft import LoraConfig, get_peft_model

    modules = lora.modules if isinstance(lora.modules, str) else list(lora.modules)
    head = model.get_output_embeddings()
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules,
        exclude_modules=_without_adapters(model),
        task_type="CAUSAL_LM",
    )
    try:
        adapted: torch.nn.Module = get_peft_model(model, config)
    except (ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"lora.modules: {modules}: {' '.join(str(error).split())[:400]}") from None
    if model.get_output_embeddings() is not head:
        raise InputError(f"lora.modules: {modules}: the head cannot have an adapter (the loss reads its weight itself)")
    return adapted


def with_earlier(model: PreTrainedModel, adapter: str, lora: Lora) -> torch.nn.Module:
    """The model with an adapter that was trained before, to be trained on. Raises InputError where the recipe asks for
    another kind of adapter."""
    from peft import LoraConfig, PeftConfig, PeftModel

    found, asked = PeftConfig.from_pretrained(adapter), LoraConfig(r=lora.rank, lora_alpha=lora.alpha)
    kind, wanted = (found.r, found.lora_alpha), (asked.r, asked.lora_alpha)  # type: ignore[attr-defined]
    if kind != wanted:
        raise InputError(
            f"--model {adapter}: an adapter of rank {kind[0]} and alpha {kind[1]}, and the recipe's lora has rank "
            f"{wanted[0]} and alpha {wanted[1]}; give the recipe the same, or train the model below it "
            f"({base_of(adapter)})"
        )
    adapted: torch.nn.Module = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    return adapted


def merged(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The model with an adapter's weights in its own."""
    from peft import PeftModel

    whole: PreTrainedModel = PeftModel.from_pretrained(model, adapter).merge_and_unload()  # type: ignore[operator]
    for weight in whole.parameters():  # which peft has frozen
        weight.requires_grad_(weight.is_floating_point())
    return whole


def _without_adapters(model: PreTrainedModel) -> str:
    """A pattern of modules that get none: what is beside the text model, what Mamba's kernels read themselves, and
    matrices that give something else than a product (Llama 4's routers)."""
    decoder = decoder_of(model)
    inside = next(name for name, module in model.named_modules() if module is decoder)
    beside = (name for name, weight in model.named_parameters() if not weight.requires_grad and _INDEXER not in name)
    patterns = [rf".*{re.escape(_INDEXER)}.*", *([rf"(?!{re.escape(inside)}\.).*"] if any(beside) else [])]
    for name, module in model.named_modules():
        if all(hasattr(module, part) for part in ("A_log", "D", "conv1d", "out_proj")):
            patterns.append(rf"{re.escape(name)}\.(out_proj|conv1d|dt_proj)")
        if isinstance(module, torch.nn.Linear) and type(module).forward is not torch.nn.Linear.forward:
            patterns.append(re.escape(name))
    return "|".join(patterns)
