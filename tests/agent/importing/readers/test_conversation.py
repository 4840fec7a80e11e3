"""Messages as they were sent, and the steps that they are."""

import pytest

from srft.agent.importing.readers import Tally
from srft.agent.importing.readers.conversation import (
    Line,
    call_action,
    fence_action,
    line_of,
    once_encoded,
    repository,
    seen,
    steps_of,
    text_action,
    text_of,
    usage_of,
)
from srft.agent.records import Action, Usage
from srft.env.errors import InputError


def call(arguments, name="bash", identity="c1"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("arguments", "encoded"),
    [
        ({"command": "é"}, '{"command": "é"}'),
        ('{"command":  "ls"}', '{"command":  "ls"}'),
        ('"{\\"command\\": \\"ls\\"}"', '{"command": "ls"}'),
        (None, "{}"),
        ("not json", "not json"),
    ],
)
def test_arguments_are_encoded_once(arguments, encoded):
    assert once_encoded(arguments) == encoded


def test_a_reply_keeps_its_calls_and_a_null_content_beside_them():
    line = line_of({"role": "assistant", "content": None, "tool_calls": [call({"command": "ls"})], "audio": None}, "w")
    sent = call('{"command": "ls"}')
    assert line.sent == {"role": "assistant", "content": "", "tool_calls": [sent]}
    assert line.step["tool_calls"] == (sent,)
    assert line.step["action"] == Action(tool="bash", arguments={"command": "ls"}, format="native", call_id="c1")


def test_arguments_that_are_no_object_are_a_format_error_and_travel_inside_one():
    line = line_of({"role": "assistant", "content": "x", "tool_calls": [call("[1")]}, "w")
    assert (line.step["error"], line.step["action"]) == ("format", None)
    assert line.sent["tool_calls"] == [call('{"unreadable": "[1"}')]


def test_several_calls_have_no_one_action():
    line = line_of({"role": "assistant", "content": "", "tool_calls": [call("{}"), call("{}", identity="c2")]}, "w")
    assert line.step["action"] is None
    assert "error" not in line.step


def test_only_what_a_template_needs_is_kept():
    line = line_of({"role": "tool", "content": "x", "tool_call_id": "c1", "name": "bash", "extra": {}, "tags": []}, "w")
    assert line.sent == {"role": "tool", "content": "x", "tool_call_id": "c1", "name": "bash"}


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("text", "w: expected an object with role and content, got str"),
        ({"content": "x"}, "w.role: expected one of system, user, assistant, tool, got None"),
        ({"role": "human", "content": "x"}, "w.role: expected one of system, user, assistant, tool, got 'human'"),
        ({"role": "user", "content": None}, "w.content: expected a text or a list of text parts, got null"),
        ({"role": "assistant"}, "w.content: expected a text or a list of text parts, got null"),
        ({"role": "user", "content": 7}, "w.content: expected a text or a list of text parts, got int"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "w.content[0]: expected a text part, got image_url"),
        ({"role": "user", "content": [None]}, "w.content[0]: expected a text part, got null"),
        (
            {"role": "assistant", "content": "", "tool_calls": {}},
            "w.tool_calls: expected a list of tool calls, got dict",
        ),
        (
            {"role": "assistant", "content": "", "tool_calls": [{}]},
            "w.tool_calls[0]: expected an object whose function",
        ),
        ({"role": "tool", "content": "", "tool_call_id": 3}, "w: tool_call_id: expected str, got 3"),
    ],
)
def test_a_damaged_message_is_named(message, problem):
    with pytest.raises(InputError) as error:
        line_of(message, "w")
    assert str(error.value).startswith(problem)


def test_text_parts_are_one_text():
    parts = [{"type": "text", "text": "a", "cache_control": {}}, "b", {"text": "c"}]
    assert text_of(parts, "w") == "abc"
    assert text_of(parts, "w", joint="\n") == "a\nb\nc"


def test_actions_in_texts():
    parameters = "<parameter=path>a.py</parameter>\n<parameter=new>\n</parameter>x\n</parameter>"
    xml = f"I edit.\n<function=edit>\n{parameters}\n</function>"
    assert text_action(xml) == Action(tool="edit", arguments={"path": "a.py", "new": "</parameter>x"}, format="xml")
    assert text_action("<function=submit>\n</function>") == Action(tool="submit", format="xml")
    bash = Action(tool="bash", arguments={"command": "ls"}, format="backtick")
    assert text_action("```bash\nls\n```") == bash
    assert text_action("no action") is None
    assert fence_action("```\nx\n```\nthen\n```\nls -F\n\n```") == Action(
        tool="bash", arguments={"command": "ls -F\n"}, format="thought_action"
    )
    assert fence_action("```\nsubmit\n```") == Action(tool="submit", format="thought_action")
    assert fence_action("no action") is None
    assert call_action(call('{"path": "x"}', name="view")).tool == "view"


def test_steps_take_what_answers_them():
    def tool(text, **facts):
        return Line(sent={"role": "tool", "content": text}, **facts)

    lines = [
        line_of({"role": "system", "content": "s"}, "w"),
        line_of({"role": "user", "content": "example"}, "w"),
        line_of({"role": "assistant", "content": "example"}, "w"),
        line_of({"role": "assistant", "content": "```bash\na\n```"}, "w"),
        tool("one", exit_code=0),
        tool("two", exit_code=3),
        Line(sent={"role": "user", "content": "no answer"}, answers=False),
        line_of({"role": "assistant", "content": "```bash\nb\n```"}, "w"),
        tool("refused", refused=True),
        line_of({"role": "assistant", "content": "last"}, "w"),
        tool("never seen", exit_code=7, timed_out=True),
    ]
    steps = steps_of(lines, demo_messages=3)
    assert [(s.index, s.content, s.observation, s.exit_code, s.timed_out, s.error) for s in steps] == [
        (0, "```bash\na\n```", "one\ntwo", 3, False, None),
        (1, "```bash\nb\n```", "refused", None, False, "format"),
        (2, "last", None, 7, True, None),
    ]
    assert [step.action is None for step in steps] == [False, True, True]
    tally = Tally()
    assert seen(lines, tally) == lines[:-1]
    assert tally.left_out == {"messages after the last reply": 1}


@pytest.mark.parametrize(
    ("task_id", "repo"),
    [
        ("sympy__sympy-20590", "sympy/sympy"),
        ("scikit-learn__scikit-learn-25747", "scikit-learn/scikit-learn"),
        ("pandas-dev__pandas.95280573.pr_53652", "pandas-dev/pandas"),
        ("a__b__c-1", "a/b__c"),
        ("BabyEncryption", None),
        ("runs-12", None),
    ],
)
def test_repository(task_id, repo):
    assert repository(task_id) == repo


def test_usage():
    assert usage_of(
        {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}
    ) == Usage(prompt_tokens=3, completion_tokens=1, cached_tokens=2)
    assert usage_of({"prompt_tokens": True, "cost": 0.0}, cost_usd=4) == Usage(cost_usd=0.0)
    assert usage_of(None, cost_usd=4) == Usage(cost_usd=4.0)
    assert usage_of("x") is None
