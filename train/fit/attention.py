"""Attention that stays within documents, on any machine: one scaled-dot-product call a document.

Registered with transformers as "srft_documents". Nothing is computed across documents and no mask is built, so packing
costs the sum of the documents' squares, not the square of the sum; on CPU and GPU torch picks its own fused kernel.
Where flash-attention is installed, transformers' own implementation does the same in one call (`choose_attention`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedConfig
from transformers.masking_utils import AttentionMaskInterface

from srft.env.errors import InputError

DOCUMENTS = "srft_documents"
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}


def document_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    documents: tuple[int, ...],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **extras: Any,
) -> tuple[Tensor, None]:
    """Causal attention of (1, H, T, D) queries to (1, G, T, D) keys, document by document; gives (1, T, H, D).

    documents: their lengths, which sum up to T. Raises InputError for what the fused kernels cannot do.
    """
    if extras.get("softcap") is not None or extras.get("s_aux") is not None:
        raise InputError("this model's attention has a soft cap or sinks; train it with attention: flash_attention_2")
    outputs = []
    for query_D, key_D, value_D in zip(
        *(tensor.split(documents, dim=2) for tensor in (query, key, value)), strict=True
    ):
        length = query_D.shape[2]
        windowed = sliding_window is not None and length > sliding_window
        outputs.append(
            scaled_dot_product_attention(
                query_D,
                key_D,
                value_D,
                attn_mask=_window(length, sliding_window, query.device) if windowed and sliding_window else None,
                dropout_p=dropout,
                is_causal=not windowed,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _window(length: int, window: int, device: torch.device) -> Tensor:
    """(L, L) true where a token sees another: itself and the window - 1 before it."""
    place = torch.arange(length, device=device)
    behind = place[:, None] - place[None, :]
    return (behind >= 0) & (behind < window)


AttentionInterface.register(DOCUMENTS, document_attention)
# The function needs no mask: the documents' lengths say all.
AttentionMaskInterface.register(DOCUMENTS, lambda *args, **kwargs: None)


def choose_attention(wanted: str, *, on_gpu: bool) -> str:
    """The implementation's name for transformers: "auto" takes flash-attention where it is there, else ours."""
    if wanted == "auto":
        return "flash_attention_2" if on_gpu and find_spec("flash_attn") else DOCUMENTS
    return DOCUMENTS if wanted == "documents" else wanted


def attention_arguments(name: str, documents: tuple[int, ...], device: torch.device) -> dict[str, Any]:
    """What the implementation needs to keep the documents apart, as arguments of the model's forward."""
    if name == DOCUMENTS:
        return {"documents": documents}
    ends = torch.tensor([0, *documents], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)
    longest = max(documents)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


def refuse_other_layers(config: PreTrainedConfig) -> None:
    """Raises InputError for architectures whose layers carry a state across documents (Mamba, linear attention)."""
    others = sorted(set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS)
    if others:
        raise InputError(
            f"model type {config.model_type}: its layers {', '.join(others)} would carry one document into the next; "
            "srft trains attention models (full and sliding)"
        )
