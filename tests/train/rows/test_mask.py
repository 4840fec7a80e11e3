"""Which steps and tokens carry loss, arm by arm."""

import numpy
import pytest

from srft.critic.labels.labels import StepLabel
from srft.train.rows.mask import ARMS, MaskPolicy, Part, RunFacts, left_out, step_weights, token_weights

VERDICTS = ("good", "mistake", "recover", "unnecessary", None, "mistake")
LABELS = {step: StepLabel(step=step, verdict=verdict) for step, verdict in enumerate(VERDICTS)}
FAILED = RunFacts("failed", 6, False, LABELS)
SOLVED = RunFacts("solved", 6, True, LABELS)


@pytest.mark.parametrize(
    ("facts", "arms"),
    [
        (FAILED, set(ARMS) - {"resolved"}),
        (SOLVED, set(ARMS) - {"unresolved_masked"}),
        (RunFacts("x", 6, None, LABELS), {"all"}),
        (RunFacts("x", 6, False, {}), {"all"}),
        (RunFacts("x", 6, True, {}), set(ARMS) - {"unresolved_masked"}),
        (RunFacts("x", 0, True, {}), set()),
        (RunFacts("x", 6, False, LABELS, "infra_error"), set()),
        (RunFacts("x", 6, True, LABELS, "cancelled"), set()),
        (RunFacts("x", 6, False, LABELS, "step_limit"), set(ARMS) - {"resolved"}),
    ],
)
def test_which_runs_an_arm_takes(facts, arms):
    assert {arm for arm in ARMS if left_out(facts, MaskPolicy(arm=arm)) is None} == arms


def weights(facts, **policy):
    return step_weights(facts, MaskPolicy(**policy)).tolist()


@pytest.mark.parametrize("arm", ["srft", "unresolved_masked", "tool_error", "human", "oracle"])
def test_a_mistake_of_an_unresolved_run_carries_no_loss(arm):
    assert weights(FAILED, arm=arm) == [1, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("arm", ["all", "resolved"])
def test_arms_without_a_mask(arm):
    assert weights(FAILED, arm=arm) == [1] * 6


def test_resolved_runs_are_whole_unless_said_otherwise():
    assert weights(SOLVED, arm="srft") == [1] * 6
    assert weights(SOLVED, arm="srft", mask_resolved=True) == [1, 0, 1, 1, 1, 0]


def test_every_verdict_has_its_weight():
    policy = {"good": 0.5, "unnecessary": 0.25, "mistake": 0.125, "recover": 2.0, "unlabelled": 0.0}
    assert weights(FAILED, arm="srft", **policy) == [0.5, 0.125, 2, 0.25, 0, 0.125]


def test_labels_below_the_threshold_do_not_count():
    labels = {step: StepLabel(step=step, verdict="mistake", confidence=c) for step, c in enumerate([0.4, 0.5, None])}
    facts = RunFacts("x", 3, False, labels)
    assert weights(facts, arm="srft", min_confidence=0.5) == [1, 0, 0]


def test_the_submission_of_a_failed_run():
    assert weights(FAILED, arm="srft", failed_submit=0.5)[-1] == 0.5
    assert weights(FAILED._replace(stop_reason="step_limit"), arm="srft", failed_submit=0.5)[-1] == 0
    assert weights(SOLVED, arm="srft", failed_submit=0.0)[-1] == 1
    assert weights(FAILED, arm="all", failed_submit=0.0)[-1] == 1


def test_random_masks_as_many_steps_of_each_run_at_other_places():
    masks = [weights(FAILED._replace(run_id=str(number)), arm="random") for number in range(50)]
    assert all(sorted(mask) == [0, 0, 1, 1, 1, 1] for mask in masks)
    assert len({tuple(mask) for mask in masks}) > 5
    assert masks[0] == weights(FAILED._replace(run_id="0"), arm="random")
    assert masks != [weights(FAILED._replace(run_id=str(n)), arm="random", seed=1) for n in range(50)]


STEPS = numpy.array([-1, 0, 0, 0, -1, 1, 1], dtype=numpy.int32)
PARTS = numpy.array(
    [Part.CONTEXT, Part.THOUGHT, Part.ACTION, Part.END, Part.CONTEXT, Part.THOUGHT, Part.END], dtype=numpy.uint8
)
STEP_WEIGHTS = numpy.array([0.5, 2.0], dtype=numpy.float32)


def test_token_weights():
    whole = token_weights(STEPS, PARTS, STEP_WEIGHTS, train="thought_and_action")
    assert whole.tolist() == [0, 0.5, 0.5, 0.5, 0, 2, 2]


def test_actions_alone_leave_out_steps_that_do_not_act():
    assert token_weights(STEPS, PARTS, STEP_WEIGHTS, train="action").tolist() == [0, 0, 0.5, 0.5, 0, 0, 0]
