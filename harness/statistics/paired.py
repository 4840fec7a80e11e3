"""Two models on the same tasks: what the one resolves more, how sure that is, and on which tasks.

Reads verdicts already in memory, writes nothing.

    compare_verdicts([{"a": [False], "b": [True]}], [{"a": [True], "b": [True]}]).gained    # ['a']

A side is a list of seeds (trainings of the same recipe), each task -> the verdicts on its attempts. With one seed and
one attempt a task this is `statistics.compare_paired`: the paired bootstrap over tasks and McNemar's exact test. With
more, the tasks are compared by their share of resolved attempts; the interval then draws tasks anew and,
independently, seeds (A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007)), so that it holds
for other tasks and for other seeds; it errs on the wide side. The test is the exact sign test over tasks: a task
counts for the side with the higher share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy
from numpy.typing import NDArray

from srft.harness.statistics.statistics import RESAMPLES, Interval, compare_paired, mcnemar_exact, wilson_interval

Verdicts = Mapping[str, Sequence[bool]]
Array = NDArray[numpy.float64]

_CHUNK_VALUES = 1 << 22


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two models, task by task.

    first, second: their names. tasks: those that both have verdicts for; unpaired: those that only one has. difference:
    second less first. interval: a bootstrap over the tasks, and over the seeds where there are several. only_first,
    only_second: tasks on which the one's share of resolved attempts is the higher. p_value: the exact test on these
    two, McNemar's where each task has one attempt. gained, lost: the tasks by name.
    """

    first: str
    second: str
    tasks: int
    unpaired: int
    seeds: int
    first_rate: float
    second_rate: float
    difference: float
    interval: Interval
    only_first: int
    only_second: int
    p_value: float
    gained: list[str]
    lost: list[str]


def compare_verdicts(
    first: Sequence[Verdicts], second: Sequence[Verdicts], *, names: tuple[str, str] = ("first", "second")
) -> Comparison | None:
    """`None` where no task has a verdict on both sides.

    Two sides of as many seeds are paired seed by seed; a side of one seed (a base model) stands against each seed of
    the other. Raises ValueError for other numbers of seeds.
    """
    if len(first) != len(second) and 1 not in (len(first), len(second)):
        raise ValueError(
            f"expected as many seeds on both sides, or one on one of them; got {len(first)}, {len(second)}"
        )
    ids = sorted(_graded(first) & _graded(second))
    if not ids:
        return None
    first_ST, second_ST = numpy.broadcast_arrays(rates_by_seed(first, ids), rates_by_seed(second, ids))
    difference_ST = second_ST - first_ST
    known_ST = ~numpy.isnan(difference_ST)
    change_T = numpy.where(known_ST, difference_ST, 0.0).sum(axis=0)
    lost = [id_ for id_, change in zip(ids, change_T, strict=True) if change < 0]
    gained = [id_ for id_, change in zip(ids, change_T, strict=True) if change > 0]
    tasks = int(known_ST.any(axis=0).sum())
    if not tasks:
        return None
    return Comparison(
        first=names[0],
        second=names[1],
        tasks=tasks,
        unpaired=len(_graded(first) | _graded(second)) - tasks,
        seeds=len(difference_ST),
        first_rate=float(first_ST[known_ST].mean()),
        second_rate=float(second_ST[known_ST].mean()),
        difference=float(difference_ST[known_ST].mean()),
        interval=_interval(first, second, ids, difference_ST),
        only_first=len(lost),
        only_second=len(gained),
        p_value=mcnemar_exact(len(lost), len(gained)),
        gained=gained,
        lost=lost,
    )


def _graded(seeds: Sequence[Verdicts]) -> set[str]:
    return {id_ for verdicts in seeds for id_, attempts in verdicts.items() if attempts}


def rates_by_seed(seeds: Sequence[Verdicts], ids: Sequence[str]) -> Array:
    """(S, T): each task's share of resolved attempts, NaN where a seed has no verdict on it."""
    rates = [[_share(verdicts.get(id_, ())) for id_ in ids] for verdicts in seeds]
    return numpy.array(rates, dtype=float)


def _share(attempts: Sequence[bool]) -> float:
    return sum(attempts) / len(attempts) if attempts else float("nan")


def _interval(
    first: Sequence[Verdicts], second: Sequence[Verdicts], ids: Sequence[str], difference_ST: Array
) -> Interval:
    """That of `compare_paired` where it applies, to the digit."""
    if len(first) == len(second) == 1 and all(len(side[0][id_]) == 1 for side in (first, second) for id_ in ids):
        paired = compare_paired({id_: first[0][id_][0] for id_ in ids}, {id_: second[0][id_][0] for id_ in ids})
        assert paired is not None
        return paired.interval
    return two_way_interval(difference_ST)


def seeds_interval(rate_ST: Array) -> Interval | None:
    """The interval of a mean rate over tasks and seeds; where all rates are the same, Wilson's over the tasks."""
    known = rate_ST[~numpy.isnan(rate_ST)]
    if known.size == 0:
        return None
    if known.min() == known.max():
        tasks = rate_ST.shape[1]
        return wilson_interval(float(known[0]) * tasks, tasks)
    return two_way_interval(rate_ST)


def two_way_interval(
    value_ST: Array, *, seed: int = 0, resamples: int = RESAMPLES, confidence: float = 0.95
) -> Interval:
    """The percentile interval of the mean, tasks and seeds drawn with replacement, each for itself.

    Resamples without any known value are left out.

    >>> two_way_interval(numpy.array([[0.0, 1.0], [0.0, 1.0]]))
    Interval(low=0.0, high=1.0)
    """
    random = numpy.random.default_rng(seed)
    seeds, tasks = value_ST.shape
    known_ST = ~numpy.isnan(value_ST)
    filled_ST = numpy.where(known_ST, value_ST, 0.0)
    rows = max(1, _CHUNK_VALUES // (seeds + tasks))
    means = []
    for done in range(0, resamples, rows):
        drawn = min(rows, resamples - done)
        times_RS = random.multinomial(seeds, numpy.full(seeds, 1 / seeds), size=drawn)
        times_RT = random.multinomial(tasks, numpy.full(tasks, 1 / tasks), size=drawn)
        summed_R = ((times_RT @ filled_ST.T) * times_RS).sum(axis=1)
        count_R = ((times_RT @ known_ST.T.astype(float)) * times_RS).sum(axis=1)
        means.append(summed_R[count_R > 0] / count_R[count_R > 0])
    tail = (1 - confidence) / 2
    low, high = numpy.quantile(numpy.concatenate(means), [tail, 1 - tail])
    return Interval(float(low), float(high))
