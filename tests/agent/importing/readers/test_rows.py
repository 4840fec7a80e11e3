"""Rows of datasets: chat rows, SWE-smith's splits, and what a description can say."""

import json

import pytest

from srft.agent.importing.columns import described
from srft.agent.importing.readers import RawRun, Tally
from srft.agent.importing.readers.conversation import NOT_RECORDED, SCAFFOLDS_TOOLS, steps_of
from srft.agent.importing.readers.endings import UNKNOWN_STATUS
from srft.agent.importing.readers.rows import ARROW_NULLS, DEVELOPER, OTHER_PATCHES, reader_of
from srft.agent.records import Action
from srft.env.errors import InputError

TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]


def call(identity, arguments, name="bash"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


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
SWE_SMITH = {
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


def read(row, dataset="chat", *changes, name="runs", line=7):
    tally = Tally()
    recorded = reader_of(described(dataset, changes=changes)).read(RawRun("r.jsonl:7", name, line, row), tally)
    return recorded, steps_of(recorded.lines, demo_messages=0), dict(tally.left_out)


def smith(messages, **change):
    return read({**SWE_SMITH, "messages": messages, **change}, "SWE-bench/SWE-smith-trajectories")


def test_rows_are_told_by_the_columns_of_their_dataset():
    chat = reader_of(described("chat"))
    assert chat.name == "chat"
    assert [chat.marks({column: None}) for column in ("messages", "conversation", "message")] == [True, True, False]
    smiths = reader_of(described("SWE-bench/SWE-smith-trajectories"))
    assert smiths.name == "SWE-bench/SWE-smith-trajectories"
    columns = dict.fromkeys(("messages", "traj_id", "instance_id", "resolved"))
    assert smiths.marks(columns)
    assert smiths.marks(columns | {"more": 1})
    assert not smiths.marks({"messages": [], "traj_id": "t", "instance_id": "i"})
    assert not reader_of(described("me/mine")).marks({"messages": []})


def test_what_is_counted_of_a_row():
    assert DEVELOPER == "messages of the role developer, kept as the role system"
    assert ARROW_NULLS == "nulls that Arrow put into the arguments of calls"
    assert OTHER_PATCHES == "patches that are another row's"


def test_consecutive_tool_messages_answer_one_reply():
    recorded, steps, _ = read(RUN)
    assert (recorded.task_id, recorded.patch, recorded.resolved) == ("x__y-1", "diff", False)
    assert recorded.tools == tuple(TOOLS)
    assert (recorded.stop_reason, recorded.detail, recorded.origin) == ("submitted", NOT_RECORDED, None)
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


@pytest.mark.parametrize("column", ["messages", "conversations", "trajectory", "messages_json"])
def test_chat_messages_under_any_of_their_names_and_as_text(column):
    messages = [{"role": "user", "content": "T"}, {"role": "assistant", "content": "A"}]
    assert [step.content for step in read({column: messages})[1]] == ["A"]
    assert [step.content for step in read({column: json.dumps(messages)})[1]] == ["A"]


def test_a_system_prompt_beside_the_messages_and_the_role_developer():
    said = {"role": "assistant", "content": "A"}
    recorded, _, counted = read({"conversations": [said], "system": "S"})
    assert [line.sent["role"] for line in recorded.lines] == ["system", "assistant"]
    assert counted == {}
    recorded, _, counted = read({"messages": [{"role": "developer", "content": "D"}, said], "system": "S"})
    assert [line.sent["content"] for line in recorded.lines] == ["D", "A"]
    assert counted == {DEVELOPER: 1}


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        (1.0, True),
        (0.0, False),
        (0.5, False),
        (-1, None),
        (None, None),
    ],
)
def test_outcomes_as_truth_values_and_as_numbers(value, resolved):
    assert read({"messages": [], "resolved": value})[0].resolved is resolved
    assert read({"messages": [], "passed": value}, "chat", "columns.outcome=passed")[0].resolved is resolved


@pytest.mark.parametrize("value", ["yes", 2, -0.5, [], float("nan")])
def test_another_value_is_no_outcome(value):
    with pytest.raises(InputError, match=r"r\.jsonl:7: resolved: expected true, false or a number of 0 to 1, got "):
        read({"messages": [], "resolved": value})


@pytest.mark.parametrize("name", ["target", "verified", "reward", "success", "passed", "solved", "score"])
def test_a_column_that_is_called_like_an_outcome_is_named(name):
    counted = {f"values of the column {name}; is it the outcome? --set columns.outcome={name}": 1}
    for value in (True, 0, 0.5):
        assert read({"messages": [], name: value})[2] == counted
        assert read({"messages": [], name: value}, "chat", "columns.outcome=other")[2] == {}
    for value in ("yes", None, []):
        assert read({"messages": [], name: value})[2] == {}
    assert read({"messages": [], name: True, "resolved": True})[2] == {}


