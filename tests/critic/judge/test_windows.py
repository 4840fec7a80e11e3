"""Windows on long runs, their merging, and votes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from srft.critic.judge.answers import Opinion
from srft.critic.judge.votes import label
from srft.critic.judge.windows import Window, merge, plan_windows
from srft.critic.labels.labels import StepLabel


def test_what_fits_is_one_window():
    assert plan_windows(Window(0, 6), [10] * 6, room=60, overlap=3) == [Window(0, 6)]
    assert plan_windows(Window(0, 6), [10] * 6, room=float("inf"), overlap=3) == [Window(0, 6)]


def test_windows_overlap_and_cover():
    assert plan_windows(Window(0, 6), [40] * 6, room=130, overlap=1) == [Window(0, 3), Window(2, 5), Window(4, 6)]
    # At most a third of a window is shared: few steps are paid for twice.
    assert plan_windows(Window(0, 4), [40] * 4, room=80, overlap=9) == [Window(0, 2), Window(2, 4)]
    assert plan_windows(Window(0, 8), [40] * 8, room=120, overlap=9)[:2] == [Window(0, 3), Window(2, 5)]
    # None is shared where the next step would then not fit.
    assert plan_windows(Window(0, 4), [40, 40, 40, 90], room=120, overlap=1) == [Window(0, 3), Window(3, 4)]
    # A step that is too long has a window of its own.
    assert plan_windows(Window(2, 5), [0, 0, 9, 99, 9], room=20, overlap=1) == [
        Window(2, 3),
        Window(3, 4),
        Window(4, 5),
    ]


@given(
    st.lists(st.integers(min_value=1, max_value=100), min_size=1, max_size=40),
    st.integers(min_value=1, max_value=300),
    st.integers(min_value=0, max_value=6),
    st.data(),
)
def test_every_step_has_a_window_and_the_room_is_kept(costs, room, overlap, data):
    first = data.draw(st.integers(min_value=0, max_value=len(costs) - 1))
    windows = plan_windows(Window(first, len(costs)), costs, room=room, overlap=overlap)
    assert {step for window in windows for step in range(*window)} == set(range(first, len(costs)))
    assert all(sum(costs[window.first : window.end]) <= room or window.end == window.first + 1 for window in windows)
    assert all(one.first < other.first and one.end < other.end for one, other in pairwise(windows))


def told(verdict):
    return Opinion(verdict)


def test_the_window_in_which_a_step_lies_deeper_counts():
    early, late = Window(0, 6), Window(3, 9)
    # Distances to the nearest edge: step 3: 2 and 0; step 4: 1 and 1, a tie; step 5: 0 and 2.
    merged = merge(
        [(early, {step: told("good") for step in range(6)}), (late, {step: told("mistake") for step in range(3, 9)})]
    )
    assert [merged[step].verdict for step in range(9)] == ["good"] * 4 + ["mistake"] * 5


def test_of_equal_windows_the_later_counts_in_either_order():
    early, late = (Window(0, 3), {1: told("good"), 2: told("good")}), (Window(2, 3), {2: told("mistake")})
    assert merge([early, late])[2].verdict == "mistake"
    assert merge([late, early])[2].verdict == "mistake"


def test_a_verdict_wins_over_an_abstention():
    merged = merge([(Window(0, 5), {2: told(None)}), (Window(2, 5), {2: told("good")})])
    assert merged == {2: told("good")}
    assert merge([(Window(0, 5), {2: told(None)})]) == {2: told(None)}


def test_one_vote_is_the_label():
    assert label(3, [Opinion("good", 0.8, "Reads.")]) == StepLabel(
        step=3, verdict="good", confidence=0.8, reason="Reads."
    )
    assert label(3, [Opinion("good")]) == StepLabel(step=3, verdict="good")
    assert label(3, [Opinion(None, None, "Cut off.")]) == StepLabel(step=3, verdict=None, reason="Cut off.")


def test_the_majority_counts():
    votes = [Opinion("mistake", 0.5, "a"), Opinion("good", 1.0, "b"), Opinion("mistake", 0.75, "c"), Opinion(None)]
    assert label(0, votes) == StepLabel(
        step=0, verdict="mistake", confidence=0.3125, reason="c", votes={"mistake": 2, "good": 1, "abstained": 1}
    )
    assert label(0, [Opinion("good"), Opinion("good")]) == StepLabel(
        step=0, verdict="good", confidence=1.0, votes={"good": 2}
    )


def test_ties():
    def of(*verdicts):
        return label(0, [Opinion(verdict, 1.0, "r") for verdict in verdicts])

    assert of("mistake", "good") == StepLabel(step=0, verdict=None, votes={"mistake": 1, "good": 1})
    assert of("mistake", "unnecessary").verdict is None
    assert of("unnecessary", "good").verdict == "good"
    assert of("unnecessary", "recover").verdict == "recover"
    assert of("mistake", "mistake", "good", "good", "recover").verdict is None
    assert of("mistake", "good", "good", "recover", "recover").verdict == "good"
    assert of(None, None) == StepLabel(step=0, verdict=None, votes={"abstained": 2})
    assert of(None, None, "mistake") == StepLabel(
        step=0, verdict="mistake", confidence=1 / 3, reason="r", votes={"abstained": 2, "mistake": 1}
    )
