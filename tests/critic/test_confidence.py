"""Confidences: their curve, and the threshold that is chosen by them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.critic.confidence import Bin, reliability
from srft.critic.labels.label_sets import JudgedRun, judged_runs
from srft.critic.labels.labels import StepLabel


def run(id, *steps):
    """steps: (harmful, flagged, confidence)."""
    harmful, flagged, sure = zip(*steps, strict=True)
    places = tuple(place / len(steps) for place in range(len(steps)))
    return JudgedRun(id=id, harmful=harmful, flagged=flagged, places=places, confidences=sure)


SURE, UNSURE = (True, True, 0.95), (False, True, 0.35)


def test_the_curve():
    told = reliability([run("a", SURE, UNSURE, (False, False, 1.0), (True, None, None)), run("b", (True, False, 0.3))])
    assert told.curve[9] == Bin(steps=2, confidence=pytest.approx(0.975), right=1, flagged=1, flags_right=1)
    assert told.curve[3] == Bin(steps=2, confidence=pytest.approx(0.325), right=0, flagged=1, flags_right=0)
    assert told.curve[0] == Bin(steps=0, confidence=None, right=None, flagged=0, flags_right=None)
    # Two bins of two verdicts: off by 0.025 and by 0.325.
    assert told.error == pytest.approx((0.025 + 0.325) / 2)


def test_a_tenth_belongs_to_the_bin_that_it_begins():
    told = reliability([run("a", *((True, True, tenth / 10) for tenth in range(11)))])
    assert [one.steps for one in told.curve] == [1] * 9 + [2]


def test_the_threshold_takes_out_what_is_unsure_and_wrong():
    threshold = reliability([run(name, SURE, UNSURE) for name in "abc"]).threshold
    assert threshold.min_confidence == 0.95
    assert (threshold.precision, threshold.recall, threshold.f1) == (1, 1, 1)
    assert threshold.f1_of_all == pytest.approx(2 * 3 / (6 + 3))
    assert threshold.f1_held_out == 1


def test_where_no_threshold_wins_there_is_none():
    threshold = reliability([run(name, (True, True, 0.2), (False, False, 0.9)) for name in "ab"]).threshold
    assert (threshold.min_confidence, threshold.f1, threshold.f1_of_all) == (None, 1, 1)


def test_held_out_runs_do_not_choose_their_own_threshold():
    # Of both runs 0.6 is best. Run a alone would take 0.9, which finds nothing in b.
    runs = [run("a", (True, True, 0.9), (False, True, 0.5)), run("b", (True, True, 0.6))]
    threshold = reliability(runs).threshold
    assert (threshold.min_confidence, threshold.f1) == (0.6, 1)
    # a at b's threshold (all flags: 2, of which 1 is right), b at a's (0.6: none is lost; the lowest of equals)
    assert threshold.f1_held_out == pytest.approx(2 * 2 / (3 + 2))


def test_a_flag_without_a_confidence_always_counts():
    threshold = reliability([run("a", (True, True, None), UNSURE, SURE)]).threshold
    assert (threshold.min_confidence, threshold.recall) == (0.95, 1)


def test_a_run_without_confidences_keeps_all_its_flags():
    bare = JudgedRun(id="b", harmful=(True, False), flagged=(True, True), places=(0.25, 0.75))
    threshold = reliability([run("a", UNSURE, SURE), bare]).threshold
    assert (threshold.min_confidence, threshold.precision, threshold.recall) == (0.95, 2 / 3, 1)


def test_of_many_confidences_a_hundred_are_tried():
    steps = [(place > 499, True, place / 1000) for place in range(1000)]
    threshold = reliability([run("a", *steps)]).threshold
    # One of a hundred quantiles, which is a confidence that was given, a tenth of a bin around the best.
    assert threshold.min_confidence in {place / 1000 for place in range(490, 511)}
    assert threshold.f1 > 0.98


def test_without_confidences_there_is_nothing():
    assert reliability([run("a", (True, True, None))]) is None
    bare = judged_runs({"r": {0: StepLabel(step=0, verdict="mistake")}}, {"c": {"r": {}}}).runs["c"]
    assert (bare[0].confidences, reliability(bare)) == ((), None)


STEP = st.tuples(st.booleans(), st.sampled_from([True, False, None]), st.sampled_from([None, 0.0, 0.2, 0.5, 0.9, 1.0]))


@given(st.lists(st.lists(STEP, min_size=1, max_size=8), min_size=1, max_size=5))
def test_the_threshold_is_the_best_of_all(steps):
    runs = [run(str(place), *one) for place, one in enumerate(steps)]
    told = reliability(runs)
    if told is None:
        return

    def f1(least):
        kept = [(h, f is True and (c is None or c >= least)) for one in steps for h, f, c in one]
        both = sum(h for h, _ in kept) + sum(f for _, f in kept)
        return 2 * sum(h and f for h, f in kept) / both if both else None

    given = {c for one in steps for _, f, c in one if f and c is not None}
    every = [value for least in (0.0, *given) if (value := f1(least)) is not None]
    best = told.threshold.f1
    assert best == (pytest.approx(max(every)) if every else None)
    if told.threshold.min_confidence is not None:
        assert f1(told.threshold.min_confidence) == pytest.approx(best)
