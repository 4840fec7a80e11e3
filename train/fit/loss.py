"""The loss: the weighted sum of negative log-likelihoods, of the trained tokens alone.

    install_loss(model, attention="srft_documents")
    loss = model(batch=batch)                    # sum of w * nll over the batch's K trained tokens, float32

The head, which turns a hidden state into a logit for each entry of the vocabulary, runs on those K positions only, and
on some of them at a time: no more than CHUNK_BYTES of logits are held, and each chunk's gradient is taken at once (as
fused losses do), so that the backward pass needs no logits either. To divide by the step's total weight is the
trainer's part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from transformers import PreTrainedModel

from srft.env.errors import InputError
from srft.train.fit.attention import attention_arguments
from srft.train.fit.pack import Batch

CHUNK_BYTES = 64 << 20


class _HeadLoss(torch.autograd.Function):
    """sum(weight * nll) of a linear head; forward takes the gradients along, a chunk at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_KD: Tensor,
        head_VD: Tensor,
        bias_V: Tensor | None,
        target_K: Tensor,
        weight_K: Tensor,
        adjust: Callable[[Tensor], Tensor],
    ) -> Tensor:
        wants_hidden, wants_head, wants_bias = ctx.needs_input_grad[:3]
        total = torch.zeros((), dtype=_at_least_float32(hidden_KD), device=hidden_KD.device)
        grad_hidden_KD = torch.empty_like(hidden_KD) if wants_hidden else None
        grad_head_VD = torch.zeros_like(head_VD, dtype=_at_least_float32(head_VD)) if wants_head else None
        grad_bias_V = (
            torch.zeros_like(bias_V, dtype=_at_least_float32(bias_V)) if wants_bias and bias_V is not None else None
        )
        for part in _chunks(len(target_K), vocabulary=head_VD.shape[0]):
            with torch.enable_grad():
                raw_CV, loss = _nll(hidden_KD[part], head_VD, bias_V, target_K[part], weight_K[part], adjust)
                (grad_logits_CV,) = torch.autograd.grad(loss, raw_CV)
            total += loss.detach()
            if grad_hidden_KD is not None:
                grad_hidden_KD[part] = grad_logits_CV @ head_VD
            if grad_head_VD is not None:
                grad_head_VD += grad_logits_CV.T @ hidden_KD[part]
            if grad_bias_V is not None:
                grad_bias_V += grad_logits_CV.sum(0)
        ctx.save_for_backward(grad_hidden_KD, grad_head_VD, grad_bias_V)
        ctx.dtypes = hidden_KD.dtype, head_VD.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if saved is None else saved * grads[0] for saved in ctx.saved_tensors]
        hidden_KD, head_VD, bias_V = scaled
        kind = ctx.dtypes[1]
        return hidden_KD, _cast(head_VD, kind), _cast(bias_V, kind), None, None, None


