"""The model's forward over a step: some tokens of each of several conversations, and the logits that are wanted.

    forward = Forward(folder, dtype="auto")
    logits = forward.run([Piece(cache, tokens=[5, 7, 9], keep=1)])[0]      # (1, V) float32: after the last token

The tokens of one step, of whatever conversations, are one sequence for the model, so that its matrices are read once.
Only attention looks at whose they are: it is a function of ours, registered with transformers, that makes one call of a
fused kernel a conversation, over its own keys.

So what a conversation gets does not depend on who else is in the step: matrix products give each row the same bits
whatever the number of rows. On CPUs they do so in bfloat16 for all but toy models, and in float32 from four rows on, so
fewer are padded. What is left is the last bit of an exponential where torch cuts an array among threads. A GPU's
library chooses its kernel by the number of rows: there more bits can differ.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from srft.env.errors import InputError
from srft.harness.serve.cache import Cache, CacheShape
from srft.harness.serve.memory import GIB, give_back, out_of_memory
from srft.harness.serve.server import Dtype
from srft.harness.serve.weights import load_weights
from srft.train.fit.attention import refuse_other_layers

CONVERSATIONS = "srft_conversations"
LEAST_ROWS = 4
"""From so many rows on, float32 products on CPUs give each row the same."""


class Piece(NamedTuple):
    """The next tokens of a conversation. keep: after how many of them, the last ones, the logits are wanted."""

    cache: Cache
    tokens: Sequence[int]
    keep: int


class Forward:
    """A model and where it runs. shape: what its caches are made of."""

    def __init__(self, weights: str | Path, *, dtype: Dtype = "auto") -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = choose_dtype(dtype, self.device)
        self.load(weights)

    def load(self, weights: str | Path) -> None:
        """Serve other weights. What is served now stays where they cannot be loaded. Raises InputError, OutOfMemory."""
        do = "free memory on this machine, take dtype bfloat16, or serve it with vLLM on several GPUs"
        with out_of_memory(f"loading {weights}", do=do):
            model = load_weights(weights, dtype=self.dtype, device=self.device)
        refuse_other_layers(model.config)
        model.set_attn_implementation(CONVERSATIONS)
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        self.shape = CacheShape(
            layers=config.num_hidden_layers,
            groups=getattr(config, "num_key_value_heads", None) or heads,
            width=getattr(config, "head_dim", None) or config.hidden_size // heads,
            dtype=self.dtype,
            device=self.device,
        )
        self.vocabulary = model.get_input_embeddings().weight.size(0)  # type: ignore[operator]
        self.max_positions = int(config.max_position_embeddings)
        self.generation = model.generation_config
        self.model: Any = model
        give_back()
        self.run([Piece(Cache(self.shape, reserved=2), [0, 0], 1)])  # raises here what the model cannot do

    def close(self) -> None:
        """Drop the model; its memory is free afterwards."""
        self.model = None
        give_back()

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end a turn, as the model's own configuration has them."""
        known = self.generation.eos_token_id if self.generation is not None else None
        return frozenset() if known is None else frozenset([known] if isinstance(known, int) else known)

    def cache_budget(self, gib: float | None) -> int:
        """How many tokens the caches may hold. `None`: a quarter of the free memory, of a GPU's 70 %; at most 8 GiB."""
        if gib is not None:
            size = int(gib * GIB)
        elif self.device.type == "cuda":
            size = int(torch.cuda.mem_get_info(self.device)[0] * 0.7)
        else:
            size = min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 4, 8 * GIB)
        return size // self.shape.bytes_per_token

    @torch.inference_mode()
    def run(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """The wanted logits of each piece, (keep, V) float32. Afterwards the pieces' tokens are in their caches."""
        spans = [Span(piece.cache, count=len(piece.tokens)) for piece in pieces]
        ends = torch.tensor([len(piece.tokens) for piece in pieces]).cumsum(0).tolist()
        kept = [row for piece, end in zip(pieces, ends, strict=True) for row in range(end - piece.keep, end)]
        for span in spans:
            span.cache.make_room(span.end)
        logits = self.model(
            input_ids=self._row([token for piece in pieces for token in piece.tokens]),
            position_ids=self._row([place for span in spans for place in range(span.start, span.end)]),
            use_cache=False,
            logits_to_keep=self._row(kept)[0],
            spans=spans,
        ).logits[0]
        for piece in pieces:
            piece.cache.tokens.extend(piece.tokens)
        return [part.float() for part in logits[: len(kept)].split([piece.keep for piece in pieces])]

    def _row(self, numbers: list[int]) -> Tensor:
        least = LEAST_ROWS if self.dtype == torch.float32 and self.device.type == "cpu" else 1
        return torch.tensor([numbers + [0] * (least - len(numbers))], device=self.device)


def choose_dtype(wanted: Dtype, device: torch.device) -> torch.dtype:
    """ "auto" is bfloat16 where the processor or GPU computes in it, else float32."""
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


class Span:
    """The next `count` tokens of one conversation; everything before them is in its cache."""

    def __init__(self, cache: Cache, *, count: int) -> None:
        self.cache, self.count, self.start = cache, count, len(cache.tokens)
        self.end = self.start + count
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}

    def first_key(self, window: int | None) -> int:
        """The first position that any of the tokens sees."""
        return 0 if window is None else max(0, self.start - window + 1)

    def mask(self, heads: int, window: int | None, device: torch.device) -> Tensor | None:
        """(heads * count, keys) true where a row sees a key; `None` where it sees all. The same for every layer."""
        if (heads, window) not in self._masks:
            self._masks[heads, window] = None if self.count == 1 else self._mask(window, device).repeat(heads, 1)
        return self._masks[heads, window]

    def _mask(self, window: int | None, device: torch.device) -> Tensor:
        token = torch.arange(self.start, self.end, device=device)[:, None]
        key = torch.arange(self.first_key(window), self.end, device=device)[None, :]
        return (key <= token) & (key > token - window) if window is not None else key <= token


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

    The spans' counts sum up to T or less: rows after the last span are padding. Query heads that share a key head are
    rows of one query: on CPUs, torch's fused kernel is several times slower when it is left to find that out itself
    (`enable_gqa`). Raises InputError for what the fused kernels cannot do.
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
