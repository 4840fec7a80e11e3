"""OpenHands' newer events, of its software-agent SDK."""

import pytest

from srft.agent.importing.readers import RawRun, Tally
from srft.agent.importing.readers.conversation import steps_of
from srft.agent.importing.readers.openhands import READER
from srft.agent.importing.readers.openhands_sdk import CONDENSED, terminal_text
from srft.env.errors import InputError

ENDED = {"exit_code": 1, "prefix": "", "suffix": "", "working_dir": "/w", "py_interpreter_path": "/py"}


def call(identity, name, arguments):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def text(*texts):
    return [{"type": "text", "text": one} for one in texts]


def sdk_action(identity, response_id, *, thought=(), action=None, arguments="{}", **more):
    tool_call = {"id": identity, "name": "terminal", "arguments": arguments, "origin": "completion"}
    return {
        "kind": "ActionEvent",
        "source": "agent",
        "thought": text(*thought),
        "action": action,
        "tool_name": "terminal",
        "tool_call_id": identity,
        "tool_call": tool_call,
        "llm_response_id": response_id,
        **more,
    }


TERMINAL = {
    "content": text("x"),
    "exit_code": 2,
    "timeout": False,
    "is_error": False,
    "metadata": {**ENDED, "exit_code": 2},
}
SDK = [
    {"kind": "SystemPromptEvent", "system_prompt": text("S")[0], "dynamic_context": text("D")[0], "tools": []},
    {"kind": "MessageEvent", "source": "user", "llm_message": {"role": "user", "content": text("T")}},
    {
        "kind": "MessageEvent",
        "source": "user",
        "llm_message": {"role": "user", "content": text("more")},
        "extended_content": text("rules"),
    },
    {"kind": "ConversationStateUpdateEvent", "key": "x", "value": 1},
    sdk_action(
        "c1", "r1", thought=["I look."], action={"command": "ls"}, arguments='{"command": "ls"}', reasoning_content="hm"
    ),
    sdk_action("c2", "r1", action={"command": "pwd"}),
    {"kind": "ObservationEvent", "tool_name": "terminal", "tool_call_id": "c1", "observation": TERMINAL},
    {
        "kind": "ObservationEvent",
        "tool_name": "terminal",
        "tool_call_id": "c2",
        "observation": {"content": text("no"), "is_error": True, "timeout": True, "exit_code": -1},
    },
    {"kind": "Condensation"},
    sdk_action("c3", "r2", arguments="{"),
    {"kind": "AgentErrorEvent", "tool_name": "terminal", "tool_call_id": "c3", "error": "cannot parse"},
    {"kind": "MessageEvent", "source": "agent", "llm_message": {"role": "assistant", "content": text("Done.")}},
]


RUN = {"instance_id": "x__y-1", "test_result": {"git_patch": "diff \n"}, "history": SDK}


def read(*history, **change):
    tally = Tally()
    run = {**RUN, "history": list(history), **change}
    recorded = READER.read(RawRun("output.jsonl:1", "output", 1, run), tally)
    return recorded, steps_of(recorded.lines, demo_messages=0), tally


def test_the_newer_events():
    recorded, steps, tally = read(*SDK, metadata={"llm": {"model": "m"}, "openhands_sdk_version": "1.2.0"})
    assert (recorded.model, recorded.scaffold) == ("m", "OpenHands-1.2.0")
    ran = "x\n[Current working directory: /w]\n[Python interpreter: /py]\n[Command finished with exit code 2]"
    assert [line.sent for line in recorded.lines] == [
        {"role": "system", "content": "S\nD"},
        {"role": "user", "content": "T\nmore\nrules"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [call("c1", "terminal", '{"command": "ls"}'), call("c2", "terminal", "{}")],
        },
        {"role": "tool", "content": ran, "tool_call_id": "c1", "name": "terminal"},
        {
            "role": "tool",
            "content": "[An error occurred during execution.]\n\nno",
            "tool_call_id": "c2",
            "name": "terminal",
        },
        {"role": "assistant", "content": "", "tool_calls": [call("c3", "terminal", '{"unreadable": "{"}')]},
        {"role": "tool", "content": "cannot parse", "tool_call_id": "c3", "name": "terminal"},
        {"role": "assistant", "content": "Done."},
    ]
    assert [(step.exit_code, step.timed_out, step.error, step.reasoning) for step in steps] == [
        (2, True, None, "hm"),
        (None, False, "format", None),
        (None, False, None, None),
    ]
    assert tally.left_out == {CONDENSED: 1}
    assert CONDENSED == "condensations of the history, after which the model saw less than is here"


