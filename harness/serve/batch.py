"""Requests, and which of their tokens the next step computes.

A request is a growing sequence of tokens and a cache of those that were computed. There is no difference between
reading a prompt and writing a reply: in each step a request computes what it misses, in chunks of at most CHUNK, and
when it misses nothing it samples the next token. So a new request joins while others write, and a reply costs one row
a step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from srft.harness.serve.cache import Cache
from srft.harness.serve.forward import Piece
from srft.harness.serve.sampling import Choice, Sampler, Sampling

CHUNK = 256
"""Tokens of one prompt in one step. It depends on nothing else, so that results do not either."""

FinishReason = Literal["stop", "length"]


class Generated(NamedTuple):
    """A finished reply of T tokens, the one that ended it included.

    text: without that token, and without the stop text and what follows. logprobs: of the tokens, by the model itself.
    cached: how many tokens of the prompt were not computed again. prompt_logprobs: of the prompt's tokens but the
    first, where they were asked for.
    """

    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    cached: int
    prompt_logprobs: tuple[float, ...] | None


class Request:
    """One request on its way through the engine. Its one field that other threads set is `cancelled`.

    limit: at most so many new tokens. end_ids: tokens that end the reply. decode: ids to text. on_token: called in the
    engine's thread after each token, with the reply's ids so far; it must be quick.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        limit: int,
        end_ids: frozenset[int],
        decode: Callable[[Sequence[int]], str],
        wants_prompt_logprobs: bool = False,
        on_token: Callable[[Sequence[int]], None] | None = None,
    ) -> None:
        self.prompt = tuple(prompt)
        self.limit = limit
        self.future: Future[Generated] = Future()
        self.cancelled = threading.Event()
        self.cache: Cache | None = None
        self.wants_prompt_logprobs = wants_prompt_logprobs
        self._sequence = list(prompt)
        self._logprobs: list[float] = []
        self._prompt_logprobs: list[float] = []
        self._cached = 0
        self._stop = sampling.stop
        self.sampler = Sampler(sampling)
        self._end_ids = end_ids | frozenset(sampling.stop_token_ids) if not sampling.ignore_eos else frozenset()
        self._decode = decode
        self._on_token = on_token

    @property
    def token_ids(self) -> list[int]:
        return self._sequence[len(self.prompt) :]

    @property
    def reserve(self) -> int:
        """How many tokens its cache may come to."""
        return len(self.prompt) + self.limit

    def begin(self, cache: Cache) -> None:
        self.cache = cache
        self._cached = len(cache.tokens)

    def piece(self) -> Piece:
        """What it computes next."""
        assert self.cache is not None
        done = len(self.cache.tokens)
        tokens = self._sequence[done : done + CHUNK]
        samples = done + len(tokens) == len(self._sequence) and self.limit > 0
        keep = len(tokens) if self.wants_prompt_logprobs and done < len(self.prompt) else int(samples)
        return Piece(self.cache, tokens, keep)

    def read(self, logits: Tensor) -> bool:
        """Note the logits of its piece, whose tokens are in the cache now. Whether it has read all there is."""
        assert self.cache is not None
        done = len(self.cache.tokens)
        if self.wants_prompt_logprobs and not self._logprobs:
            self._note_prompt(logits, first=done - len(logits))
        return done == len(self._sequence)

    def write(self, choice: Choice) -> FinishReason | None:
        """Go on with the next token. Gives why it is finished, if it is."""
        self._logprobs.append(choice.logprob)
        self._sequence.append(choice.token)
        if self._on_token is not None:
            self._on_token(self.token_ids)
        if choice.token in self._end_ids or self._stop_place(self._text()) is not None:
            return "stop"
        return "length" if len(self._logprobs) == self.limit else None

    def _note_prompt(self, logits: Tensor, *, first: int) -> None:
        """Keep the logprobs of the tokens after `first`; the logits after the prompt's last one are the reply's."""
        following = self.prompt[first + 1 : first + 1 + len(logits)]
        rows = logits[: len(following)].log_softmax(-1)
        self._prompt_logprobs += rows.gather(1, torch.tensor([following], device=rows.device).T)[:, 0].tolist()

    def _text(self) -> str:
        """The reply so far, where a stop text has to be looked for."""
        return self._decode(self.token_ids) if self._stop else ""

    def _stop_place(self, text: str) -> int | None:
        return min((place for stop in self._stop if (place := text.find(stop)) >= 0), default=None)

    def generated(self, reason: FinishReason) -> Generated:
        ids = self.token_ids
        text = self._decode(ids[:-1] if ids and ids[-1] in self._end_ids else ids)
        return Generated(
            prompt_token_ids=self.prompt,
            token_ids=tuple(ids),
            logprobs=tuple(self._logprobs),
            text=text[: self._stop_place(text)],
            finish_reason=reason,
            cached=self._cached,
            prompt_logprobs=tuple(self._prompt_logprobs) if self.wants_prompt_logprobs else None,
        )


def next_step(running: Sequence[Request]) -> list[tuple[Request, Piece]]:
    """Who computes what: all who write, and of those who read, in the order in which they came, CHUNK together."""
    room, step = CHUNK, []
    for request in running:
        piece = request.piece()
        if len(piece.tokens) > 1:
            if room <= 0:
                continue
            room -= len(piece.tokens)
        step.append((request, piece))
    return step
