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


def test_an_end_that_the_events_do_not_tell():
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
        (
            {"history": [{"action": "run", **answered("c", "f", {"choices": []})}]},
            "history[0]: tool_call_metadata.model_response.choices: expected one choice with a message",
        ),
        ({"history": [{"action": "run", **answered("c", "f", {"choices": [{"message": 3}]})}]}, "expected one choice"),
        (
            {"history": [{"action": "message", "source": "user", "args": {"content": 3}}]},
            "history[0]: args.content: expected a text",
        ),
        ({"history": [{"action": "system", "args": {"content": 3}}]}, "history[0]: args.content: expected a text"),
        (
            {"history": [{"action": "message", "source": "agent", "args": {"content": 3}}]},
            "history[0]: args.content: expected a text",
        ),
        (
            {"history": [{"action": "f", **answered("c", "f", {"choices": [{"message": {"content": 3}}]})}]},
            "history[0]: tool_call_metadata.model_response.choices[0].message.content: expected a text",
        ),
        ({"history": [{"action": "system", "args": {"content": "", "tools": 3}}]}, "output.jsonl:1: tools: expected a"),
        ({"test_result": {"report": {"resolved": 1}}}, "output.jsonl:1: resolved: expected bool, got 1"),
        ({"instance_id": None}, "no instance_id"),
    ],
)
def test_a_damaged_run_is_named(change, message):
    with pytest.raises(InputError) as error:
        read(**change)
    assert message in str(error.value)


def lines(*events, **change):
    recorded, _, tally = read(history=list(events), **change)
    return recorded.lines, +tally.left_out


NO_SYSTEM = {"system prompts that the file does not hold": 1}
USER = {"action": "message", "source": "user", "args": {"content": "T"}}


def test_its_own_runs_are_told_by_their_keys():
    assert READER.name == "openhands"
    for key in ("test_result", "git_patch", "instruction"):
        assert READER.marks({"history": None, key: None})
        assert not READER.marks({key: None})
    assert not READER.marks({"history": []})


@pytest.mark.parametrize("kind", ["agent_state_changed", "null", "loop_detection", "condensation_request"])
def test_what_is_not_for_the_model(kind):
    assert lines({"observation": kind, "content": "x"}) == ([], {})


def test_what_is_not_for_the_model_and_is_counted():
    assert lines({"action": "change_agent_state"}, {"action": "recall"}) == ([], {})
    assert lines({"observation": "recall"}) == ([], {"recalled knowledge that the file does not quote": 1})
    told = {"condensations of the history, after which the model saw less than is here": 2}
    assert lines({"action": "condensation"}, {"observation": "condensation"}) == ([], told)


def test_events_that_have_each_others_keys_as_null():
    """As rows of Parquet have them."""
    every = {key: None for event in OLD for key in event} | {"kind": None}
    filled, steps, tally = read(history=[every | event for event in OLD])
    plain, plain_steps, plain_tally = read()
    assert (filled, steps, tally) == (plain, plain_steps, plain_tally)


def test_commands_of_the_user_and_refused_actions():
    events = [
        {"action": "system", "args": {"content": "S"}},
        {"action": "run", "source": "user", "args": {"command": "ls"}},
        {"observation": "run", "content": "x", "extras": {"exit_code": 3}},
        {"action": "finish", "source": "agent", "args": {"thought": "Done."}},
        {"observation": "user_rejected", "content": "no", "extras": None},
        {"observation": "browse", "content": None},
    ]
    found, counted = lines(*events)
    assert [line.sent for line in found] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "User executed the command:\nls"},
        {
            "role": "user",
            "content": "\n\n\nObserved result of command executed by user:\nx\n[Command finished with exit code 3]",
        },
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "OBSERVATION:\nno\n[Last action has been rejected by the user]"},
        {"role": "user", "content": "\n\n"},
    ]
    assert counted == {}


def test_how_a_command_ended():
    def ran(**metadata):
        event = {"observation": "run", "content": "x", "extras": {"metadata": metadata}}
        (line,) = lines(event)[0]
        return line.exit_code, line.timed_out

    assert ran(exit_code=0) == (0, False)
    assert ran(exit_code=-1, suffix="[The command timed out after 9 seconds]") == (None, True)
    assert ran(exit_code=-2) == (-2, False)
    (line,) = lines({"observation": "edit", "content": "x", "extras": {"metadata": {"exit_code": 3}}})[0]
    assert (line.exit_code, line.timed_out) == (None, False)


def test_thinking_inside_and_beside_the_text():
    def reply(**message):
        events = [USER, {"action": "run", **answered("c", "f", {"id": "r", "choices": [{"message": message}]})}]
        return lines(*events)[0][1]

    inside = reply(content="<think>Hm.</think>A")
    assert (inside.step["content"], inside.step["reasoning"], inside.sent["reasoning_content"]) == ("A", "Hm.", "Hm.")
    beside = reply(content="A", reasoning_content="Hm.")
    assert (beside.step["reasoning"], beside.sent) == ("Hm.", {"role": "assistant", "content": "A"})
    choices = [{"message": {"content": text}} for text in "AB"]
    events = [USER, {"action": "run", **answered("c", "f", {"id": "r", "choices": choices})}]
    assert lines(*events)[0][1].sent["content"] == "A"


def test_the_reason_why_a_server_stopped():
    _, steps, _ = read()
    assert [step.finish_reason for step in steps] == ["tool_calls", None, "tool_calls"]


def test_the_last_reply_needs_no_answer_and_the_others_do():
    first = response("r1", "", call("a", "f", "{}"), call("b", "g", "{}"))
    last = response("r2", "", call("c", "f", "{}"))
    events = [
        USER,
        {"action": "f", **answered("a", "f", first)},
        {"observation": "f", "content": "x", **answered("a", "f", first)},
        {"action": "f", **answered("c", "f", last)},
    ]
    found, counted = lines(*events)
    assert [line.sent["role"] for line in found] == ["user", "assistant"]
    assert counted == NO_SYSTEM | {"replies whose calls were never answered": 1}
    found, counted = lines(*events[:3])
    assert [line.sent["role"] for line in found] == ["user", "assistant", "tool"]
    assert counted == NO_SYSTEM


def test_who_made_the_run_and_what_came_of_it():
    def facts(**change):
        recorded, _, _ = read(**change)
        return recorded.model, recorded.scaffold, recorded.patch, recorded.resolved, recorded.repo

    assert facts(metadata=None, instance=None, test_result=None) == (None, "OpenHands", None, None, None)
    metadata = {"llm_config": {"model": 3}, "llm": {"model": "m"}, "git_commit": 3}
    assert facts(metadata=metadata, test_result={"git_patch": ""}, git_patch="diff") == (
        "m", "OpenHands", "diff", None, "x/y",
    )  # fmt: skip
    reports = {"report": {"resolved": None}, "test_result": {"report": {"resolved": False}}}
    assert facts(**reports)[3] is False
    assert facts(report={"resolved": True}, test_result={"report": {"resolved": False}})[3] is True
    assert facts(report=3)[3] is True


def test_the_tools_that_were_offered():
    offered = [{"name": "f", "parameters": {"x": None}}]
    assert read(history=[{"action": "system", "args": {"content": "", "tools": offered}}])[0].tools == (
        {"type": "function", "function": {"name": "f", "parameters": {}}},
    )
    two = [{"action": "system", "args": {"content": "", "tools": [{"name": name}]}} for name in "fg"]
    assert [tool["function"]["name"] for tool in read(history=two)[0].tools] == ["f"]
    for event in ({"action": "system", "args": {"content": ""}}, USER):
        assert read(history=[event])[0].tools == ()