def test_a_column_that_may_be_the_outcome_is_named():
    row = {"messages": [], "verified": True}
    recorded, _, counted = read(row)
    assert recorded.resolved is None
    assert counted == {"values of the column verified; is it the outcome? --set columns.outcome=verified": 1}
    assert read(row, "Kwai-Klear/SWE-smith-mini_swe_agent_plus-trajectories-66k", "columns.task=[]")[0].resolved is True


def test_nested_columns_also_through_text():
    row = {"messages": [], "meta": json.dumps({"result": {"patch": "diff", "ok": 1}, "id": "t"})}
    changes = ("columns.patch=meta.result.patch", "columns.outcome=meta.result.ok", "columns.task=meta.id")
    recorded, _, _ = read(row, "chat", *changes)
    assert (recorded.patch, recorded.resolved, recorded.task_id) == ("diff", True, "t")


def test_a_task_cut_out_of_another_id():
    row = {"trajectory_id": "0b01001001__spectree-64_run2", "messages": "[]", "reward": 0.0, "license": "MIT"}
    recorded, _, _ = read(row, "togethercomputer/CoderForge-Preview")
    assert (recorded.task_id, recorded.repo, recorded.resolved) == (
        "0b01001001__spectree-64",
        "0b01001001/spectree",
        False,
    )
    assert recorded.origin == "togethercomputer/CoderForge-Preview (MIT)"
    with pytest.raises(InputError, match="trajectory_id: 'spectree' does not match"):
        read({**row, "trajectory_id": "spectree"}, "togethercomputer/CoderForge-Preview")
    with pytest.raises(InputError, match="no trajectory_id; expected the task's id"):
        read({**row, "trajectory_id": None}, "togethercomputer/CoderForge-Preview")


def test_nulls_that_arrow_made_are_dropped_by_the_tools_schemas_or_all():
    properties = {"path": {"type": "string"}, "range": {"type": ["array", "null"]}}
    tools = [{"type": "function", "function": {"name": "edit", "parameters": {"properties": properties}}}]
    arguments = {"path": "x", "range": None, "command": None, "deep": {"a": None, "b": 1}}
    said = {"role": "assistant", "content": "", "tool_calls": [call("c", arguments, "edit")]}
    _, (step,), counted = read({"messages": [said], "tools": tools})
    assert step.action.arguments == {"path": "x", "range": None, "deep": {"b": 1}}
    assert counted == {ARROW_NULLS: 2}
    _, (step,), counted = read({"messages": [said]})
    assert step.action.arguments == {"path": "x", "deep": {"b": 1}}
    assert counted == {ARROW_NULLS: 3}
    said = {"role": "assistant", "content": "", "tool_calls": [call("c", '{"path": null}', "edit")]}
    _, (step,), counted = read({"messages": [said]})
    assert (step.action.arguments, counted) == ({"path": None}, {})  # as the model wrote it


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        ("Submitted", ("submitted", None)),
        ("submit", ("submitted", None)),
        ("submitted (exit_cost)", ("cost_limit", None)),
        ("exit_context", ("context_limit", None)),
        ("LimitsExceeded", ("cost_limit", None)),
        ("RuntimeError: Agent reached maximum iteration in headless mode", ("step_limit", None)),
        ("LLMContextWindowExceedError", ("context_limit", None)),
        ("AgentStuckInLoopError: stuck in a loop", ("cancelled", "AgentStuckInLoopError: stuck in a loop")),
        ("exit_api", ("infra_error", "exit_api")),
        ("gone", ("submitted", "exit status gone")),
        ("KeyboardInterrupt", ("cancelled", None)),
        (None, ("submitted", NOT_RECORDED)),
        ("", ("submitted", NOT_RECORDED)),
    ],
)
def test_how_a_run_ended(status, ending):
    recorded, _, counted = read({"messages": [], "exit_status": status})
    assert (recorded.stop_reason, recorded.detail) == ending
    assert counted == ({UNKNOWN_STATUS: 1} if status == "gone" else {})


def test_the_xml_split():
    recorded, steps, counted = smith([*XML, XML_SUBMIT])
    assert (recorded.task_id, recorded.model, recorded.scaffold) == (SWE_SMITH["instance_id"], "vendor/m", "SWE-agent")
    assert (recorded.repo, recorded.resolved) == ("pandas-dev/pandas", True)
    assert (recorded.stop_reason, recorded.detail) == ("submitted", None)
    assert [step.action for step in steps] == [
        Action(tool="bash", arguments={"command": "ls"}, format="xml"),
        Action(tool="submit", format="xml"),
    ]
    assert counted == {OTHER_PATCHES: 1}


