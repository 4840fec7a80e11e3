"""A person's labels: kept as they are given, winning over critics, surviving torn lines and a busy run."""

import subprocess
import sys

import pytest

from srft.critic.labels.labels import Critique, StepLabel, effective_labels
from srft.env.errors import InputError
from srft.harness.look.web.arms import Arms
from srft.harness.look.web.people import Agreement, Person, agreement
from srft.harness.look.web.places import Library
from srft.harness.run.store import JsonLines, Round, Run
from srft.harness.stages.rows import critiques_by_run, run_facts


@pytest.fixture
def place(run):
    return Library(run).place("round-000")


def on_file(place):
    return list(JsonLines(place.round.critiques.path, Critique).read())


def test_a_label_is_kept_and_wins(run, place):
    person, entry = Person("anna"), place.by_id["abc1"]
    person.label(place, entry, step=1, verdict="good", reason=None)
    person.label(place, entry, step=1, verdict=None, reason="It was right.")
    person.label(place, entry, step=2, verdict="mistake", reason=None)
    last = on_file(place)[-1]
    assert (last.critic, last.source, last.task_id) == ("anna", "human", "a__b-1")
    assert [(label.verdict, label.reason) for label in last.labels] == [
        (None, None),
        ("good", "It was right."),
        ("mistake", None),
    ]
    of_run = critiques_by_run(Round(run / "round-000"))["abc1"]
    labels = effective_labels(of_run, critics=["judge"])
    assert [labels[step].verdict for step in range(3)] == ["good", "good", "mistake"]
    facts = run_facts(place.index.trajectory(entry), False, of_run, (), "human")  # what `srft rows --arm human` takes
    assert {step: label.verdict for step, label in facts.labels.items()} == {1: "good", 2: "mistake"}


def test_a_verdict_is_taken_back_and_the_comment_stays(run, place):
    person, entry = Person("anna"), place.by_id["abc1"]
    person.label(place, entry, step=1, verdict="good", reason="Right.")
    assert place.is_labelled("abc1")
    person.label(place, entry, step=1, take_back=True)
    assert on_file(place)[-1].labels[1] == StepLabel(step=1, verdict=None, reason="Right.")
    assert not place.is_labelled("abc1")
    of_run = critiques_by_run(Round(run / "round-000"))["abc1"]
    facts = run_facts(place.index.trajectory(entry), False, of_run, ["judge"], "srft")  # what `srft rows` takes
    assert {step: label.verdict for step, label in facts.labels.items()} == {0: "good", 1: "mistake", 2: "good"}
    masks = Arms(place).masks("srft", ())
    assert masks.of(entry).weight_S.tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(InputError, match="not both"):
        person.label(place, entry, step=1, verdict="good", take_back=True)


def test_two_viewers_do_not_undo_each_other(run, place):
    other = Library(run).place("round-000")
    Person("anna").label(place, place.by_id["abc1"], step=0, verdict="mistake", reason=None)
    labels = Person("anna").label(other, other.by_id["abc1"], step=1, verdict="good", reason=None)
    assert {step: label.verdict for step, label in labels.items()} == {0: "mistake", 1: "good", 2: None}


LABELLER = """
import sys
from pathlib import Path
from srft.harness.look.web.people import Person
from srft.harness.look.web.places import Library
place = Library(Path(sys.argv[1])).place("round-000")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(150):
    Person("anna").label(place, place.by_id["abc1"], step=int(sys.argv[2]), verdict="mistake")
    Person("anna").label(place, place.by_id["abc1"], step=int(sys.argv[2]), verdict="good")
"""


def test_two_processes_label_one_run(run, place):
    command = [sys.executable, "-c", LABELLER, str(run)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    labellers = [subprocess.Popen([*command, step], **pipes) for step in ("0", "1")]
    for labeller in labellers:
        assert labeller.stdout.readline() == "ready\n"
    for labeller in labellers:
        labeller.stdin.write("go\n")
        labeller.stdin.flush()
    assert [labeller.wait(timeout=120) for labeller in labellers] == [0, 0]
    for labeller in labellers:
        labeller.communicate()
    found = on_file(place)
    assert len(found) == 2 + 600
    assert [label.verdict for label in found[-1].labels] == ["good", "good", None]


def test_behind_a_torn_line_and_in_a_busy_run(run, place):
    with place.round.critiques.path.open("ab") as file:
        file.write(b'{"torn')
    Person("anna").label(place, place.by_id["abc1"], step=0, verdict="good", reason=None)
    assert len(on_file(place)) == 3
    with Run(run):  # a collection goes on
        with place.round.critiques.path.open("ab") as file:
            file.write(b'{"torn by a viewer')
        Person("anna").label(place, place.by_id["abc1"], step=1, verdict="good", reason=None)
    assert len(on_file(place)) == 4


def test_what_is_refused(run, place):
    with pytest.raises(InputError, match="has the steps 0 to 2"):
        Person("anna").label(place, place.by_id["abc1"], step=3, verdict="good", reason=None)
    with pytest.raises(InputError, match="a critic is named so"):
        Person("judge").label(place, place.by_id["abc1"], step=0, verdict="good", reason=None)
    with pytest.raises(InputError, match="at most 10,000"):
        Person("anna").label(place, place.by_id["abc1"], step=0, verdict=None, reason="x" * 10_001)
    assert len(on_file(place)) == 2


def test_agreement_is_counted_as_one_labels(run, place):
    person = Person("anna")
    assert agreement(place, "anna") == []
    for step, verdict in enumerate(("good", "mistake", "mistake")):
        person.label(place, place.by_id["abc1"], step=step, verdict=verdict, reason=None)
    person.label(place, place.by_id["abc2"], step=0, verdict="good", reason=None)
    assert agreement(place, "anna", run_id="abc1") == [Agreement("judge", 3, 2, 1, 1, 0, pytest.approx(0.4))]
    assert agreement(place, "anna") == [Agreement("judge", 4, 3, 1, 1, 0, 0.5)]
    Person("bob").label(place, place.by_id["abc1"], step=2, verdict="good")
    assert agreement(place, "anna")[0] == Agreement("bob", 1, 0, 0, 1, 0, 0.0, is_person=True)
    assert [one.critic for one in agreement(place, "bob")] == ["anna", "judge"]
