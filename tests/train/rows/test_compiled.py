"""The quick road through a template gives the texts and the refusals of transformers."""

import pytest

from srft.train.rows.compiled import REFUSALS, CompiledTemplate
from tests.train.conftest import CHATML, DROPS_THINKING, SPACES, TOOLS, TRIMS
from tests.train.rows.rendered import CALLS_END_OTHERWISE, CHANNELS, CLOSES, GROUPS, NEXT_ROLE, OPENS

# What look-ups there are: attributes, keys, methods of texts, dictionaries, loops and namespaces, filters, what is not
# there, a macro, marks of generation, JSON.
LOOKS_UP = """{% macro shown(m) %}{{ m.role }}/{{ m['role'] }}/{{ m.nothing }}/{{ m.nothing is defined }}{% endmacro %}
{% set ns = namespace(n=0) %}{% for m in messages if m.content is string %}{% set ns.n = ns.n + 1 %}
{% generation %}{{ shown(m) }} {{ ns.n }} {{ loop.index0 }} {{ loop.last }} {{ m.items() | list | length }}
{{ m.get('content', '') }} {{ m.content.upper() }} {{ '%s' % m.content }} {{ '{}'.format(m.content) }}
{{ m.content | length }} {{ m.content.split('a') | tojson }} {{ m | tojson }} {{ m.values() | list }}
{% if 'thinking' in m %}{{ m.thinking }} {{ m.reasoning_content }}{% endif %}{% if m.name is none %}none{% endif %}
{{ m['content'][0:1] }} {{ messages[0].role }} {{ messages | length }} {{ bos_token }} {{ eos_token }} {{ extra }}
{% endgeneration %}{% endfor %}{{ tools | tojson }} {{ documents }} {{ add_generation_prompt }} {{ tools is none }}"""
# What the sandbox refuses, and what fails.
REFUSED = {
    "a list is changed": "{{ messages.append(1) }}",
    "a dictionary is changed": "{{ messages[0].update(a=1) }}",
    "a private attribute": "{{ messages[0].__class__ }}x{{ messages.__class__.__mro__ }}",
    "a text's private attribute": "{{ 'a'.__class__.__mro__ }}",
    "a format's private attribute": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "the template refuses": "{{ raise_exception('no') }}",
    "no such key": "{{ messages[0].nothing.more }}",
    "no such place": "{{ messages[9].role }}",
    "no number": "{{ 'a' + 1 }}",
}
TEMPLATES = {
    "chatml": CHATML, "drops thinking": DROPS_THINKING, "spaces": SPACES, "tools": TOOLS, "trims": TRIMS,
    "channels": CHANNELS, "next role": NEXT_ROLE, "groups": GROUPS, "calls": CALLS_END_OTHERWISE, "closes": CLOSES,
    "opens": OPENS, "looks up": LOOKS_UP, **REFUSED,
}  # fmt: skip
CALL = {"id": "c0", "type": "function", "function": {"name": "f", "arguments": {"a": "'\"<>&é", "b": [1, None, 2.5]}}}
TOOL = {"type": "function", "function": {"name": "f", "description": "<d>", "parameters": {"type": "object"}}}
SYSTEM, USER = {"role": "system", "content": "You fix."}, {"role": "user", "content": "a total"}
CONVERSATIONS = {
    "none": [],
    "task": [USER],
    "system": [SYSTEM, USER],
    "text": [SYSTEM, USER, {"role": "assistant", "content": " I look. \n"}, USER],
    "no content": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}],
    "calls": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
        {"role": "tool", "tool_call_id": "c0", "name": None, "content": "é"},
    ],
    "reasoning": [USER, {"role": "assistant", "content": "b", "reasoning": "r"}, USER],
    "thinking": [USER, {"role": "assistant", "content": "b", "thinking": "t", "reasoning": "r"}, USER],
    "reasoning_content": [USER, {"role": "assistant", "content": "b", "reasoning_content": "", "thinking": "t"}, USER],
    "no reasoning": [USER, {"role": "assistant", "content": "b", "reasoning_content": None, "tool_calls": None}, USER],
}


def outcome(render, *arguments, **options):
    try:
        return render(*arguments, **options)
    except REFUSALS as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", TEMPLATES)
def test_texts_and_refusals_are_those_of_transformers(tokenizer_with, name):
    options = {"enable_thinking": False, "extra": "x"}
    tokenizer = tokenizer_with(TEMPLATES[name])
    template = CompiledTemplate(tokenizer, options)
    assert template.is_quick
    for messages in CONVERSATIONS.values():
        for tools in ((), (TOOL,)):
            for prompt in (False, True):
                expected = outcome(
                    tokenizer.apply_chat_template,
                    messages,
                    tools=list(tools) or None,
                    tokenize=False,
                    add_generation_prompt=prompt,
                    **options,
                )
                given = outcome(template.render, messages, tools, prompt=prompt)
                assert given == expected or (not messages and given == (ValueError, "no messages"))
    if name in REFUSED:
        assert isinstance(outcome(template.render, [USER], (), prompt=True), tuple)


def test_an_option_that_means_something_to_transformers_alone_is_given_to_it(tokenizer_with):
    other = "{{ messages[0].content }}, too"
    template = CompiledTemplate(tokenizer_with(CHATML), {"chat_template": other})
    assert not template.is_quick
    assert template.render([USER], (), prompt=True) == "a total, too"


def test_a_conversation_is_left_as_it_was(tokenizer_with):
    message = {"role": "assistant", "content": None, "reasoning": "r"}
    template = CompiledTemplate(tokenizer_with(CHATML), {})
    assert template.render([message], (), prompt=False) == "<|im_start|>assistant\n<|im_end|>\n"
    assert message == {"role": "assistant", "content": None, "reasoning": "r"}
