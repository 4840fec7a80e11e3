"""The loss: the weighted sum of negative log-likelihoods, of the trained tokens alone.

    install_loss(model, attention="srft_documents")
    loss = model(batch=batch)                    # sum of w * nll over the batch's K trained tokens, float32
    model(input_ids=ids)                         # the model's own forward, as before

The head, which turns a hidden state into a logit for each entry of the vocabulary, runs on those K positions only, and
on some of them at a time: no more than CHUNK_BYTES of logits are held, and each chunk's gradient is taken at once (as
fused losses do), so that the backward pass needs no logits either. To divide by the step's total weight is the
trainer's part.
"""

from __future__ import annotations

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
from srft.train.fit.sequence import SequenceGroup

CHUNK_BYTES = {"cpu": 256 << 20, "cuda": 512 << 20}
"""Of float32 logits at a time, by kind of device. Each chunk reads and writes the head's gradient once."""


class _HeadLoss(torch.autograd.Function):
    """sum(weight * nll) of a linear head; forward takes the gradients along, a chunk at a time.

    kind: the type of the matrix products. The head's gradient is summed up in float32, once, and given to a head that
    is held in float32 as it is. Each forward has one backward: the gradients are scaled where they are.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_KD: Tensor,
        head_VD: Tensor,
        bias_V: Tensor | None,
        target_K: Tensor,
        weight_K: Tensor,
        adjust: Callable[[Tensor], Tensor],
        kind: torch.dtype,
    ) -> Tensor:
        wants_hidden, wants_head, wants_bias = ctx.needs_input_grad[:3]
        total = torch.zeros((), dtype=_at_least_float32(hidden_KD), device=hidden_KD.device)
        grad_hidden_KD = torch.empty_like(hidden_KD) if wants_hidden else None
        grad_head_VD = torch.zeros_like(head_VD, dtype=_at_least_float32(head_VD)) if wants_head else None
        grad_bias_V = None
        if wants_bias and bias_V is not None:
            grad_bias_V = torch.zeros_like(bias_V, dtype=_at_least_float32(bias_V))
        cast_VD = head_VD.to(kind)
        cast_V = None if bias_V is None else bias_V.to(kind)
        for part in chunks(len(target_K), head=head_VD):
            hidden_CD = hidden_KD[part].to(kind)
            with torch.enable_grad():
                raw_CV = linear(hidden_CD, cast_VD, cast_V).detach().requires_grad_()
                loss = _nll(raw_CV, target_K[part], weight_K[part], adjust).sum()
                (grad_logits_CV,) = torch.autograd.grad(loss, raw_CV)
            total += loss.detach()
            if grad_hidden_KD is not None:
                grad_hidden_KD[part] = (grad_logits_CV @ cast_VD).to(hidden_KD.dtype)
            if grad_head_VD is not None:
                _add_product(grad_head_VD, grad_logits_CV.T, hidden_CD)
            if grad_bias_V is not None:
                grad_bias_V += grad_logits_CV.sum(0, dtype=grad_bias_V.dtype)
        ctx.grads = grad_hidden_KD, grad_head_VD, grad_bias_V
        ctx.kinds = hidden_KD.dtype, head_VD.dtype, None if bias_V is None else bias_V.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        held, ctx.grads = ctx.grads, None
        assert held is not None, "one backward pass for a forward pass"
        scaled = [
            None if grad is None else grad.mul_(grads[0]).to(kind) for grad, kind in zip(held, ctx.kinds, strict=True)
        ]
        return *scaled, None, None, None, None


def chunks(tokens: int, *, head: Tensor) -> list[slice]:
    """Slices of so many tokens that their float32 logits fit into CHUNK_BYTES. Of more tokens than twice the width of
    the head's weight the gradient's traffic is next to nothing, so no chunk has more."""
    vocabulary, width = head.shape
    room = CHUNK_BYTES.get(head.device.type, CHUNK_BYTES["cuda"]) // (4 * vocabulary)
    rows = max(1, min(room, 2 * width))
    return [slice(begin, min(begin + rows, tokens)) for begin in range(0, tokens, rows)]


def _add_product(sum_VD: Tensor, left_VC: Tensor, right_CD: Tensor) -> None:
    """sum += left @ right, without a product beside it where the types allow."""
    if left_VC.dtype == sum_VD.dtype:
        sum_VD.addmm_(left_VC, right_CD)
    else:
        sum_VD += left_VC @ right_CD


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _nll(raw_CV: Tensor, target_C: Tensor, weight_C: Tensor, adjust: Callable[[Tensor], Tensor]) -> Tensor:
    """(C,) weight * nll of a chunk's raw logits."""
    return cross_entropy(adjust(raw_CV.to(_at_least_float32(raw_CV))), target_C, reduction="none") * weight_C


