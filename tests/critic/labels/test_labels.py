"""Whose verdict counts: critics by severity, people over critics, of each the last word alone."""

import doctest

import msgspec

from srft.critic.labels import labels
from srft.critic.labels.labels import Critique, StepLabel, effective_labels


def said(critic, *verdicts, source="model"):
    told = tuple(StepLabel(step=step, verdict=verdict) for step, verdict in enumerate(verdicts))
    return Critique(trajectory_id="r", task_id="t", critic=critic, fingerprint=critic, source=source, labels=told)


def counting(*critiques, critics=("judge",)):
    found = effective_labels(critiques, critics=critics)
    return [found[step].verdict if step in found else None for step in range(3)]


JUDGE = said("judge", "good", "mistake", None)


def test_a_person_wins():
    anna = said("anna", None, "good", "recover", source="human")
    assert counting(JUDGE, anna) == counting(anna, JUDGE) == ["good", "good", "recover"]


def test_what_a_person_took_back_is_the_critics_again():
    first, last = said("anna", None, "good", "recover", source="human"), said("anna", None, None, None, source="human")
    assert counting(JUDGE, first, last) == ["good", "mistake", None]


def test_among_people_the_last_to_speak_wins():
    anna, ben = said("anna", "recover", None, "good", source="human"), said("ben", "good", "good", None, source="human")
    assert counting(anna, ben) == ["good", "good", "good"]
    assert counting(anna, ben, anna) == ["recover", "good", "good"]


def test_of_critics_the_most_severe():
    other = said("other", "unnecessary", "good", "recover")
    assert counting(JUDGE, other, critics=["judge", "other"]) == ["unnecessary", "mistake", "recover"]
    assert counting(JUDGE, other, critics=["other"]) == ["unnecessary", "good", "recover"]


def test_a_label_file_and_a_person_take_nothing_from_each_other():
    file = said("file:labels.jsonl", "recover", "good", None, source="human")
    human = said("human", None, "mistake", None, source="human")
    assert counting(file, human) == counting(human, file) == counting(file, human, file) == ["recover", "mistake", None]


def test_a_critic_may_be_named_with_its_settings():
    one, other = said("judge", "good", "good", None), said("judge", "mistake", None, "good")
    one, other = (msgspec.structs.replace(it, fingerprint=name) for it, name in ((one, "one"), (other, "other")))
    assert counting(one, other) == ["mistake", None, "good"]
    assert counting(one, other, critics=["judge@one"]) == ["good", "good", None]
    assert counting(one, other, critics=["judge@none"]) == [None, None, None]


def test_doctests():
    assert doctest.testmod(labels).failed == 0
