"""Intervals of shares: published values, the library's, and how often they hold the truth."""

import doctest

import numpy
import pytest
from scipy import stats

from srft.harness.statistics import statistics
from srft.harness.statistics.statistics import Interval, mean_rate, rate_interval, wilson_interval


def rounded(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return round(interval.low, 4), round(interval.high, 4)


def test_the_docstrings_tell_the_truth() -> None:
    assert doctest.testmod(statistics).failed == 0


# Published: R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17 (1998), table I.
@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (20, 20, (0.8389, 1.0)),
    ],
)
def test_wilson(successes: int, trials: int, expected: tuple[float, float]) -> None:
    assert rounded(wilson_interval(successes, trials)) == expected


def test_wilson_of_nothing() -> None:
    assert wilson_interval(0, 0) is None


@pytest.mark.parametrize(("successes", "trials"), [(2, 1), (-1, 5), (1, 0)])
def test_wilson_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="must"):
        wilson_interval(successes, trials)


def test_mean_rate_weighs_tasks_and_not_attempts() -> None:
    assert mean_rate([[True, True, True, True], [False]]) == 0.5
    assert mean_rate([[True], []]) == 1.0
    assert mean_rate([[], []]) is None


def test_one_attempt_a_task_is_wilsons() -> None:
    assert rate_interval([[True], [], [False], [False]]) == wilson_interval(1, 3)
    assert rate_interval([]) is None
    assert rate_interval([[]]) is None


def clopper_pearson(hits: float, trials: float) -> tuple[float, float]:
    """The textbook's, of any real numbers."""
    low = float(stats.beta.ppf(0.025, hits, trials - hits + 1))
    return low, float(stats.beta.ppf(0.975, hits + 1, trials - hits))


def test_several_attempts_are_as_many_trials_as_they_vary() -> None:
    """By hand: rates 1, 0, 1/2, 0; their mean 3/8, its variance (11/48)/4; of 8 attempts at 4 tasks."""
    interval = rate_interval([[True, True], [False, False], [True, False], [False, False]])
    trials = (3 / 8) * (5 / 8) / (11 / 48 / 4) * (stats.t.ppf(0.975, 7) / stats.t.ppf(0.975, 3)) ** 2
    assert interval == pytest.approx(clopper_pearson(3 / 8 * trials, trials))


def test_one_task_with_two_attempts_is_enough_to_go_by_shares() -> None:
    found = rate_interval([[True], [True, False], [False], [True]])
    rates = numpy.array([1, 0.5, 0, 1])
    trials = rates.mean() * (1 - rates.mean()) / (rates.var(ddof=1) / 4)
    trials *= (stats.t.ppf(0.975, 4) / stats.t.ppf(0.975, 3)) ** 2
    assert found == pytest.approx(clopper_pearson(rates.mean() * trials, trials))


def test_copied_attempts_are_no_more_trials() -> None:
    tasks = [[True], [False], [True], [False], [False], [False], [True], [False]]
    twice, often = (rate_interval([attempts * times for attempts in tasks]) for times in (2, 50))
    assert tuple(often) == pytest.approx(tuple(twice), abs=0.05)
    assert often[1] - often[0] > 0.6  # eight tasks


def test_where_nothing_varies_each_task_is_a_trial() -> None:
    assert rate_interval([[False, False]] * 10) == pytest.approx((0.0, clopper_pearson(0, 10)[1]))
    assert rate_interval([[True, True]] * 10) == pytest.approx((clopper_pearson(10, 10)[0], 1.0))
    assert rate_interval([[True, False]] * 4) == pytest.approx(clopper_pearson(2, 4))
    assert rate_interval([[True, False]]) == pytest.approx(clopper_pearson(0.5, 1))
    assert rate_interval([[False, False]]) == pytest.approx((0.0, 0.975))


def test_there_are_no_more_trials_than_attempts() -> None:
    """Rates of 0.4 and 0.6 vary less than 10 coins do."""
    interval = rate_interval([[True] * 2 + [False] * 3, [True] * 3 + [False] * 2])
    trials = 10 * (stats.t.ppf(0.975, 9) / stats.t.ppf(0.975, 1)) ** 2
    assert interval == pytest.approx(clopper_pearson(trials / 2, trials))


@pytest.mark.parametrize("mean", [-3.0, -0.7])
@pytest.mark.parametrize(("tasks", "attempts"), [(10, 2), (20, 4), (40, 2), (100, 4)])
def test_an_interval_holds_the_share_over_all_tasks(mean: float, tasks: int, attempts: int) -> None:
    """In 93 % at least of 200 experiments; a bootstrap over tasks was at 81 % for ten tasks of a low share."""
    random = numpy.random.default_rng(0)
    place_N, weight_N = numpy.polynomial.hermite_e.hermegauss(60)
    truth = float((weight_N / (1 + numpy.exp(-(mean + 1.5 * place_N)))).sum() / weight_N.sum())
    held = 0
    for _ in range(200):
        chance_T = 1 / (1 + numpy.exp(-random.normal(mean, 1.5, tasks)))
        low, high = rate_interval(random.random((tasks, attempts)) < chance_T[:, None])
        held += low <= truth <= high
    assert held / 200 >= 0.93
