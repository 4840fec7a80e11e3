"""Promotion: hand-made evaluations, and how often the rule is wrong, by simulation."""

import msgspec
import numpy
import pytest

from srft.harness.loop.promotion import Promotion, decide, is_promoted
from srft.harness.statistics.paired import compare_models, tasks_estimate
from tests.harness.statistics.simulated import World, gained_in_a_loop, of_models


def resolved(number, *, of=40, first=0):
    """So many of the tasks, from the first-th on."""
    return {f"t{place}": [first <= place < first + number] for place in range(of)}


def decided(before, after, rule=Promotion(), **options):  # noqa: B008
    return decide(rule, before, after, **({"tasks": len(before)} | options))


def test_one_task_less_is_no_reason_to_roll_back():
    for first in (0, 1, 5, 29):  # however many of them are other tasks
        assert decided(resolved(12), resolved(11, first=first)).promoted


def test_ten_tasks_less_are():
    for first in (0, 11, 38):
        assert not decided(resolved(12), resolved(2, first=first)).promoted


def test_a_better_and_an_equal_model_are_promoted():
    assert decided(resolved(0), resolved(1)).promoted
    assert decided(resolved(12), resolved(12)).promoted
    assert decided(resolved(0), resolved(0)).promoted
    assert decided(resolved(40), resolved(40)).promoted


def test_two_tasks_lost_of_two_roll_back():
    assert not decided(resolved(2, of=2), resolved(0, of=2)).promoted


def test_what_is_noted():
    before, after = resolved(12), resolved(2)
    decision = decided(before, after)
    estimate = tasks_estimate(numpy.array([-1] * 10 + [0] * 30))
    assert decision.bound == pytest.approx(float(estimate.bound(0.8)))
    assert decision.comparison == compare_models(before, after)
    figures = decision.figures()
    assert (figures["tasks"], figures["difference"], figures["gained"], figures["lost"]) == (40, -0.25, 0, 10)
    assert figures["interval"] == decision.comparison.interval
    assert figures["bound"] == decision.bound
    assert decision.why.replace("\u00a0", " ") == (
        "−25.0 points (95 % interval −38.9 to −8.7), at most −17.5 points by the rule's confidence"
    )
    assert Promotion(margin=0.05).text() == (
        "rolled back if the true difference is below -5 points with 80 % confidence (margin 0.05, level 0.2)"
    )
    assert "below 0 points with 95 %" in Promotion(level=0.05).text()


@pytest.mark.parametrize(
    ("rule", "promoted"),
    [
        (Promotion(level=0.05), True),
        (Promotion(), False),
        (Promotion(margin=0.05), True),
        (Promotion(level=0.5), False),
        (Promotion(level=0.5, margin=0.1), True),
        (Promotion(level=0.95, margin=0.1), False),
        (Promotion(level=0.95, margin=0.3), True),
    ],
)
def test_margin_and_level(rule, promoted):
    """Nine lost and five gained of 40."""
    assert decided(resolved(14, first=0), resolved(10, first=9), rule).promoted == promoted


def test_the_measured_difference_alone():
    """Level 0.5 goes by it to the task, the margin included."""
    rule = Promotion(level=0.5)
    assert decided(resolved(12), resolved(12, first=20), rule).promoted
    assert not decided(resolved(12), resolved(11), rule).promoted


def test_all_attempts_of_a_task_count():
    before = {f"t{place}": [True, True, False, False] for place in range(40)}
    after = {f"t{place}": [True, False, False, False] for place in range(40)}
    decision = decided(before, after)
    assert (decision.promoted, decision.comparison.difference, decision.comparison.only_first) == (False, -0.25, 40)


def test_what_was_not_graded_is_no_failure():
    """Ten of the tasks were ended by infrastructure; on the others the models are alike."""
    after = {task: [] if place < 10 else verdicts for place, (task, verdicts) in enumerate(resolved(12).items())}
    decision = decided(resolved(12), after)
    assert (decision.promoted, decision.comparison.tasks, decision.comparison.difference) == (True, 30, 0.0)
    some = {task: verdicts[:1] for task, verdicts in resolved(12).items()}
    assert decided({task: verdicts * 2 for task, verdicts in resolved(12).items()}, some).promoted


def test_an_interrupted_evaluation_promotes_nothing():
    better = resolved(40)
    part = dict(list(better.items())[:30])
    decision = decided(resolved(0), part, missing=10)
    assert (decision.promoted, decision.comparison, decision.bound) == (False, None, None)
    assert decision.why == "the evaluation is not complete: 10 attempts are missing"
    assert set(decision.figures().values()) == {None}


@pytest.mark.parametrize(("graded", "promoted"), [(0, False), (19, False), (20, True)])
def test_too_little_graded_promotes_nothing(graded, promoted):
    after = {task: [True] if place < graded else [] for place, task in enumerate(resolved(40))}
    decision = decided(resolved(0), after)
    assert decision.promoted == promoted
    if not promoted:
        assert decision.why == f"only {graded} of 40 tasks have a verdict for both models"


def test_a_base_model_without_a_verdict():
    assert not decided({task: [] for task in resolved(1)}, resolved(40)).promoted
    assert not decided({}, {}, tasks=0).promoted


@pytest.mark.parametrize("setting", [{"margin": -0.1}, {"margin": 1.1}, {"level": 0}, {"level": 1}])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(msgspec.ValidationError, match=next(iter(setting))):
        msgspec.convert(setting, Promotion)


@pytest.mark.parametrize(
    ("tasks", "points", "least", "most"),
    [
        (40, -20, 0, 12),
        (40, 0, 78, 86),
        (40, 10, 95, 100),
        (100, -10, 10, 25),
        (100, 0, 76, 84),
        (200, -10, 0, 9),
        (200, 5, 95, 100),
        (500, -5, 8, 20),
        (500, -10, 0, 1),
        (500, 5, 98, 100),
    ],
)
def test_how_often_a_model_is_promoted(tasks, points, least, most):
    """Docs: compare-models.md has the table."""
    world = World(tasks=tasks, arm_task=0.8).with_difference(points / 100)
    estimate = of_models(*world.draw(numpy.random.default_rng(0), 1000, seeds=(1, 1)))
    assert least <= 100 * is_promoted(Promotion(), estimate).mean() <= most


def test_over_rounds_the_default_is_never_far_behind():
    """Of 0.05, 0.5 and the default, on 40 tasks: where rounds help, doubt must not cost them; else evidence counts."""

    def gain(level, mean):
        random = numpy.random.default_rng(0)
        return gained_in_a_loop(random, Promotion(level=level), tasks=40, mean=mean, deviation=0.3, loops=1500)

    assert gain(0.2, 0.2) > gain(0.5, 0.2) + 0.1
    assert gain(0.2, 0.0) > gain(0.05, 0.0) + 0.08
    assert gain(0.2, 0.0) > gain(0.95, 0.0)
