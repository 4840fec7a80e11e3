"""SWE-agent's .traj files of all generations."""

import json

import pytest

from srft.agent.importing.readers import RawRun, Tally
from srft.agent.importing.readers.conversation import NOT_RECORDED, steps_of
from srft.agent.importing.readers.endings import UNKNOWN_STATUS
from srft.agent.importing.readers.swe_agent import READER, is_closing
from srft.agent.records import Action
from srft.env.errors import InputError

OLD = {
    "environment": "swe_main",
    "info": {"exit_status": "submitted", "submission": "\ndiff\n"},
    "history": [
        {"role": "system", "content": "S", "agent": "primary"},
        {"role": "user", "content": "Here is a demonstration", "agent": "primary", "is_demo": True},
        {"role": "user", "content": "T", "agent": "primary"},
        {
            "role": "assistant",
            "content": "I look.\n```\nls -F\n```",
            "thought": "I look.\n",
            "action": "ls -F\n",
            "agent": "primary",
        },
        {"role": "user", "content": "a.py\n\n(Open file: n/a)\nbash-$", "agent": "primary"},
        {"role": "assistant", "content": "Done.\n```\nsubmit\n```", "action": "submit\n", "agent": "primary"},
    ],
    "trajectory": [
        {"action": "ls -F\n", "observation": "a.py", "response": "I look.\n```\nls -F\n```", "state": "{}"},
        {"action": "submit\n", "observation": "diff", "response": "Done.\n```\nsubmit\n```", "state": "{}"},
    ],
}


def call(name, arguments, identity):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def entry(role, content, **more):
    return {"role": role, "content": content, "agent": "main", **more}


QUERY = [{"role": "system", "content": "S"}, {"role": "user", "content": "T"}]
NEW = {
    "environment": "main",
    "replay_config": json.dumps({"agent": {"model": {"name": "vendor/m"}}}),
    "info": {"exit_status": "submitted (exit_cost)", "submission": "diff\r\n", "swe_agent_version": "1.1.0"},
    "history": [
        entry("system", "S", message_type="system_prompt"),
        entry("user", [{"type": "text", "text": "T", "cache_control": {"type": "ephemeral"}}]),
        entry(
            "assistant",
            "I look.",
            action="ls",
            tool_calls=[call("bash", '{"command": "ls"}', "c1")],
            thinking_blocks=[{"type": "thinking", "thinking": "hm"}],
        ),
        entry("tool", [{"type": "text", "text": "a.py"}], tool_call_ids=["c1"]),
        entry("assistant", "I edit.", action="x", tool_calls=[call("edit", {"path": "a.py"}, "c2")]),
        entry("tool", "The command 'x' was cancelled because it took more than 30 seconds.", tool_call_ids=["c2"]),
        entry("assistant", "Exit due to cost limit", action="", thought="Exit due to cost limit"),
        entry("user", "Exited (autosubmitted)"),
    ],
    "trajectory": [
        {"response": "no call", "execution_time": 9.0, "query": QUERY},
        {"response": "I look.", "execution_time": 0.5, "query": QUERY},
        {"response": "I edit.", "execution_time": 2, "query": [*QUERY, {"role": "assistant", "content": "shortened"}]},
        {"response": "Exit due to cost limit", "execution_time": 0.0, "query": [{}]},
    ],
}


def read(content, name="x__y-1", line=None):
    tally = Tally()
    recorded = READER.read(RawRun("x__y-1.traj", name, line, content), tally)
    return recorded, steps_of(recorded.lines, demo_messages=recorded.demo_messages), tally


