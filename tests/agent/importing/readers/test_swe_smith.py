"""SWE-smith's rows, in each of the three splits."""

import json

import pytest

from srft.agent.importing.readers.conversation import NOT_RECORDED, steps_of
from srft.agent.importing.readers import RawRun
from srft.agent.importing.readers.swe_smith import READER
from srft.agent.importing.readers import Tally
from srft.agent.records import Action
from srft.env.errors import InputError

ROW = {
    "instance_id": "pandas-dev__pandas.95280573.pr_53652",
    "traj_id": "pandas-dev__pandas.95280573.pr_53652.run1",
    "model": "vendor/m",
    "resolved": True,
    "patch": "diff \n",
}
XML = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "T"},
    {"role": "assistant", "content": "I look.\n\n<function=bash>\n<parameter=command>ls</parameter>\n</function>"},
    {"role": "user", "content": "OBSERVATION:\na.py"},
]
XML_SUBMIT = {"role": "assistant", "content": "I submit.\n\n<function=submit>\n</function>"}
MADE_UP = {
    "role": "assistant",
    "content": "Since we have successfully fixed the issue, I hand it in.\n\n<function=submit>\n</function>",
}
TICKS = [
    {"role": "user", "content": "T"},
    {"role": "assistant", "content": "I look.\n\n```\nls\n```"},
    {"role": "user", "content": "a.py"},
    {"role": "assistant", "content": "\n\n```\nsubmit\n```"},
]
TOOL = [
    {"role": "user", "content": [{"type": "text", "text": "T"}], "tool_calls": None},
    {
        "role": "assistant",
        "content": "I look.",
        "thought": "I look.",
        "action": "ls",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
        ],
    },
    {"role": "tool", "content": [{"type": "text", "text": "a.py"}], "tool_call_ids": ["c1"]},
    {"role": "assistant", "content": "Exit due to cost limit", "action": "", "tool_calls": None},
]


def read(messages, **change):
    tally = Tally()
    recorded = READER.read(RawRun("r.parquet: row 1", "r", 1, {**ROW, "messages": messages, **change}), tally)
    return recorded, steps_of(recorded.lines, demo_messages=0), tally


def test_the_xml_split():
    recorded, steps, tally = read([*XML, XML_SUBMIT])
    assert (recorded.task_id, recorded.model, recorded.scaffold) == (ROW["instance_id"], "vendor/m", "SWE-agent")
    assert (recorded.patch, recorded.resolved) == ("diff \n", True)
    assert (recorded.stop_reason, recorded.detail) == ("submitted", None)
    assert [step.action for step in steps] == [
        Action(tool="bash", arguments={"command": "ls"}, format="xml"),
        Action(tool="submit", format="xml"),
    ]
    assert tally == Tally()


def test_the_message_that_no_model_wrote_is_left_out():
    recorded, steps, tally = read([*XML, MADE_UP])
    assert len(steps) == 1
    assert (recorded.stop_reason, recorded.detail) == ("cost_limit", None)
    assert tally.left_out == {"last messages that the scaffold wrote itself": 1}


def test_the_ticks_split():
    recorded, steps, _ = read(TICKS)
    assert [step.action for step in steps] == [
        Action(tool="bash", arguments={"command": "ls"}, format="thought_action"),
        Action(tool="submit", format="thought_action"),
    ]
    assert recorded.stop_reason == "submitted"


@pytest.mark.parametrize("encode", [list, json.dumps])
def test_the_tool_split_as_a_list_or_a_text(encode):
    recorded, steps, tally = read(encode(TOOL))
    assert [line.sent for line in recorded.lines] == [
        {"role": "user", "content": "T"},
        {"role": "assistant", "content": "I look.", "tool_calls": TOOL[1]["tool_calls"]},
        {"role": "tool", "content": "a.py", "tool_call_id": "c1"},
    ]
    assert len(steps) == 1
    assert recorded.stop_reason == "cost_limit"
    assert tally.left_out == {"last messages that the scaffold wrote itself": 1}


def test_an_end_that_is_not_recorded():
    recorded, _, _ = read(XML)
    assert (recorded.stop_reason, recorded.detail) == ("submitted", NOT_RECORDED)


@pytest.mark.parametrize(
    ("messages", "change", "message"),
    [
        ("[", {}, "messages: a text, but not JSON"),
        ("3", {}, "messages: expected a list of objects, got int"),
        (XML, {"instance_id": None}, "no instance_id"),
        (XML, {"patch": 3}, "patch: expected str, got 3"),
        (XML, {"resolved": 1}, "resolved: expected bool, got 1"),
        ([3], {}, "messages[0]: expected an object with role and content, got int"),
    ],
)
def test_a_damaged_row_is_named(messages, change, message):
    with pytest.raises(InputError) as error:
        read(messages, **change)
    assert message in str(error.value)
