"""Intervals of a share of resolved tasks.

Reads verdicts already in memory, writes nothing.

    wilson_interval(32, 86)                                 # one attempt a task
    rate_interval([[True, False], [False, False]])          # some attempts a task

The tasks are the sample: two attempts at one task are not two tasks. Nothing here gives NaN: what cannot be said from
the numbers is `None`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
from scipy import stats

from srft.critic.intervals import LEVEL, Interval, ratio_interval


def wilson_interval(successes: int, trials: int) -> Interval | None:
    """The score interval of a proportion, `None` for no trials. Raises ValueError for impossible counts.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    Unlike the normal one it stays within [0, 1] and has a width at 0 and at all of the trials.

    >>> [round(end, 4) for end in wilson_interval(5, 10)]
    [0.2366, 0.7634]
    >>> wilson_interval(0, 0) is None
    True
    """
    if trials == 0 == successes:
        return None
    found = stats.binomtest(successes, trials).proportion_ci(confidence_level=1 - LEVEL, method="wilson")
    return Interval(float(found.low), float(found.high))


def mean_rate(attempts_by_task: Sequence[Sequence[bool]]) -> float | None:
    """The mean over tasks of the share of their attempts that resolved; a task without attempts is left out.

    >>> mean_rate([[True, False], [True, True]])
    0.75
    >>> mean_rate([]) is None
    True
    """
    rates = [sum(attempts) / len(attempts) for attempts in attempts_by_task if len(attempts)]
    return math.fsum(rates) / len(rates) if rates else None


def rate_interval(attempts_by_task: Sequence[Sequence[bool]]) -> Interval | None:
    """The interval of `mean_rate`, `None` for no tasks: Wilson's for one attempt a task, else `ratio_interval`.

    >>> rate_interval([[True], [False], []]) == wilson_interval(1, 2)
    True
    >>> [round(end, 3) for end in rate_interval([[True, True], [False, False], [True, False], [False, False]])]
    [0.005, 0.957]
    """
    graded = [attempts for attempts in attempts_by_task if len(attempts)]
    if all(len(attempts) == 1 for attempts in graded):
        return wilson_interval(sum(attempts[0] for attempts in graded), len(graded))
    rate_T = numpy.array([sum(attempts) / len(attempts) for attempts in graded])
    return ratio_interval(rate_T, numpy.ones(len(rate_T)), trials=sum(map(len, graded)))
