"""Attention over many conversations at once, each with its own cache of keys and values.

Registered with transformers as "srft_conversations". The tokens of one step, of whatever conversations, are one
sequence of T tokens for the model, so that its matrices are read once; only attention looks at whose they are:

    model(input_ids=ids_1T, position_ids=places_1T, use_cache=False, spans=[Span(cache, start=120, count=1), ...])

Each conversation is one call of a fused kernel over its own keys, so its result is the same to the bit whoever else is
in the step. Query heads that share a key head are rows of one query: on CPUs, torch's fused kernel is several times
slower when it is left to find that out itself (`enable_gqa`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from srft.env.errors import InputError

CONVERSATIONS = "srft_conversations"


class KeysAndValues(Protocol):
    """A conversation's cache. One layer's is (2, G, capacity, D): keys and values, G key heads of D."""

    def layer(self, index: int) -> Tensor: ...


class Span:
    """`count` tokens of one conversation, the first at position `start`; everything before is in its cache."""

    def __init__(self, cache: KeysAndValues, *, start: int, count: int) -> None:
        self.cache, self.start, self.count = cache, start, count
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}

    @property
    def end(self) -> int:
        return self.start + self.count

    def first_key(self, window: int | None) -> int:
        """The first position that any of the tokens sees."""
        return 0 if window is None else max(0, self.start - window + 1)

    def mask(self, heads: int, window: int | None, device: torch.device) -> Tensor | None:
        """(heads * count, keys) true where a row sees a key; `None` where it sees all. The same for every layer."""
        if (heads, window) not in self._masks:
            self._masks[heads, window] = self._mask(heads, window, device)
        return self._masks[heads, window]

    def _mask(self, heads: int, window: int | None, device: torch.device) -> Tensor | None:
        if self.count == 1:
            return None
        token = torch.arange(self.start, self.end, device=device)[:, None]
        key = torch.arange(self.first_key(window), self.end, device=device)[None, :]
        seen = key <= token
        if window is not None:
            seen &= key > token - window
        return seen.repeat(heads, 1)


def conversation_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    spans: Sequence[Span],
    scaling: float | None = None,
    sliding_window: int | None = None,
    **extras: Any,
) -> tuple[Tensor, None]:
    """Causal attention of (1, H, T, D) queries; stores the (1, G, T, D) keys and values; gives (1, T, H, D).

    The spans' counts sum up to T or less: rows after the last span are padding. Raises InputError for what the fused
    kernels cannot do.
    """
    if extras.get("softcap") is not None or extras.get("s_aux") is not None:
        raise InputError("this model's attention has a soft cap or sinks; serve it with --kind vllm")
    _, heads, tokens, _ = query.shape
    groups, width = key.shape[1], value.shape[3]
    shared = heads // groups
    new = torch.cat((key, value))  # (2, G, T, D)
    query_GSTD = query[0].unflatten(0, (groups, shared))
    output_THD = value.new_zeros(tokens, heads, width)
    row = 0
    for span in spans:
        rows = slice(row, row + span.count)
        row += span.count
        layer = span.cache.layer(module.layer_idx)  # type: ignore[arg-type]
        layer[:, :, span.start : span.end] = new[:, :, rows]
        seen = layer[:, :, span.first_key(sliding_window) : span.end]
        attended = scaled_dot_product_attention(
            query_GSTD[:, :, rows].flatten(1, 2)[None],
            seen[0:1],
            seen[1:2],
            attn_mask=span.mask(shared, sliding_window, query.device),
            scale=scaling,
        )
        output_THD[rows] = attended[0].unflatten(1, (shared, span.count)).flatten(0, 1).transpose(0, 1)
    return output_THD[None], None


AttentionInterface.register(CONVERSATIONS, conversation_attention)
# The function makes its own masks, a conversation each.
AttentionMaskInterface.register(CONVERSATIONS, lambda *args, **kwargs: None)
