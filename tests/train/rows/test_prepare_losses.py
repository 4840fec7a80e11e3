"""A template that loses some of a run is refused: text, a call, an answer, a description of a tool."""

import json

import msgspec
import pytest

from srft.agent.records import Action
from srft.env.errors import InputError
from srft.train.rows.render import Renderer
from srft.train.rows.template import RenderError
from tests.train.conftest import TOOLS, make_run

OFFERED = {"name": "bash", "description": "Runs a command.", "parameters": {"type": "object", "properties": {}}}


def run_of_calls(text="I look.", calls=1):
    """Two steps: calls, with a text beside them, and a last text."""
    run = make_run([text, "Done."])
    made = [
        {
            "id": f"call00{n}00",
            "type": "function",
            "function": {"name": "bash", "arguments": json.dumps({"command": f"ls {n}"})},
        }
        for n in range(calls)
    ]
    system, user, said, _, done = run.messages
    told = [{"role": "tool", "tool_call_id": call["id"], "content": f"seen {n}"} for n, call in enumerate(made)]
    step = msgspec.structs.replace(
        run.steps[0], tool_calls=tuple(made), action=Action(tool="bash", arguments={"command": "ls 0"}, format="native")
    )
    return msgspec.structs.replace(
        run,
        messages=(system, user, {**said, "tool_calls": made}, *told, done),
        steps=(step, run.steps[1]),
        tools=({"type": "function", "function": OFFERED},),
    )


def trained(renderer, run):
    """What is trained of each step, in text."""
    (row,) = renderer.render(run).rows
    decode = renderer.tokenizer.backend_tokenizer.decode
    return [
        decode(row.input_ids[(row.step_index == step) & (row.part != 0)].tolist(), skip_special_tokens=False)
        for step in range(len(run.steps))
    ]


def test_a_template_that_loses_nothing(tokenizer_with):
    calls = "".join(f'<tool_call>bash {{"command": "ls {n}"}}</tool_call>' for n in range(2))
    assert trained(Renderer(tokenizer_with(TOOLS)), run_of_calls(calls=2)) == [
        f"I look.{calls}<|im_end|>",
        "Done.<|im_end|>",
    ]


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("{{ m.content }}", "{% if not m.tool_calls %}{{ m.content }}{% endif %}"),
        ("{{ m.content }}", "{% if m.role != 'assistant' or not m.tool_calls %}{{ m.content }}{% else %}I{% endif %}"),
        ("{{ m.content }}", "{% if m.role != 'tool' %}{{ m.content }}{% endif %}"),
        ("{{ c.function.name }} ", ""),
        ("{{ c.function.arguments | tojson }}", "{}"),
        ("{{ c.function.arguments | tojson }}", "{{ c.function.arguments | list | tojson }}"),
        ("{% for c in m.tool_calls or [] %}", "{% for c in (m.tool_calls or [])[:1] %}"),
        ("{% for c in m.tool_calls or [] %}", "{% for c in [] %}"),
        ("{{ tools | tojson }}", "Tools."),
        ("{{ tools | tojson }}", "{% for t in tools %}{{ t.function.name }}{% endfor %}"),
    ],
    ids=[
        "text",
        "text changed",
        "answers",
        "name",
        "arguments",
        "values",
        "second call",
        "calls",
        "tools",
        "descriptions",
    ],
)
def test_a_template_that_loses_something_is_refused(tokenizer_with, written, instead):
    assert written in TOOLS
    renderer = Renderer(tokenizer_with(TOOLS.replace(written, instead)))
    with pytest.raises(InputError):
        renderer.render(run_of_calls(calls=2))


@pytest.mark.parametrize(
    ("written", "instead", "run"),
    [
        ("{{ m.content }}", "{% if not m.tool_calls %}{{ m.content }}{% endif %}", run_of_calls(text="")),
        ("{% for c in m.tool_calls or [] %}", "{% for c in (m.tool_calls or [])[:1] %}", run_of_calls()),
        ("{{ c.function.arguments | tojson }}", "{}", make_run(["I look.", "Done."])),
    ],
    ids=["text", "second call", "calls"],
)
def test_what_a_run_has_not_cannot_be_lost(tokenizer_with, written, instead, run):
    whole = trained(Renderer(tokenizer_with(TOOLS)), run)
    assert trained(Renderer(tokenizer_with(TOOLS.replace(written, instead))), run) == whole


def test_a_text_that_a_template_changes_is_refused(tokenizer_with):
    renderer = Renderer(tokenizer_with(TOOLS.replace("{{ m.content }}", "{{ m.content | replace('ook', 'uck') }}")))
    with pytest.raises(InputError):
        renderer.render(make_run(["I look.", "Done."]))


def test_special_tokens_of_the_template_in_a_reply_are_tokens_and_a_mixture_is_refused(tokenizer_with):
    marked = TOOLS.replace("<tool_call>", "<|im_start|>call ").replace("</tool_call>", "<|im_start|>over")
    renderer = Renderer(tokenizer_with(marked))
    (row,) = renderer.render(run_of_calls(text="I say it now.")).rows
    start = renderer.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert (row.input_ids[(row.step_index == 0) & (row.part != 0)] == start).sum() == 2
    with pytest.raises(RenderError, match="spells a special token"):
        renderer.render(run_of_calls(text="I say <|im_start|> now."))