def test_a_patch_that_is_another_rows_is_not_known():
    assert smith(XML)[0].patch is None
    assert smith(XML, patch="") == smith(XML, patch=None)


def test_the_message_that_no_model_wrote_is_left_out():
    recorded, steps, counted = smith([*XML, MADE_UP])
    assert len(steps) == 1
    assert (recorded.stop_reason, recorded.detail) == ("cost_limit", None)
    assert counted == {"last messages that the scaffold wrote itself": 1, OTHER_PATCHES: 1}


@pytest.mark.parametrize(
    ("content", "status", "ending"),
    [
        ("Exit due to cost limit", None, ("cost_limit", None)),
        ("Exit due to context window", None, ("submitted", NOT_RECORDED)),
        ("Exit due to cost limit", "submitted", ("submitted", None)),
        ("Exit due to cost limit", "exit_context", ("context_limit", None)),
        ("Exit due to cost limit", "exit_api", ("cost_limit", None)),
        ("Exit due to cost limit", "gone", ("cost_limit", None)),
    ],
)
def test_how_a_run_ended_whose_last_words_are_the_scaffolds(content, status, ending):
    messages = [{"role": "assistant", "content": "A"}, {"role": "assistant", "content": content}]
    recorded, steps, counted = read({"messages": messages, "exit_status": status})
    assert ((recorded.stop_reason, recorded.detail), len(steps)) == (ending, 1)
    assert counted["last messages that the scaffold wrote itself"] == 1


def test_words_that_somebody_made_up_hand_in_and_begin_so():
    submits = "\n\n<function=submit>\n</function>"
    for text in ("Since we have successfully fixed the issue", f"I say: {MADE_UP['content']}", f"Done.{submits}"):
        assert len(smith([*XML, {"role": "assistant", "content": text}])[1]) == 2
    assert len(read({"messages": [*XML, MADE_UP]})[1]) == 2


@pytest.mark.parametrize("tool", ["submit", "finish", "bash"])
def test_a_last_call_that_hands_in(tool):
    said = {"role": "assistant", "content": "", "tool_calls": [call("c", "{}", tool)]}
    recorded, _, _ = read({"messages": [said, {"role": "tool", "content": "x"}]})
    assert (recorded.stop_reason, recorded.detail) == ("submitted", NOT_RECORDED if tool == "bash" else None)


def test_the_ticks_split():
    recorded, steps, _ = smith(TICKS)
    assert [step.action for step in steps] == [
        Action(tool="bash", arguments={"command": "ls"}, format="thought_action"),
        Action(tool="submit", format="thought_action"),
    ]
    assert recorded.stop_reason == "submitted"


@pytest.mark.parametrize("encode", [list, json.dumps])
def test_the_tool_split_as_a_list_or_a_text(encode):
    recorded, steps, counted = smith(encode(TOOL))
    assert [line.sent for line in recorded.lines] == [
        {"role": "user", "content": "T"},
        {"role": "assistant", "content": "I look.", "tool_calls": TOOL[1]["tool_calls"]},
        {"role": "tool", "content": "a.py", "tool_call_id": "c1"},
    ]
    assert len(steps) == 1
    assert recorded.stop_reason == "cost_limit"
    assert [tool["function"]["name"] for tool in recorded.tools] == ["bash", "str_replace_editor", "submit"]
    assert counted == {
        "last messages that the scaffold wrote itself": 1,
        OTHER_PATCHES: 1,
        SCAFFOLDS_TOOLS: 1,
    }


def test_nebius_roles_and_texts():
    rows = [
        {"role": "system", "system_prompt": "S", "text": None, "mask": False},
        {"role": "user", "system_prompt": None, "text": "T"},
        {"role": "ai", "system_prompt": None, "text": "I look.\n```\nls\n```"},
        {"role": "user", "system_prompt": None, "text": "x.py"},
        {"role": "ai", "system_prompt": None, "text": "Done.\n```\nsubmit\n```"},
    ]
    row = {"instance_id": "a__b-1", "target": False, "trajectory": rows, "exit_status": "submitted (exit_cost)"}
    recorded, steps, _ = read({**row, "generated_patch": "\ndiff"}, "nebius/SWE-agent-trajectories")
    assert [line.sent["content"] for line in recorded.lines[:2]] == ["S", "T"]
    assert [(step.action.tool, step.observation) for step in steps] == [("bash", "x.py"), ("submit", None)]
    assert (recorded.resolved, recorded.patch, recorded.stop_reason) == (False, "\ndiff", "cost_limit")


