"""Experiments whose truth is known, to see how often an interval or a test is wrong.

    python -m tests.harness.statistics.simulated          # the tables of docs/compare-models.md, in half a minute

Each draws difficulties of tasks, levels of seeds, and attempts. Arrays are (N, S, T): experiments, seeds, tasks.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from srft.harness.loop.promotion import Promotion, is_promoted
from srft.harness.statistics.paired import Estimate, tasks_estimate
from srft.harness.statistics.power import Spread, power, tasks_needed

Array = NDArray[numpy.float64]

_QUADRATURE = numpy.polynomial.hermite_e.hermegauss(60)
DIFFICULTY = 1.5
"""Standard deviation of the tasks' difficulty, in logits."""


class World(NamedTuple):
    """What experiments are drawn from; all but the numbers of tasks and attempts in logits."""

    tasks: int = 90
    attempts: int = 1
    mean: float = -0.7  # of the first arm: a third of the tasks are resolved
    effect: float = 0.0  # of the second arm
    seed: float = 0.0  # standard deviation of a seed's level
    seed_task: float = 0.0  # of a seed's own change of a task
    arm_task: float = 0.0  # of the arms' difference from task to task
    shared: float = 0.0  # correlation of the same seed's levels in both arms
    heavy_tails: bool = False  # of the seeds' levels

    def draw(
        self, random: numpy.random.Generator, experiments: int, *, seeds: tuple[int, int], first_is_given: bool = False
    ) -> tuple[Array, Array]:
        """The shares of resolved attempts of both arms."""
        difficulty = random.normal(self.mean, DIFFICULTY, (experiments, 1, self.tasks))
        change = random.normal(0, 1, (experiments, 1, self.tasks)) * self.arm_task
        both = self._levels(random, experiments, max(seeds))
        rates = []
        for side, number in enumerate(seeds):
            own = self._levels(random, experiments, number)
            level = self.shared**0.5 * both[:, :number] + (1 - self.shared) ** 0.5 * own
            if first_is_given and side == 0:
                level = 0 * level
            of_task = random.normal(0, 1, (experiments, number, self.tasks)) * self.seed_task
            logit = difficulty + (change / 2 + self.effect) * side - change / 2 * (1 - side) + level + of_task
            rates.append(random.binomial(self.attempts, 1 / (1 + numpy.exp(-logit))) / self.attempts)
        return rates[0], rates[1]

    def _levels(self, random: numpy.random.Generator, experiments: int, seeds: int) -> Array:
        shape = (experiments, seeds, 1)
        drawn = random.standard_t(3, shape) / 3**0.5 if self.heavy_tails else random.normal(0, 1, shape)
        return drawn * self.seed

    def truth(self, *, first_is_given: bool = False) -> tuple[float, float]:
        """The arms' expected shares, over all tasks and seeds: by quadrature, as all levels are normal."""
        of_tasks = DIFFICULTY**2 + self.arm_task**2 / 4 + self.seed_task**2
        first = _expected(self.mean, of_tasks + (0 if first_is_given else self.seed**2))
        return first, _expected(self.mean + self.effect, of_tasks + self.seed**2)

    def with_difference(self, difference: float) -> World:
        """The same with an effect that makes the second arm resolve so much more."""
        low, high = -8.0, 8.0
        for _ in range(40):
            middle = (low + high) / 2
            first, second = self._replace(effect=middle).truth()
            low, high = (middle, high) if second - first < difference else (low, middle)
        return self._replace(effect=high)


def _expected(mean: float, variance: float) -> float:
    """Of the chance of a success whose logit is normal."""
    place_N, weight_N = _QUADRATURE
    chance_N = 1 / (1 + numpy.exp(-(mean + variance**0.5 * place_N)))
    return float((weight_N * chance_N).sum() / weight_N.sum())


def of_arms(first: Array, second: Array, *, attempts_at_a_task: int = 1) -> Estimate:
    attempts = attempts_at_a_task * min(first.shape[1], second.shape[1])
    return tasks_estimate(second.mean(axis=1) - first.mean(axis=1), first, second, attempts=attempts)


def of_models(first: Array, second: Array, *, attempts: int = 1) -> Estimate:
    return tasks_estimate(second[:, 0] - first[:, 0], attempts=attempts)


def significant(estimate: Estimate) -> float:
    """The share of experiments with p below 0.05."""
    return float((estimate.p_value() < 0.05).mean())


def covered(estimate: Estimate, truth: float) -> float:
    """The share of experiments whose 95 % interval has the truth in it."""
    return float(((estimate.bound(0.025) <= truth) & (truth <= estimate.bound(0.975))).mean())


LOOPS = ((0.0, 0.3), (0.1, 0.3), (0.2, 0.3), (0.3, 0.3), (0.1, 0.6), (-0.1, 0.3))
"""(mean, standard deviation) of what a round changes, in logits; 0.3 are about 5 points."""
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.95)