def _chunks(tokens: int, *, vocabulary: int) -> list[slice]:
    """Slices of so many tokens that their float32 logits fit into CHUNK_BYTES."""
    rows = max(1, CHUNK_BYTES // (4 * vocabulary))
    return [slice(begin, min(begin + rows, tokens)) for begin in range(0, tokens, rows)]


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _cast(tensor: Tensor | None, kind: torch.dtype) -> Tensor | None:
    return None if tensor is None else tensor.to(kind)


def _nll(
    hidden_CD: Tensor,
    head_VD: Tensor,
    bias_V: Tensor | None,
    target_C: Tensor,
    weight_C: Tensor,
    adjust: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """A chunk's raw logits, a leaf where gradients are wanted, and its loss."""
    raw_CV = linear(hidden_CD, head_VD, bias_V).detach().requires_grad_(torch.is_grad_enabled())
    return raw_CV, (
        cross_entropy(adjust(raw_CV.to(_at_least_float32(raw_CV))), target_C, reduction="none") * weight_C
    ).sum()


def head_loss(
    hidden_KD: Tensor,
    head: torch.nn.Linear,
    target_K: Tensor,
    weight_K: Tensor,
    adjust: Callable[[Tensor], Tensor] = lambda logits: logits,
) -> Tensor:
    """sum(weight * nll), float32. adjust: what the architecture does to logits after the head."""
    head_VD: Tensor = head.weight
    bias_V: Tensor | None = head.bias
    if torch.is_autocast_enabled(hidden_KD.device.type):
        # A function of our own is not cast by autocast, so its operands are cast here, by ops that carry the gradient.
        kind = torch.get_autocast_dtype(hidden_KD.device.type)
        hidden_KD, head_VD = hidden_KD.to(kind), head_VD.to(kind)
        bias_V = None if bias_V is None else bias_V.to(kind)
    if not torch.is_grad_enabled():
        chunks = _chunks(len(target_K), vocabulary=head_VD.shape[0])
        parts = [(hidden_KD[part], head_VD, bias_V, target_K[part], weight_K[part], adjust) for part in chunks]
        return sum(
            (_nll(*part)[1] for part in parts), start=hidden_KD.new_zeros((), dtype=_at_least_float32(hidden_KD))
        )
    loss: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden_KD, head_VD, bias_V, target_K, weight_K, adjust
    )
    return loss


def logit_adjustment(config: Any) -> Callable[[Tensor], Tensor]:
    """What an architecture does to the head's logits: Cohere scales them, Granite divides, Gemma caps them."""
    text = config.get_text_config()
    scale = getattr(text, "logit_scale", None) or 1.0
    divisor = getattr(text, "logits_scaling", None) or 1.0
    cap = getattr(text, "final_logit_softcapping", None)

    def adjust(logits: Tensor) -> Tensor:
        if scale != 1.0 or divisor != 1.0:
            logits = logits * (scale / divisor)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    return adjust


def install_loss(model: PreTrainedModel, *, attention: str) -> None:
    """Make `model(batch=...)` give the loss. Raises InputError where that is not the model's own loss.

    A few tokens are run both ways first: an architecture that treats its logits in a way not known here is refused.
    """
    model.set_attn_implementation(attention)
    forward = partial(_forward, model, logit_adjustment(model.config), attention)
    _refuse_other_heads(model, forward, attention)
    model.forward = forward


def _forward(
    model: PreTrainedModel, adjust: Callable[[Tensor], Tensor], attention: str, *, batch: Batch, **_extras: Any
) -> Tensor:
    """The weighted sum over a batch. Inside the model's own forward, so that sharded weights are whole here."""
    hidden_TD = model.base_model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        use_cache=False,
        **attention_arguments(attention, batch.documents, batch.input_ids.device),
    ).last_hidden_state[0]
    head: Any = model.get_output_embeddings()
    return head_loss(hidden_TD[batch.keep_K], head, batch.target_K, batch.weight_K, adjust)


@torch.no_grad()
def _refuse_other_heads(model: PreTrainedModel, forward: Callable[..., Tensor], attention: str) -> None:
    device = next(model.parameters()).device
    if device.type == "meta":
        return
    training = model.training
    model.eval()
    token_T = torch.arange(1, 9, device=device) % model.config.get_text_config().vocab_size
    place_T = torch.arange(8, device=device)
    batch = Batch(
        token_T[None, :-1], place_T[None, :-1], place_T[:-1], token_T[1:], torch.ones(7, device=device), (7,), ()
    )
    logits_TV = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        use_cache=False,
        **attention_arguments(attention, batch.documents, device),
    ).logits[0]
    theirs = cross_entropy(logits_TV.double(), batch.target_K, reduction="sum").item()
    ours = forward(batch=batch).item()
    model.train(training)
    if not math.isfinite(theirs):
        raise InputError(f"model type {model.config.model_type}: its logits are not finite; the weights are damaged")
    # Half-precision logits are rounded by the model itself, ours are not.
    if not math.isclose(ours, theirs, rel_tol=2e-2 if logits_TV.element_size() == 2 else 1e-4):
        raise InputError(
            f"model type {model.config.model_type}: its logits are not those of its head ({ours:.4f} against "
            f"{theirs:.4f} on a probe); srft does not know this architecture"
        )