def test_the_old_generation():
    recorded, steps, tally = read(OLD)
    assert (recorded.task_id, recorded.model, recorded.scaffold) == ("x__y-1", None, "SWE-agent")
    assert (recorded.patch, recorded.stop_reason, recorded.demo_messages) == ("\ndiff\n", "submitted", 2)
    assert [line.sent["role"] for line in recorded.lines] == [
        "system",
        "user",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert [step.action for step in steps] == [
        Action(tool="bash", arguments={"command": "ls -F"}, format="thought_action"),
        Action(tool="submit", format="thought_action"),
    ]
    assert steps[0].observation == "a.py\n\n(Open file: n/a)\nbash-$"
    assert tally == Tally()


def test_the_new_generation():
    recorded, steps, tally = read(NEW)
    assert (recorded.model, recorded.scaffold) == ("vendor/m", "SWE-agent-1.1.0")
    assert (recorded.patch, recorded.stop_reason, recorded.detail) == ("diff\r\n", "cost_limit", None)
    assert [line.sent for line in recorded.lines[1:4]] == [
        {"role": "user", "content": "T"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [call("bash", '{"command": "ls"}', "c1")],
            "reasoning_content": "hm",
        },
        {"role": "tool", "content": "a.py", "tool_call_id": "c1"},
    ]
    assert [(step.content, step.wall_s, step.timed_out) for step in steps] == [
        ("I look.", 0.5, False),
        ("I edit.", 2.0, True),
    ]
    assert steps[0].reasoning == "hm"
    assert steps[1].action == Action(tool="edit", arguments={"path": "a.py"}, format="native", call_id="c2")
    assert tally.left_out == {
        "last messages that the scaffold wrote itself": 1,
        "steps that were asked with a shortened or longer history": 1,
    }


def test_replies_in_examples_are_no_steps():
    demo = [entry("user", "t", is_demo=True), entry("assistant", "d", action="ls", is_demo=True)]
    history = [NEW["history"][0], *demo, *NEW["history"][1:5]]
    recorded, steps, _ = read({"history": history, "info": {}})
    assert recorded.demo_messages == 3
    assert [step.content for step in steps] == ["I look.", "I edit."]
    assert (recorded.stop_reason, recorded.detail) == ("submitted", NOT_RECORDED)


def test_messages_of_another_agent_are_left_out():
    other = {"role": "assistant", "content": "I review.", "agent": "reviewer"}
    recorded, _, tally = read({**OLD, "history": [*OLD["history"], other]})
    assert len(recorded.lines) == 6
    assert tally.left_out == {"messages of other agents in the run": 1}


def test_an_xml_call_and_a_command_that_the_text_does_not_show():
    xml = "<function=bash>\n<parameter=command>ls</parameter>\n</function>"
    history = [
        entry("assistant", xml, action="ls"),
        entry("assistant", "plain", action="ls"),
        entry("assistant", "x", action=""),
        entry("assistant", "x", action="submit"),
    ]
    _, steps, _ = read({"history": history, "info": {}})
    assert [step.action and (step.action.tool, step.action.format) for step in steps] == [
        ("bash", "xml"),
        ("bash", "thought_action"),
        None,
        ("submit", "thought_action"),
    ]


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        ("submitted", ("submitted", None)),
        ("submitted (exit_context)", ("context_limit", None)),
        ("exit_cost", ("cost_limit", None)),
        ("exit_format", ("format_errors", None)),
        ("exit_forfeit", ("submitted", None)),
        ("exit_total_execution_time", ("wall_limit", None)),
        ("exit_environment_error", ("infra_error", "exit_environment_error")),
        ("early_exit", ("cancelled", None)),
        (None, ("cancelled", None)),
    ],
)
def test_how_a_run_ended(status, ending):
    recorded, _, _ = read({**OLD, "info": {"exit_status": status}})
    assert (recorded.stop_reason, recorded.detail) == ending


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history": None}, "history: expected a list of messages"),
        ({"history": [3]}, "history: expected a list of messages"),
        ({"info": {"exit_status": 3}}, "info: exit_status: expected str, got 3"),
        ({"history": [entry("tool", "x", tool_call_ids=["a", "b"])]}, "history[0].tool_call_ids: expected one id"),
        ({"history": [entry("user", None)]}, "history[0].content: expected a text"),
    ],
)
def test_a_damaged_run_is_named(change, message):
    with pytest.raises(InputError) as error:
        read({**OLD, **change})
    assert message in str(error.value)


def test_a_line_among_many_must_name_its_task():
    with pytest.raises(
        InputError, match=r"no instance_id; expected the task's id in it, or a file named after the task"
    ):
        read(OLD, line=1)


def replies(*entries, trajectory=()):
    """The steps of a history of replies, and what was counted."""
    _, steps, tally = read({"history": list(entries), "info": {}, "trajectory": list(trajectory)})
    return steps, tally.left_out


def test_its_own_runs_are_told_by_their_keys():
    assert READER.name == "swe-agent"
    for run in ({"history": [], "trajectory": 3}, {"history": [{"role": "user"}]}):
        assert READER.marks(run)
    for run in ({"history": 3, "trajectory": []}, {"history": [{"kind": "x"}, {"role": "user"}]}, {"history": [3]}):
        assert not READER.marks(run)


def test_a_status_that_is_not_known_is_kept_as_the_detail():
    recorded, _, tally = read({**OLD, "info": {"exit_status": "odd"}})
    assert (recorded.stop_reason, recorded.detail) == ("submitted", "exit status odd")
    assert tally.left_out == {UNKNOWN_STATUS: 1}


