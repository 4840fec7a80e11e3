"""Planning: the power that is computed is the power that simulated experiments have."""

import numpy
import pytest

from srft.harness.statistics.power import Spread, power, tasks_needed
from tests.harness.statistics.simulated import World, of_arms, significant, true_spread


def test_what_varies_is_measured():
    """By large experiments: seeds differ by 5 points, cells by 40, and the arms' difference by 14 from task to task."""
    spread = true_spread(World(seed=0.3, arm_task=0.8))
    assert spread == pytest.approx((0.050, 0.402, 0.141), abs=0.005)
    assert true_spread(World()).seeds < 0.003


def test_it_is_measured_by_hand():
    first_ST, second_ST = numpy.array([[0.0, 1.0], [1.0, 1.0]]), numpy.array([[0.0, 0.0]])
    found = Spread.measured(first_ST, second_ST)
    assert found.cells == pytest.approx(0.25**0.5)
    assert found.seeds == pytest.approx((0.125 - 0.25 / 2 + 0) ** 0.5)
    assert found.tasks == 0.0  # the difference varies by 1/8 between the tasks, and noise alone by 3/8


def test_sides_count_by_their_degrees_of_freedom():
    random = numpy.random.default_rng(0)
    first_ST, second_ST = random.random((3, 6)), random.random((5, 6))
    found = Spread.measured(first_ST, second_ST)
    residuals = [
        side - side.mean(axis=1, keepdims=True) - side.mean(axis=0) + side.mean() for side in (first_ST, second_ST)
    ]
    cells = sum((residual**2).sum() for residual in residuals) / (2 * 5 + 4 * 5)
    assert found.cells**2 == pytest.approx(cells)
    means = sum(degrees * side.mean(axis=1).var(ddof=1) for degrees, side in ((2, first_ST), (4, second_ST))) / 6
    assert found.seeds**2 == pytest.approx(max(0, means - cells / 6))
    of_tasks = (second_ST.mean(axis=0) - first_ST.mean(axis=0)).var(ddof=1) - cells * (1 / 3 + 1 / 5)
    assert found.tasks**2 == pytest.approx(max(0, of_tasks))


def test_the_least_number_of_tasks():
    spread = Spread(seeds=0.017, cells=0.4, tasks=0.0)
    needed = tasks_needed(0.05, seeds=5, spread=spread)
    assert needed % 10 == 0
    assert power(0.05, seeds=5, tasks=needed, spread=spread) >= 0.8
    assert power(0.05, seeds=5, tasks=needed - 10, spread=spread) < 0.8
    assert tasks_needed(0.05, seeds=5, spread=spread, wanted=0.9) > needed
    assert tasks_needed(0.9, seeds=5, spread=spread) == 10


def test_tasks_do_not_make_up_for_seeds():
    spread = Spread(seeds=0.05, cells=0.4, tasks=0.0)
    assert tasks_needed(0.05, seeds=5, spread=spread) is None
    assert tasks_needed(0.05, seeds=30, spread=spread) < 500


def test_the_same_question_has_the_same_answer():
    spread = Spread(seeds=0.02, cells=0.4, tasks=0.1)
    assert power(0.05, seeds=4, tasks=100, spread=spread) == power(0.05, seeds=4, tasks=100, spread=spread)


def test_arms_that_never_vary():
    """What is left are the two tasks that the test adds."""
    assert power(0.05, seeds=3, tasks=100, spread=Spread(0.0, 0.0, 0.0)) == 1.0
    assert power(0.0, seeds=3, tasks=100, spread=Spread(0.0, 0.0, 0.0)) == 0.0
    assert tasks_needed(0.05, seeds=3, spread=Spread(0.0, 0.0, 0.0)) == 20


@pytest.mark.parametrize("number", [3, 8])
@pytest.mark.parametrize("deviation", [0.0, 0.3])
@pytest.mark.parametrize("arm_task", [0.0, 0.8])
def test_power_is_that_of_experiments(number, deviation, arm_task):
    world = World(seed=deviation, arm_task=arm_task).with_difference(0.1)
    first, second = world.draw(numpy.random.default_rng(0), 2000, seeds=(number, number))
    computed = power(0.1, seeds=number, tasks=world.tasks, spread=true_spread(world))
    assert computed == pytest.approx(significant(of_arms(first, second)), abs=0.04)
