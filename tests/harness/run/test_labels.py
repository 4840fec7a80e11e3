"""Which label counts: from the short records as from whole critiques."""

import pytest

from srft.critic.labels.labels import effective_labels
from srft.harness.run.index import Index
from srft.harness.run.labels import codes_by, labels_by, labels_of_arm
from srft.harness.run.store import Run
from tests.harness.loop_run import critique_of, episode


@pytest.fixture
def told(tmp_path):
    run = episode("t-1", steps=4)
    critiques = [
        critique_of(run, "gmgg"),
        critique_of(run, "mggg"),  # the judge again: its last word counts
        critique_of(run, "guug", critic="edits", source="rule"),
        critique_of(run, "rrrr", critic="oracle", source="oracle"),
        critique_of(run, "---g", critic="anna", source="human"),
        critique_of(run, "-m--", critic="anna", source="human"),
    ]
    with Run(tmp_path / "run") as opened:
        for one in critiques:
            opened.round(0).critiques.append(one)
        index = Index(opened.round(0))
    index.refresh()
    return critiques, index.told(run.id)


@pytest.mark.parametrize("critics", [(), ("judge",), ("edits",), ("judge", "edits"), ("oracle",), ("nobody",)])
def test_the_short_records_say_the_same(told, critics):
    critiques, short = told
    expected = {step: label.verdict for step, label in effective_labels(critiques, critics=critics).items()}
    for given in (critiques, short):
        assert {step: label.verdict for step, label in labels_by(given, critics=critics).items()} == expected


@pytest.mark.parametrize(
    ("arm", "codes"),
    [("all", {}), ("tool_error", {0: "m", 2: "g"}), ("human", {1: "m"}), ("oracle", {0: "r", 1: "r", 2: "r", 3: "r"})],
)
def test_the_labels_of_an_arm(told, arm, codes):
    letters = {"good": "g", "mistake": "m", "recover": "r"}
    for given in told:
        labels = labels_of_arm(arm, given, critics=("judge",), tool_error="m-g-")
        assert {step: letters[label.verdict] for step, label in labels.items()} == codes


def test_codes(told):
    _, short = told
    assert codes_by(short, critics=["judge"], steps=4) == "mmgg"
    assert codes_by(short[2:3], critics=["edits"], steps=4) == "guug"
    assert codes_by([], critics=["edits"], steps=2) == "--"
