"""Descriptions of published datasets."""

import msgspec
import pytest

from srft.agent.importing.columns import KNOWN_TOOLS, Columns, Dataset, datasets, described, known_tools, named
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
        (
            "column.messages=x",
            "there is no column; expected columns.NAME=COLUMN or name=..., also=..., licence=..., rows=..., "
            "remarks=..., marks=..., task_pattern=..., all_resolved=..., patches_of_other_rows=..., scaffold=..., "
            "actions=..., known_tools=..., roles=..., made_up_ending=...",
        ),
        ("name.first=x", "there is no name; expected columns.NAME=COLUMN or name=..."),
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


def test_all_changes_are_named_where_one_is_wrong():
    with pytest.raises(
        InputError, match=r"^--set rows=3 --set licence=MIT: Expected `str`, got `int` - at `\$\.rows`; the"
    ):
        described("chat", changes=["rows=3", "licence=MIT"])


@pytest.mark.parametrize("kind", [Columns, Dataset])
def test_descriptions_are_frozen_and_made_by_name_alone(kind):
    assert (kind.__struct_config__.frozen, kind.__struct_config__.forbid_unknown_fields) == (True, True)
    with pytest.raises(TypeError, match="positional"):
        kind("x")


def test_what_a_description_does_not_say():
    nothing = dict.fromkeys(("also", "marks"), ()) | dict.fromkeys(("licence", "rows", "remarks", "actions"), "")
    nothing |= dict.fromkeys(("task_pattern", "patches_of_other_rows", "known_tools", "made_up_ending"))
    nothing |= {"columns": dict.fromkeys(Columns.__struct_fields__, ()), "all_resolved": False, "roles": {}}
    assert msgspec.to_builtins(Dataset(name="x")) == nothing | {"name": "x", "scaffold": "chat"}


def test_descriptions_are_in_the_order_of_their_names_and_chat_is_last():
    *names, last = datasets()
    assert (names, last) == (sorted(names, key=str.lower), "chat")
    assert names[0] == "AlienKevin/SWE-ZERO-12M-trajectories"
    assert len(names) > 12


def test_a_change_keeps_the_rest_of_a_description():
    changed = described("allenai/Sera-4.6-Lite-T2", changes=[" columns.outcome = passed", "rows=1=2"])
    told = datasets()["allenai/Sera-4.6-Lite-T2"]
    columns = msgspec.structs.replace(told.columns, outcome="passed")
    assert changed == msgspec.convert(
        msgspec.to_builtins(msgspec.structs.replace(told, columns=columns, rows="1=2")), Dataset
    )
    assert changed.columns.paths("outcome") == ("passed",)
    assert described("allenai/Sera-4.6-Lite-T2") is told
