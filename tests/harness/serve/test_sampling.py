"""Sampling: greedy, cuts, seeds, and that the numbers follow the probabilities."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srft.harness.serve.sampling import Sampler, Sampling, choose

LOGITS = torch.tensor([0.1, 0.5, 0.25, 0.15]).log()


def draw(count: int, **settings) -> Counter[int]:
    sampler = Sampler(Sampling(seed=5, **settings))
    return Counter(choose([sampler], LOGITS[None])[0].token for _ in range(count))


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
    drawn = [[choose([sampler], LOGITS[None])[0] for _ in range(50)] for sampler in (one, same, other)]
    assert drawn[0] == drawn[1] != drawn[2]


SETTINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
    top_k=st.sampled_from([-1, 0, 1, 3, 100]),
    seed=st.integers(0, 99),
)


@given(st.lists(SETTINGS, min_size=1, max_size=6), st.integers(0, 99))
def test_nobody_else_in_the_batch_matters(settings, seed):
    logits = torch.randn(len(settings), 50, generator=torch.Generator().manual_seed(seed))
    together = choose([Sampler(sampling) for sampling in settings], logits)
    alone = [choose([Sampler(sampling)], row[None])[0] for sampling, row in zip(settings, logits, strict=True)]
    assert together == alone
    rows = logits.log_softmax(-1)
    assert [choice.logprob for choice in together] == pytest.approx(
        [float(row[choice.token]) for row, choice in zip(rows, together, strict=True)], abs=1e-6
    )


@given(st.integers(0, 999), st.sampled_from([0.3, 0.7, 0.95]), st.sampled_from([0, 2, 5]))
def test_cuts_keep_the_likeliest_of_each_row(seed, top_p, top_k):
    logits = torch.randn(1, 20, generator=torch.Generator().manual_seed(seed))
    kept, ids = logits[0].double().softmax(0).sort(descending=True)
    kept = kept[: top_k or None] / kept[: top_k or None].sum()
    count = 1 + int((kept.cumsum(0) < top_p - 1e-9).sum())
    sampler = Sampler(Sampling(seed=seed, top_p=top_p, top_k=top_k))
    assert {choose([sampler], logits)[0].token for _ in range(30)} <= set(ids[:count].tolist())
