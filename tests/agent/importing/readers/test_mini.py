"""mini-swe-agent's runs of both generations."""

import pytest

from srft.agent.importing.readers import RawRun, Tally
from srft.agent.importing.readers.conversation import NOT_RECORDED, SCAFFOLDS_TOOLS, steps_of
from srft.agent.importing.readers.mini import READER
from srft.agent.records import Action, Usage
from srft.env.errors import InputError

RESPONSE = {
    "model": "m",
    "choices": [{"finish_reason": "stop", "message": {"content": "x", "reasoning": "because"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.5},
}
TEXT = {
    "instance_id": "x__y-1",
    "trajectory_format": "mini-swe-agent-1",
    "info": {"exit_status": "Submitted", "submission": "diff \n", "mini_version": "1.15.0"},
    "messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "T"},
        {"role": "assistant", "content": "```bash\nls\n```", "extra": {"response": RESPONSE}},
        {"role": "user", "content": "<returncode>-1</returncode>\n<output>\n<returncode>3</returncode></output>"},
        {"role": "assistant", "content": "no block", "extra": {"cost": 1}},
        {"role": "user", "content": "Please always provide EXACTLY ONE action"},
        {"role": "assistant", "content": "```bash\nsleep 99\n```"},
        {"role": "user", "content": "The last command <command>sleep 99</command> timed out and has been killed.\n"},
        {"role": "assistant", "content": "```bash\necho COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\n```"},
        {"role": "user", "content": "diff \n"},
    ],
    "resolved": False,
}
CALL = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
CALLS = {
    "instance_id": "x__y-2",
    "trajectory_format": "mini-swe-agent-1.1",
    "info": {
        "exit_status": "LimitsExceeded",
        "submission": "",
        "mini_version": "2.4.6",
        "config": {"model": {"model_name": "vendor/m2"}, "agent": {"step_limit": 2}},
        "model_stats": {"api_calls": 2},
    },
    "messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "T"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALL, {**CALL, "id": "c2"}],
            "function_call": None,
            "reasoning_content": "hm",
            "extra": {"actions": [{"command": "ls"}, {"command": "ls"}], "response": RESPONSE, "cost": 0.25},
        },
        {"role": "tool", "tool_call_id": "c1", "content": "<returncode>0</returncode>", "extra": {"returncode": 0}},
        {"role": "tool", "tool_call_id": "c2", "content": "<returncode>2</returncode>", "extra": {"returncode": 2}},
        {"role": "user", "content": "Tool call error", "extra": {"interrupt_type": "FormatError", "response": {}}},
        {"role": "assistant", "content": "", "tool_calls": [CALL], "extra": {"actions": [{"command": "ls"}]}},
        {
            "role": "tool",
            "tool_call_id": "c1",
            "content": "<exception>timed out</exception><returncode>-1</returncode>",
            "extra": {"returncode": -1, "exception_type": "TimeoutExpired"},
        },
        {"role": "exit", "content": "LimitsExceeded", "extra": {"exit_status": "LimitsExceeded", "submission": ""}},
    ],
}


def read(content, name="x__y-9", line=None):
    tally = Tally()
    recorded = READER.read(RawRun("f.traj.json", name, line, content), tally)
    return recorded, steps_of(recorded.lines, demo_messages=0), tally


def test_the_text_generation():
    recorded, steps, tally = read(TEXT)
    assert (recorded.task_id, recorded.model, recorded.scaffold) == ("x__y-1", "m", "mini-swe-agent-1.15.0")
    assert (recorded.patch, recorded.stop_reason, recorded.detail, recorded.resolved) == (
        "diff \n",
        "submitted",
        None,
        False,
    )
    assert [step.exit_code for step in steps] == [-1, None, None, None]
    assert [step.error for step in steps] == [None, "format", None, None]
    assert [step.timed_out for step in steps] == [False, False, True, False]
    assert [step.usage for step in steps[:2]] == [
        Usage(prompt_tokens=10, completion_tokens=2, cost_usd=0.5),
        Usage(cost_usd=1.0),
    ]
    assert (steps[0].reasoning, steps[0].finish_reason) == ("because", "stop")
    assert steps[0].action == Action(tool="bash", arguments={"command": "ls"}, format="backtick")
    assert recorded.lines[2].sent == {"role": "assistant", "content": "```bash\nls\n```"}
    assert tally == Tally()


