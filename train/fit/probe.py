"""The probe: whether our loss is the model's own, and whether a pack's documents are kept apart, on a few tokens.

    probe_loss(model, forward, several=True, is_sharded=False, device=device)

Runs once, just before the first step: where, in the type and in the context that training will. The model's own forward
with the plain attention of transformers ("eager") says what is right. Where the layers of an architecture carry one
document of a pack into the next, the documents go through them one by one (`LossForward.apart`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from loguru import logger
from torch import Tensor, distributed
from torch.nn.functional import cross_entropy

from srft.env.errors import InputError
from srft.train.fit.loss import LossForward
from srft.train.fit.pack import Batch

SHARED = {"full_attention", "sliding_attention", "chunked_attention", "attention", "mlp", "moe"}
"""Kinds of layers in which a token needs others in its attention alone."""

LONGEST_WINDOW = 1024
"""Tokens: a sliding window up to this is exceeded by the probe."""


def batch_of(documents: list[Tensor]) -> Batch:
    """Token ids, every one but the first of each document a target of weight 1."""
    lengths = tuple(len(ids) - 1 for ids in documents)
    device = documents[0].device
    return Batch(
        input_ids=torch.cat([ids[:-1] for ids in documents])[None],
        position_ids=torch.cat([torch.arange(length, device=device) for length in lengths])[None],
        keep_K=torch.arange(sum(lengths), device=device),
        target_K=torch.cat([ids[1:] for ids in documents]),
        weight_K=torch.ones(sum(lengths), device=device),
        documents=lengths,
        rows=(),
    )


@torch.no_grad()
def probe_loss(
    model: Callable[..., Any], forward: LossForward, *, several: bool, is_sharded: bool, device: torch.device
) -> None:
    """model: as it is called in training; every process calls it. several: whether a sequence ever holds more than one
    document. Raises InputError for an architecture that srft does not know."""
    config = forward.model.config
    training = forward.model.training
    forward.model.eval()
    embedding: Any = forward.model.get_input_embeddings()
    first, second = _documents(config, device, embedding.weight.shape[0])
    ours = [float(model(batch=batch_of([ids]))) for ids in (first, second)]
    _compare_with_their_own(model, forward, ours, [first, second])
    if several and (reason := _mixes(model, forward, first, second, alone=sum(ours))):
        if is_sharded:
            raise InputError(
                f"model type {config.model_type}: {reason}, and under fsdp or sequence_parallel they cannot go through "
                "the layers one by one; set pack_tokens: null and micro_batch: 1"
            )
        logger.info("model type {}: {}; each goes through the layers by itself", config.model_type, reason)
        forward.apart = True
    if forward.sequence is not None:
        _compare_parts(model, forward, batch_of([first, second] if several else [first]))
    forward.model.train(training)


def _documents(config: Any, device: torch.device, vocabulary: int) -> tuple[Tensor, Tensor]:
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None) or 0
    length = 13 if window > LONGEST_WINDOW else max(13, window + 6)
    placeholders = {getattr(config, name) for name in vars(config) if name.endswith(("_token_id", "_token_index"))}
    plain = [token for token in range(min(vocabulary, 997)) if token not in placeholders]
    numbers = torch.arange(length + 10) * 31 % len(plain)
    ids = torch.tensor(plain)[numbers].to(device)
    return ids[:length], ids[length:]


def _compare_with_their_own(
    model: Callable[..., Any], forward: LossForward, ours: list[float], documents: list[Tensor]
) -> None:
    config = forward.model.config
    forward.model.set_attn_implementation("eager")
    for mine, ids in zip(ours, documents, strict=True):
        logits_TV = model(input_ids=ids[None, :-1], use_cache=False).logits[0]
        theirs = float(cross_entropy(logits_TV.double(), ids[1:], reduction="sum"))
        if not math.isfinite(theirs):
            raise InputError(
                f"model type {config.model_type}: its logits are not finite; the weights are damaged, or this "
                "machine's kernels do not go with them"
            )
        if not math.isclose(mine, theirs, rel_tol=2e-2 if _is_half(forward, logits_TV) else 1e-4):
            raise InputError(
                f"model type {config.model_type}: its logits are not those of its head and of attention "
                f"{forward.attention} ({mine:.4f} against {theirs:.4f} on a probe); srft does not know this "
                "architecture: try attention: eager, or train it with another program from `srft export`"
            )
    forward.model.set_attn_implementation(forward.attention)


def _compare_parts(model: Callable[..., Any], forward: LossForward, batch: Batch) -> None:
    """Raises InputError where the losses of a sequence's parts do not sum up to the sequence's."""
    assert forward.sequence is not None
    text = forward.model.config.get_text_config()
    layers = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None) or ()
    if states := sorted(set(layers) - SHARED):
        why = ", ".join(states)
    else:
        whole = float(model(batch=batch))
        parts: Tensor = model(batch=forward.sequence.part(batch)).double()
        distributed.all_reduce(parts, group=forward.sequence.group)
        half = _is_half(forward, parts.float())
        if math.isclose(float(parts), whole, rel_tol=2e-2 if half else 1e-4):
            return
        why = f"{float(parts):.4f} against {whole:.4f} on a probe"
    raise InputError(
        f"model type {forward.model.config.model_type}: its layers carry something from token to token besides "
        f"attention ({why}), so processes cannot share a sequence; set sequence_parallel: 1"
    )


def _is_half(forward: LossForward, logits_TV: Tensor) -> bool:
    """Whether a product anywhere in the model was rounded to half precision."""
    weight = next(forward.model.parameters())
    return torch.is_autocast_enabled(weight.device.type) or 2 in (weight.element_size(), logits_TV.element_size())


def _mixes(
    model: Callable[..., Any], forward: LossForward, first: Tensor, second: Tensor, *, alone: float
) -> str | None:
    """Why a pack's documents are not as they are alone, if they are not.

    What a document's losses are must not move when another beside it is exchanged for one of the same length: the same
    products of the same shapes, so that even half precision gives the same, but for experts, which see other counts.
    """
    own = len(first) - 1

    def losses(left: Tensor, right: Tensor) -> Tensor:
        found: Tensor = model(batch=batch_of([left, right]), by_token=True)
        return found.double()

    try:
        both_K = losses(first, second)
    except ValueError as error:
        return f"a pack's documents are not kept apart ({' '.join(str(error).split())[:200]})"
    half = _is_half(forward, both_K)
    within = 2e-2 if half else 1e-5
    behind_K, before_K = losses(first.flip(0), second)[own:], losses(first, second.flip(0))[:own]
    if max(float((behind_K - both_K[own:]).abs().max()), float((before_K - both_K[:own]).abs().max())) > within:
        return "its layers carry one document of a pack into another"
    if not math.isclose(float(both_K.sum()), alone, rel_tol=2e-2 if half else 1e-4):
        return "a document in a pack is not what it is alone"
    return None
