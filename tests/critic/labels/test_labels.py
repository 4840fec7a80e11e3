"""Whose verdict counts: critics by severity, people over critics, of each the last word alone."""

from srft.critic.labels.labels import Critique, StepLabel, effective_labels


def said(critic, *verdicts, source="model"):
    labels = tuple(StepLabel(step=step, verdict=verdict) for step, verdict in enumerate(verdicts))
    return Critique(trajectory_id="r", task_id="t", critic=critic, fingerprint=critic, source=source, labels=labels)


def counting(*critiques, critics=("judge",)):
    labels = effective_labels(critiques, critics=critics)
    return [labels[step].verdict if step in labels else None for step in range(3)]


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