def test_terminus_replies():
    said = [
        '{"analysis": "a", "commands": [{"keystrokes": "ls\\n", "duration": 0.1}, {"keystrokes": "pwd\\n"}]}',
        '```json\n{"commands": [], "task_complete": true}\n```',
        "no JSON",
    ]
    messages = [
        message for text in said for message in ({"from": "gpt", "value": text}, {"from": "human", "value": "o"})
    ]
    row = {"conversations": messages, "task": "t", "model": "m", "agent": "terminus-2"}
    recorded, steps, _ = read(row, "nvidia/Nemotron-Terminal-Corpus")
    assert (recorded.task_id, recorded.model, recorded.scaffold) == ("t", "m", "terminus-2")
    assert [step.action for step in steps] == [
        Action(tool="bash", arguments={"command": "ls\npwd\n"}, format="terminus"),
        Action(tool="submit", format="terminus"),
        None,
    ]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"messages": None}, "r.jsonl:7: messages: expected a list of objects, got NoneType"),
        ({"messages": 3}, "r.jsonl:7: messages: expected a list of objects, got int"),
        ({"messages": "["}, "r.jsonl:7: messages: a text, but not JSON"),
        ({"messages": "3"}, "r.jsonl:7: messages: expected a list of objects, got int"),
        ({"messages": [3]}, "r.jsonl:7: messages[0]: expected an object with role and content, got int"),
        ({}, "r.jsonl:7: no messages; expected messages or conversations or trajectory"),
        ({"messages": [{"role": "wizard", "content": ""}]}, "r.jsonl:7: messages[0].role: expected one of system"),
        ({"messages": [], "instance_id": 3}, "r.jsonl:7: instance_id: expected str, got 3"),
        ({"messages": [], "patch": 3}, "r.jsonl:7: patch: expected str, got 3"),
        ({"messages": [], "tools": "nonsense"}, "r.jsonl:7: tools: a text, but not JSON"),
        (
            {"messages": None, "trajectory": None},
            "r.jsonl:7: messages, trajectory: expected a list of objects, got NoneType",
        ),
        ({"messages": [], "system": 3}, "r.jsonl:7: system.content: expected a text"),
    ],
)
def test_a_damaged_run_is_named(run, message):
    with pytest.raises(InputError) as error:
        read(run)
    assert str(error.value).startswith(message)


def test_a_column_that_does_not_exist_is_asked_for():
    with pytest.raises(
        InputError, match=r"^r\.jsonl:7: no messages; expected a column given with --set columns\.messages="
    ):
        read({"messages": []}, "chat", "columns.messages=[]")
    with pytest.raises(InputError, match=r"^r\.jsonl:7: no name or title; expected the task's id next to messages$"):
        read({"messages": []}, "chat", "columns.task=[name, title]")
    assert read({"messages": []}, "chat", "columns.task=[]")[0].task_id == "runs-7"


def test_the_first_column_that_a_row_has_counts():
    row = {"messages": [], "a": None, "b": "", "c": "x"}
    changes = ("columns.model=[a, c, b]", "columns.patch=[a, b, c]", "columns.scaffold=[none, c]")
    recorded, _, _ = read(row, "chat", *changes)
    assert (recorded.model, recorded.patch, recorded.scaffold) == ("x", "", "x")
    recorded, _, _ = read(row, "chat", "columns.scaffold=b", "columns.repo=c", "scaffold=mine")
    assert (recorded.scaffold, recorded.repo) == ("mine", "x")


def test_a_path_through_what_is_no_object():
    row = {"messages": [], "a": "text", "b": [1], "c.d": "x", "c": {"d": "y"}}
    for path, found in (("a.b", None), ("b.c", None), ("c.d", "x"), ("c.e", None), ("e.f", None)):
        assert read(row, "chat", f"columns.model={path}")[0].model == found


def test_a_system_prompt_is_named_by_its_place():
    said = {"role": "assistant", "content": "A"}
    with pytest.raises(InputError, match=r"^r\.jsonl:7: messages\[1\]\.content: expected"):
        read({"system": "S", "messages": [said, {"role": "user", "content": 3}]})
    recorded, _, _ = read({"system": "", "messages": [said]})
    assert [line.sent["role"] for line in recorded.lines] == ["assistant"]


