"""Is B better than A: two models, or two arms with their seeds, on the same tasks.

Reads verdicts already in memory, writes nothing.

    compare_models({"a": [False], "b": [True]}, {"a": [True], "b": [True]}).gained              # ['a']
    compare_arms([all_0, all_1, all_2], [srft_0, srft_1, srft_2], names=("all", "srft")).p_value

Verdicts are task -> resolved, one an attempt. **Two models** are compared over tasks: the interval and the test hold
for these two models on other tasks like these. **Two arms** are compared over seeds (trainings of the same recipe) and
tasks: a training's seed moves its results on all tasks at once, so a seed is one observation, however many tasks it is
measured on.

With s the standard deviation of a seed's level (logit; 0.3 are 5 points) and 90 tasks, two arms of equal truth are
called different, and arms 10 points apart are found, in so many experiments:

                            different               found
    seeds           s =     0      0.3    0.6       0      0.3    0.6
    3 against 3             1.5 %  2.9 %  3.5 %     44 %   22 %   11 %
    5 against 5             1.9 %  3.4 %  3.7 %     84 %   49 %   22 %
    8 against 8             2.3 %  3.8 %  4.1 %     98 %   77 %   37 %
    5 against a model       3.5 %  4.2 %  4.6 %
    over tasks alone, 3     5.2 %  19 %   42 %

By `python -m tests.harness.statistics.simulated`; the tests hold the errors in every cell, and in harder ones, at 7 %
or less. docs/compare-models.md has more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy
from numpy.typing import NDArray
from scipy import stats

from srft.critic.intervals import LEVEL, Interval, share_interval

Verdicts = Mapping[str, Sequence[bool]]
Array = NDArray[numpy.float64]

SEEDS_TO_COMPARE = 3
"""Of each of two arms: with two of the one and five of the other the test was false in 8 % at a nominal 5 %."""
SEEDS_ALONE = 5
"""Of an arm by itself, or against one given model: with four it was false in 7 %, with three in 9 %."""

MCNEMAR = "McNemar's exact test"
OVER_TASKS = "t-test over tasks"
OVER_SEEDS = "t-test over seeds and tasks"


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two models or two arms, task by task. The second is better where `difference` is above 0."""

    first: str
    """Its name."""
    second: str
    """Its name."""
    tasks: int
    """With a verdict in every seed of both sides."""
    unpaired: int
    """Tasks left out, as a seed has no verdict for them."""
    seeds: tuple[int, int]
    """Trainings of the first and of the second; of a model 1."""
    first_rate: float
    second_rate: float
    difference: float
    """The second's share of resolved attempts less the first's."""
    interval: Interval | None
    """95 %. `None`: too few seeds, or tasks, to say."""
    only_first: int
    """Tasks that the first resolves in more of its attempts."""
    only_second: int
    """Tasks that the second resolves in more of its attempts."""
    p_value: float | None
    """Two-sided. `None`: too few seeds, or tasks, to say."""
    test: str | None
    """The test's name."""
    shows: str
    """One sentence: what this comparison can show, and what it cannot."""
    gained: list[str]
    """The tasks of only_second."""
    lost: list[str]
    """The tasks of only_first."""


class Estimate(NamedTuple):
    """Means, their standard errors and the degrees of freedom of these: numbers, or arrays of as many experiments."""

    value: Any
    error: Any
    degrees: Any

    def p_value(self) -> Any:
        """Two-sided, that the true value is 0; 1 where nothing varies."""
        error = numpy.where(self.error > 0, self.error, numpy.inf)
        return 2 * stats.t.sf(abs(self.value) / error, self.degrees)

    def bound(self, confidence: float) -> Any:
        """The value that the true one is below with this confidence."""
        return self.value + stats.t.ppf(confidence, self.degrees) * self.error

    def interval(self) -> Interval:
        """Of a difference of shares."""
        low, high = self.bound(LEVEL / 2), self.bound(1 - LEVEL / 2)
        return Interval(max(-1.0, float(low)), min(1.0, float(high)))


def tasks_estimate(difference_T: Array, *sides_ST: Array, attempts: int = 1) -> Estimate:
    """The mean difference over tasks (..., T); with the arms' shares (..., S, T), over their seeds too.

    attempts: at a task, by the side with fewer. Two more tasks that differ by one attempt, one to either side, keep a
    width where all tasks agree and let the interval cover where few differ: D. G. Bonett and R. M. Price, "Adjusted
    Wald confidence interval for a difference of binomial proportions based on paired data", Journal of Educational and
    Behavioral Statistics 37 (2012).
    """
    two = numpy.broadcast_to([1 / attempts, -1 / attempts], (*difference_T.shape[:-1], 2))
    return mean_estimate(numpy.concatenate([difference_T, two], axis=-1), *sides_ST)


