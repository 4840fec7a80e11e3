"""Templates that write a turn by what comes later: the quick road must see it, and take the exact one instead."""

import msgspec
import pytest

from tests.train.conftest import DROPS_THINKING, TOOLS, make_run
from tests.train.rows.rendered import calling_run, columns
from tests.train.rows.test_one_pass import Counting

THOUGHT = "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
ASKED = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
)
ASKED += "{% endif %}{% endfor %}"
LATER = "{% set later = namespace(text=false) %}{% for n in messages[loop.index:] %}"
LATER += "{% if n.role == 'assistant' and not n.tool_calls %}{% set later.text = true %}{% endif %}{% endfor %}"


def thinking_when(condition, before=""):
    """A template that writes a reply's thinking on a condition alone."""
    shown = THOUGHT.replace("{% if m.reasoning_content %}", f"{{% if m.reasoning_content and ({condition}) %}}")
    return before + TOOLS.replace(THOUGHT, shown)


TEMPLATES = {
    "after the last question": thinking_when("loop.index0 > ns.last", ASKED),
    "unless a text follows": thinking_when("not later.text").replace("<|im_start|>{{", LATER + "<|im_start|>{{", 1),
    "in the last turn": thinking_when("loop.last"),
    "in the last two messages": thinking_when("loop.revindex <= 2"),
    "in the first turn": thinking_when("loop.index0 < 3"),
    "beside calls": thinking_when("m.tool_calls"),
    "without calls": thinking_when("not m.tool_calls"),
    "empty block at the end": TOOLS.replace(
        THOUGHT,
        "{% if m.role == 'assistant' and loop.last and not m.reasoning_content %}<think></think>{% endif %}" + THOUGHT,
    ),
    "drops": DROPS_THINKING,
}


def talking_run(*thoughts):
    """A run of texts with their thinking, sent back, and a question after each."""
    run = make_run([f"Reply {number}." for number in range(len(thoughts))])
    said = iter(thoughts)
    messages = [
        message | ({"reasoning_content": thought} if message["role"] == "assistant" and (thought := next(said)) else {})
        for message in run.messages
    ]
    steps = [
        msgspec.structs.replace(step, reasoning=thought) for step, thought in zip(run.steps, thoughts, strict=True)
    ]
    return msgspec.structs.replace(run, messages=tuple(messages), steps=tuple(steps))


RUNS = {
    "calls": calling_run(3, thinking="Hm.", last=""),
    "calls and a text": calling_run(3, thinking="Hm."),
    "two calls": calling_run(2, calls=2, thinking="Hm."),
    "a text": talking_run("Hm."),
    "texts": talking_run("Hm.", "Ho.", "Ha."),
    "now and then": talking_run("Hm.", None, "Ha."),
    "no thinking": calling_run(3),
}


@pytest.mark.parametrize("thinking", ["recorded", "without"])
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_both_roads_lead_to_the_same_rows(tokenizer_with, template, run, thinking):
    tokenizer = tokenizer_with(TEMPLATES[template])
    rows = []
    for slow in (False, True):
        try:
            rows.append(columns(Counting(tokenizer, thinking=thinking, slow=slow).render(RUNS[run])))
        except ValueError as error:
            rows.append(type(error))
    assert rows[0] == rows[1]
