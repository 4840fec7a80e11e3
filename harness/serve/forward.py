"""The model's forward over a step: some tokens of each of several conversations, and the logits that are wanted.

    forward = Forward(folder, dtype="auto")
    logits = forward.run([Piece(cache, tokens=[5, 7, 9], keep=1)])[0]      # (1, V) float32: after the last token

What a conversation gets does not depend on who else is in the step: attention is a call a conversation (see
`attention.py`), and matrix products give each row the same bits whatever the number of rows. On CPUs they do so in
bfloat16 for all but toy models, and in float32 from four rows on, so fewer are padded. What is left is the last bit of
an exponential where torch cuts an array among threads. A GPU's library chooses its kernel by the number of rows: there
more bits can differ.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from srft.harness.serve.attention import CONVERSATIONS, Span
from srft.harness.serve.cache import Cache, CacheShape
from srft.harness.serve.server import Dtype
from srft.harness.serve.weights import load_weights
from srft.train.fit.attention import refuse_other_layers

LEAST_ROWS = 4
"""From so many rows on, float32 products on CPUs give each row the same."""
GIBIBYTE = 1 << 30


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
        """Serve other weights. What is served now stays where they cannot be loaded. Raises InputError."""
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
        self.model = model
        self.run([Piece(Cache(self.shape, reserved=2), [0, 0], 1)])  # raises here what the model cannot do

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end a turn, as the model's own configuration has them."""
        generation = self.model.generation_config
        known = generation.eos_token_id if generation is not None else None
        return frozenset() if known is None else frozenset([known] if isinstance(known, int) else known)

    def cache_budget(self, gib: float | None) -> int:
        """How many tokens the caches may hold. `None`: a quarter of the free memory, of a GPU's 70 %; at most 8 GiB."""
        if gib is None:
            if self.device.type == "cuda":
                size = int(torch.cuda.mem_get_info(self.device)[0] * 0.7)
            else:
                size = min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 4, 8 * GIBIBYTE)
        else:
            size = int(gib * GIBIBYTE)
        return size // self.shape.bytes_per_token

    @torch.inference_mode()
    def run(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """The wanted logits of each piece, (keep, V) float32. Afterwards the pieces' tokens are in their caches."""
        tokens = [token for piece in pieces for token in piece.tokens]
        spans = [Span(piece.cache, start=len(piece.cache.tokens), count=len(piece.tokens)) for piece in pieces]
        places = [place for span in spans for place in range(span.start, span.end)]
        kept = list(_kept_rows(pieces))
        for piece, span in zip(pieces, spans, strict=True):
            piece.cache.make_room(span.end)
        logits = self.model(
            input_ids=self._row(_padded(tokens, self._least)),
            position_ids=self._row(_padded(places, self._least)),
            use_cache=False,
            logits_to_keep=self._row(_padded(kept, self._least))[0],
            spans=spans,
        ).logits[0]
        for piece in pieces:
            piece.cache.tokens.extend(piece.tokens)
        return [part.float() for part in logits[: len(kept)].split([piece.keep for piece in pieces])]

    @property
    def _least(self) -> int:
        return LEAST_ROWS if self.dtype == torch.float32 and self.device.type == "cpu" else 1

    def _row(self, numbers: list[int]) -> Tensor:
        return torch.tensor([numbers], device=self.device)


def _kept_rows(pieces: Sequence[Piece]) -> Iterator[int]:
    end = 0
    for piece in pieces:
        end += len(piece.tokens)
        yield from range(end - piece.keep, end)


def _padded(numbers: list[int], least: int) -> list[int]:
    return numbers + [0] * (least - len(numbers))


def choose_dtype(wanted: Dtype, device: torch.device) -> torch.dtype:
    """ "auto" is bfloat16 where the processor or GPU computes in it, else float32."""
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
