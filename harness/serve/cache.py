"""Keys and values of conversations, kept so that what was computed once is not computed again.

An agent's conversation grows: its next prompt begins with its last prompt and reply. So when a reply is finished its
cache stays, and the next request takes the cache that shares the longest beginning with it:

    cache = caches.take(prompt, reserve=len(prompt) + 512)      # None: no room now
    cache.tokens                                                # what needs no computing: a beginning of the prompt
    caches.give_back(cache)

A cache that the prompt continues is taken over; of any other the shared beginning is copied, so that attempts at the
same task do not take each other's. Memory is bounded in tokens: what runs holds what it may grow to, and of what
waits the least recently used is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

STEP = 256
"""Caches grow to multiples of so many tokens, by half of what they are or more."""
LOSS = 16
"""A cache is taken over, not copied, when it loses at most so many tokens by it."""


class CacheShape(NamedTuple):
    """What a model keeps of each token."""

    layers: int
    groups: int
    width: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        return self.layers * 2 * self.groups * self.width * self.dtype.itemsize


class Cache:
    """One conversation's keys and values. tokens: those whose are in it. reserved: how far it may grow."""

    def __init__(self, shape: CacheShape, *, reserved: int) -> None:
        self.tokens: list[int] = []
        self.reserved = reserved
        self._shape = shape
        self._kept = self._room(0)

    def _room(self, tokens: int) -> Tensor:
        shape = self._shape
        return torch.zeros(shape.layers, 2, shape.groups, tokens, shape.width, dtype=shape.dtype, device=shape.device)

    @property
    def capacity(self) -> int:
        return self._kept.shape[3]

    def layer(self, index: int) -> Tensor:
        """(2, G, capacity, D)."""
        return self._kept[index]

    def make_room(self, tokens: int) -> None:
        """Grow so that so many tokens fit."""
        if tokens <= self.capacity:
            return
        wanted = -(-max(tokens, self.capacity * 3 // 2) // STEP) * STEP
        grown = self._room(max(tokens, min(wanted, self.reserved)))
        grown[:, :, :, : self.capacity] = self._kept
        self._kept = grown

    def copy_beginning(self, other: Cache, tokens: int) -> None:
        self.make_room(tokens)
        self._kept[:, :, :, :tokens] = other._kept[:, :, :, :tokens]
        self.tokens = other.tokens[:tokens]


class Caches:
    """All caches of an engine, used by its one thread. budget: how many tokens they may hold together."""

    def __init__(self, shape: CacheShape, *, budget: int) -> None:
        self.budget = budget
        self._shape = shape
        self._running: list[Cache] = []
        self._waiting: list[Cache] = []  # the least recently used first
        self.evicted = 0

    @property
    def held(self) -> int:
        """Tokens that are held or promised."""
        return sum(cache.reserved for cache in self._running) + sum(cache.capacity for cache in self._waiting)

    def take(self, prompt: Sequence[int], *, reserve: int, reuse: bool = True) -> Cache | None:
        """A cache that holds a beginning of the prompt, at least the last token missing; `None`: no room now.

        reserve: how many tokens the conversation may come to. Raises AssertionError where it would never fit, and
        torch's error where there is no memory for the copy; what runs and what waits is as before then.
        """
        assert reserve <= self.budget, "the engine refuses what does not fit before it comes here"
        if sum(cache.reserved for cache in self._running) + reserve > self.budget:
            return None
        donor, shared = self._longest(prompt) if reuse else (None, 0)
        if donor is not None and donor in self._waiting and len(donor.tokens) - shared <= LOSS:
            self._waiting.remove(donor)
            cache = donor
            del cache.tokens[shared:]
            cache.reserved = max(reserve, cache.capacity)
        else:
            cache = Cache(self._shape, reserved=reserve)
            self._evict(room_for=reserve)
            if donor is not None:
                cache.copy_beginning(donor, shared)
        self._running.append(cache)
        self._evict()
        return cache

    def give_back(self, cache: Cache) -> None:
        """The conversation's reply is finished; what it holds may be of use."""
        self._running.remove(cache)
        cache.reserved = cache.capacity
        if cache.tokens:
            self._waiting.append(cache)
        self._evict()

    def clear(self) -> None:
        """Forget everything: other weights give other keys and values."""
        assert not self._running, "weights are changed between requests"
        self._waiting.clear()

    def _evict(self, *, room_for: int = 0) -> None:
        while self._waiting and self.held + room_for > self.budget:
            self._waiting.pop(0)
            self.evicted += 1

    def _longest(self, prompt: Sequence[int]) -> tuple[Cache | None, int]:
        """The cache that shares the longest beginning with the prompt, its last token apart; on a tie a waiting one."""
        best, longest = None, 0
        for cache in (*reversed(self._waiting), *self._running):
            shared = shared_beginning(cache.tokens, prompt[:-1], at_least=longest)
            if shared > longest:
                best, longest = cache, shared
        return best, longest


def shared_beginning(one: Sequence[int], other: Sequence[int], *, at_least: int = 0) -> int:
    """How many leading tokens two sequences share; 0 where they are not more than `at_least`.

    >>> shared_beginning([1, 2, 3], [1, 2, 4]), shared_beginning([1, 2, 3], [1, 2, 4], at_least=2)
    (2, 0)
    """
    if min(len(one), len(other)) <= at_least or one[at_least] != other[at_least]:
        return 0
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
