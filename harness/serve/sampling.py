"""Samples the next tokens: of all requests at once, each by its own settings and random numbers.

    sampler = Sampler(Sampling(temperature=0.8, top_p=0.95, seed=7))
    choose([sampler], logits_NV)            # [Choice(token, logprob)]; the next call draws the next number

A request draws one number a token from its own generator and looks it up in the cumulative probabilities of its own
row, so what it gets does not depend on who else is in the batch. Logprobs are the model's own, before penalty,
temperature and cuts, as vLLM's are. All is computed where the logits are and fetched at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
import torch
from torch import Tensor

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request's settings. temperature 0 takes the likeliest token; top_k 0 is no cut.

    min_p: leave out tokens less likely than this share of the likeliest. repetition_penalty: divides the positive
    logits of tokens that stand in the prompt or the reply, and multiplies the negative ones; 1 is none. max_tokens:
    `None` is as many as fit the context. stop: texts before which the reply ends. stop_token_ids: besides those that
    end a turn. ignore_eos: do not end at those. seed: `None` draws one.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=-1)] = 0
    min_p: Share = 0.0
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    stop: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    seed: int | None = None

    @property
    def cuts(self) -> bool:
        """Whether some tokens are left out."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


class Choice(NamedTuple):
    """A request's next token, and its logprob by the model."""

    token: int
    logprob: float


class Sampler:
    """The state of one request's sampling: its generator, and the tokens of prompt and reply for the penalty."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = ()) -> None:
        self.sampling = sampling
        self.seen = dict.fromkeys(prompt) if sampling.repetition_penalty != 1 else {}
        self._generator = torch.Generator()  # on the CPU: the same numbers on every device
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed % 2**63)

    def draw(self) -> float:
        """The next number from [0, 1); temperature 0 needs none."""
        if self.sampling.temperature == 0:
            return 0.0
        return torch.rand((), generator=self._generator, dtype=torch.float64).item()


def choose(samplers: Sequence[Sampler], logits_NV: Tensor) -> list[Choice]:
    """The next token of each of N requests from its row of float32 logits."""
    weighed_NV = _penalized(samplers, logits_NV)
    tokens_N = weighed_NV.argmax(-1)
    drawing = [row for row, sampler in enumerate(samplers) if sampler.sampling.temperature > 0]
    cut = [row for row in drawing if samplers[row].sampling.cuts]
    for rows in (cut, [row for row in drawing if row not in cut]):
        if rows:
            places = torch.tensor(rows, device=logits_NV.device)
            tokens_N[places] = _draw([samplers[row] for row in rows], weighed_NV[places])
    logprobs_N = logits_NV.gather(1, tokens_N[:, None])[:, 0] - logits_NV.logsumexp(-1)
    both = torch.stack((tokens_N.double(), logprobs_N.double())).tolist()
    choices = [Choice(int(token), logprob) for token, logprob in zip(*both, strict=True)]
    for sampler, choice in zip(samplers, choices, strict=True):
        if sampler.sampling.repetition_penalty != 1:
            sampler.seen[choice.token] = None
    return choices


def _penalized(samplers: Sequence[Sampler], logits_NV: Tensor) -> Tensor:
    """The logits after each request's repetition penalty."""
    if not any(sampler.seen for sampler in samplers):
        return logits_NV
    weighed_NV = logits_NV.clone()
    for row, sampler in enumerate(samplers):
        if sampler.seen:
            seen = torch.tensor(list(sampler.seen), device=logits_NV.device)
            logits, penalty = logits_NV[row, seen], sampler.sampling.repetition_penalty
            weighed_NV[row, seen] = torch.where(logits > 0, logits / penalty, logits * penalty)
    return weighed_NV


def _draw(samplers: Sequence[Sampler], logits_NV: Tensor) -> Tensor:
    """Token ids (N,) of requests that all have cuts, or none of which has."""
    numbers = [(sampler.sampling.temperature, sampler.draw()) for sampler in samplers]
    temperature_N, drawn_N = torch.tensor(numbers, dtype=torch.float64, device=logits_NV.device).T.contiguous()
    probabilities_NV = torch.softmax(logits_NV.double() / temperature_N[:, None], dim=-1)
    if samplers[0].sampling.cuts:
        return _among_the_likeliest([sampler.sampling for sampler in samplers], probabilities_NV, drawn_N)
    return _places(probabilities_NV.cumsum(-1), drawn_N)


def _among_the_likeliest(settings: Sequence[Sampling], probabilities_NV: Tensor, drawn_N: Tensor) -> Tensor:
    """Token ids (N,), with top_k, min_p and top_p."""
    kept, ids = probabilities_NV.sort(dim=-1, descending=True, stable=True)
    for row, sampling in enumerate(settings):
        if sampling.top_k > 0:
            kept[row, sampling.top_k :] = 0
        if sampling.min_p > 0:
            kept[row, kept[row] < sampling.min_p * kept[row, 0]] = 0
    total = kept.cumsum(-1)
    # The smallest set whose probability reaches top_p: the token that reaches it is in it.
    share = torch.tensor([sampling.top_p for sampling in settings], dtype=total.dtype, device=total.device)
    last = (total < share[:, None] * total[:, -1:]).sum(-1).clamp_(max=total.shape[-1] - 1)
    reached = total.gather(1, last[:, None])
    return ids.gather(1, _places(total, drawn_N, end=reached)[:, None])[:, 0]


def _places(cumulative_NV: Tensor, drawn_N: Tensor, *, end: Tensor | None = None) -> Tensor:
    """Where numbers from [0, 1), of what the rows come to (of `end`, (N, 1)), fall in their rows.

    >>> _places(torch.tensor([[0.2, 0.6, 0.8]]), torch.tensor([0.5]))
    tensor([1])
    """
    end = cumulative_NV[:, -1:] if end is None else end
    places = torch.searchsorted(cumulative_NV, drawn_N[:, None] * end, right=True)[:, 0]
    return places.clamp_(max=cumulative_NV.shape[-1] - 1)
