"""What is saved again: labels that were taken back go, those that were given elsewhere stay."""

from srft.critic.labels.labels import StepLabel, effective_labels
from srft.harness.debug.saving import save_run
from srft.harness.look.web.people import Person
from srft.harness.look.web.places import Library
from srft.harness.run.store import Round
from tests.train.conftest import make_run


def test_labels_are_taken_back_and_those_of_the_viewer_stay(tmp_path):
    folder, run = tmp_path / "run", make_run(["a", "b", "c"])

    def save(*mistakes):
        labels = {step: StepLabel(step=step, verdict="mistake") for step in mistakes}
        return save_run(run, folder, labels=labels, grades=[])

    def counting():
        found = effective_labels(Round(folder / "round-000").critiques.read(), critics=[])
        return {step: label.verdict for step, label in sorted(found.items())}

    saved = save(0, 1)
    assert counting() == {0: "mistake", 1: "mistake"}
    place = Library(folder).place("round-000")
    Person("human").label(place, place.by_id[saved.id], step=2, verdict="good")
    assert not save(1).is_new
    assert counting() == {1: "mistake", 2: "good"}
    save()
    assert counting() == {2: "good"}
    lines = (folder / "round-000" / "labels.jsonl").read_bytes().count(b"\n")
    save()
    assert (folder / "round-000" / "labels.jsonl").read_bytes().count(b"\n") == lines


def test_a_run_without_labels_writes_none(tmp_path):
    save_run(make_run(["a"]), tmp_path / "run", labels={}, grades=[])
    save_run(make_run(["a"]), tmp_path / "run", labels={}, grades=[])
    assert not (tmp_path / "run" / "round-000" / "labels.jsonl").exists()
