"""OpenHands' evaluation output, of both generations."""

import pytest

from srft.agent.importing.readers import RawRun, Tally
from srft.agent.importing.readers.conversation import NOT_RECORDED, steps_of
from srft.agent.importing.readers.openhands import READER
from srft.agent.records import Action, Usage
from srft.env.errors import InputError


def call(identity, name, arguments):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def answered(identity, name, response=None):
    return {"tool_call_metadata": {"function_name": name, "tool_call_id": identity, "model_response": response}}


def response(identity, content, *calls):
    message = {"role": "assistant", "content": content, "tool_calls": list(calls)}
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    return {"id": identity, "choices": [{"finish_reason": "tool_calls", "message": message}], "usage": usage}


TWO = response("r1", "I look.", call("c1", "execute_bash", '{"command": "ls"}'), call("c2", "think", "{}"))
LAST = response("r2", "Done.", call("c3", "finish", "{}"))
TOOLS = [{"type": "function", "function": {"name": "execute_bash"}}]
ENDED = {"exit_code": 1, "prefix": "", "suffix": "", "working_dir": "/w", "py_interpreter_path": "/py"}
OLD = [
    {"action": "system", "source": "agent", "args": {"content": "S", "tools": TOOLS}},
    {"action": "message", "source": "user", "args": {"content": "T"}},
    {"action": "recall", "source": "user", "args": {}},
    {"observation": "recall", "source": "environment", "content": "", "extras": {}},
    {"action": "run", "source": "agent", "args": {"command": "ls"}, **answered("c1", "execute_bash", TWO)},
    {"observation": "run", "content": "x", "extras": {"metadata": ENDED}, **answered("c1", "execute_bash", TWO)},
    {"action": "think", "source": "agent", "args": {}, **answered("c2", "think", TWO)},
    {"observation": "think", "content": "Logged.", "extras": {}, **answered("c2", "think", TWO)},
    {"observation": "error", "content": "bad", "extras": {}},
    {"action": "message", "source": "agent", "args": {"content": "Shall I?"}},
    {"action": "message", "source": "user", "args": {"content": "Go on."}},
    {"action": "message", "source": "user", "args": {"content": "Really."}},
    {"observation": "agent_state_changed", "content": "", "extras": {}},
    {"action": "finish", "source": "agent", "args": {}, **answered("c3", "finish", LAST)},
]
RUN = {
    "instance_id": "x__y-1",
    "instance": {"repo": "x/y"},
    "metadata": {"llm_config": {"model": "vendor/m"}, "git_commit": "abc"},
    "test_result": {"git_patch": "diff \n", "report": {"resolved": True}},
    "history": OLD,
    "error": None,
}


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


def read(**change):
    tally = Tally()
    recorded = READER.read(RawRun("output.jsonl:1", "output", 1, {**RUN, **change}), tally)
    return recorded, steps_of(recorded.lines, demo_messages=0), tally


def test_the_older_events():
    recorded, steps, tally = read()
    assert (recorded.repo, recorded.model, recorded.scaffold) == ("x/y", "vendor/m", "OpenHands-abc")
    assert (recorded.patch, recorded.resolved, recorded.tools) == ("diff \n", True, tuple(TOOLS))
    assert (recorded.stop_reason, recorded.detail) == ("submitted", None)
    ran = "x\n[Current working directory: /w]\n[Python interpreter: /py]\n[Command finished with exit code 1]"
    calls = TWO["choices"][0]["message"]["tool_calls"]
    assert [line.sent for line in recorded.lines] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "T"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "content": ran, "tool_call_id": "c1", "name": "execute_bash"},
        {"role": "tool", "content": "Logged.", "tool_call_id": "c2", "name": "think"},
        {"role": "user", "content": "bad\n[Error occurred in processing last action]"},
        {"role": "assistant", "content": "Shall I?"},
        {"role": "user", "content": "Go on."},
        {"role": "user", "content": "\n\nReally."},
        {"role": "assistant", "content": "Done.", "tool_calls": [call("c3", "finish", "{}")]},
    ]
    assert [step.exit_code for step in steps] == [1, None, None]
    assert steps[0].usage == Usage(prompt_tokens=5, completion_tokens=1)
    assert steps[2].action == Action(tool="finish", format="native", call_id="c3")
    assert tally.left_out == {"recalled knowledge that the file does not quote": 1}


def test_pairs_of_an_action_and_its_observation():
    pairs = [[OLD[1], {"observation": "null", "content": ""}], [OLD[9], OLD[10]], [OLD[13], OLD[12]]]
    recorded, steps, tally = read(history=pairs)
    assert [line.sent["role"] for line in recorded.lines] == ["user", "assistant", "user", "assistant"]
    assert len(steps) == 2
    assert tally.left_out["system prompts that the file does not hold"] == 1


def test_a_reply_whose_calls_were_never_answered_is_not_sent_again():
    recorded, _, tally = read(history=[*OLD[:6], *OLD[8:]])
    assert [line.sent["role"] for line in recorded.lines] == [
        "system",
        "user",
        "user",
        "assistant",
        "user",
        "user",
        "assistant",
    ]
    assert tally.left_out["replies whose calls were never answered"] == 1


def test_the_newer_events():
    recorded, steps, tally = read(history=SDK, metadata={"llm": {"model": "m"}, "openhands_sdk_version": "1.2.0"})
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
    assert list(tally.left_out.values()) == [1]


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        ("RuntimeError: Agent reached maximum iteration. Current iteration: 100", ("step_limit", None)),
        ("RuntimeError: Agent reached maximum budget for conversation.", ("cost_limit", None)),
        ("LLMContextWindowExceedError: too long", ("context_limit", None)),
        ("Timeout after 9 seconds", ("wall_limit", None)),
        (
            "AgentStuckInLoopError: Agent got stuck in a loop",
            ("cancelled", "AgentStuckInLoopError: Agent got stuck in a loop"),
        ),
        ("AgentRuntimeError: gone", ("infra_error", "AgentRuntimeError: gone")),
    ],
)
def test_how_a_run_ended(error, ending):
    recorded, _, _ = read(error=error)
    assert (recorded.stop_reason, recorded.detail) == ending


def test_an_end_that_the_events_tell_or_do_not():
    limit = {"kind": "ConversationErrorEvent", "code": "MaxIterationsReached", "detail": "100"}
    assert read(history=[*SDK, limit])[0].stop_reason == "step_limit"
    recorded, _, _ = read(history=OLD[:-1])
    assert (recorded.stop_reason, recorded.detail) == ("submitted", NOT_RECORDED)
    assert read(history=None)[0].lines == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history": "x"}, "history: expected a list of events, got str"),
        ({"history": [3]}, "history: expected events, each an object"),
        ({"history": [{"x": 1}]}, "history[0]: neither an action nor an observation"),
        (
            {"history": [{"action": "run", "source": "agent", "args": {}}]},
            "history[0]: action 'run' without tool_call_metadata",
        ),
        ({"history": [{"action": "delegate", "source": "agent"}]}, "history[0]: a delegated task"),
        ({"history": [{"kind": "ActionEvent"}]}, "history[0]: tool_call: missing"),
        ({"instance_id": None}, "no instance_id"),
    ],
)
def test_a_damaged_run_is_named(change, message):
    with pytest.raises(InputError) as error:
        read(**change)
    assert message in str(error.value)
