"""How the next token is chosen, for each request by itself.

    sampler = Sampler(Sampling(temperature=0.8, top_p=0.95, seed=7))
    sampler.choose(logits_V)                # a token id; the next call draws the next number

A request draws one number a token from its own generator and looks it up in the cumulative probabilities of its own
row, so what it gets does not depend on who else is in the batch. Logprobs are the model's own, before temperature and
cuts.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
from torch import Tensor


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request's settings. temperature 0 takes the likeliest token; top_k 0 is no cut.

    max_tokens: `None` is as many as fit the context. stop: texts before which the reply ends. stop_token_ids: besides
    those that end a turn. ignore_eos: do not end at those. seed: `None` draws one.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=-1)] = 0
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    stop: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    seed: int | None = None


class Sampler:
    """The state of one request's sampling: its generator."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()  # on the CPU: the same numbers on every device
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed % 2**63)

    def choose(self, logits_V: Tensor) -> int:
        """The next token from float32 logits (V,)."""
        sampling = self._sampling
        if sampling.temperature == 0:
            return int(logits_V.argmax())
        drawn = torch.rand((), generator=self._generator, dtype=torch.float64).item()
        probability_V = torch.softmax(logits_V.double() / sampling.temperature, dim=0)
        if sampling.top_k > 0 or sampling.top_p < 1:
            return self._among_the_likeliest(probability_V, drawn)
        return _place(probability_V.cumsum(0), drawn)

    def _among_the_likeliest(self, probability_V: Tensor, drawn: float) -> int:
        kept, ids = probability_V.sort(descending=True, stable=True)
        if self._sampling.top_k > 0:
            kept = kept[: self._sampling.top_k]
        total = kept.cumsum(0)
        # The smallest set whose probability reaches top_p: the token that reaches it is in it.
        count = 1 + int((total < self._sampling.top_p * total[-1]).sum())
        return int(ids[_place(total[:count], drawn)])


def _place(cumulative: Tensor, drawn: float) -> int:
    """Where a number from [0, 1) falls.

    >>> _place(torch.tensor([0.2, 0.6, 0.8]), 0.5)
    1
    """
    place = torch.searchsorted(cumulative, drawn * cumulative[-1], right=True)
    return min(int(place), len(cumulative) - 1)
