"""Intervals over runs and tasks, by hand."""

import doctest

import numpy
import pytest
from scipy import stats

from srft.critic import intervals
from srft.critic.intervals import jackknife_interval, ratio_interval, share_interval


def test_doctests():
    assert doctest.testmod(intervals, extraglobs={"numpy": numpy}).failed == 0


def clopper_pearson(hits, trials):
    """The textbook's, of any real numbers."""
    return float(stats.beta.ppf(0.025, hits, trials - hits + 1)), float(stats.beta.ppf(0.975, hits + 1, trials - hits))


def t(degrees):
    return float(stats.t.ppf(0.975, degrees))


def test_a_ratio_of_sums():
    """Two runs of 10 and 30; of these 4 and 6. A third has nothing that could be hit."""
    found = ratio_interval(numpy.array([4.0, 6, 0]), numpy.array([10.0, 30, 0]))
    variance = ((4 - 2.5) ** 2 + (6 - 7.5) ** 2) / 40**2 * 2 / 1
    trials = 0.25 * 0.75 / variance * (t(39) / t(1)) ** 2
    assert tuple(found) == pytest.approx(clopper_pearson(0.25 * trials, trials))


def test_a_ratio_of_nothing():
    assert ratio_interval(numpy.array([0.0]), numpy.array([0.0])) is None
    assert ratio_interval(numpy.zeros(0), numpy.zeros(0)) is None


def test_a_ratio_of_one_run():
    assert tuple(ratio_interval(numpy.array([5.0]), numpy.array([10.0]))) == pytest.approx(clopper_pearson(0.5, 1))


def test_a_ratio_that_varies_less_than_coins():
    """No more independent trials than there are, or than is said."""
    hits_N, of_N = numpy.array([5.0, 5, 5, 6]), numpy.full(4, 10.0)
    for trials, most in ((None, 40), (8, 8)):
        alike = most * (t(most - 1) / t(3)) ** 2
        rate = 21 / 40
        assert tuple(ratio_interval(hits_N, of_N, trials=trials)) == pytest.approx(clopper_pearson(rate * alike, alike))


def test_where_nothing_varies_each_run_is_a_trial():
    assert tuple(ratio_interval(numpy.zeros(10), numpy.full(10, 7.0))) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert tuple(ratio_interval(numpy.full(10, 7.0), numpy.full(10, 7.0))) == (pytest.approx(0.025**0.1), 1.0)
    tenths = numpy.full(10, 0.1)
    assert tuple(ratio_interval(tenths, numpy.ones(10))) == pytest.approx(clopper_pearson(1.0, 10))


def test_a_share_with_one_trial():
    found = share_interval(0.5, variance=0.05, degrees=1, units=10, trials=1)
    assert tuple(found) == pytest.approx(clopper_pearson(0.5, 1))


def test_the_jackknife():
    """Of a mean it gives the mean's variance: 2, 4 and 6 tenths, left out once each."""
    found = jackknife_interval(0.4, numpy.array([0.5, 0.4, 0.3]))
    half = t(2) * (numpy.var([0.2, 0.4, 0.6], ddof=1) / 3) ** 0.5
    assert found == (pytest.approx(0.4 - half), pytest.approx(0.4 + half))


def test_two_runs_are_enough_for_the_jackknife():
    assert jackknife_interval(0.4, numpy.array([0.399, 0.401])).low == pytest.approx(0.4 - t(1) * 0.001)


def test_the_jackknife_stays_within_its_bounds():
    assert jackknife_interval(0.9, numpy.array([0.9, 0.5, 1.0])).high == 1.0
    assert jackknife_interval(-0.9, numpy.array([-0.9, -0.5, -1.0])).low == -1.0


@pytest.mark.parametrize(
    ("value", "without"),
    [(0.5, [0.5]), (0.5, []), (0.5, [0.4, float("nan")]), (float("nan"), [0.4, 0.5]), (1.0, [1.0, 1.0])],
)
def test_what_the_jackknife_cannot_say(value, without):
    assert jackknife_interval(value, numpy.array(without)) is None
