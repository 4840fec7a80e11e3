"""Attention that stays within documents, on any machine: fused scaled-dot-product calls, document by document.

Registered with transformers as "srft_documents". Nothing is computed across documents and no (L, L) mask is built, so
packing costs the sum of the documents' squares, not the square of the sum; on CPU and GPU torch picks its own fused
kernel. Sliding windows are computed in blocks of a window's width, which see themselves and the block before; a sink (a
logit of its own that takes part of the attention, as gpt-oss has) is one more key. Where flash-attention is installed,
transformers' own implementation does the same in one call (`choose_attention`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedConfig
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available, is_flash_attn_4_available

from srft.env.errors import InputError
from srft.train.fit.sequence import SequenceGroup

DOCUMENTS = "srft_documents"
_FLASH = {
    "flash_attention_4": is_flash_attn_4_available,
    "flash_attention_3": is_flash_attn_3_available,
    "flash_attention_2": is_flash_attn_2_available,
}
"""What "auto" takes, the best first."""
_PAIRWISE = {"full_attention", "sliding_attention", "chunked_attention"}
_WITHOUT_MASK = {"linear_attention", "conv", "mlp", "moe", "hybrid", "hybrid_sliding", "attention", "mamba"}
"""Layers that need no mask, or that carry a state and see what is before them alone."""
_OTHER = "train it with attention: sdpa or eager"


def document_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    documents: tuple[int, ...] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    s_aux: Tensor | None = None,
    softcap: float | None = None,
    sequence: SequenceGroup | None = None,
    **_extras: Any,
) -> tuple[Tensor, None]:
    """Causal attention of (1, H, T, D) queries to (1, G, T, D) keys, document by document; gives (1, T, H, D).

    documents: their lengths, which sum up to T; one unless given. s_aux: (H,) sinks. sequence: the processes that each
    have a T-th part of the documents. Raises InputError for what the fused kernels cannot do.
    """
    if sequence is not None:
        heads = query.shape[1]
        query, key, value = (sequence.heads(tensor, of=heads) for tensor in (query, key, value))
        s_aux = None if s_aux is None else sequence.own(s_aux)
    if softcap is not None:
        raise InputError(f"this model's attention has a soft cap, which no fused kernel of torch's has; {_OTHER}")
    if attention_mask is not None:
        raise InputError(f"this model's layers make a mask of their own; {_OTHER}")
    outputs = []
    spans = _spans(module, documents or (query.shape[2],))
    parts = zip(*(tensor.split(spans, dim=2) for tensor in (query, key, value)), strict=True)
    for query_1HLD, key_1GLD, value_1GLE in parts:
        options = {"dropout": dropout, "scale": scaling if scaling is not None else query.shape[-1] ** -0.5}
        if sliding_window is not None and query_1HLD.shape[2] > sliding_window:
            outputs.append(_windowed(query_1HLD, key_1GLD, value_1GLE, s_aux, window=sliding_window, **options))
        else:
            outputs.append(_causal(query_1HLD, key_1GLD, value_1GLE, s_aux, **options))
    output = torch.cat(outputs, dim=2).transpose(1, 2)
    return output if sequence is None else sequence.tokens(output), None


def _spans(module: torch.nn.Module, documents: tuple[int, ...]) -> list[int]:
    """The lengths within which tokens see each other: the documents', or those of their chunks (Llama 4)."""
    config, layer = getattr(module, "config", None), getattr(module, "layer_idx", None)
    kinds = getattr(config, "layer_types", None)
    if not kinds or layer is None or layer >= len(kinds) or kinds[layer] != "chunked_attention":
        return list(documents)
    chunk: int = config.attention_chunk_size  # type: ignore[union-attr]
    return [min(chunk, length - begin) for length in documents for begin in range(0, length, chunk)]


def _causal(
    query_1HLD: Tensor, key_1GLD: Tensor, value_1GLE: Tensor, sink_H: Tensor | None, *, dropout: float, scale: float
) -> Tensor:
    has_groups = query_1HLD.shape[1] != key_1GLD.shape[1]
    if sink_H is None:
        return scaled_dot_product_attention(
            query_1HLD, key_1GLD, value_1GLE, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=has_groups
        )
    # A sink before all tokens, seen by every one of them. It has a dimension of its own, in which each query is 1 and
    # the sink's key is its logit; its value is 0. The query that stands beside it is thrown away.
    heads = query_1HLD.shape[1]
    query, key, value = _with_sink(
        query_1HLD, _each(key_1GLD, heads), _each(value_1GLE, heads), sink_H, scale=scale, has_query=True
    )
    return scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True, scale=scale)[:, :, 1:]


