"""Scores of runs beside their outcomes."""

import itertools

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.critic.intervals import jackknife_interval
from srft.critic.labels.labels import Critique, StepLabel
from srft.critic.separation import Judgement, Scored, by_outcome, run_score, separation

LETTERS = {"g": "good", "u": "unnecessary", "m": "mistake", "r": "recover", "-": None}


def critique(letters, *, run="r", task="t", critic="c", information="none", **remarks):
    return Critique(
        trajectory_id=run,
        task_id=task,
        critic=critic,
        fingerprint="f",
        source="rule",
        information=information,
        labels=tuple(StepLabel(step=step, verdict=LETTERS[letter]) for step, letter in enumerate(letters)),
        remarks=remarks,
    )


def test_the_area_by_hand():
    runs = [Scored("a", 0.9, True), Scored("b", 0.5, True), Scored("c", 0.5, False), Scored("d", 0.1, False)]
    found = separation(runs)
    # Of four pairs three are won and one is a tie.
    assert (found.auc, found.runs, found.resolved, found.tasks) == (3.5 / 4, 4, 2, 4)
    assert found.interval[0] < found.auc <= found.interval[1] <= 1


@pytest.mark.parametrize("resolved", [True, False])
def test_where_all_came_to_the_same_there_is_no_area(resolved):
    found = separation([Scored("a", 0.1, resolved), Scored("b", 0.9, resolved)])
    assert (found.auc, found.interval) == (None, None)


def test_scores_the_other_way_round_are_below_a_half():
    assert separation([Scored("a", 0.1, True), Scored("b", 0.9, False)]).auc == 0


def test_attempts_at_one_task_are_one_unit():
    """A task's runs copied ten times say nothing more of other tasks."""
    runs = [Scored("a", 0.9, True), Scored("b", 0.2, False), Scored("c", 0.3, True), Scored("d", 0.4, False)]
    runs += [Scored("e", 0.8, True), Scored("f", 0.1, False)]
    assert separation(runs * 10).interval == pytest.approx(separation(runs).interval)


@given(
    st.lists(
        st.builds(Scored, st.sampled_from("abcd"), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()),
        min_size=2,
        max_size=12,
    )
)
def test_the_area_is_its_definition_also_without_each_task(runs):
    def slow(chosen):
        pairs = list(
            itertools.product([one for one in chosen if one.resolved], [one for one in chosen if not one.resolved])
        )
        won = sum((good.score > bad.score) + (good.score == bad.score) / 2 for good, bad in pairs)
        return won / len(pairs) if pairs else None

    found = separation(runs)
    assert found.auc == (None if slow(runs) is None else pytest.approx(slow(runs)))
    tasks = sorted({run.task for run in runs})
    without = [slow([run for run in runs if run.task != task]) for task in tasks]
    expected = None if found.auc is None or None in without else jackknife_interval(found.auc, numpy.array(without))
    assert found.interval == (None if expected is None else pytest.approx((max(0, expected[0]), expected[1])))


def test_the_score_of_a_run():
    assert run_score(critique("gmmg-")) == 1 / 2
    assert run_score(critique("--")) is None
    assert run_score(critique("mm", milestones=4, reached=3)) == 3 / 4
    assert run_score(critique("gg", milestones=4)) == 0  # a remark of nothing is left out


def test_critics_beside_outcomes():
    judgements = [
        Judgement(critique("mm", run="a"), True, [False, False]),
        Judgement(critique("gm", run="a"), True, [False, True]),
        Judgement(critique("mmm-", run="b"), False, [True, False, None, True]),
        Judgement(critique("g", run="c"), None, [False]),
        Judgement(critique("g", run="a", critic="edits", information="outcome"), True, [False]),
    ]
    found = by_outcome(judgements)
    assert list(found) == ["c", "edits"]
    one = found["c"]
    assert one.runs == {"resolved": 1, "unresolved": 1, "unknown": 1}
    assert one.verdicts == {
        "resolved": {"good": 1, "mistake": 1},
        "unresolved": {"mistake": 3, "abstained": 1},
        "unknown": {"good": 1},
    }
    assert (one.separation.auc, one.separation.runs, one.was_told, found["edits"].was_told) == (1, 2, False, True)
    told = [*judgements, Judgement(critique("g", run="d", information="outcome"), True, [False])]
    assert by_outcome(told)["c"].was_told  # of one run is enough
    # Steps that both judged: 2 of a, 2 of b, 1 of c; both mistakes: 1 and 1; the critic's 3, the rule's 2.
    # Agreed on 4 of 5; by chance 3/5 * 2/5 + 2/5 * 3/5 = 12/25.
    assert one.agreement == pytest.approx((4 / 5 - 12 / 25) / (1 - 12 / 25))