def test_an_end_that_an_event_tells():
    limit = {"kind": "ConversationErrorEvent", "code": "MaxIterationsReached", "detail": "100"}
    other = {"kind": "ConversationErrorEvent", "code": "Gone", "detail": "away"}
    assert read(*SDK, limit)[0].stop_reason == "step_limit"
    recorded, _, _ = read(*SDK, other, limit)
    assert (recorded.stop_reason, recorded.detail) == ("infra_error", "Gone: away")
    assert read(*SDK, limit, error="maximum budget")[0].stop_reason == "cost_limit"


def sent(*events):
    return [line.sent for line in read(*events)[0].lines]


def test_actions_of_one_response_are_one_reply():
    one = sdk_action("a", "r", thought=["A", "B"])
    other = sdk_action("b", "r", thought=["C"])
    assert sent(one, other) == [
        {"role": "assistant", "content": "A\nB", "tool_calls": [call(c, "terminal", "{}") for c in "ab"]}
    ]
    assert [message["content"] for message in sent(one, sdk_action("b", "s", thought=["C"]))] == ["A\nB", "C"]
    assert len(sent(sdk_action("a", None), sdk_action("b", None))) == 2
    assert [m["role"] for m in sent(one, {"kind": "Condensation", "llm_response_id": "r"}, other)] == ["assistant"] * 2


def test_calls_in_either_shape():
    nested = sdk_action("a", "r") | {"tool_call": {"function": {"name": "f", "arguments": "{}"}}}
    flat = sdk_action("a", "r") | {"tool_call": {"id": "b", "name": "g", "arguments": "{}"}, "thought": None}
    assert sent(nested)[0]["tool_calls"] == [call("a", "f", "{}")]
    assert sent(flat)[0] == {"role": "assistant", "content": "", "tool_calls": [call("b", "g", "{}")]}


def test_a_call_that_was_refused_is_a_format_error():
    error = {"kind": "AgentErrorEvent", "tool_call_id": "a", "error": "no such tool"}
    for refused in (True, False):
        reply = sdk_action("a", "r", action=None if refused else {"command": "ls"})
        _, (step, _), _ = read(reply, error, sdk_action("b", "s", action={}))
        assert step.error == ("format" if refused else None)
        assert (step.action is None) == refused
    elsewhere = {**error, "tool_call_id": "c"}
    assert read(sdk_action("a", "r"), elsewhere, sdk_action("b", "s"))[1][0].error is None


def test_messages_and_what_was_added_to_them():
    def message(role, content, **more):
        return {"kind": "MessageEvent", "llm_message": {"role": role, "content": content, **more}}

    assert sent({"kind": "SystemPromptEvent", "system_prompt": text("S")[0], "dynamic_context": None}) == [
        {"role": "system", "content": "S"}
    ]
    assert sent({**message("user", "T"), "extended_content": text("a", "b")}, message("user", None)) == [
        {"role": "user", "content": "T\na\nb\n"}
    ]
    said = message("assistant", "A", reasoning_content="Hm.")
    assert sent(said) == [{"role": "assistant", "content": "A"}]
    assert read(said)[1][0].reasoning == "Hm."
    assert read(message("assistant", "<think>Hm.</think>A"))[1][0].reasoning == "Hm."
    assert sent({"kind": "PauseEvent"}) == []


def observed(**observation):
    event = {"kind": "ObservationEvent", "tool_name": "t", "tool_call_id": "a", "observation": observation}
    recorded, _, _ = read(sdk_action("a", "r", action={}), event)
    line = recorded.lines[1]
    return line.sent["content"], line.exit_code, line.timed_out