def mean_estimate(value_T: Array, *sides_ST: Array) -> Estimate:
    """The mean of (..., T), with tasks and seeds both as samples. sides_ST: (..., S, T), the arms that it is made of.

    The variance is that of a two-way random-effects layout: over tasks, and over the seeds of each side, less the noise
    that both have in them; never less than either. The degrees of freedom are Satterthwaite's. Seeds of two arms are
    not paired: the same seed makes two recipes alike at most, and then this errs on the wide side.

    Sources: H. H. Clark, "The language-as-fixed-effect fallacy", Journal of Verbal Learning and Verbal Behavior 12
    (1973); F. E. Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics 2 (1946).
    """
    tasks = value_T.shape[-1]
    sides = []
    for rate_ST in sides_ST:
        if (seeds := rate_ST.shape[-2]) > 1:  # one given model is no sample
            of_side = variances(rate_ST)
            sides.append((of_side.seeds / seeds, seeds, of_side.cells / (seeds * rate_ST.shape[-1])))
    return Estimate(value_T.mean(axis=-1), *combined(value_T.var(axis=-1, ddof=1) / tasks, tasks, sides))


def combined(of_tasks: Any, tasks: int, sides: Sequence[tuple[Any, int, Any]]) -> tuple[Any, Any]:
    """(standard error, degrees of freedom) of a mean. of_tasks: its variance over tasks. sides: of each arm in it the
    variance over seeds, their number, and the noise of single cells, which is in the variance over tasks too."""
    of_seeds, noise = sum(side[0] for side in sides), sum(side[2] for side in sides)
    variance = numpy.maximum(numpy.maximum(of_tasks, of_seeds), of_tasks + of_seeds - noise)
    weight = of_tasks**2 / (tasks - 1) + sum(of_side**2 / (seeds - 1) for of_side, seeds, _ in sides)
    degrees = numpy.where(weight > 0, variance**2, tasks - 1) / numpy.where(weight > 0, weight, 1)
    return numpy.sqrt(variance), degrees


class Variances(NamedTuple):
    """Of an arm's seeds: their means' variance, and that of single cells around what seed and task would say."""

    seeds: Any
    cells: Any


def variances(rate_ST: Array) -> Variances:
    """Of (..., S, T); at least two seeds and two tasks."""
    seeds, tasks = rate_ST.shape[-2:]
    mean_S, mean_T = rate_ST.mean(axis=-1, keepdims=True), rate_ST.mean(axis=-2, keepdims=True)
    residual_ST = rate_ST - mean_S - mean_T + rate_ST.mean(axis=(-2, -1), keepdims=True)
    cells = (residual_ST**2).sum(axis=(-2, -1)) / ((seeds - 1) * (tasks - 1))
    return Variances(mean_S[..., 0].var(axis=-1, ddof=1), cells)


