"""Tool calls as text: nothing of a call is lost, and what a model with the text format writes reads the same way."""

import json

import msgspec
import pytest

from srft.agent.formats import FORMATS
from srft.agent.models.contract import Reply
from srft.agent.records import Action, Step
from srft.train.rows.calls import calls_as_text
from srft.train.rows.render import Renderer
from tests.train.conftest import CHATML, make_run

TOOL = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Runs a command.",
        "parameters": {"type": "object", "properties": {"command": {"type": "string", "description": "What to run."}}},
    },
}


def call(number, name, arguments):
    return {"id": str(number), "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def run_of(*replies, system="Fix it."):
    """A run of (text, calls) replies, each call answered by its number."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": "It is broken."})
    steps = []
    for index, (text, calls) in enumerate(replies):
        messages.append({"role": "assistant", "content": text, "tool_calls": list(calls)})
        messages += [{"role": "tool", "tool_call_id": one["id"], "content": f"seen {one['id']}"} for one in calls]
        action = Action(tool="bash", arguments={"command": "ls"}, format="native", call_id="1")
        steps.append(Step(index=index, content=text, tool_calls=tuple(calls), action=action))
    run = make_run(["x"])
    return msgspec.structs.replace(run, messages=tuple(messages), steps=tuple(steps), tools=(TOOL,))


LS = call(1, "bash", {"command": "ls\npwd"})


def test_a_call_in_xml():
    text = calls_as_text(run_of(("I look.", [LS])), "xml")
    expected = "I look.\n\n<function=bash>\n<parameter=command>\nls\npwd\n</parameter>\n</function>"
    assert [step.content for step in text.steps] == [expected]
    assert text.messages[2] == {"role": "assistant", "content": expected}
    assert text.messages[3] == {"role": "user", "content": "seen 1"}
    assert (text.steps[0].tool_calls, text.steps[0].action.format, text.tools) == ((), "xml", ())


def test_a_call_in_json():
    text = calls_as_text(run_of(("", [LS])), "json")
    assert text.steps[0].content == (
        '<tool_call>\n{"name": "bash", "arguments": {"command": "ls\\npwd"}}\n</tool_call>'
    )


def test_what_is_written_in_xml_is_read_back_by_the_format_of_that_name():
    text = calls_as_text(run_of(("I look.", [LS])), "xml")
    action = FORMATS["xml"].parse(Reply(content=text.steps[0].content))
    assert (action.tool, action.arguments) == ("bash", {"command": "ls\npwd"})


def test_several_calls_and_their_answers_keep_their_order():
    edit = call(2, "edit", {"path": "a.py", "lines": [1, 2]})
    text = calls_as_text(run_of(("", [LS, edit]), ("Done.", [])), "xml")
    first = text.steps[0].content
    assert first.index("<function=bash>") < first.index("<function=edit>")
    assert "<parameter=lines>\n[1, 2]\n</parameter>" in first
    assert text.messages[3] == {"role": "user", "content": "seen 1\n\nseen 2"}
    assert text.messages[4]["content"] == text.steps[1].content == "Done."


XML = "<function=NAME>\n<parameter=PARAMETER>\nvalue\n</parameter>\n</function>"
JSON = '<tool_call>\n{"name": NAME, "arguments": {PARAMETER: value}}\n</tool_call>'


@pytest.mark.parametrize(("syntax", "shown"), [("xml", XML), ("json", JSON)])
def test_how_the_tools_are_described(syntax, shown):
    bare = {"name": "submit", "parameters": {"properties": {"why": {}, "how": True}}}
    run = msgspec.structs.replace(run_of(("", [LS])), tools=(TOOL, bare))
    assert calls_as_text(run, syntax).messages[0]["content"] == (
        f"Fix it.\n\n# Functions\n\nCall a function like this:\n\n{shown}\n\n"
        "bash: Runs a command.\n  command: What to run.\nsubmit:\n  why:\n  how:"
    )


def test_texts_that_are_not_there_are_empty():
    run = run_of((None, [LS]))
    run = msgspec.structs.replace(run, messages=({"role": "system", "content": None}, *run.messages[1:]))
    empty = tuple({**message, "content": None} if message["role"] == "tool" else message for message in run.messages)
    step = msgspec.structs.replace(run.steps[0], content="")
    text = calls_as_text(msgspec.structs.replace(run, messages=empty, steps=(step,)), "json")
    assert text.messages[0]["content"].startswith("\n\n# Functions")
    assert text.messages[2]["content"] == text.steps[0].content
    assert text.messages[3] == {"role": "user", "content": ""}


def test_other_letters_stay_and_an_action_keeps_its_arguments():
    text = calls_as_text(run_of(("", [call(1, "bash", {"command": "é"})])), "json")
    assert text.steps[0].content == '<tool_call>\n{"name": "bash", "arguments": {"command": "é"}}\n</tool_call>'
    assert text.steps[0].action == Action(tool="bash", arguments={"command": "ls"}, format="json")
    text = calls_as_text(run_of(("", [call(1, "bash", {"a": "1", "b": "2"})])), "xml")
    assert text.steps[0].content == (
        "<function=bash>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n</parameter>\n</function>"
    )


@pytest.mark.parametrize(("arguments", "shown"), [("", {}), ("{", {"unreadable": "{"}), ("[1]", {}), (None, {})])
def test_arguments_that_are_no_object(arguments, shown):
    odd = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": arguments}}
    written = calls_as_text(run_of(("", [odd])), "json").steps[0].content
    assert json.loads(written.split("\n")[1]) == {"name": "bash", "arguments": shown}


def test_only_the_answers_of_one_reply_become_one_message():
    run = run_of(("", [LS]), ("", [call(2, "bash", {})]))
    text = calls_as_text(run, "xml")
    assert [message["content"] for message in text.messages if message["role"] == "user"] == [
        "It is broken.",
        "seen 1",
        "seen 2",
    ]
    assert text.demo_messages == 0
    begins = msgspec.structs.replace(run, messages=({"role": "tool", "content": "seen 0"}, *run.messages[1:]), tools=())
    assert calls_as_text(begins, "xml").messages[0] == {"role": "user", "content": "seen 0"}


@pytest.mark.parametrize("system", ["Fix it.", ""])
def test_the_tools_are_described_where_the_system_message_is(system):
    text = calls_as_text(run_of(("", [LS]), system=system), "xml")
    assert text.messages[0]["role"] == "system"
    assert text.messages[0]["content"].startswith("Fix it.\n\n# Functions" if system else "# Functions")
    assert "bash: Runs a command.\n  command: What to run." in text.messages[0]["content"]


def test_a_demonstration_stays_before_the_first_step():
    run = run_of(("I look.", [LS]), system="")
    shown = ({"role": "user", "content": "u"}, {"role": "assistant", "content": "", "tool_calls": [LS]})
    answered = {"role": "tool", "tool_call_id": "1", "content": "o"}
    run = msgspec.structs.replace(run, messages=(*shown, answered, answered, *run.messages), demo_messages=4)
    text = calls_as_text(run, "xml")
    assert [message["role"] for message in text.messages[: text.demo_messages]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


def test_a_run_without_calls_is_left_as_it_is():
    run = make_run(["I look."])
    assert calls_as_text(run, "xml") is run


def test_sampled_ids_of_calls_are_not_those_of_the_text():
    run = run_of(("I look.", [LS]))
    step = msgspec.structs.replace(run.steps[0], token_ids=(1, 2), prompt_token_ids=(3,), logprobs=(0.0, 0.0))
    (step,) = calls_as_text(msgspec.structs.replace(run, steps=(step,)), "xml").steps
    assert (step.token_ids, step.prompt_token_ids, step.logprobs) == (None, None, None)


def test_rows_of_a_template_without_calls(tokenizer_with):
    renderer = Renderer(tokenizer_with(CHATML), calls="xml")
    (row,) = renderer.render(run_of(("I look.", [LS]), ("Done.", []))).rows
    ids = row.input_ids[(row.step_index == 0)].tolist()
    assert renderer.tokenizer.decode(ids) == (
        "I look.\n\n<function=bash>\n<parameter=command>\nls\npwd\n</parameter>\n</function><|im_end|>"
    )