def test_observations_in_every_shape():
    assert observed(content="x", exit_code=3) == ("x", 3, False)
    assert observed(content=None, output="y", timeout=True) == ("y", None, True)
    assert observed() == ("", None, False)
    assert observed(content="x", exit_code=-1) == ("x", None, False)
    assert observed(content="x", exit_code=-2) == ("x", -2, False)
    assert observed(content="x", metadata={"exit_code": 5}) == ("x\n[Command finished with exit code 5]", 5, False)
    told = observed(content="x", exit_code=4, metadata={"exit_code": 5})
    assert told == ("x\n[Command finished with exit code 5]", 4, False)
    assert observed(content="x", metadata={"suffix": "y"}) == ("x", None, False)
    assert observed(content=text("a", "b"), is_error=True) == (
        "[An error occurred during execution.]\n\nab", None, False,
    )  # fmt: skip


def test_a_rejected_action():
    event = {"kind": "UserRejectObservation", "tool_name": "t", "tool_call_id": "a", "rejection_reason": "no"}
    added = {"kind": "ObservationEvent", "tool_call_id": "a", "observation": {"content": "x"}}
    assert sent(event, {**added, "extended_content": text("b")}) == [
        {"role": "tool", "content": "Action rejected: no", "tool_call_id": "a", "name": "t"},
        {"role": "tool", "content": "x\nb", "tool_call_id": "a"},
    ]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({}, "x"),
        ({"prefix": "<", "suffix": ">"}, "<x>"),
        ({"working_dir": "/w", "py_interpreter_path": ""}, "x\n[Current working directory: /w]"),
        ({"py_interpreter_path": "/p"}, "x\n[Python interpreter: /p]"),
        ({"exit_code": 0}, "x\n[Command finished with exit code 0]"),
        ({"exit_code": -1}, "x"),
        ({"exit_code": None}, "x"),
        ({"exit_code": 1}, "x\n[Command finished with exit code 1]"),
    ],
)
def test_what_the_model_sees_of_a_commands_end(status, shown):
    assert terminal_text("x", status) == shown


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"kind": "ActionEvent"}, "output.jsonl:1: history[0]: tool_call: missing; expected the call"),
        ({"kind": 3}, "output.jsonl:1: history[0]: kind: expected str, got 3"),
        (sdk_action("a", "r") | {"thought": 3}, "output.jsonl:1: history[0].thought: expected a text"),
        (sdk_action("a", "r", reasoning_content=3), "output.jsonl:1: history[0]: reasoning_content: expected str"),
        ({"kind": "SystemPromptEvent", "system_prompt": 3}, "output.jsonl:1: history[0].system_prompt[0]: expected a"),
        ({"kind": "MessageEvent", "llm_message": {"content": 3}}, "output.jsonl:1: history[0].llm_message: content: "),
        (
            {"kind": "MessageEvent", "llm_message": {"role": "user", "content": [3]}},
            "output.jsonl:1: history[0].llm_message.content[0]: expected a text part",
        ),
        ({"kind": "MessageEvent"}, "output.jsonl:1: history[0].llm_message.role: expected one of"),
        (
            {"kind": "MessageEvent", "llm_message": {"role": "assistant", "content": "", "reasoning_content": 3}},
            "output.jsonl:1: history[0]: reasoning_content: expected str",
        ),
        (
            {"kind": "ObservationEvent", "observation": {"content": 3}},
            "output.jsonl:1: history[0].observation.content: expected a text",
        ),
        (
            {"kind": "ObservationEvent", "observation": {}, "extended_content": [3]},
            "output.jsonl:1: history[0].observation[1]: expected a text part",
        ),
        ({"kind": "AgentErrorEvent", "error": 3}, "output.jsonl:1: history[0].error.content: expected a text"),
        ({"kind": "UserRejectObservation", "tool_name": 3}, "output.jsonl:1: history[0]: name: expected str, got 3"),
    ],
)
def test_a_damaged_event_is_named(event, message):
    with pytest.raises(InputError) as error:
        read(event)
    assert str(error.value).startswith(message)
