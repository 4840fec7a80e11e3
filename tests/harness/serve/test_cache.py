"""Caches: what is taken over, what is copied, what is dropped."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from srft.harness.serve.cache import STEP, Cache, Caches, CacheShape, shared_beginning

SHAPE = CacheShape(layers=2, groups=1, width=4, dtype=torch.float32, device=torch.device("cpu"))


def fill(cache: Cache, tokens: list[int]) -> None:
    """As a forward does: each token's keys and values are its id."""
    start = len(cache.tokens)
    cache.make_room(start + len(tokens))
    for layer in range(SHAPE.layers):
        values = torch.tensor(tokens, dtype=torch.float32)[None, None, :, None]
        cache.layer(layer)[:, :, start : start + len(tokens)] = values
    cache.tokens.extend(tokens)


def held(cache: Cache) -> list[list[int]]:
    return [cache.layer(layer)[0, 0, : len(cache.tokens), 0].int().tolist() for layer in range(SHAPE.layers)]


def test_a_conversation_that_goes_on_takes_its_cache_over():
    caches = Caches(SHAPE, budget=1000)
    first = caches.take([1, 2, 3], reserve=50)
    fill(first, [1, 2, 3, 4])
    caches.give_back(first)
    second = caches.take([1, 2, 3, 4, 5], reserve=50)
    assert second is first
    assert (second.tokens, held(second)) == ([1, 2, 3, 4], [[1, 2, 3, 4]] * 2)


def test_the_whole_prompt_is_never_cached_so_that_there_are_logits():
    caches = Caches(SHAPE, budget=1000)
    first = caches.take([1, 2, 3], reserve=50)
    fill(first, [1, 2, 3])
    caches.give_back(first)
    assert caches.take([1, 2, 3], reserve=50).tokens == [1, 2]


def test_a_shared_beginning_is_copied_from_what_runs_and_from_what_would_lose_by_it():
    caches = Caches(SHAPE, budget=1000)
    running = caches.take([1, 2, 3], reserve=100)
    fill(running, [1, 2, 3, *range(10, 40)])
    copied = caches.take([1, 2, 3, 9], reserve=100)
    assert (copied is running, copied.tokens, held(copied)) == (False, [1, 2, 3], [[1, 2, 3]] * 2)
    caches.give_back(running)
    again = caches.take([1, 2, 3, 8], reserve=100)
    assert (again is running, again.tokens) == (False, [1, 2, 3])
    assert len(running.tokens) == 33


def test_no_room_is_none_and_the_least_recently_used_goes_first():
    caches = Caches(SHAPE, budget=2 * STEP)
    old, new = (caches.take([token], reserve=STEP) for token in (1, 2))
    assert caches.take([3], reserve=1) is None
    fill(old, [1] * STEP)
    fill(new, [2] * STEP)
    caches.give_back(old)
    caches.give_back(new)
    taken = caches.take([3, 3], reserve=STEP)
    assert (taken.tokens, caches.evicted, caches.held) == ([], 1, 2 * STEP)
    assert caches.take([2] * STEP, reserve=STEP) is new


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 300)), max_size=12))
def test_memory_stays_within_the_budget_and_what_is_cached_is_a_beginning(requests):
    caches = Caches(SHAPE, budget=700)
    running = []
    for prompt, more in requests:
        cache = caches.take(prompt, reserve=len(prompt) + more)
        if cache is None:
            caches.give_back(running.pop(0))
            continue
        assert cache.tokens == prompt[: len(cache.tokens)]
        assert len(cache.tokens) < len(prompt)
        assert held(cache) == [cache.tokens] * 2
        fill(cache, prompt[len(cache.tokens) :] + [7] * (more // 2))
        running.append(cache)
        assert caches.held <= caches.budget


@given(st.lists(st.integers(0, 1), max_size=9), st.lists(st.integers(0, 1), max_size=9), st.integers(0, 9))
def test_shared_beginning(one, other, at_least):
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    got = shared_beginning(one, other, at_least=at_least)
    assert got == shared if shared > at_least else got <= at_least
