"""Paired comparisons: hand-made verdicts, exact figures; one attempt a task is what `statistics` says."""

import doctest

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.harness.statistics import paired
from srft.harness.statistics.paired import compare_verdicts, rates_by_seed, seeds_interval, two_way_interval
from srft.harness.statistics.statistics import compare_paired, wilson_interval

FIRST = {"a": [False], "b": [True], "c": [False], "d": []}
SECOND = {"a": [True], "b": [True], "c": [False], "e": [True]}


def test_doctests():
    assert doctest.testmod(paired).failed == 0


def test_one_attempt_a_task():
    one = compare_verdicts([FIRST], [SECOND])
    assert (one.tasks, one.unpaired, one.seeds) == (3, 1, 1)
    assert (one.first_rate, one.second_rate, one.difference) == (1 / 3, 2 / 3, 1 / 3)
    assert (one.gained, one.lost, one.only_first, one.only_second, one.p_value) == (["a"], [], 0, 1, 1.0)


@given(st.dictionaries(st.text("abcdef", min_size=1), st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_one_attempt_a_task_is_the_paired_comparison(pairs):
    first, second = ({task: pair[side] for task, pair in pairs.items()} for side in (0, 1))
    ours = compare_verdicts(*([{task: [resolved] for task, resolved in side.items()}] for side in (first, second)))
    theirs = compare_paired(first, second)
    for name in ("tasks", "unpaired", "interval", "only_first", "only_second", "p_value"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.difference == pytest.approx(theirs.difference)


def test_several_attempts_compare_shares():
    one = compare_verdicts([{"a": [True, False], "b": [False, False]}], [{"a": [True], "b": [True, False]}])
    assert (one.first_rate, one.second_rate, one.difference) == (0.25, 0.75, 0.5)
    assert one.interval == (0.5, 0.5)
    assert (one.gained, one.p_value) == (["a", "b"], 0.5)


def test_a_base_model_stands_against_each_seed():
    one = compare_verdicts([{"a": [False], "b": [True]}], [{"a": [True], "b": [True]}, {"a": [False], "b": [False]}])
    assert (one.seeds, one.first_rate, one.second_rate, one.difference) == (2, 0.5, 0.5, 0.0)
    assert (one.gained, one.lost) == (["a"], ["b"])


def test_seeds_that_were_not_graded_are_left_out():
    one = compare_verdicts([{"a": [True], "b": []}, {"a": [], "b": [False]}], [{"a": [], "b": [True]}, {"a": [True]}])
    assert one is None
    two = compare_verdicts([{"a": [True], "b": []}, {"a": [], "b": [False]}], [{"a": [False]}, {"b": [], "a": [True]}])
    assert (two.tasks, two.unpaired, two.difference, two.lost) == (1, 1, -1.0, ["a"])


def test_no_task_in_common():
    assert compare_verdicts([{"a": [True]}], [{"b": [True]}]) is None


def test_other_numbers_of_seeds_are_refused():
    with pytest.raises(ValueError, match="as many seeds on both sides"):
        compare_verdicts([{}, {}], [{}, {}, {}])


def test_two_way_interval_is_the_plain_loop():
    """The same draws by hand: seeds and tasks by their counts, cell by cell."""
    value_ST = numpy.array([[0.0, 1.0, 1.0], [0.5, numpy.nan, 0.0]])
    random, means = numpy.random.default_rng(0), []
    times_RS = random.multinomial(2, [0.5, 0.5], size=200)
    times_RT = random.multinomial(3, [1 / 3] * 3, size=200)
    for times_S, times_T in zip(times_RS, times_RT, strict=True):
        cells = [
            (times_S[s] * times_T[t], value_ST[s, t])
            for s in range(2)
            for t in range(3)
            if not numpy.isnan(value_ST[s, t])
        ]
        weight = sum(times for times, _ in cells)
        if weight:
            means.append(sum(times * value for times, value in cells) / weight)
    low, high = two_way_interval(value_ST, resamples=200)
    assert (low, high) == pytest.approx(tuple(numpy.quantile(means, [0.025, 0.975])))


def test_seeds_widen_the_interval():
    """Seeds that differ as a whole: drawing tasks alone would see nothing of it."""
    tasks = [f"t{number}" for number in range(40)]
    rate_ST = rates_by_seed([{task: [True] for task in tasks}, {task: [False] for task in tasks}], tasks)
    assert seeds_interval(rate_ST) == (0.0, 1.0)


def test_equal_rates_have_the_width_of_wilson():
    assert seeds_interval(numpy.zeros((3, 10))) == wilson_interval(0, 10)
    assert seeds_interval(numpy.full((2, 2), numpy.nan)) is None