def _windowed(
    query_1HLD: Tensor,
    key_1GLD: Tensor,
    value_1GLE: Tensor,
    sink_H: Tensor | None,
    *,
    window: int,
    dropout: float,
    scale: float,
) -> Tensor:
    """Each token sees itself and the window - 1 before it. In blocks of `window` queries, which are the batch."""
    heads, length = query_1HLD.shape[1], query_1HLD.shape[2]
    behind = -length % window
    blocks = (length + behind) // window

    def own(tensor_1HLD: Tensor) -> Tensor:
        whole = pad(_each(tensor_1HLD, heads), (0, 0, 0, behind))
        return whole[0].unflatten(1, (blocks, window)).transpose(0, 1)

    def with_before(tensor_1GLD: Tensor) -> Tensor:
        here = own(tensor_1GLD)
        return torch.cat([torch.cat([torch.zeros_like(here[:1]), here[:-1]]), here], dim=2)

    query, key, value = own(query_1HLD), with_before(key_1GLD), with_before(value_1GLE)
    place = torch.arange(window, device=query.device)
    back = window + place[:, None] - torch.arange(2 * window, device=query.device)[None, :]
    seen = ((back >= 0) & (back < window)).expand(blocks, 1, -1, -1).clone()
    seen[0, :, :, :window] = False  # there is no block before the first
    if sink_H is not None:
        query, key, value = _with_sink(query, key, value, sink_H, scale=scale, has_query=False)
        seen = pad(seen, (1, 0), value=True)
    out = scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=dropout, scale=scale)
    return out.transpose(0, 1).flatten(1, 2)[None, :, :length]


def _each(tensor_1GLD: Tensor, heads: int) -> Tensor:
    """Keys or values once for each head that shares them."""
    return tensor_1GLD.repeat_interleave(heads // tensor_1GLD.shape[1], dim=1)


def _with_sink(
    query_BHLD: Tensor, key_BHLD: Tensor, value_BHLE: Tensor, sink_H: Tensor, *, scale: float, has_query: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """A further dimension (eight, as kernels want them aligned), and a first key that has the sink's logit there."""
    batch, heads, _, width = query_BHLD.shape
    query = pad(pad(query_BHLD, (0, 1), value=1.0), (0, 7))
    logit = (sink_H / scale).to(key_BHLD.dtype).view(1, heads, 1, 1).expand(batch, -1, -1, -1)
    sink = pad(logit, (width, 7))
    key = torch.cat([sink, pad(key_BHLD, (0, 8))], dim=2)
    value = pad(value_BHLE, (0, 0, 1, 0))
    return pad(query, (0, 0, 1, 0)) if has_query else query, key, value


AttentionInterface.register(DOCUMENTS, document_attention)
# The function needs no mask: the documents' lengths say all.
AttentionMaskInterface.register(DOCUMENTS, lambda *args, **kwargs: None)


def choose_attention(wanted: str, model: Any, *, on_gpu: bool, in_half_precision: bool) -> str:
    """The implementation's name for transformers.

    "auto" takes the newest flash-attention that is installed and that the architecture takes, on a GPU and in half
    precision; else ours; else, where layers need a mask of their own, torch's with that mask.
    """
    if wanted == "documents":
        return DOCUMENTS
    if wanted != "auto":
        return wanted
    compatible = getattr(model, "_compatible_flash_implementations", None)
    if on_gpu and in_half_precision and getattr(model, "_supports_flash_attn", False):
        for name, is_there in _FLASH.items():
            if is_there() and (compatible is None or name in compatible):
                return name
    config = model.config.get_text_config()
    others = set(getattr(config, "layer_types", None) or ()) - _PAIRWISE - _WITHOUT_MASK
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "eager"
    if others:
        return "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"
    return DOCUMENTS


def attention_arguments(
    name: str, documents: tuple[int, ...], device: torch.device, sequence: SequenceGroup | None = None
) -> dict[str, Any]:
    """What the implementation needs to keep the documents apart, as arguments of the model's forward.

    One document needs nothing: what is causal keeps it as it is. Linear attention reads the borders too, where
    flash-linear-attention is installed. sequence: the processes that share the documents; our attention alone can.
    """
    if sequence is not None:
        return {"documents": documents, "sequence": sequence}
    if len(documents) == 1:
        return {}
    ends = torch.tensor([0, *documents], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)
    longest = max(documents)
    borders = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    return {"documents": documents, **borders} if name == DOCUMENTS else borders


def refuse_other_layers(config: PreTrainedConfig) -> None:
    """Raises InputError for architectures whose layers carry a state (Mamba, linear attention): for srft's own server,
    which keeps many conversations in one sequence."""
    others = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"})
    if others:
        raise InputError(
            f"model type {config.model_type}: its layers {', '.join(others)} carry a state, which srft's own server "
            "cannot keep apart; serve it with vLLM"
        )
