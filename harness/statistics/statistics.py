"""How sure a resolved rate is: intervals for one run, and the comparison of two runs on the same tasks.

Reads verdicts already in memory, writes nothing.

    wilson_interval(32, 86)                         # one attempt a task
    cluster_bootstrap_interval([[True, False], [False, False]])     # k attempts a task
    compare_paired({"a": True, "b": False}, {"a": True, "b": True})

The tasks are the sample: two attempts at one task are no two tasks. Nothing here gives NaN: what cannot be said from
the numbers is `None`.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy

RESAMPLES = 10_000
_CHUNK_VALUES = 1 << 20
"""Resampled indices held at once: memory stays small at any number of tasks."""


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


class PairedComparison(NamedTuple):
    """Two runs on the tasks that both have a verdict for.

    tasks: how many those are. unpaired: tasks left out, since only one run has a verdict for them.
    only_first, only_second: tasks that one run resolved and the other did not.
    difference: second's rate less first's. interval: the paired bootstrap's. p_value: McNemar's exact test.
    """

    tasks: int
    unpaired: int
    first_rate: float
    second_rate: float
    difference: float
    interval: Interval
    only_first: int
    only_second: int
    p_value: float


def wilson_interval(successes: float, trials: int, *, confidence: float = 0.95) -> Interval | None:
    """The score interval of a proportion, `None` for no trials.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    Unlike the normal one it stays within [0, 1] and has a width at 0 and at all of the trials.

    >>> [round(end, 4) for end in wilson_interval(5, 10)]
    [0.2366, 0.7634]
    >>> [round(end, 4) for end in wilson_interval(0, 10)]
    [0.0, 0.2775]
    >>> wilson_interval(0, 0) is None
    True
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials, got {successes} of {trials}")
    if trials == 0:
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    # At the ends the formula is exact and the floating point is not.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)


def mean_rate(attempts_by_task: Sequence[Sequence[bool]]) -> float | None:
    """The mean over tasks of the share of their attempts that resolved; a task without attempts is left out.

    >>> mean_rate([[True, False], [True, True]])
    0.75
    >>> mean_rate([]) is None
    True
    """
    rates = _task_rates(attempts_by_task)
    return math.fsum(rates) / len(rates) if rates else None


def _task_rates(attempts_by_task: Sequence[Sequence[bool]]) -> list[float]:
    return [sum(attempts) / len(attempts) for attempts in attempts_by_task if len(attempts)]


def cluster_bootstrap_interval(
    attempts_by_task: Sequence[Sequence[bool]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Interval | None:
    """The interval of `mean_rate` for k attempts a task, `None` for no tasks. The same seed gives the same ends.

    Whole tasks are drawn with replacement, their attempts with them, and the percentiles of the means are taken.
    Where all tasks have one and the same rate, resampling has no width, which would claim certainty: Wilson's interval
    over the tasks stands in.

    Source: C. A. Field and A. H. Welsh, "Bootstrapping clustered data", JRSS B 69 (2007); the percentile interval is
    B. Efron's and R. Tibshirani's, "An introduction to the bootstrap" (1993), chapter 13.

    >>> cluster_bootstrap_interval([[True, True], [False, False], [True, False], [False, False]], seed=0)
    Interval(low=0.0, high=0.75)
    >>> cluster_bootstrap_interval([[False, False]] * 10) == wilson_interval(0, 10)
    True
    >>> cluster_bootstrap_interval([]) is None
    True
    """
    rates = _task_rates(attempts_by_task)
    if not rates:
        return None
    if min(rates) == max(rates):
        return wilson_interval(rates[0] * len(rates), len(rates), confidence=confidence)
    return _bootstrap_mean_interval(rates, seed=seed, resamples=resamples, confidence=confidence)


def _bootstrap_mean_interval(values: Sequence[float], *, seed: int, resamples: int, confidence: float) -> Interval:
    random = numpy.random.default_rng(seed)
    value_N = numpy.asarray(values, dtype=float)
    rows = max(1, _CHUNK_VALUES // len(value_N))
    means = []
    for done in range(0, resamples, rows):
        drawn_RN = random.integers(0, len(value_N), size=(min(rows, resamples - done), len(value_N)))
        means.append(value_N[drawn_RN].mean(axis=1))
    tail = (1 - confidence) / 2
    low, high = numpy.quantile(numpy.concatenate(means), [tail, 1 - tail])
    return Interval(float(low), float(high))


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """The two-sided p-value that two runs on the same tasks resolve equally many.

    Only the tasks on which they disagree count; under the hypothesis each falls to either side like a fair coin.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), with the binomial distribution in the place of its approximation.

    >>> mcnemar_exact(1, 9)
    0.021484375
    >>> mcnemar_exact(3, 3), mcnemar_exact(0, 0)
    (1.0, 1.0)
    """
    disagreements = only_first + only_second
    tail = sum(math.comb(disagreements, k) for k in range(min(only_first, only_second) + 1))
    # Whole numbers to the end: 2 ** -n is 0 as a float from n = 1075 on.
    return min(1.0, 2 * tail / 2**disagreements)


def compare_paired(
    first: Mapping[str, bool | None],
    second: Mapping[str, bool | None],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> PairedComparison | None:
    """Two runs, task by task: instance id -> resolved, `None` where it was not graded. `None` where no task is in both.

    The interval is that of the mean of the differences within tasks, whole tasks resampled (Efron and Tibshirani,
    chapter 8); where the runs agree everywhere, it has no width: read it together with `tasks`.

    >>> compare_paired({"a": False, "b": True, "c": None}, {"a": True, "b": True, "c": True})[:5]
    (2, 1, 0.5, 1.0, 0.5)
    >>> compare_paired({"a": True}, {"b": True}) is None
    True
    """
    graded_first = {id_: resolved for id_, resolved in first.items() if resolved is not None}
    graded_second = {id_: resolved for id_, resolved in second.items() if resolved is not None}
    ids = sorted(graded_first.keys() & graded_second.keys())
    if not ids:
        return None
    differences = [graded_second[id_] - graded_first[id_] for id_ in ids]
    only_first, only_second = differences.count(-1), differences.count(1)
    return PairedComparison(
        tasks=len(ids),
        unpaired=len(graded_first.keys() ^ graded_second.keys()),
        first_rate=sum(graded_first[id_] for id_ in ids) / len(ids),
        second_rate=sum(graded_second[id_] for id_ in ids) / len(ids),
        difference=(only_second - only_first) / len(ids),
        interval=_bootstrap_mean_interval(differences, seed=seed, resamples=resamples, confidence=confidence),
        only_first=only_first,
        only_second=only_second,
        p_value=mcnemar_exact(only_first, only_second),
    )