def head_loss(
    hidden_KD: Tensor,
    head: torch.nn.Linear,
    target_K: Tensor,
    weight_K: Tensor,
    adjust: Callable[[Tensor], Tensor] = lambda logits: logits,
) -> Tensor:
    """sum(weight * nll), float32. adjust: what the architecture does to logits after the head."""
    if not torch.is_grad_enabled():
        return token_losses(hidden_KD, head, target_K, weight_K, adjust).sum()
    kind = _product_type(hidden_KD, head)
    with torch.autocast(hidden_KD.device.type, enabled=False):
        loss: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]
            hidden_KD, head.weight, head.bias, target_K, weight_K, adjust, kind
        )
    return loss


@torch.no_grad()
def token_losses(
    hidden_KD: Tensor,
    head: torch.nn.Linear,
    target_K: Tensor,
    weight_K: Tensor,
    adjust: Callable[[Tensor], Tensor] = lambda logits: logits,
) -> Tensor:
    """(K,) weight * nll of each token, without gradients."""
    kind = _product_type(hidden_KD, head)
    weight_VD = head.weight.to(kind)
    bias_V = None if head.bias is None else head.bias.to(kind)
    losses_K = torch.empty(len(target_K), dtype=_at_least_float32(hidden_KD), device=hidden_KD.device)
    with torch.autocast(hidden_KD.device.type, enabled=False):
        for part in chunks(len(target_K), head=weight_VD):
            logits_CV = linear(hidden_KD[part].to(kind), weight_VD, bias_V)
            losses_K[part] = _nll(logits_CV, target_K[part], weight_K[part], adjust)
    return losses_K


def _product_type(hidden_KD: Tensor, head: torch.nn.Linear) -> torch.dtype:
    """Autocast's, which does not reach into a function of our own, or that of the head."""
    device = hidden_KD.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype


def logit_adjustment(config: Any) -> Callable[[Tensor], Tensor]:
    """What an architecture does to the head's logits: Cohere scales them, Granite divides, Gemma caps them."""
    text = config.get_text_config()
    scale = getattr(text, "logit_scale", None) or getattr(text, "lm_head_multiplier", None) or 1.0
    divisor = getattr(text, "logits_scaling", None) or 1.0
    cap = getattr(text, "final_logit_softcapping", None)

    def adjust(logits: Tensor) -> Tensor:
        if scale != 1.0 or divisor != 1.0:
            logits = logits * (scale / divisor)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    return adjust


def decoder_of(model: PreTrainedModel) -> torch.nn.Module:
    """The text model without its head, of a composite checkpoint too."""
    found: Any = model.get_decoder()
    return found if found is not model else model.model


