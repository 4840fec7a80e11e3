"""The number of tasks and seeds that it takes to tell two arms apart.

Reads arrays, writes nothing.

    spread = Spread.measured(first_ST, second_ST)               # from two arms with some seeds each
    tasks_needed(0.05, seeds=5, spread=spread)                  # 5 points, found in 80 % of experiments

The test is `paired.compare_arms`'s, at 5 %. More tasks cannot make up for too few seeds where seeds differ.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy

from srft.critic.intervals import LEVEL
from srft.harness.statistics.paired import Array, Estimate, combined, variances

MOST_TASKS = 5000
"""Further than any benchmark goes: what needs more is not to be had by tasks."""
DRAWS = 10_000
"""Experiments: the power is right to half a point."""


class Spread(NamedTuple):
    """What a comparison of two arms varies by: standard deviations of shares, alike in both arms."""

    seeds: float
    """Of a seed's true share over all tasks."""
    cells: float
    """Of one seed on one task around what arm, seed and task would say: the attempts' noise, above all."""
    tasks: float
    """Of the arms' true difference, from task to task."""

    @classmethod
    def measured(cls, first_ST: Array, second_ST: Array) -> Self:
        """From two arms with the same tasks and at least two seeds in one of them. Estimates below 0 are 0."""
        tasks = first_ST.shape[-1]
        sides = [(len(rate_ST) - 1, variances(rate_ST)) for rate_ST in (first_ST, second_ST) if len(rate_ST) > 1]
        freedom = sum(degrees for degrees, _ in sides)
        cells = sum(degrees * of_side.cells for degrees, of_side in sides) / freedom
        seeds = sum(degrees * of_side.seeds for degrees, of_side in sides) / freedom - cells / tasks
        of_difference = (second_ST.mean(axis=0) - first_ST.mean(axis=0)).var(ddof=1)
        of_tasks = of_difference - cells * (1 / len(first_ST) + 1 / len(second_ST))
        return cls(*(float(max(0.0, variance)) ** 0.5 for variance in (seeds, cells, of_tasks)))


def power(effect: float, *, seeds: int, tasks: int, spread: Spread) -> float:
    """The share of experiments with so many seeds an arm that find a true difference of `effect` significant.

    Draws the estimates of the test (normal and chi-squared) and not the verdicts. One attempt a task is assumed for the
    two tasks that the test adds.
    """
    random = numpy.random.default_rng(0)
    noise = spread.cells**2 / (seeds * tasks)
    over_seeds, over_tasks = spread.seeds**2 / seeds + noise, spread.tasks**2 / tasks + 2 * noise
    value_N = random.normal(effect, (over_tasks + 2 * over_seeds - 2 * noise) ** 0.5, DRAWS)
    of_seeds_SN = over_seeds * random.chisquare(seeds - 1, (2, DRAWS)) / (seeds - 1)
    of_tasks_N = over_tasks * random.chisquare(tasks - 1, DRAWS) / (tasks - 1) + 2 / (seeds * tasks) ** 2
    error_N, degrees_N = combined(of_tasks_N, tasks, [(of_side_N, seeds, noise) for of_side_N in of_seeds_SN])
    return float((Estimate(value_N, error_N, degrees_N).p_value() < LEVEL).mean())


def tasks_needed(effect: float, *, seeds: int, spread: Spread, wanted: float = 0.8) -> int | None:
    """The least number of tasks, in tens, that finds the effect with this power; `None` where `MOST_TASKS` do not."""
    low, high = 0, MOST_TASKS // 10
    if power(effect, seeds=seeds, tasks=10 * high, spread=spread) < wanted:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(effect, seeds=seeds, tasks=10 * middle, spread=spread) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return 10 * high
