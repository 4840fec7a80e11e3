"""A run as its template takes it: what is refused with which words, and which messages the template is given."""

from collections import Counter

import msgspec
import pytest

from srft.train.rows.prepare import Preparer
from srft.train.rows.template import ChatTemplate, RenderError
from tests.train.conftest import CHATML, TOOLS, make_run
from tests.train.rows.rendered import calling_run
from tests.train.rows.test_prepare_thinking import OPENS

OFFERED = ({"type": "function", "function": {"name": "bash", "description": "Runs.", "parameters": {}}},)
INSTEAD = "set rows.calls=xml (or json) to write calls as text, or take a tokenizer whose template writes them"
OR_WITHOUT = INSTEAD.replace("text,", "text, rows.tools=leave_out to do without,")
CALLS = "{% for c in m.tool_calls or [] %}"


def prepare(tokenizer, run, *, thinking=None, tools="refuse"):
    remarks = Counter()
    template = ChatTemplate(tokenizer, options={})
    return Preparer(template, thinking=thinking, tools=tools).prepare(run, remarks), dict(remarks)


def with_tools(run, *, system=True):
    messages = run.messages if system else run.messages[1:]
    return msgspec.structs.replace(run, tools=OFFERED, messages=messages)


@pytest.mark.parametrize(
    ("written", "instead", "run", "refusal"),
    [
        (CALLS, "{% for c in [] %}", calling_run(1), f"the chat template does not write tool calls; {INSTEAD}"),
        (CALLS, "{% for c in (m.tool_calls or [])[:1] %}", calling_run(1, calls=2), "several calls in a reply"),
        (
            "{{ m.content }}",
            "{% if not m.tool_calls %}{{ m.content }}{% endif %}",
            calling_run(2),
            "text beside a call",
        ),
        ("{{ m.content }}", "{% if m.role != 'tool' %}{{ m.content }}{% endif %}", calling_run(1), "observations"),
        ("{{ tools | tojson }}", "Tools.", with_tools(calling_run(1)), "tool descriptions"),
        (
            "{% if tools %}",
            "{% if tools and messages[0].role == 'system' %}",
            with_tools(calling_run(1), system=False),
            "tool descriptions without a system message",
        ),
        (
            "{% if tools %}",
            "{% if tools and messages[0].role != 'system' %}",
            with_tools(calling_run(1)),
            "tool descriptions",
        ),
    ],
)
def test_what_the_template_does_not_write_is_named_with_the_way_out(tokenizer_with, written, instead, run, refusal):
    ways = OR_WITHOUT if "descriptions" in refusal else INSTEAD
    told = refusal if refusal.startswith("the") else f"the chat template does not write {refusal}; {ways}"
    assert TOOLS.count(written) == 1
    with pytest.raises(RenderError) as refused:
        prepare(tokenizer_with(TOOLS.replace(written, instead)), run)
    assert str(refused.value) == told


@pytest.mark.parametrize(
    ("written", "instead", "run"),
    [
        (CALLS, "{% for c in [] %}", make_run(["I look.", "Done."])),
        (CALLS, "{% for c in (m.tool_calls or [])[:1] %}", calling_run(2)),
        ("{{ m.content }}", "{% if not m.tool_calls %}{{ m.content }}{% endif %}", calling_run(1, text=" ")),
        # Calls that nothing answers.
        ("{{ m.content }}", "{% if m.role != 'tool' %}{{ m.content }}{% endif %}", calling_run(1, last="")),
        ("{{ tools | tojson }}", "Tools.", calling_run(1)),
        ("{{ tools | tojson }}", "Tools.", with_tools(make_run(["Done."]))),
        ("{% if tools %}", "{% if tools and messages[0].role == 'system' %}", with_tools(calling_run(1))),
        ("{% if tools %}", "{% if tools and messages[0].role != 'system' %}", with_tools(calling_run(1), system=False)),
    ],
)
def test_what_a_run_does_not_have_is_not_missed(tokenizer_with, written, instead, run):
    prepared, remarks = prepare(tokenizer_with(TOOLS.replace(written, instead)), run)
    assert (len(prepared.messages), remarks) == (len(run.messages), {})