def test_tools_that_are_known_of_a_scaffold_are_for_rows_with_calls():
    said = {"role": "assistant", "content": "", "tool_calls": [call("c", "{}")]}
    for row, tools, counted in (
        ({"messages": [said]}, 1, {SCAFFOLDS_TOOLS: 1}),
        ({"messages": [said], "tools": []}, 1, {SCAFFOLDS_TOOLS: 1}),
        ({"messages": [said], "tools": [{"name": "a"}, {"name": "b"}]}, 2, {}),
        ({"messages": [{"role": "assistant", "content": "A"}]}, 0, {}),
    ):
        recorded, _, told = read(row, "chat", "known_tools=mini-swe-agent")
        assert (len(recorded.tools), told) == (tools, counted)


NOTHING_TYPED = Action(tool="bash", arguments={"command": ""}, format="terminus")
TERMINUS_SUBMITS = Action(tool="submit", format="terminus")


@pytest.mark.parametrize(
    ("actions", "text", "action"),
    [
        ("thought_action", "```\nls\n```", Action(tool="bash", arguments={"command": "ls"}, format="thought_action")),
        ("thought_action", "```bash\nls\n```", Action(tool="bash", arguments={"command": "ls"}, format="backtick")),
        ("thought_action", "x", None),
        ("''", "```\nls\n```", None),
        ("terminus", "```bash\nls\n```", None),
        ("terminus", '{"commands": []}', Action(tool="bash", arguments={"command": ""}, format="terminus")),
        (
            "terminus",
            '{"commands": [], "task_complete": 1}',
            Action(tool="bash", arguments={"command": ""}, format="terminus"),
        ),
        ("terminus", '{"commands": [{"keystrokes": " "}], "task_complete": true}', TERMINUS_SUBMITS),
        (
            "terminus",
            '{"commands": [3, {"keystrokes": 3}, {"keystrokes": "l"}, {"keystrokes": "s"}], "task_complete": true}',
            Action(tool="bash", arguments={"command": "ls"}, format="terminus"),
        ),
        ("terminus", '{"commands": {}}', None),
        ("terminus", "[1]", None),
    ],
)
def test_actions_that_a_scaffold_writes_in_its_texts(actions, text, action):
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    _, (step,), _ = read({"messages": messages}, "chat", f"actions={actions}")
    assert step.action == action
    said = {"role": "assistant", "content": text, "tool_calls": [call("c", "{}")]}
    assert read({"messages": [said]}, "chat", f"actions={actions}")[1][0].action.format == "native"


def test_calls_of_any_shape_are_pruned_or_refused():
    flat = {"id": "c", "name": "f", "arguments": {"a": None}}
    row = {"messages": [{"role": "assistant", "content": "", "tool_calls": [flat, flat]}]}
    _, (step,), counted = read(row)
    assert [made["function"]["arguments"] for made in step.tool_calls] == ["{}", "{}"]
    assert counted == {ARROW_NULLS: 2}
    assert flat["arguments"] == {"a": None}  # the row is left as it was
    for calls in ([3], [{"function": 3}], [{"function": {"name": 3, "arguments": {}}}], 3):
        with pytest.raises(InputError, match=r"^r\.jsonl:7: messages\[0\]\.tool_calls"):
            read({"messages": [{"role": "assistant", "content": "", "tool_calls": calls}]})


def test_the_licence_is_the_rows_or_the_datasets():
    row = {"messages": [], "license": "MIT", "instance_id": "a__b-1"}
    for changes, origin in (
        (("name=me/mine", "licence=GPL"), "me/mine (GPL)"),
        (("name=me/mine", "licence=GPL", "columns.licence=license"), "me/mine (MIT)"),
        (("name=me/mine",), "me/mine"),
        (("licence=GPL",), None),
    ):
        assert read(row, "chat", *changes)[0].origin == origin


def test_a_patch_of_another_row_is_counted_where_there_is_one():
    assert read({"messages": [], "x": "diff"}, "chat", "patches_of_other_rows=x")[2] == {OTHER_PATCHES: 1}
    assert read({"messages": [], "x": "", "patch": "p"}, "chat", "patches_of_other_rows=x")[2] == {}
    assert read({"messages": [], "patch": "p"}, "chat", "patches_of_other_rows=x")[0].patch == "p"


def test_a_pattern_that_finds_no_task():
    row = {"messages": [], "task_id": "x-"}
    assert read({**row, "task_id": "x-1"}, "chat", "task_pattern=x-(.*)")[0].task_id == "1"
    for pattern in ("x-(.*)", "y-(.*)"):
        with pytest.raises(InputError, match=r"^r\.jsonl:7: instance_id: 'x-' does not match "):
            read(row, "chat", f"task_pattern={pattern}")