class LossForward:
    """The forward of a model in training: `batch` gives the loss; anything else is the model's own forward.

    apart: run the documents of a pack through the layers one by one, for layers that cannot keep them apart.
    sequence: the processes that share sequences, whose parts a `batch` may be.
    router_loss: the weight of the experts' load-balancing loss, a mean over the tokens, beside each trained token's.
    """

    def __init__(self, model: PreTrainedModel, *, attention: str, router_loss: float | None = None) -> None:
        self.model, self.plain = model, model.forward
        self.sequence: SequenceGroup | None = None
        self.attention, self.router_loss, self.apart = attention, router_loss, False
        self.adjust = logit_adjustment(model.config)
        head: Any = model.get_output_embeddings()
        if not isinstance(head, torch.nn.Linear):
            raise InputError(
                f"model type {model.config.model_type}: its head is no plain matrix ({type(head).__name__}); srft does "
                "not know this architecture: train it with another program from `srft export`"
            )
        vars(head)["forward"] = _HeadForward(head.forward)

    def __call__(self, *args: Any, batch: Batch | None = None, by_token: bool = False, **others: Any) -> Any:
        """batch: the weighted sum over it, or with `by_token`, and without gradients, its (K,) parts."""
        if batch is None:
            return self.plain(*args, **others)
        hidden_TD, balance = self._states(batch)
        # Inside the head's own forward: where it is sharded by itself (adapters), its weight is whole there alone.
        head: Any = self.model.get_output_embeddings()
        use = partial(token_losses if by_token else head_loss, adjust=self.adjust)
        loss = head(
            hidden_TD[batch.keep_K], use=partial(use, head=head, target_K=batch.target_K, weight_K=batch.weight_K)
        )
        return loss if balance is None else loss + balance * batch.weight_K.sum()

    def _states(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """(T, D) of the last layer, and the router's loss where it is asked for."""
        documents = [(batch.input_ids, batch.position_ids, batch.documents)]
        if self.apart and len(batch.documents) > 1:
            parts = (tensor.split(batch.documents, dim=1) for tensor in (batch.input_ids, batch.position_ids))
            documents = [(*part, (length,)) for *part, length in zip(*parts, batch.documents, strict=True)]
        wants_balance = self.router_loss is not None and torch.is_grad_enabled()
        sequence = self.sequence if batch.parts > 1 else None
        states, routed = [], []
        for input_ids, position_ids, lengths in documents:
            outputs = decoder_of(self.model)(
                input_ids=input_ids,
                position_ids=position_ids,
                use_cache=False,
                **attention_arguments(self.attention, lengths, input_ids.device, sequence),
                **({"output_router_logits": True} if wants_balance else {}),
            )
            states.append(outputs.last_hidden_state[0])
            routed.append(outputs.router_logits if wants_balance else ())
        hidden_TD = states[0] if len(states) == 1 else torch.cat(states)
        return hidden_TD, self._balance(routed) if wants_balance else None

    def _balance(self, routed: list[tuple[Tensor, ...]]) -> Tensor:
        from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

        text = self.model.config.get_text_config()
        layers: Any = tuple(torch.cat(logits) for logits in zip(*routed, strict=True))
        loss: Any = load_balancing_loss_func(layers, layers[0].shape[-1], text.num_experts_per_tok)
        return loss * self.router_loss


class _HeadForward:
    """A head's forward that hands its input to another function where one is given."""

    def __init__(self, plain: Callable[[Tensor], Tensor]) -> None:
        self._plain = plain

    def __call__(self, hidden: Tensor, use: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        return self._plain(hidden) if use is None else use(hidden)


def install_loss(model: PreTrainedModel, *, attention: str, router_loss: float | None = None) -> LossForward:
    """Make `model(batch=...)` give the loss; `probe.probe_loss` compares it with the model's own.

    Raises InputError for an attention that the model or this machine does not have.
    """
    try:
        model.set_attn_implementation(attention)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(
            f"recipe: attention {attention}: not for this model or not on this machine "
            f"({' '.join(str(error).split())[:300]}); say attention: auto, or install it"
        ) from None
    forward = LossForward(model, attention=attention, router_loss=router_loss)
    model.forward = forward
    return forward
