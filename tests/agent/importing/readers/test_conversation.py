"""Messages as they were sent, and the steps that they are."""

from datetime import date

import pytest

from srft.agent.formats import FormatError
from srft.agent.importing.readers import RawRun, Tally, from_json, within
from srft.agent.importing.readers.conversation import (
    NOT_RECORDED,
    Line,
    Recorded,
    call_action,
    fence_action,
    line_of,
    number_of,
    once_encoded,
    optional,
    repository,
    seen,
    split_thinking,
    steps_of,
    task_of,
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
        ("[" * 10_000, "[" * 10_000),
        ({"day": date(2026, 1, 2)}, '{"day": "2026-01-02"}'),
        (r'{"a": "\ud800"}', r'{"a": "\ud800"}'),
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
        (
            {"role": "tool", "content": "", "tool_call_id": 3},
            "w: tool_call_id: expected str, got 3. Fix or remove the run.",
        ),
        ({"role": "assistant", "content": "", "reasoning_content": 3}, "w: reasoning_content: expected str, got 3"),
        ({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "id": 3}]}, "w.tool_calls[0]: id: expected"),
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
    assert text_of([{"type": kind, "text": "d"} for kind in ("input_text", "output_text")], "w") == "dd"


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


def test_a_run_is_frozen_and_made_by_name_alone():
    assert NOT_RECORDED == "how it ended is not recorded"
    assert (Line.__struct_config__.frozen, Recorded.__struct_config__.frozen) == (True, True)
    told = Recorded(task_id="t", scaffold="s", lines=[], patch=None, stop_reason="submitted")
    assert (told.demo_messages, told.tools, told.resolved) == (0, (), None)
    for kind in (Line, Recorded):
        with pytest.raises(TypeError, match="positional"):
            kind({})


def test_null_is_the_empty_text_of_a_tools_answer_and_of_a_reply():
    assert line_of({"role": "tool", "content": None}, "w").sent == {"role": "tool", "content": ""}
    assert line_of({"role": "assistant", "content": None}, "w").sent == {"role": "assistant", "content": ""}


def test_thinking_is_kept_apart_however_it_is_written():
    thought = {"role": "assistant", "content": "Done.", "reasoning_content": "Hm."}
    said = "<think>\nHm.\n</think>\n\nDone."
    for message in ({"content": said}, {"content": said, "reasoning_content": "Hm."}, thought):
        line = line_of({"role": "assistant", **message}, "w", step={"reasoning": None})
        assert line.sent == thought
        assert (line.step["content"], line.step["reasoning"]) == ("Done.", "Hm.")
    other = line_of({"role": "assistant", "content": said, "reasoning_content": "Otherwise."}, "w")
    assert (other.step["content"], other.step["reasoning"]) == (said, "Otherwise.")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<thinking>\n\n\nHm.\n\n</thinking>x", ("Hm.", "x")),
        (" <think>XHmX</think>\n\nx ", ("XHmX", "x ")),
        ("a <think>Hm.</think>", (None, "a <think>Hm.</think>")),
        ("<think>Hm.</thinking>", (None, "<think>Hm.</thinking>")),
    ],
)
def test_split_thinking(text, parts):
    assert split_thinking(text) == parts


def test_what_more_is_known_of_a_reply():
    line = line_of({"role": "assistant", "content": "A"}, "w", step={"finish_reason": "stop", "usage": None})
    assert line.step == {"content": "A", "reasoning": None, "tool_calls": (), "action": None, "finish_reason": "stop"}
    more = line.with_step(error="format", finish_reason=None)
    assert (more.sent, more.step) == (line.sent, {**line.step, "error": "format", "finish_reason": None})


