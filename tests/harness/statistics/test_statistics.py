import doctest

import pytest

from srft.harness.statistics import statistics
from srft.harness.statistics.statistics import (
    Interval,
    cluster_bootstrap_interval,
    compare_paired,
    mcnemar_exact,
    mean_rate,
    wilson_interval,
)


def rounded(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return round(interval.low, 6), round(interval.high, 6)


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
    interval = wilson_interval(successes, trials)
    assert interval is not None
    assert (round(interval.low, 4), round(interval.high, 4)) == expected


def test_wilson_is_a_mirror() -> None:
    low, high = rounded(wilson_interval(3, 17))
    assert rounded(wilson_interval(14, 17)) == (round(1 - high, 6), round(1 - low, 6))


def test_wilson_of_nothing() -> None:
    assert wilson_interval(0, 0) is None


@pytest.mark.parametrize(("successes", "trials"), [(2, 1), (-1, 5), (1, 0)])
def test_wilson_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= successes <= trials"):
        wilson_interval(successes, trials)


def test_mean_rate_weighs_tasks_and_not_attempts() -> None:
    assert mean_rate([[True, True, True, True], [False]]) == 0.5
    assert mean_rate([[True], []]) == 1.0
    assert mean_rate([[], []]) is None


def test_bootstrap_is_seeded() -> None:
    attempts = [[number % 3 == 0, number % 2 == 0] for number in range(40)]
    assert cluster_bootstrap_interval(attempts, seed=1) == cluster_bootstrap_interval(attempts, seed=1)


def test_bootstrap_does_not_narrow_when_attempts_are_copied() -> None:
    tasks = [[True], [False], [True], [False], [False], [False], [True], [False]]
    assert cluster_bootstrap_interval([attempts * 50 for attempts in tasks]) == cluster_bootstrap_interval(tasks)


def test_bootstrap_is_close_to_the_normal_interval_where_that_holds() -> None:
    attempts = [[number % 2 == 0] for number in range(400)]
    low, high = rounded(cluster_bootstrap_interval(attempts))
    assert (round(low, 2), round(high, 2)) == (0.45, 0.55)


def test_bootstrap_of_many_tasks_in_chunks() -> None:
    attempts = [[number % 4 == 0] for number in range(5000)]
    low, high = rounded(cluster_bootstrap_interval(attempts, resamples=500))
    assert 0.23 < low < 0.25 < high < 0.27


def test_bootstrap_without_spread_falls_back_to_wilson() -> None:
    assert cluster_bootstrap_interval([[True, True]] * 5) == wilson_interval(5, 5)
    assert cluster_bootstrap_interval([[True, False]] * 4) == wilson_interval(2, 4)
    assert cluster_bootstrap_interval([[True]]) == wilson_interval(1, 1)


def test_bootstrap_of_nothing() -> None:
    assert cluster_bootstrap_interval([]) is None
    assert cluster_bootstrap_interval([[]]) is None


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (0, 5, 0.0625), (0, 6, 0.03125), (2, 8, 0.109375), (8, 2, 0.109375), (5, 5, 1.0)],
)
def test_mcnemar(only_first: int, only_second: int, expected: float) -> None:
    assert mcnemar_exact(only_first, only_second) == expected


def test_mcnemar_of_thousands_is_no_zero_division() -> None:
    assert mcnemar_exact(2000, 2000) == 1.0
    assert 0 < mcnemar_exact(900, 1100) < 1e-4


def test_compare_paired() -> None:
    first = {"a": True, "b": True, "c": False, "d": False, "e": None, "only first": True}
    second = {"a": True, "b": False, "c": True, "d": True, "e": True}
    compared = compare_paired(first, second)
    assert compared is not None
    assert compared.tasks == 4
    assert compared.unpaired == 2
    assert (compared.first_rate, compared.second_rate, compared.difference) == (0.5, 0.75, 0.25)
    assert (compared.only_first, compared.only_second, compared.p_value) == (1, 2, 1.0)
    assert compared.interval == Interval(-0.5, 1.0)


def test_compare_paired_turned_round() -> None:
    first = {str(number): number % 3 == 0 for number in range(60)}
    second = {str(number): number % 2 == 0 for number in range(60)}
    there, back = compare_paired(first, second), compare_paired(second, first)
    assert there is not None
    assert back is not None
    assert (there.difference, there.p_value) == (-back.difference, back.p_value)
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)


def test_compare_paired_of_nothing() -> None:
    assert compare_paired({}, {}) is None
    assert compare_paired({"a": None}, {"a": True}) is None
