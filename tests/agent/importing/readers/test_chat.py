"""Plain chat lines."""

import json

import pytest

from srft.agent.importing.readers.chat import READER
from srft.agent.importing.readers.conversation import NOT_RECORDED, steps_of
from srft.agent.importing.readers import RawRun
from srft.agent.importing.readers import Tally
from srft.env.errors import InputError

TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]


def call(identity, arguments):
    return {"id": identity, "type": "function", "function": {"name": "bash", "arguments": arguments}}


RUN = {
    "task_id": "x__y-1",
    "tools": json.dumps(TOOLS),
    "model_patch": "diff",
    "resolved": False,
    "messages": [
        {"role": "user", "content": "T"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [call("c1", {"command": "ls"}), call("c2", '"{\\"command\\": \\"ls\\"}"')],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "assistant", "content": "Done.", "train": False},
    ],
}


def read(content, name="runs", line=7):
    recorded = READER.read(RawRun("runs.jsonl:7", name, line, content), Tally())
    return recorded, steps_of(recorded.lines, demo_messages=0)


def test_consecutive_tool_messages_answer_one_reply():
    recorded, steps = read(RUN)
    assert (recorded.task_id, recorded.patch, recorded.resolved) == ("x__y-1", "diff", False)
    assert recorded.tools == tuple(TOOLS)
    assert (recorded.stop_reason, recorded.detail) == ("submitted", NOT_RECORDED)
    assert recorded.lines[1].sent == {
        "role": "assistant",
        "content": "",
        "tool_calls": [call("c1", '{"command": "ls"}'), call("c2", '{"command": "ls"}')],
        "reasoning_content": "hm",
    }
    assert [(step.content, step.reasoning, step.observation) for step in steps] == [
        ("", "hm", "one\ntwo"),
        ("Done.", None, None),
    ]
    assert recorded.lines[4].sent == {"role": "assistant", "content": "Done."}


def test_a_run_without_an_id_is_named_by_its_place():
    assert read({"messages": []})[0].task_id == "runs-7"
    assert read({"messages": []}, line=None)[0].task_id == "runs"
    assert read({"messages": [], "instance_id": "a", "task_id": "b"})[0].task_id == "a"


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"messages": None}, "runs.jsonl:7: messages: expected a list of objects, got NoneType"),
        ({"messages": [{"role": "human", "content": ""}]}, "runs.jsonl:7: messages[0].role: expected one of system"),
        ({"messages": [], "instance_id": 3}, "runs.jsonl:7: instance_id: expected str, got 3"),
    ],
)
def test_a_damaged_run_is_named(run, message):
    with pytest.raises(InputError) as error:
        read(run)
    assert str(error.value).startswith(message)
