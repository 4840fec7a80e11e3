"""Kappas against hand-made values and against their definitions, read slowly."""

import math
from fractions import Fraction

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.critic.agreement import cohen_kappa, divided, fleiss_counts, fleiss_kappa


def slow_cohen(first, second):
    items = len(first)
    observed = Fraction(sum(a == b for a, b in zip(first, second, strict=True)), items)
    expected = sum(Fraction(first.count(kind), items) * Fraction(second.count(kind), items) for kind in (True, False))
    return None if expected == 1 else (observed - expected) / (1 - expected)


def slow_fleiss(items):
    """items: the ratings of each, at least two."""
    pairs = [[a == b for i, a in enumerate(one) for j, b in enumerate(one) if i != j] for one in items]
    observed = sum(Fraction(sum(agree), len(agree)) for agree in pairs) / len(items)
    ratings = [rating for one in items for rating in one]
    expected = sum(Fraction(ratings.count(kind), len(ratings)) ** 2 for kind in (True, False))
    return None if expected == 1 else (observed - expected) / (1 - expected)


def test_hand_made_kappas():
    assert cohen_kappa(both=20, first=25, second=30, items=50).item() == pytest.approx(0.4)
    assert cohen_kappa(both=2, first=2, second=2, items=4) == 1
    assert cohen_kappa(both=0, first=2, second=2, items=4) == -1
    assert cohen_kappa(both=1, first=2, second=2, items=4) == 0
    assert math.isnan(cohen_kappa(both=4, first=4, second=4, items=4))
    assert math.isnan(cohen_kappa(both=0, first=0, second=0, items=0))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_cohen_is_its_definition(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    both = sum(a and b for a, b in pairs)
    kappa = cohen_kappa(both=both, first=sum(first), second=sum(second), items=len(pairs)).item()
    expected = slow_cohen(first, second)
    assert math.isnan(kappa) if expected is None else kappa == pytest.approx(float(expected), abs=1e-12)


@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=5), min_size=1, max_size=12))
def test_fleiss_is_its_definition(items):
    kappa = fleiss_kappa(fleiss_counts([sum(one) for one in items], [len(one) for one in items])).item()
    expected = slow_fleiss(items)
    assert math.isnan(kappa) if expected is None else kappa == pytest.approx(float(expected), abs=1e-9)


def test_items_with_one_rater_say_nothing():
    assert fleiss_counts([1, 2, 0], [1, 3, 0]).tolist() == [1, pytest.approx(1 / 3), 2, 3]


def test_division_by_nothing_is_not_known():
    assert numpy.array_equal(divided([1.0, 0.0], [2.0, 0.0]), [0.5, numpy.nan], equal_nan=True)
