"""Intervals of figures counted over runs or tasks. Those are the sample; their steps and attempts are not.

Reads counts, writes nothing.

    ratio_interval(hits_N, harmful_N)               # recall: of each run its hits and its harmful steps
    jackknife_interval(kappa, kappa_without_N)      # of any figure: the whole, and without each of the runs
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
"""Of every test, and one minus it the confidence of every interval."""


class Interval(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


def ratio_interval(
    hits_N: NDArray[numpy.float64], of_N: NDArray[numpy.float64], *, trials: float | None = None
) -> Interval | None:
    """Of the sum of hits through the sum of what they are of; `None` where there is nothing.

    trials: independent ones at most; the sum of what they are of unless given. Its variance is by linearisation: W. G.
    Cochran, "Sampling techniques" (1977), chapter 6.

    >>> [round(end, 3) for end in ratio_interval(numpy.array([2, 0, 1.0]), numpy.array([2, 1, 2.0]))]
    [0.013, 0.999]
    """
    runs, whole = int((of_N > 0).sum()), float(of_N.sum())
    if runs == 0:
        return None
    rate = float(hits_N.sum()) / whole
    variance = float(((hits_N - rate * of_N) ** 2).sum()) / whole**2 * runs / (runs - 1) if runs > 1 else 0.0
    most = whole if trials is None else trials
    return share_interval(rate, variance=variance, degrees=max(runs - 1, 1), units=runs, trials=most)


def share_interval(rate: float, *, variance: float, degrees: float, units: int, trials: float) -> Interval:
    """The interval of a share that is no count of independent trials.

    variance, degrees: of the estimated share, and the degrees of freedom of that estimate. units: runs or tasks that
    were sampled. trials: in them. Clopper's and Pearson's interval for the number of independent trials that would vary
    as much; never more of these than trials. Where nothing varies, each unit is one.

    Source: E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data", Survey Methodology 24 (1998).
    """
    alike = float(units)
    if variance > _ROUNDING:
        outer = 1 - LEVEL / 2
        alike = min(rate * (1 - rate) / variance, trials)
        alike *= (stats.t.ppf(outer, max(trials - 1, 1)) / stats.t.ppf(outer, degrees)) ** 2
    hits, misses = alike * rate, alike * (1 - rate)
    low = stats.beta.ppf(LEVEL / 2, hits, misses + 1) if hits > 0 else 0.0
    high = stats.beta.ppf(1 - LEVEL / 2, hits + 1, misses) if misses > 0 else 1.0
    return Interval(float(low), float(high))


_ROUNDING = 1e-15
"""Of a variance: sums of the same shares differ by less."""


def jackknife_interval(value: float, without_N: Any) -> Interval | None:
    """Of a figure between -1 and 1. without_N: the figure without each of the runs.

    `None` where it does not exist without some run, or is the same without any: then the runs do not say how sure it
    is. Source: B. Efron and R. Tibshirani, "An introduction to the bootstrap" (1993), chapter 11.
    """
    runs = len(without_N)
    if runs < 2 or numpy.isnan(without_N).any() or numpy.isnan(value):
        return None
    variance = (runs - 1) / runs * float(((without_N - without_N.mean()) ** 2).sum())
    if variance <= _ROUNDING:
        return None
    half = float(stats.t.ppf(1 - LEVEL / 2, runs - 1)) * variance**0.5
    return Interval(max(-1.0, float(value) - half), min(1.0, float(value) + half))