def test_the_tool_generation():
    recorded, steps, tally = read(CALLS)
    assert (recorded.model, recorded.scaffold, recorded.patch) == ("vendor/m2", "mini-swe-agent-2.4.6", None)
    assert (recorded.stop_reason, recorded.detail) == ("step_limit", None)
    assert recorded.lines[2].sent == {
        "role": "assistant",
        "content": "",
        "tool_calls": [CALL, {**CALL, "id": "c2"}],
        "reasoning_content": "hm",
    }
    assert [(step.observation, step.exit_code, step.timed_out, step.error) for step in steps] == [
        ("<returncode>0</returncode>\n<returncode>2</returncode>", 2, False, None),
        (None, None, True, None),
    ]
    assert (steps[0].reasoning, steps[0].action) == ("hm", None)
    assert steps[1].action == Action(tool="bash", arguments={"command": "ls"}, format="native", call_id="c1")
    assert tally.left_out == {
        SCAFFOLDS_TOOLS: 1,
        "replies that mini-swe-agent refused and did not keep": 1,
        "exit messages of mini-swe-agent": 1,
    }


@pytest.mark.parametrize(
    ("content", "extra", "command"),
    [
        ("```mswea_bash_command\nls\n```", {}, "ls"),
        ("<act>ls</act>", {"actions": [{"command": "ls"}]}, "ls"),
        ("```mswea_bash_command\nls\n```\n```mswea_bash_command\nls\n```", {}, None),
    ],
)
def test_other_text_blocks(content, extra, command):
    _, steps, _ = read({**TEXT, "messages": [{"role": "assistant", "content": content, "extra": extra}]})
    if command is None:
        assert (steps[0].action, steps[0].error) == (None, "format")
    else:
        assert steps[0].action == Action(tool="bash", arguments={"command": command}, format="mswea_bash_command")


@pytest.mark.parametrize(
    ("limit", "calls", "reason"),
    [
        (2, 2, "step_limit"),
        (2, 3, "step_limit"),
        (1, 1, "step_limit"),
        (3, 2, "cost_limit"),
        (0, 0, "cost_limit"),
        (0, 5, "cost_limit"),
        (-1, 5, "cost_limit"),
        (None, 5, "cost_limit"),
        (None, 0, "cost_limit"),
        (5, None, "cost_limit"),
        (1, None, "cost_limit"),
        (True, True, "cost_limit"),
    ],
)
def test_which_limit_was_exceeded(limit, calls, reason):
    config = {"agent": {"step_limit": limit}}
    info = {"exit_status": "LimitsExceeded", "config": config, "model_stats": {"api_calls": calls}}
    assert read({**TEXT, "info": info})[0].stop_reason == reason


def test_its_own_runs_are_told_by_their_keys():
    assert READER.name == "mini-swe-agent"
    for run in (
        {"trajectory_format": "mini-swe-agent-3"},
        {"messages": [], "info": {"exit_status": None}},
        {"messages": [], "info": {"mini_version": "1"}},
    ):
        assert READER.marks(run)
    for run in (
        {"trajectory_format": "x"},
        {"messages": [], "info": {}},
        {"messages": [], "info": "exit_status"},
        {"info": {"exit_status": "Submitted"}},
    ):
        assert not READER.marks(run)


def test_the_exit_code_of_an_answer_is_its_files():
    reply = {"role": "assistant", "content": "```bash\nls\n```"}
    answers = [{"returncode": 3}, {"returncode": True}, {"returncode": "3"}, {}, None]
    messages = [m for extra in answers for m in (reply, {"role": "user", "content": "[exit code: 4]", "extra": extra})]
    _, steps, _ = read({**TEXT, "messages": messages})
    assert [step.exit_code for step in steps] == [3, 4, 4, 4, 4]


def test_what_the_response_tells_of_a_reply():
    def told(**message):
        _, (step,), _ = read({**TEXT, "messages": [{"role": "assistant", "content": "```bash\nls\n```", **message}]})
        return step.reasoning, step.finish_reason, step.usage

    def response(**choice):
        return {"extra": {"response": {"choices": [choice]}, "cost": 0.5}}

    cost = Usage(cost_usd=0.5)
    assert told() == told(extra={"response": {"choices": []}}) == told(extra={"response": {"choices": {}}})
    assert told(extra=3) == (None, None, None)
    assert told(**response(finish_reason=3, message={"reasoning": 3})) == (None, None, cost)
    assert told(**response(message={"reasoning_content": "a", "reasoning": "b"})) == ("a", None, cost)
    assert told(**response(message={"reasoning_content": "", "reasoning": "b"})) == ("b", None, cost)
    assert told(reasoning_content="c", **response(message={"reasoning": "b"})) == ("c", None, cost)