def test_descriptions_may_be_left_out(tokenizer_with):
    tokenizer = tokenizer_with(TOOLS.replace("{{ tools | tojson }}", "Tools."))
    run = with_tools(calling_run(1))
    assert prepare(tokenizer, run, tools="leave_out")[0].messages[2]["tool_calls"][0]["function"]["name"] == "bash"
    with pytest.raises(RenderError):
        prepare(tokenizer, run)


def test_a_template_that_writes_calls_only_beside_descriptions(tokenizer_with):
    tokenizer = tokenizer_with(TOOLS.replace("in m.tool_calls or [] %}", "in (m.tool_calls or [] if tools else []) %}"))
    prepare(tokenizer, with_tools(calling_run(1)))
    with pytest.raises(RenderError, match=r"^the chat template writes tool calls only where .*--tools"):
        prepare(tokenizer, calling_run(1))
    prepare(tokenizer, make_run(["Done."]))


def thinking_run(*replies):
    """A run of (thinking, text) replies with the thinking sent back as `reasoning`."""
    run = make_run([text for _, text in replies])
    said = iter(replies)
    messages = [
        {**message, **({"reasoning": thought} if (thought := next(said)[0]) else {})}
        if message["role"] == "assistant"
        else message
        for message in run.messages
    ]
    return msgspec.structs.replace(run, messages=tuple(messages))


def test_thinking_is_given_under_the_templates_key_or_not_at_all(tokenizer_with):
    run = thinking_run(("Hm.", "I look."), (None, "Done."))
    prepared, remarks = prepare(tokenizer_with(TOOLS), run)
    assert (prepared.thinking, remarks) == ("recorded", {})
    assert [m for m in prepared.messages if m["role"] == "assistant"] == [
        {"role": "assistant", "content": "I look.", "reasoning_content": "Hm."},
        {"role": "assistant", "content": "Done."},
    ]
    for template, thinking in [(TOOLS, "without"), (CHATML, None), (CHATML, "recorded"), (TOOLS, "empty")]:
        prepared, remarks = prepare(tokenizer_with(template), run, thinking=thinking)
        assert (prepared.thinking, remarks) == (thinking if template == TOOLS else "without", {"thinking_left_out": 1})
        assert prepared.messages[2] == {"role": "assistant", "content": "I look."}


def test_without_thinking_nothing_is_chosen(tokenizer_with):
    prepared, remarks = prepare(tokenizer_with(TOOLS), make_run(["Done."]))
    assert (prepared.thinking, prepared.template.options, remarks) == ("without", {}, {})
    assert prepared.thought(prepared.steps[0]) == ""
    closed, _ = prepare(tokenizer_with(OPENS), make_run(["Done."]), thinking="without")
    assert closed.template.options == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("template", "content", "apart"),
    [
        (TOOLS, "<think>\nHm.\n</think>\n\nDone.", ("Hm.", "Done.")),
        (TOOLS, "\n<think>Hm.</think>Done.", ("Hm.", "Done.")),
        (TOOLS, "<think></think>Done.", (None, "Done.")),
        (TOOLS, "I <think>Hm.</think>Done.", None),
        (TOOLS, "Hm.</think>Done.", None),
        (OPENS, "Hm.\n</think>\n\nDone.", ("Hm.", "Done.")),
        (OPENS, "Hm. <think>Ho.</think>Done.", None),
        (CHATML, "<think>Hm.</think>Done.", None),
    ],
)
def test_thinking_at_the_beginning_of_a_text_is_thinking(tokenizer_with, template, content, apart):
    run = make_run(["I look.", content])
    prepared, _ = prepare(tokenizer_with(template), run, thinking="recorded")
    step, message = prepared.steps[1], prepared.messages[-1]
    thought, text = apart or (None, content)
    assert (step.reasoning, step.content, message["content"]) == (thought, text, text)
    assert message.get("reasoning_content") == thought
    assert prepared.steps[0] == run.steps[0]
    assert prepared.thought(step) == (thought or "")
