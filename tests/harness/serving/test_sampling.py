"""Sampling: greedy, cuts, seeds, and that the numbers follow the probabilities."""

from collections import Counter

import torch

from srft.harness.serving.sampling import Sampler, Sampling

LOGITS = torch.tensor([0.1, 0.5, 0.25, 0.15]).log()


def draw(count: int, **settings) -> Counter[int]:
    sampler = Sampler(Sampling(seed=5, **settings))
    return Counter(sampler.choose(LOGITS) for _ in range(count))


def test_temperature_0_takes_the_likeliest():
    assert draw(5, temperature=0) == {1: 5}


def test_draws_follow_the_probabilities():
    counts = draw(4000)
    expected = {0: 400, 1: 2000, 2: 1000, 3: 600}
    assert all(abs(counts[token] - count) < 5 * count**0.5 for token, count in expected.items())


def test_temperature_sharpens():
    counts = draw(4000, temperature=0.5)  # probabilities squared: 0.01 : 0.25 : 0.0625 : 0.0225
    assert abs(counts[1] - 4000 * 0.25 / 0.345) < 150


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    assert set(draw(500, top_p=0.5)) == {1}
    assert set(draw(500, top_p=0.51)) == {1, 2}
    assert set(draw(2000, top_p=0.9)) == {1, 2, 3}


def test_top_k_keeps_the_likeliest():
    assert set(draw(500, top_k=2)) == {1, 2}
    assert set(draw(4000, top_k=-1)) == {0, 1, 2, 3}


def test_a_seed_gives_the_same_and_another_gives_others():
    one, same, other = (Sampler(Sampling(seed=seed)) for seed in (1, 1, 2))
    drawn = [[sampler.choose(LOGITS) for _ in range(50)] for sampler in (one, same, other)]
    assert drawn[0] == drawn[1] != drawn[2]
