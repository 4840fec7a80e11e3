"""Which steps and tokens carry loss, arm by arm."""

from typing import get_args

import msgspec
import numpy
import pytest

from srft.critic.labels.labels import StepLabel
from srft.train.rows.mask import (
    ARMS,
    Arm,
    MaskPolicy,
    Part,
    RunFacts,
    label_source,
    left_out,
    step_weights,
    token_weights,
)

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
        (SOLVED._replace(tampering=True), {"all"}),
        (FAILED._replace(tampering=True), set(ARMS) - {"resolved"}),
    ],
)
def test_which_runs_an_arm_takes(facts, arms):
    assert {arm for arm in ARMS if left_out(facts, MaskPolicy(arm=arm)) is None} == arms


@pytest.mark.parametrize(
    ("facts", "arm", "reason"),
    [
        (FAILED._replace(stop_reason="infra_error", steps=0), "all", "infra_error"),
        (FAILED._replace(stop_reason="cancelled"), "all", "cancelled"),
        (FAILED._replace(steps=0, resolved=None), "srft", "no_steps"),
        (FAILED._replace(resolved=None, labels={}), "srft", "outcome_unknown"),
        (FAILED, "resolved", "unresolved"),
        (SOLVED, "unresolved_masked", "resolved"),
        (FAILED._replace(labels={}), "srft", "unlabelled"),
        (SOLVED._replace(tampering=True), "srft", "tampering"),
        (SOLVED._replace(tampering=True), "unresolved_masked", "resolved"),
    ],
)
def test_why_a_run_is_left_out(facts, arm, reason):
    assert left_out(facts, MaskPolicy(arm=arm)) == reason


@pytest.mark.parametrize("arm", sorted(set(ARMS) - {"all", "resolved"}))
def test_a_run_with_too_few_verdicts_is_unlabelled_in_every_arm_that_needs_labels(arm):
    def reason(judged, steps=10, **policy):
        labels = {step: StepLabel(step=step, verdict="good") for step in range(judged)}
        labels |= {step: StepLabel(step=step, verdict=None) for step in range(judged, steps)}
        return left_out(FAILED._replace(steps=steps, labels=labels), MaskPolicy(arm=arm, **policy))

    assert [reason(judged) for judged in (0, 1, 4, 5, 10)] == [*["unlabelled"] * 3, None, None]
    assert [reason(judged, labelled_share=0.1) for judged in (0, 1)] == ["unlabelled", None]
    assert reason(0, labelled_share=0.0) == "unlabelled"
    assert reason(1, steps=1) is None


def test_where_the_labels_of_an_arm_come_from():
    assert {arm: label_source(arm) for arm in ARMS} == {
        "all": None,
        "resolved": None,
        "unresolved_masked": "critic",
        "srft": "critic",
        "random": "critic",
        "tool_error": "tool_error",
        "human": "human",
        "oracle": "oracle",
    }
    assert get_args(Arm) == ARMS


def test_the_policy_unless_said_otherwise():
    assert msgspec.to_builtins(MaskPolicy()) == {
        "arm": "srft",
        "good": 1.0,
        "unnecessary": 1.0,
        "mistake": 0.0,
        "recover": 1.0,
        "unlabelled": 1.0,
        "min_confidence": None,
        "mask_resolved": False,
        "train": "thought_and_action",
        "failed_submit": None,
        "labelled_share": 0.5,
        "seed": 0,
    }


@pytest.mark.parametrize("weight", [0, 0.5, 1000])
def test_weights_that_may_be(weight):
    assert msgspec.convert({"good": weight}, MaskPolicy).good == weight


@pytest.mark.parametrize(
    "given",
    [
        {"good": -0.001},
        {"failed_submit": 1000.001},
        {"min_confidence": 1.001},
        {"min_confidence": -0.001},
        {"goood": 1.0},
        {"arm": "none"},
        {"train": "thought"},
    ],
)
def test_policies_that_may_not_be(given):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, MaskPolicy)


def test_a_policy_is_a_value():
    with pytest.raises(AttributeError):
        MaskPolicy().seed = 1
    with pytest.raises(TypeError):
        MaskPolicy("srft")
    assert len({MaskPolicy(), MaskPolicy(), MaskPolicy(seed=1)}) == 2


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
    assert weights(facts, arm="srft") == [0, 0, 0], "without a threshold every label counts"


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


def test_random_masks_stay_the_same_from_version_to_version():
    assert weights(FAILED, arm="random") == [1, 1, 0, 1, 0, 1]
    assert weights(FAILED, arm="random", seed=1) == [1, 1, 0, 1, 1, 0]


def test_weights_are_of_the_type_that_rows_hold():
    assert step_weights(FAILED, MaskPolicy()).dtype == numpy.float32
    assert token_weights(STEPS, PARTS, STEP_WEIGHTS.astype(float), train="action").dtype == numpy.float32


def test_parts_are_numbered_as_on_file():
    assert {part.name: part.value for part in Part} == {"CONTEXT": 0, "THOUGHT": 1, "ACTION": 2, "END": 3}


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