def test_a_command_that_the_file_recorded_beside_a_text():
    def action(content, actions):
        message = {"role": "assistant", "content": content, "extra": {"actions": actions}}
        return read({**TEXT, "messages": [message]})[1][0].action

    bash = Action(tool="bash", arguments={"command": "ls"}, format="mswea_bash_command")
    assert action("x", [{"command": "ls"}, {"command": 3}, 3]) == bash
    assert action("x", [{"command": "ls"}, {"command": "ls"}]) is None
    assert action("x", {"command": "ls"}) is None
    assert action("```mswea_bash_command\nls\n```", [{}]) == bash
    own = Action(tool="bash", arguments={"command": "pwd"}, format="backtick")
    assert action("```bash\npwd\n```", [{"command": "ls"}]) == own
    assert action("<function=f>\n</function>", [{"command": "ls"}]) == bash


@pytest.mark.parametrize(
    ("info", "ending"),
    [
        ({"exit_status": "Submitted"}, ("submitted", None)),
        ({"exit_status": "LimitsExceeded"}, ("cost_limit", None)),
        ({"exit_status": "TimeExceeded"}, ("wall_limit", None)),
        ({"exit_status": "RepeatedFormatError"}, ("format_errors", None)),
        ({"exit_status": "ContextWindowExceededError"}, ("context_limit", None)),
        ({"exit_status": "UserInterruption"}, ("cancelled", None)),
        ({"exit_status": ""}, ("cancelled", None)),
        (None, ("cancelled", None)),
        ({"exit_status": "APIError", "submission": "502 Bad Gateway"}, ("infra_error", "APIError")),
    ],
)
def test_how_a_run_ended(info, ending):
    recorded, _, _ = read({**TEXT, "info": info})
    assert (recorded.stop_reason, recorded.detail) == ending
    assert recorded.patch is None


def test_a_file_of_one_run_names_its_task():
    assert read({**TEXT, "instance_id": None})[0].task_id == "x__y-9"
    with pytest.raises(InputError, match="no instance_id"):
        read({**TEXT, "instance_id": None}, line=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectory_format": "x-2"}, "trajectory_format is 'x-2'; expected mini-swe-agent-1"),
        ({"messages": None}, "expected an object with messages"),
        ({"resolved": "yes"}, "resolved: expected bool, got 'yes'"),
        ({"info": {"exit_status": "Submitted", "submission": 3}}, "submission: expected str, got 3"),
        ({"messages": [{"object": "response", "output": []}]}, "messages[0]: an item of the Responses API"),
        ({"messages": [{"type": "function_call_output"}]}, "messages[0]: an item of the Responses API"),
        ({"messages": [{"role": "user", "content": 3}]}, "f.traj.json: messages[0].content: expected a text"),
        ({"info": 3}, "f.traj.json: info: expected dict, got 3"),
        ({"info": {"mini_version": 3}}, "mini_version: expected str, got 3"),
    ],
)
def test_a_damaged_run_is_named(change, message):
    with pytest.raises(InputError) as error:
        read({**TEXT, **change})
    assert message in str(error.value)


def test_an_exit_status_beside_the_messages_and_none_at_all():
    run = {"trajectory_format": "mini-swe-agent-1", "instance_id": "x__y-1", "messages": TEXT["messages"]}
    recorded, _, _ = read({**run, "exit_status": "LimitsExceeded"})
    assert (recorded.stop_reason, recorded.detail) == ("cost_limit", None)
    recorded, _, _ = read({**run, "info": {"exit_status": "Submitted"}, "exit_status": "LimitsExceeded"})
    assert recorded.stop_reason == "submitted"
    recorded, _, _ = read(run)
    assert (recorded.stop_reason, recorded.detail, recorded.scaffold) == ("submitted", NOT_RECORDED, "mini-swe-agent")
    assert (recorded.model, recorded.resolved) == ("m", None)
    recorded, _, _ = read({**run, "messages": [{"role": "user", "content": "T", "extra": {"response": {"model": 3}}}]})
    assert recorded.model is None


def test_the_tools_are_those_of_its_own_program():
    recorded, _, _ = read(CALLS)
    assert [tool["function"]["name"] for tool in recorded.tools] == ["bash"]
    assert read(TEXT)[0].tools == ()