@pytest.mark.parametrize(
    ("value", "kind", "problem"),
    [
        (True, int, "w: a: expected int, got True"),
        (1, bool, "w: a: expected bool, got 1"),
        ("x", (int, float), "w: a: expected int or float, got 'x'"),
        ("x" * 100, list, "w: a: expected list, got '" + "x" * 79 + ". Fix or remove the run."),
    ],
)
def test_a_value_of_another_type(value, kind, problem):
    with pytest.raises(InputError) as error:
        optional({"a": value}, "a", kind, "w")
    assert str(error.value).startswith(problem)
    assert optional({"a": True}, "a", bool, "w") is True
    assert optional({"a": 1.5}, "a", (int, float), "w") == 1.5
    assert optional({"a": None}, "a", kind, "w") is optional({}, "a", kind, "w") is None


def test_calls_without_an_object_around_them_and_without_arguments():
    line = line_of({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": None}]}, "w")
    assert line.sent["tool_calls"] == [call("{}", "f", None)]
    assert call_action({"function": {"name": "f", "arguments": ""}}) == Action(tool="f", format="native")
    assert call_action(call('{"a": "\\ud800"}')).arguments == {"a": "\ufffd"}


def test_arguments_that_no_tool_takes():
    for arguments, problem in (("[1]", "the arguments are list"), ("{", "the arguments are not JSON: Expecting")):
        with pytest.raises(FormatError, match=problem):
            call_action(call(arguments))


def test_a_bare_exit_code_counts_where_the_reply_did_not_ask_for_it():
    def codes(reply):
        answer = Line(sent={"role": "tool", "content": "exit code: 1"})
        return [step.exit_code for step in steps_of([line_of(reply, "w"), answer], demo_messages=0)]

    assert codes({"role": "assistant", "content": "ls"}) == [1]
    assert codes({"role": "assistant", "content": "echo $?"}) == [None]
    assert codes({"role": "assistant", "content": "", "tool_calls": [call('{"command": "ls"}')]}) == [1]
    assert codes({"role": "assistant", "content": "", "tool_calls": [call('{"command": "echo $?"}')]}) == [None]


def test_an_answer_that_timed_out_has_the_code_of_its_file_alone():
    reply = line_of({"role": "assistant", "content": "ls"}, "w")
    late = {"role": "tool", "content": "Command timed out after 2m\n[exit code: 1]"}
    for answer, told in (
        (Line(sent=late), (True, None)),
        (Line(sent=late, exit_code=3), (True, 3)),
        (Line(sent={"role": "tool", "content": "[exit code: 1]"}, timed_out=True), (True, None)),
        (Line(sent={"role": "tool", "content": "[exit code: 1]"}, exit_code=0), (False, 0)),
    ):
        (step,) = steps_of([reply, answer], demo_messages=0)
        assert (step.timed_out, step.exit_code) == told


def test_nothing_is_seen_where_nobody_replied():
    tally = Tally()
    assert seen([], tally) == []
    assert seen([line_of({"role": "user", "content": "T"}, "w")], tally) == []
    assert tally.left_out == {"messages after the last reply": 1}


def test_a_run_is_named_by_its_id_or_its_file():
    assert task_of(RawRun("w", "f", 3, {"instance_id": "a"})) == "a"
    assert task_of(RawRun("w", "f", None, {})) == task_of(RawRun("w", "f", None, {"instance_id": ""})) == "f"
    with pytest.raises(
        InputError, match=r"^w: no instance_id; expected the task's id in it, or a file named after the"
    ):
        task_of(RawRun("w", "f", 3, {}))


@pytest.mark.parametrize(
    ("value", "number"),
    [(2, 2.0), (-0.5, -0.5), (True, None), ("1", None), (None, None), (10**400, None), (float("nan"), None)],
)
def test_numbers(value, number):
    assert number_of(value) == number
    assert usage_of({"cost": value}) == (None if number is None else Usage(cost_usd=number))


def test_values_within_values_and_json_that_can_be_stored():
    assert within({"a": {"b": 1}}, "a", "b") == 1
    assert within({"a": [1]}, "a", "b") is within({"a": 1}, "b") is within(None, "a") is None
    assert from_json(r'{"\ud800": ["\ud800"]}') == {"\ufffd": ["\ufffd"]}
    for text in ("", "[" * 10_000, "{"):
        with pytest.raises(ValueError, match=r"Expecting|nested too deeply"):
            from_json(text)