def gained_in_a_loop(
    random: numpy.random.Generator,
    rule: Promotion,
    *,
    tasks: int,
    mean: float,
    deviation: float,
    loops: int = 3000,
    rounds: int = 5,
) -> float:
    """The mean gain in logits of the model that stands after the rounds; each round changes the model that stands."""
    difficulty = random.normal(-0.7, DIFFICULTY, (loops, tasks))

    def measured(level: Array) -> Array:
        return (random.random((loops, tasks)) < 1 / (1 + numpy.exp(-(difficulty + level)))) * 1.0

    stands = numpy.zeros((loops, 1))
    before = measured(stands)
    for _ in range(rounds):
        new = stands + random.normal(mean, deviation, (loops, 1))
        after = measured(new)
        promoted = is_promoted(rule, tasks_estimate(after - before))[:, None]
        stands, before = numpy.where(promoted, new, stands), numpy.where(promoted, after, before)
    return float(stands.mean())


def _print_false_positives(experiments: int = 4000) -> None:
    print("False 'significant' at 5 %, 90 tasks, two arms of equal truth; s: a seed's standard deviation (logit)")
    for label, seeds, given in [
        *((f"{n} against {n}", (n, n), False) for n in (2, 3, 5, 8)),
        *((f"{n} against a given model", (1, n), True) for n in (3, 4, 5, 8)),
    ]:
        found, by_tasks = [], []
        for deviation in (0.0, 0.3, 0.6):
            world, random = World(seed=deviation), numpy.random.default_rng(0)
            first, second = world.draw(random, experiments, seeds=seeds, first_is_given=given)
            found.append(significant(of_arms(first, second)))
            means = (side.mean(axis=1, keepdims=True) for side in (first, second))
            by_tasks.append(significant(of_models(*means, attempts=min(seeds))))
        figures = (", ".join(f"{100 * share:.1f} %" for share in shares) for shares in (found, by_tasks))
        print(f"  {label}: s = 0, 0.3, 0.6: {next(figures)}; by tasks alone {next(figures)}")


def _print_power(experiments: int = 4000) -> None:
    print("Power for 10 points, 90 tasks, computed and simulated (seed's standard deviation in logits)")
    for seeds in (3, 5, 8):
        for deviation in (0.0, 0.3, 0.6):
            world = World(seed=deviation).with_difference(0.1)
            first, second = world.draw(numpy.random.default_rng(0), experiments, seeds=(seeds, seeds))
            spread = true_spread(world)
            computed = power(0.1, seeds=seeds, tasks=90, spread=spread)
            print(f"  {seeds} seeds, s = {deviation}: {computed:.2f}, {significant(of_arms(first, second)):.2f}")
    print("Tasks needed for 5 points at 80 %")
    for deviation in (0.0, 0.1, 0.2, 0.3):
        spread = true_spread(World(seed=deviation))
        needed = {seeds: tasks_needed(0.05, seeds=seeds, spread=spread) for seeds in (3, 4, 5, 6, 8, 10)}
        print(f"  s = {deviation} ({100 * spread.seeds:.1f} points): {needed}")


def true_spread(world: World) -> Spread:
    """As large experiments measure it."""
    first, second = world._replace(tasks=4000).draw(numpy.random.default_rng(2), 40, seeds=(8, 8))
    found = [Spread.measured(*pair) for pair in zip(first, second, strict=True)]
    return Spread(*(float(numpy.sqrt(numpy.mean([one[field] ** 2 for one in found]))) for field in range(3)))


def _print_promotions(experiments: int = 8000) -> None:
    print("Promoted, in %, of models that are truly so many points better: by level, margin 0")
    for tasks in (40, 100, 200, 500):
        for points in (-20, -10, -5, 0, 5, 10):
            world = World(tasks=tasks, arm_task=0.8).with_difference(points / 100)
            estimate = of_models(*world.draw(numpy.random.default_rng(0), experiments, seeds=(1, 1)))
            shares = [100 * is_promoted(Promotion(level=level), estimate).mean() for level in LEVELS]
            print(f"  {tasks} tasks, {points:+d}: {', '.join(f'{share:.0f}' for share in shares)}  {LEVELS}")
    print("Gained in five rounds, in logits")
    for tasks in (40, 100, 200, 500):
        for mean, deviation in LOOPS:
            random = numpy.random.default_rng(0)
            gains = (
                gained_in_a_loop(random, Promotion(level=level), tasks=tasks, mean=mean, deviation=deviation)
                for level in LEVELS
            )
            shown = ", ".join(f"{gain:.2f}" for gain in gains)
            print(f"  {tasks} tasks, a round changes {mean} +- {deviation}: {shown}")


if __name__ == "__main__":
    tables = {"errors": _print_false_positives, "power": _print_power, "promotion": _print_promotions}
    for name in sys.argv[1:] or tables:
        tables[name]()