def test_where_the_command_of_a_reply_comes_from():
    fenced = "I look.\n```\nls\n```"
    steps, _ = replies(
        entry("assistant", "x\n```bash\nls\n```"),
        entry("assistant", fenced, action=" ls\n"),
        entry("assistant", fenced, action="pwd"),
        entry("assistant", fenced, action=" "),
        entry("assistant", "```\nsubmit\n```", action="submit"),
        entry("assistant", "```\nls\n```", action=" submit\n"),
        entry("assistant", "x", action="ls", tool_calls=[call("f", "{}", "a"), call("g", "{}", "b")]),
        entry("assistant", "x", action=3),
        entry("assistant", "Done."),
    )
    bash, thought = {"command": "ls"}, "thought_action"
    assert [step.action for step in steps] == [
        Action(tool="bash", arguments=bash, format="backtick"),
        Action(tool="bash", arguments=bash, format=thought),
        Action(tool="bash", arguments={"command": "pwd"}, format=thought),
        None,
        Action(tool="submit", format=thought),
        Action(tool="submit", format=thought),
        None,
        None,
        None,
    ]


def test_times_are_those_of_the_same_words_in_their_order():
    entries = [
        {"response": "a", "execution_time": 1},
        3,
        {"response": "refused", "execution_time": 2},
        {"response": "a", "execution_time": 3.5},
        {"response": "<think>Hm.</think>b", "execution_time": True},
        {"response": None, "execution_time": 5},
    ]
    steps, _ = replies(*(entry("assistant", text) for text in ("a", "a", "b", "gone", "a")), trajectory=entries)
    assert [step.wall_s for step in steps] == [1.0, 3.5, None, None, None]
    steps, _ = replies(entry("assistant", "a"), trajectory=[{"response": "a", "execution_time": 10**400}])
    assert steps[0].wall_s is None


@pytest.mark.parametrize(
    ("query", "otherwise"),
    [
        ([{"content": "S"}, {"content": [{"type": "text", "text": "T"}]}], False),
        ([{"content": "S"}, 3, {"content": "T"}], False),
        ([{"content": "S"}], True),
        ([{"content": "S"}, {"content": "T"}, {"content": None}], True),
        ([{"content": "S"}, {"content": 3}], True),
        (3, False),
        (None, False),
    ],
)
def test_replies_that_were_asked_with_another_history(query, otherwise):
    history = [entry("system", "S"), entry("user", "T"), entry("assistant", "A")]
    _, counted = replies(*history, trajectory=[{"response": "A", "query": query}])
    assert counted == ({"steps that were asked with a shortened or longer history": 1} if otherwise else {})


def test_an_empty_message_was_asked_with_as_the_empty_text():
    history = [entry("system", "S"), entry("user", ""), entry("assistant", "A")]
    assert replies(*history, trajectory=[{"response": "A", "query": [{"content": "S"}, {"content": None}]}])[1] == {}


@pytest.mark.parametrize(
    ("content", "action", "closing"),
    [
        ("Exit due to cost limit", None, True),
        ("Exiting due to context", None, True),
        ("I say: Exit due to", None, False),
        ("Exit due to cost", Action(tool="bash", arguments={"command": "exit_cost"}, format="x"), True),
        ("Exit due to cost", Action(tool="bash", arguments={"command": "ls exit_cost"}, format="x"), False),
        ("Exit due to cost", Action(tool="submit", format="x"), True),
    ],
)
def test_what_the_scaffold_wrote_when_a_limit_ended_the_run(content, action, closing):
    assert is_closing({"content": content, "action": action}) == closing


def test_only_the_last_reply_after_the_examples_is_the_scaffolds():
    closing = entry("assistant", "Exit due to cost limit")
    assert replies({**closing, "is_demo": True}) == ((), {})
    assert replies() == ((), {})
    steps, counted = replies(closing, entry("assistant", "Done."))
    assert (len(steps), counted) == (2, {})
    steps, counted = replies(entry("assistant", "Done."), closing, entry("user", "Exited"))
    assert ([step.content for step in steps], counted) == (
        ["Done."],
        {"last messages that the scaffold wrote itself": 1},
    )


@pytest.mark.parametrize(
    ("config", "model"),
    [
        ({"agent": {"model": {"name": "m"}}}, "m"),
        ('{"agent": {"model": {"name": "m"}}}', "m"),
        ('{"agent": {"model": {"name": 3}}}', None),
        ("{", None),
        (3, None),
    ],
)
def test_the_models_name(config, model):
    assert read({**OLD, "replay_config": config})[0].model == model


def test_the_task_and_the_verdict_that_somebody_added():
    recorded, _, _ = read({**OLD, "instance_id": "a__b-3", "resolved": True}, line=3)
    assert (recorded.task_id, recorded.resolved) == ("a__b-3", True)
    with pytest.raises(InputError, match="resolved: expected bool, got 1"):
        read({**OLD, "resolved": 1})


def test_an_example_may_be_another_agents():
    demo = {**entry("user", "example", is_demo=True), "agent": "other"}
    recorded, _, tally = read({"history": [entry("system", "S"), demo, entry("assistant", "A")], "info": {}})
    assert ([line.sent["content"] for line in recorded.lines], recorded.demo_messages) == (["S", "example", "A"], 2)
    assert tally.left_out == {}
