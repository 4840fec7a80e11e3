"""What waits for a label: mistakes, disagreements, steps without a label; through all runs and round again."""

import pytest

from srft.env.errors import InputError
from srft.harness.look.web.label_queue import Found, find_next, waiting
from srft.harness.look.web.people import Person
from srft.harness.look.web.places import Library
from srft.harness.run.store import Run
from tests.harness.look.web.conftest import critique

ORDER = ["abc1", "abc2", "ffff"]


@pytest.fixture
def place(run):
    """The judge said good, mistake, good of abc1; another critic calls its first step a mistake and abstains once."""
    place = Library(run).place("round-000")
    with Run(run) as opened:
        trajectory = place.index.trajectory(place.by_id["abc1"])
        opened.round(0).critiques.append(critique(trajectory, "other", ["mistake", "mistake", None]))
    place.refresh()
    return place


def following(place, run_id, after, kind, judges=("judge",)):
    return find_next(place, ORDER, judges, "anna", run_id=run_id, after=after, kind=kind)


def test_what_waits_in_a_run(place):
    assert waiting(place, place.by_id["abc1"], ["judge"], "anna") == {
        "mistake": [1],
        "disagreement": [0],
        "unlabelled": [0, 1, 2],
    }
    Person("anna").label(place, place.by_id["abc1"], step=1, verdict="good")
    Person("bob").label(place, place.by_id["abc1"], step=2, verdict="unnecessary")
    assert waiting(place, place.by_id["abc1"], ["judge"], "anna") == {
        "mistake": [],  # she has called it good
        "disagreement": [0, 1, 2],  # between critics, between her and them, between the judge and bob
        "unlabelled": [0, 2],
    }
    assert waiting(place, place.by_id["ffff"], ["judge"], "anna")["unlabelled"] == [0]


def test_the_next_one_over_all_runs_and_round_again(place):
    assert following(place, "abc1", -1, "mistake") == Found("abc1", 1)
    assert following(place, "abc1", 0, "unlabelled") == Found("abc1", 1)
    assert following(place, "abc1", 2, "unlabelled") == Found("abc2", 0)
    assert following(place, "ffff", 0, "unlabelled") == Found("abc1", 0)
    assert following(place, "abc1", 1, "mistake") == Found("abc1", 1)  # the only one: round again
    Person("anna").label(place, place.by_id["abc1"], step=1, verdict="good")
    assert following(place, "abc1", -1, "mistake") is None
    with pytest.raises(InputError, match="expected one of mistake, disagreement, unlabelled"):
        following(place, "abc1", 0, "wrong")
