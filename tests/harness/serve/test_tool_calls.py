"""Calls read back from text: what a template wrote is what comes out, and what is no call stays text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.harness.serve.conversation import Conversation
from srft.harness.serve.tool_calls import ToolCalls, vllm_parser
from srft.train.rows.render import Renderer
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, TOOLS

BEGIN, END = "<|im_start|>{{ m.role }}\n", "<|im_end|>\n"
REPLY = "{{ m.content }}{% for c in m.tool_calls or [] %}"
GENERATION = "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def writes(call: str, *, arguments: str = "{{ c.function.arguments | tojson }}") -> str:
    """A ChatML template that writes a call so."""
    text = call.replace("NAME", "{{ c.function.name }}").replace("ARGUMENTS", arguments)
    return "{% for m in messages %}" + BEGIN + REPLY + text + "{% endfor %}" + END + GENERATION


HERMES = writes('\n<tool_call>\n{"name": "NAME", "arguments": ARGUMENTS}\n</tool_call>')
LLAMA = writes('{"name": "NAME", "parameters": ARGUMENTS}')
MISTRAL = writes('[TOOL_CALLS][{"name": "NAME", "arguments": ARGUMENTS}]')
XML = writes(
    "\n<tool_call>\n<function=NAME>\nARGUMENTS</function>\n</tool_call>",
    arguments="{% for k, v in c.function.arguments.items() %}<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}",
)


def calls_of(template: str) -> ToolCalls | None:
    return ToolCalls.of(Renderer(byte_tokenizer(template)).template)


@pytest.mark.parametrize(
    ("template", "parser", "is_read"),
    [
        (HERMES, "hermes", True),
        (LLAMA, "llama3_json", True),
        (MISTRAL, "mistral", True),
        (XML, "qwen3_coder", False),
        (CHATML, None, False),
    ],
)
def test_what_vllm_calls_it_and_whether_it_is_read_here(template, parser, is_read):
    assert vllm_parser(Renderer(byte_tokenizer(template)).template) == parser
    assert (calls_of(template) is not None) == is_read


ARGUMENTS = st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.none() | st.lists(st.text()))


@given(text=st.text("a.\n <", max_size=12), arguments=ARGUMENTS)
@pytest.mark.parametrize("template", [HERMES, LLAMA, MISTRAL, TOOLS])
def test_what_the_template_wrote_comes_back(template, text, arguments):
    renderer = Renderer(byte_tokenizer(template))
    call = {"id": "c", "type": "function", "function": {"name": "edit", "arguments": arguments}}
    said = renderer.template.styled([{"role": "assistant", "content": text, "tool_calls": [call, call]}])
    whole = renderer.template.render([{"role": "user", "content": "x"}, *said], prompt=False)
    reply = whole.partition("<|im_start|>assistant\n")[2].removesuffix("<|im_end|>\n")
    read = ToolCalls.of(renderer.template).read(reply)
    assert read.content == text
    assert [it["function"]["name"] for it in read.calls] == ["edit", "edit"]
    assert [json.loads(it["function"]["arguments"]) for it in read.calls] == [arguments, arguments]
    assert len({it["id"] for it in read.calls}) == 2


@pytest.mark.parametrize(
    "text",
    [
        "I look.",
        '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"',
        '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}',
        '<tool_call>\n{"name": "bash", "arguments": ["ls"]}\n</tool_call>',
        '<tool_call>\n{"name": "", "arguments": {}}\n</tool_call>',
    ],
)
def test_what_is_no_call_stays_text(text):
    assert calls_of(HERMES).read(text) == (text, ())


def test_white_space_is_the_models_own():
    read = calls_of(HERMES).read('Hm.\n<tool_call>{"name":"bash","arguments":{"command":"ls"}}</tool_call>')
    assert (read.content, read.calls[0]["function"]["arguments"]) == ("Hm.\n", '{"command": "ls"}')


def test_a_sampled_call_keeps_its_ids_in_later_prompts():
    renderer = Renderer(byte_tokenizer(HERMES))
    conversation, asked = Conversation(renderer), [{"role": "user", "content": "x"}]
    first = conversation.prompt(asked)
    text = 'Hm.\n<tool_call>{"name":"bash","arguments":{"command":"ls"}}</tool_call>'  # not as the template spaces it
    sampled = renderer.tokenizer(text)["input_ids"]
    content, calls = ToolCalls.of(renderer.template).read(text)
    conversation.note(content, sampled, calls)
    answer = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "a.py"}
    later = conversation.prompt([*asked, {"role": "assistant", "content": content, "tool_calls": calls}, answer])
    assert later[: len(first) + len(sampled) + 1] == [*first, *sampled, renderer.end_id]
    assert renderer.tokenizer.decode(later).endswith(
        f"{text}<|im_end|>\n<|im_start|>tool\na.py<|im_end|>\n<|im_start|>assistant\n"
    )
