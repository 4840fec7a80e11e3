"""Which tasks a round collects on, and how often."""

from collections import Counter

import pytest

from srft.harness.loop.choice import attempts_by_task, most_attempts, most_episodes, portion
from srft.harness.loop.loop_config import LoopConfig, read_loop_config

TASKS = ("a-1", "a-2", "a-3", "a-4")


def config(*sets: str) -> LoopConfig:
    return read_loop_config("demo", sets=["teachers=[demonstrator, student]", "rounds=4", *sets])


def test_without_a_choice_every_task_has_the_attempts_of_the_collection():
    one = config("collect.attempts=3")
    assert attempts_by_task(one, 1, TASKS, []) == dict.fromkeys(TASKS, 3)
    assert attempts_by_task(one, 2, TASKS, []) == dict.fromkeys(TASKS, 3)


def test_the_student_tries_again_what_it_has_not_always_solved():
    one = config("choose.new=2", "choose.unsolved=4")
    verdicts = {"a-1": [True, True], "a-2": [True, False], "a-3": [False], "a-4": []}
    assert attempts_by_task(one, 3, TASKS, [verdicts]) == {"a-2": 4, "a-3": 4, "a-4": 2}
    assert attempts_by_task(config("choose.solved=1"), 3, TASKS, [verdicts]) == dict.fromkeys(TASKS, 1)
    assert attempts_by_task(config("choose.unsolved=0"), 3, TASKS, [verdicts]) == {"a-4": 1}


def test_the_last_round_that_tried_a_task_decides():
    rounds = [{"a-1": [False], "a-2": [True, True]}, {"a-1": [True, True], "a-2": []}, {"a-3": [True, False]}]
    assert attempts_by_task(config("rounds=5"), 5, TASKS, rounds) == {"a-3": 1, "a-4": 1}


@pytest.mark.parametrize(
    ("tried", "episodes"),
    [
        ([[True]], 4),  # once is not reliably
        ([[True], [True]], 0),
        ([[True, True]], 0),
        ([[True, True], [False]], 4),
        ([[False, True], [True]], 4),
        ([[False, True], [True], [True]], 0),
        ([[True], [], [True]], 0),
    ],
)
def test_a_task_is_solved_reliably_after_so_many_episodes_without_a_failure(tried, episodes):
    rounds = [{"a-1": verdicts} for verdicts in tried]
    one = config("choose={unsolved: 4, reliable: 2}", "rounds=9")
    assert attempts_by_task(one, 9, ["a-1"], rounds) == ({"a-1": episodes} if episodes else {})


def test_the_demonstrators_verdicts_do_not_count():
    assert attempts_by_task(config("teachers=[demonstrator]"), 2, TASKS, []) == dict.fromkeys(TASKS, 1)


def test_each_round_has_a_portion_more():
    names = [f"t-{number}" for number in range(300)]
    one = config("choose.portions=3", "choose.new=2", "choose.unsolved=5")
    first, second, third = (attempts_by_task(one, number, names, []) for number in (1, 2, 3))
    own = [{name for name in names if portion(name, 3) == number} for number in range(3)]
    assert (set(first), set(second), set(third)) == (own[0], own[0] | own[1], set(names))
    assert (set(first.values()), set(second.values())) == ({1}, {2})
    assert all(70 < len(one) < 130 for one in own)
    of_teacher = config("choose.portions=3", "teachers=[demonstrator]")
    assert [set(attempts_by_task(of_teacher, number, names, [])) for number in (2, 3, 4)] == [
        own[1],
        own[2],
        set(names),
    ]


def test_a_task_keeps_its_portion_whatever_else_there_is():
    names = [f"t-{number}" for number in range(100)]
    few = attempts_by_task(config("choose.portions=4"), 1, names[:50], [])
    many = attempts_by_task(config("choose.portions=4"), 1, names, [])
    assert few == {name: attempts for name, attempts in many.items() if name in names[:50]}
    assert set(Counter(portion(name, 4) for name in names)) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("sets", "episodes"),
    [
        ((), [240, 240, 240, 240]),
        (("choose.new=2", "choose.unsolved=3"), [240, 480, 720, 720]),
        (("choose.portions=4", "choose.new=2", "choose.unsolved=3"), [60, 240, 480, 660]),
        (("choose.portions=2", "teachers=[demonstrator]"), [120, 120, 240, 240]),
    ],
)
def test_how_many_episodes_there_can_be(sets, episodes):
    assert most_episodes(config(*sets), 240) == episodes


def test_the_rounds_seeds_are_as_far_apart_as_the_most_attempts():
    assert most_attempts(config("collect.attempts=2", "choose.unsolved=7", "choose.new=3")) == 7
