"""Descriptions of published datasets."""

import pytest

from srft.agent.importing.columns import KNOWN_TOOLS, datasets, described, known_tools, named
from srft.env.errors import InputError


def test_every_description_is_whole():
    for dataset in datasets().values():
        assert dataset.columns.paths("messages")
        assert dataset.name == "chat" or dataset.licence
        assert dataset.known_tools is None or known_tools(dataset.known_tools)
        assert not (dataset.all_resolved and dataset.columns.paths("outcome"))
        assert set(dataset.columns.paths("messages")) & {*dataset.marks, *dataset.columns.paths("messages")}


def test_no_dataset_is_taken_for_another():
    marks = {dataset.name: set(dataset.marks) for dataset in datasets().values() if dataset.marks}
    for name, columns in marks.items():
        for other, others in marks.items():
            assert name == other or not columns <= others, (name, other)


def test_a_dataset_by_any_of_its_names():
    assert named("nvidia/swe-hero-openhands-trajectories") is named("nvidia/SWE-Zero-openhands-trajectories")
    assert named("nobody/nothing") is None


def test_other_datasets_are_described_as_chat_and_changed():
    dataset = described("me/mine", changes=["columns.messages=[dialogue, talk]", "all_resolved=true"])
    assert (dataset.name, dataset.columns.messages, dataset.all_resolved, dataset.marks) == (
        "me/mine",
        ("dialogue", "talk"),
        True,
        (),
    )
    assert described("chat") is datasets()["chat"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("columns.mesages=x", "columns.mesages=x: Object contains unknown field `mesages`"),
        ("column.messages=x", "there is no column; expected columns.NAME=COLUMN or name=..."),
        ("columns.messages", "expected KEY=VALUE, say columns.messages=dialogue"),
        ("columns.messages=3", "Expected `str | array`, got `int`"),
        ("task_pattern=(", "task_pattern: not a regular expression"),
        ("task_pattern=x", "task_pattern: expected one group, the task's id, got 0"),
        ("actions=dance", "Invalid enum value 'dance'"),
    ],
)
def test_a_wrong_change_is_named(change, message):
    with pytest.raises(InputError) as error:
        described("chat", changes=[change])
    assert str(error.value).startswith(f"--set {change}" if "." in change[:8] else "--set")
    assert message in str(error.value)


def test_tools_of_scaffolds():
    assert KNOWN_TOOLS == ("mini-swe-agent", "openhands", "swe-agent")
    assert [tool["function"]["name"] for tool in known_tools("mini-swe-agent")] == ["bash"]
    with pytest.raises(InputError, match="no tools of that name; there are mini-swe-agent, openhands, swe-agent"):
        known_tools("none")