def compare_models(
    first: Verdicts, second: Verdicts, *, names: tuple[str, str] = ("first", "second")
) -> Comparison | None:
    """Two given models. `None` where no task has a verdict on both sides."""
    sides = shared_rates([first], [second])
    if sides is None:
        return None
    estimate = sides.estimate()
    once = all(len(side[task]) == 1 for side in (first, second) for task in sides.tasks)
    lost, gained = sides.lost, sides.gained
    shows = (
        f"This tells these two models apart on tasks like these {len(sides.tasks)}; it cannot tell their recipes "
        "apart, as another training seed would move all tasks at once."
    )
    p_value = mcnemar_exact(len(lost), len(gained)) if once else float(estimate.p_value())
    return _comparison(sides, names, estimate.interval(), p_value, MCNEMAR if once else OVER_TASKS, shows)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """The two-sided p-value that two runs on the same tasks resolve equally many.

    Only the tasks on which they disagree count; under the hypothesis each falls to either side like a fair coin.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), with the binomial distribution in the place of its approximation.

    >>> round(mcnemar_exact(1, 9), 6), mcnemar_exact(0, 0)
    (0.021484, 1.0)
    """
    disagreements = only_first + only_second
    return float(stats.binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def compare_arms(
    first: Sequence[Verdicts],
    second: Sequence[Verdicts],
    *,
    names: tuple[str, str] = ("first", "second"),
    first_is_given: bool = False,
) -> Comparison | None:
    """Two arms, each the verdicts of its seeds. `None` where no task has a verdict in every seed of both.

    first_is_given: the first is one given model (the base), not a training that might have come out otherwise.
    """
    sides = shared_rates(first, second)
    if sides is None:
        return None
    seeds = len(sides.first_ST), len(sides.second_ST)
    needed = (1, SEEDS_ALONE) if first_is_given else (SEEDS_TO_COMPARE, SEEDS_TO_COMPARE)
    shows = _shows(seeds, needed, names, first_is_given=first_is_given)
    if seeds[0] < needed[0] or seeds[1] < needed[1] or len(sides.tasks) < 2:
        return _comparison(sides, names, None, None, None, shows)
    estimate = sides.estimate()
    return _comparison(sides, names, estimate.interval(), float(estimate.p_value()), OVER_SEEDS, shows)


def _shows(seeds: tuple[int, int], needed: tuple[int, int], names: tuple[str, str], *, first_is_given: bool) -> str:
    pairs = zip(seeds, names, strict=True)
    first, second = (f"{count} seed{'' if count == 1 else 's'} of {name}" for count, name in pairs)
    have = f"{second} against {names[0] if first_is_given else first}"
    if seeds[0] < needed[0] or seeds[1] < needed[1]:
        return (
            f"{have}: too few to tell the recipe from its luck, as a training seed moves all tasks at once; an "
            f"interval and a p-value need {needed[1]} seeds{'' if first_is_given else ' of each'}."
        )
    return f"{have}: the interval and the p-value hold for other seeds and for other tasks like these."


def _comparison(
    sides: Sides,
    names: tuple[str, str],
    interval: Interval | None,
    p_value: float | None,
    test: str | None,
    shows: str,
) -> Comparison:
    first_rate, second_rate = float(sides.first_ST.mean()), float(sides.second_ST.mean())
    return Comparison(
        first=names[0],
        second=names[1],
        tasks=len(sides.tasks),
        unpaired=sides.unpaired,
        seeds=(len(sides.first_ST), len(sides.second_ST)),
        first_rate=first_rate,
        second_rate=second_rate,
        difference=float((sides.second_ST.mean(axis=0) - sides.first_ST.mean(axis=0)).mean()),
        interval=interval,
        only_first=len(sides.lost),
        only_second=len(sides.gained),
        p_value=p_value,
        test=test,
        shows=shows,
        gained=sides.gained,
        lost=sides.lost,
    )


class Sides(NamedTuple):
    """Two arms on the tasks that all of their seeds have verdicts for: each task's share of resolved attempts."""

    tasks: list[str]
    unpaired: int
    first_ST: Array
    second_ST: Array
    attempts: int
    """The fewest at a task, over all seeds of a side."""
    gained: list[str]
    lost: list[str]

    def estimate(self) -> Estimate:
        """Of the second's share less the first's; over seeds too where a side has several."""
        difference_T = self.second_ST.mean(axis=0) - self.first_ST.mean(axis=0)
        return tasks_estimate(difference_T, self.first_ST, self.second_ST, attempts=self.attempts)


def shared_rates(first: Sequence[Verdicts], second: Sequence[Verdicts]) -> Sides | None:
    """A seed without any verdict is left out. `None` where no task is left."""
    sides = [[seed for seed in side if any(seed.values())] for side in (first, second)]
    graded = [{task for task, attempts in seed.items() if attempts} for side in sides for seed in side]
    tasks = sorted(set.intersection(*graded)) if all(sides) else []
    if not tasks:
        return None
    first_ST, second_ST = (rates_by_seed(side, tasks) for side in sides)
    change_T = second_ST.mean(axis=0) - first_ST.mean(axis=0)
    return Sides(
        tasks=tasks,
        unpaired=len(set.union(*graded)) - len(tasks),
        first_ST=first_ST,
        second_ST=second_ST,
        attempts=min(sum(len(seed[task]) for seed in side) for side in sides for task in tasks),
        gained=[task for task, change in zip(tasks, change_T, strict=True) if change > _ROUNDING],
        lost=[task for task, change in zip(tasks, change_T, strict=True) if change < -_ROUNDING],
    )


_ROUNDING = 1e-9
"""Means of the same shares in another order differ by less."""


def rates_by_seed(seeds: Sequence[Verdicts], tasks: Sequence[str]) -> Array:
    """(S, T): each task's share of resolved attempts, NaN where a seed has no verdict on it."""
    return numpy.array([[_share(verdicts.get(task, ())) for task in tasks] for verdicts in seeds], dtype=float)


def _share(attempts: Sequence[bool]) -> float:
    return sum(attempts) / len(attempts) if attempts else float("nan")


def arm_interval(seeds: Sequence[Verdicts]) -> Interval | None:
    """Of an arm's share, over seeds and tasks; `None` where there are too few of either to say."""
    sides = shared_rates(seeds, seeds)
    if sides is None or len(sides.first_ST) < SEEDS_ALONE or len(sides.tasks) < 2:
        return None
    estimate = mean_estimate(sides.first_ST.mean(axis=0), sides.first_ST)
    return share_interval(
        float(estimate.value),
        variance=float(estimate.error**2),
        degrees=float(estimate.degrees),
        units=len(sides.tasks),
        trials=sides.first_ST.size,
    )
