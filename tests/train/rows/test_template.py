"""A chat template, tried: how it ends a turn, how it wants calls, what it loses, what it does with thinking."""

import json

import msgspec
import pytest

from srft.env.errors import InputError
from srft.train.rows.template import MARK, ChatTemplate, Ending, Style, answers, chat_messages, looked_for
from tests.train.conftest import CHATML, SPACES, TOOLS, make_run
from tests.train.rows.rendered import CHANNELS, CLOSES, NEXT_ROLE, OPENS
from tests.train.rows.test_prepare_thinking import ALWAYS_OPENS

SECOND_LOST = "{% if loop.first or loop.previtem.role != 'tool' %}{{ m.content }}{% endif %}"
CALLS = "{% for c in m.tool_calls or [] %}"
ARGUMENTS = "{{ c.function.arguments | tojson }}"
LOOKING = ["startswith", "endswith", "split", "rsplit", "partition", "rpartition", "replace", "find", "index", "count"]
# Refuses whatever is no complete message, call, answer or tool.
STRICT = (
    "{% macro refuse(why) %}{{ raise_exception(why) }}{% endmacro %}"
    "{% for t in tools or [] %}{% set f = t.function %}{% set a = f.parameters.properties.a %}"
    "{% if t.type != 'function' or f.parameters.type != 'object' or a.type != 'string' or not a.description"
    " or f.parameters.required != ['a'] %}{{ refuse('tool') }}{% endif %}{{ f.name }}: {{ f.description }}{% endfor %}"
    "{% set seen = namespace(ids=[], last=none) %}{% for m in messages %}"
    "{% if m.content is not string or m.role == seen.last != 'tool' or (loop.first and m.role != 'user') %}"
    "{{ refuse('message') }}{% endif %}{% set seen.last = m.role %}<|im_start|>{% if m.role == 'user' %}u"
    "{% elif m.role == 'tool' %}{% if m.tool_call_id not in seen.ids or m.name not in ['f', 'g', 'sentinel_name'] %}"
    "{{ refuse('answer') }}{% endif %}t{% elif m.role == 'assistant' %}a{% else %}{{ refuse('role') }}{% endif %}\n"
    "{% if m.thinking %}<think>{{ m.thinking }}</think>{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{% if c.type != 'function' or not c.id or c.id in seen.ids %}{{ refuse('call') }}"
    "{% endif %}{% set seen.ids = seen.ids + [c.id] %}<call>{{ c.function.name }} "
    "{{ c.function.arguments | tojson }}</call>{% endfor %}"
    "<|im_end|><|endoftext|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>a\n{% endif %}"
)
NONE = {"enable_thinking": False}
USER = {"role": "user", "content": "x"}


def template(tokenizer_with, text, **options):
    return ChatTemplate(tokenizer_with(text), options=options)


@pytest.mark.parametrize(
    ("text", "kind", "following", "ending"),
    [
        (CHATML, "text", "user", Ending("<|im_end|>", "<|im_end|>", "\n<|im_start|>user\n", "<|im_end|>\n")),
        (CHATML, "text", "assistant", Ending("<|im_end|>", "<|im_end|>", "\n<|im_start|>assistant\n", "<|im_end|>\n")),
        (
            OPENS,
            "text",
            "assistant",
            Ending("<|im_end|>", "<|im_end|>", "\n<|im_start|>assistant\n<think>\n", "<|im_end|>\n"),
        ),
        (TOOLS, "calls", "tool", Ending("<|im_end|>", "<|im_end|>", "\n<|im_start|>tool\n", "<|im_end|>\n")),
        (SPACES, "text", "user", Ending(" <|im_end|>", " <|im_end|>", "<|im_start|>", " <|im_end|>")),
        (CHANNELS, "text", "user", Ending("<|endoftext|>", "<|im_end|>", "<|im_start|>user<text>", "<|endoftext|>")),
        (NEXT_ROLE, "text", "user", Ending("<|im_start|>", "<|im_start|>", "", "")),
        (NEXT_ROLE, "calls", "tool", Ending("<|endoftext|>", "<|endoftext|>", "", "")),
    ],
)
def test_how_a_turn_ends(tokenizer_with, text, kind, following, ending):
    found = template(tokenizer_with, text).ending(kind, following)
    if kind == "calls":  # the call's own end stands before the turn's
        assert (found.written, found.shown, found.header) == ending[:3]
    else:
        assert found == ending


def test_a_turn_without_a_special_token_is_refused(tokenizer_with):
    with pytest.raises(InputError, match="in which is no special token"):
        template(tokenizer_with, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")


@pytest.mark.parametrize(
    ("arguments", "style"),
    [
        (ARGUMENTS, Style("object", "recorded")),
        ("{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}", Style("object", "recorded")),
        ("{{ c.function.arguments }}", Style("text", "recorded")),
        ("{{ '' + c.function.arguments }}", Style("text", "recorded")),
        ("{}", None),
        ("{{ c.function.arguments | tojson | tojson }}", None),  # encoded twice
        ("{{ c.function.arguments | string if c.function.arguments is mapping else 1 }}", None),  # as Python prints it
        (
            "{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}" + ARGUMENTS,
            Style("object", "nine"),
        ),
        (
            "{% if c.id[:10] != 'functions.' %}{{ raise_exception('') }}{% endif %}{{ '' + c.function.arguments }}",
            Style("text", "kimi"),
        ),
    ],
)
def test_how_calls_are_wanted(tokenizer_with, arguments, style):
    assert template(tokenizer_with, TOOLS.replace(ARGUMENTS, arguments)).style == style


def calling(*ids, **more):
    calls = [{"id": name, "type": "function", "function": {"name": "bash", "arguments": {"a": "é\n"}}} for name in ids]
    return {"role": "assistant", "content": "", "tool_calls": calls, **more}


def test_calls_are_given_as_they_are_wanted(tokenizer_with):
    messages = [USER, calling("a", "b"), *answers(calling("a", "b"), "tool", "seen"), calling("a")]
    messages.append({"role": "tool", "tool_call_id": "", "content": "seen"})
    plain = template(tokenizer_with, TOOLS).styled(messages)
    assert plain == [*messages[:-1], {**messages[-1], "tool_call_id": "a"}]
    nine = "{% if c.id | length != 9 %}{{ raise_exception('') }}{% endif %}{{ '' + c.function.arguments }}"
    renamed = template(tokenizer_with, TOOLS.replace(ARGUMENTS, nine)).styled(messages)
    assert [call["id"] for message in renamed for call in message.get("tool_calls", ())] == [
        "000000000",
        "000000001",
        "000000002",
    ]
    assert [m["tool_call_id"] for m in renamed if m["role"] == "tool"] == ["000000000", "000000001", "000000002"]
    assert renamed[1]["tool_calls"][0]["function"]["arguments"] == '{"a": "é\\n"}'
    assert messages[1] == calling("a", "b"), "the messages are left as they are"
    kimi = "{% if not c.id.startswith('functions.') %}{{ raise_exception('') }}{% endif %}" + ARGUMENTS
    named = template(tokenizer_with, TOOLS.replace(ARGUMENTS, kimi)).styled(messages)
    assert [call["id"] for call in named[1]["tool_calls"]] == ["functions.bash:0", "functions.bash:1"]
    assert named[4]["tool_calls"][0]["id"] == "functions.bash:2"


@pytest.mark.parametrize(
    ("written", "instead", "lost"),
    [
        ("x", "x", set()),
        (CALLS, "{% for c in [] %}", {"tool calls", "several calls in a reply", "text beside a call", "observations"}),
        (CALLS, "{% for c in (m.tool_calls or [])[:1] %}", {"several calls in a reply"}),
        ("{{ m.content }}", "{% if not m.tool_calls %}{{ m.content }}{% endif %}", {"text beside a call"}),
        ("{{ m.content }}", "{% if m.role != 'tool' %}{{ m.content }}{% endif %}", {"observations"}),
        ("{{ m.content }}", SECOND_LOST, {"several calls in a reply"}),
        ("{{ tools | tojson }}", "{% for t in tools %}{{ t.function.name }}{% endfor %}", {"tool descriptions"}),
        ("{{ tools | tojson }}", "{% for t in tools %}{{ t.function.description }}{% endfor %}", {"tool descriptions"}),
        ("{% if tools %}", "{% if tools %}{{ raise_exception('no tools') }}", {"tool descriptions"}),
    ],
)  # fmt: skip
def test_what_is_lost(tokenizer_with, written, instead, lost):
    tried = template(tokenizer_with, TOOLS.replace(written, instead))
    features = ("tool calls", "several calls in a reply", "text beside a call", "observations", "tool descriptions")
    for feature in features:
        expected = f"the chat template does not write {feature}" if feature in lost else None
        assert tried.lost(feature) == tried.lost(feature) == expected


@pytest.mark.parametrize(
    ("text", "key", "opens", "thinks", "option"),
    [
        (CHATML, None, False, False, {"enable_thinking": False}),
        (TOOLS, "reasoning_content", False, True, {"enable_thinking": False}),
        (TOOLS.replace("reasoning_content", "reasoning"), "reasoning", False, True, {"enable_thinking": False}),
        (TOOLS.replace("reasoning_content", "thinking"), "reasoning_content", False, True, {"enable_thinking": False}),
        (OPENS, "reasoning_content", True, True, {"enable_thinking": False}),
        (OPENS.replace("enable_thinking", "thinking"), "reasoning_content", True, True, {"thinking": False}),
        (OPENS.replace("enable_thinking", "reasoning"), "reasoning_content", True, True, {"reasoning": False}),
        (ALWAYS_OPENS, "reasoning_content", True, True, None),
        (CHATML.replace("assistant\n{% endif", "assistant[THINK]{% endif"), None, True, True, None),
        (CHATML.replace("assistant\n{% endif", "assistant<think></think>{% endif"), None, False, False, NONE),
        (CHATML.replace("assistant\n{% endif", "assistant<seed:think>\n{% endif"), None, True, True, None),
        (CHATML.replace("assistant\n{% endif", "assistant<|START_THINKING|>{% endif"), None, True, True, None),
        (CHATML.replace("assistant\n{% endif", "assistant<|END_THINKING|>{% endif"), None, False, False, NONE),
    ],
)  # fmt: skip
def test_thinking(tokenizer_with, text, key, opens, thinks, option):
    tried = template(tokenizer_with, text)
    assert (tried.thinking_key, tried.opens_thinking, tried.thinks) == (key, opens, thinks)
    assert tried.without_thinking() == option


def test_options_of_the_template(tokenizer_with):
    closed = template(tokenizer_with, OPENS, other=1).with_options({"enable_thinking": False})
    assert (closed.options, closed.opens_thinking) == ({"other": 1, "enable_thinking": False}, False)
    keeps = OPENS.replace("m.reasoning_content or ''", "m.reasoning_content if loop.last or KEEPS else ''")
    for variable, option in {
        "preserve_thinking": {"preserve_thinking": True},
        "(clear_thinking is defined and not clear_thinking)": {"clear_thinking": False},
        "(truncate_history_thinking is defined and not truncate_history_thinking)": {
            "truncate_history_thinking": False
        },
        "keep_thinking": {"keep_thinking": True},
        "false": None,
    }.items():
        assert template(tokenizer_with, keeps.replace("KEEPS", variable)).option_that_keeps_history() == option
    for text in (CHATML, TOOLS, OPENS.replace("m.reasoning_content or ''", "m.reasoning_content")):
        assert template(tokenizer_with, text).option_that_keeps_history() is None


def test_a_strict_template_is_tried_with_whole_messages(tokenizer_with):
    tried = template(tokenizer_with, STRICT)
    assert tried.style == Style("object", "recorded")
    features = ("tool calls", "several calls in a reply", "text beside a call", "observations", "tool descriptions")
    assert [tried.lost(feature) for feature in features] == [None] * 5
    assert (tried.thinking_key, tried.opens_thinking) == ("reasoning_content", False)  # given under every name
    both = "<|im_end|><|endoftext|>"
    assert tried.ending("text", "user") == Ending(
        "<|endoftext|>", "<|endoftext|>", "\n<|im_start|>u", "<|endoftext|>\n"
    )
    assert tried.ending("calls", "tool").shown in (both, "<|endoftext|>")


def test_a_prompt_that_is_refused_loses_what_it_was_asked_for(tokenizer_with):
    never = TOOLS.replace(
        "{% if add_generation_prompt %}",
        "{% if messages[-1].role == 'tool' %}{{ raise_exception('') }}{% endif %}{% if add_generation_prompt %}",
    )
    tried = template(tokenizer_with, never)
    assert (tried.style, tried.lost("tool calls") is None, tried.lost("observations") is None) == (None, False, False)
    assert tried.styled([calling("a")]) == [calling("a")], "left as it is"
    quiet = template(tokenizer_with, "{% if messages | length == 1 %}{{ raise_exception('') }}{% endif %}" + CHATML)
    assert (quiet.opens_thinking, quiet.lost("tool descriptions") is None) == (False, False)


def test_the_longest_special_token_is_found(tokenizer_with):
    tokenizer = tokenizer_with(CHATML)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im", "<|im_end|>s"]})
    tried = ChatTemplate(tokenizer, options={})
    assert tried.special_tokens("<|im_end|>s<|im_end|><|im") == ["<|im_end|>s", "<|im_end|>", "<|im"]
    tokenizer.add_tokens(["<plain>"])
    assert ChatTemplate(tokenizer, options={}).special_tokens("<plain>") == []


def test_answers_to_a_turn():
    assert answers({"role": "assistant", "content": "x"}, "user", "y") == [{"role": "user", "content": "y"}]
    assert answers({"role": "assistant", "content": "x"}, "tool", "y") == [{"role": "tool", "content": "y"}]
    assert answers(calling("a"), "user", MARK) == [{"role": "user", "content": MARK}]
    assert answers(calling("a", "b"), "tool", MARK) == [
        {"role": "tool", "tool_call_id": name, "name": "bash", "content": MARK} for name in ("a", "b")
    ]


def test_messages_as_templates_want_them():
    run = make_run(["One.", "Two."])
    call = {"id": "a", "type": "function", "function": {"name": "bash", "arguments": '{"b": 1}'}}
    bare = {"id": "b", "type": "function", "function": {"name": "bash", "arguments": ""}}
    system, user, _, seen, last = run.messages
    said = {"role": "assistant", "content": None, "tool_calls": [call, bare]}
    run = msgspec.structs.replace(run, messages=(system, user, said, seen, {**last, "tool_calls": []}))
    messages, places = chat_messages(run)
    decoded = [
        {**call, "function": {"name": "bash", "arguments": {"b": 1}}},
        {**bare, "function": {"name": "bash", "arguments": {}}},
    ]
    assert messages == [system, user, {"role": "assistant", "content": "", "tool_calls": decoded}, seen, last]
    assert places == [2, 4]
    shown = msgspec.structs.replace(run, demo_messages=3, steps=run.steps[1:])
    assert chat_messages(shown)[1] == [4]
    with pytest.raises(InputError, match="2 assistant messages and 1 steps; expected one a step"):
        chat_messages(msgspec.structs.replace(run, steps=run.steps[:1]))
    torn = {**call, "function": {"name": "bash", "arguments": '{"b": '}}
    with pytest.raises(InputError, match="the arguments of a bash call are not JSON"):
        chat_messages(msgspec.structs.replace(run, messages=(system, user, {**said, "tool_calls": [torn]}, seen, last)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{% if '<a>' in m %}{% endif %}{% if '<b>' not in m %}{% endif %}", {"<a>", "<b>"}),
        ("{% if 'key' in m %}{% endif %}{% if ' ' in m %}{% endif %}{% if m == '<c>' %}{% endif %}", set()),
        (
            "{{ m.startswith('<a>') }}{{ m.replace('<b>', m.content) }}{{ m.upper('<d>') }}{{ f('<e>') }}",
            {"<a>", "<b>"},
        ),
        ("".join(f"{{{{ m.{name}('<{name}>') }}}}" for name in LOOKING), {f"<{name}>" for name in LOOKING}),
        ("{% if m > '<a>' %}{% endif %}{% if m.key in m %}{% endif %}", set()),
        ("{% generation %}{{ m.split('<a>') }}{% endgeneration %}{% break %}", {"<a>"}),
    ],
)
def test_what_a_template_looks_for(text, expected):
    assert looked_for("{% for m in messages %}" + text + "{% endfor %}") == expected


def test_refusals_name_what_happened(tokenizer_with):
    tried = template(
        tokenizer_with, CHATML.replace("{% for", "{{ raise_exception('bad') if messages | length > 3 }}{% for", 1)
    )
    assert tried.render([USER], prompt=True) == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
    assert tried.render([USER], prompt=False) == "<|im_start|>user\nx<|im_end|>\n"
    with pytest.raises(InputError, match=r"the chat template refuses the messages \(bad\)"):
        tried.render([USER] * 4, prompt=True)


def test_special_tokens_in_a_text(tokenizer_with):
    tried = template(tokenizer_with, CHATML)
    assert tried.special_tokens("a<|im_end|>b<|im_start|><|im_end|> <|other|>") == [
        "<|im_end|>",
        "<|im_start|>",
        "<|im_end|>",
    ]
    assert json.dumps(tried.special_tokens("")) == "[]"


def test_tools_that_are_written_into_the_system_message_alone(tokenizer_with):
    template = ChatTemplate(
        tokenizer_with(
            CHATML.replace(
                "{{ m.content }}", "{{ m.content }}{% if m.role == 'system' %}{{ tools | tojson }}{% endif %}"
            )
        ),
        options={},
    )
    assert template.lost("tool descriptions") is None
    assert template.lost("tool descriptions without a system message") is not None


HEADER = "<|im_start|>assistant\n"
BLOCK = "<think>\n\n</think>\n\n"
OF_REPLY = "{{% if m.role == 'assistant' %}}{}{{% endif %}}{{{{ m.content"


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        (CHATML, ("", "")),
        (CHANNELS, ("", "")),
        (OPENS, ("", "")),
        (CLOSES, (BLOCK, "")),
        (CLOSES.replace(BLOCK, "<|channel>thought\n<channel|>"), ("<|channel>thought\n<channel|>", "")),
        (CLOSES.replace(BLOCK, "[THINK][/THINK]"), ("[THINK][/THINK]", "")),
        # History has half of what the prompt has.
        (CLOSES.replace("{{ m.content", OF_REPLY.format("</think>\n\n")), (BLOCK, "</think>\n\n")),
        # Other white space.
        (CHATML.replace("prompt %}<", "prompt %}{{ '\n' }}<"), ("\n" + HEADER, HEADER)),
        # The tag that begins the text in history is the model's to write.
        (CLOSES.replace("{{ m.content", OF_REPLY.format("<text>")), (BLOCK, "")),
        # Words to go on from.
        (CHATML.replace("assistant\n{% endif %}", "assistant\nMy steps:\n{% endif %}"), None),
    ],
)  # fmt: skip
def test_where_a_prompt_ends_otherwise_than_history_begins_a_reply(tokenizer_with, text, headers):
    assert template(tokenizer_with, text).headers == headers


def test_a_template_that_always_writes_its_generation_prompt_is_refused(tokenizer_with):
    always = CHATML.replace("{% if add_generation_prompt %}", "{% if true %}").replace(
        "assistant\n{%", "assistant<|im_start|>{%"
    )
    with pytest.raises(
        InputError, match=r"a generation prompt \('.*<\|im_start\|>assistant<\|im_start\|>'\) also where none"
    ):
        template(tokenizer_with, always)
    # Without one of its own it is none.
    never = "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}<|im_start|>"
    never += "{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    assert template(tokenizer_with, never).ending("text", "user").written == "<|im_end|>"


def test_a_template_that_needs_tools_is_tried_with_some(tokenizer_with):
    needs = (
        "{% for t in tools %}{{ t.function.name }} {{ t.function.description }}{% endfor %}"
        + TOOLS.split("{% endif %}", 1)[1]
    )
    tried = template(tokenizer_with, needs)
    assert tried.ending("text", "user").written == "<|im_end|>"
    assert (tried.lost("tool calls"), tried.wants_tools) == (None, True)
    alone = TOOLS.replace("in m.tool_calls or [] %}", "in (m.tool_calls or [] if tools else []) %}")
    tried = template(tokenizer_with, alone)
    assert (tried.lost("tool calls"), tried.lost("several calls in a reply"), tried.wants_tools) == (None, None, True)
    assert not template(tokenizer_with, TOOLS).wants_tools


def test_an_option_that_opens_the_thinking(tokenizer_with):
    block = "{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}"
    closes = CHATML.replace("assistant\n{% endif %}", "assistant\n" + block + "{% endif %}")
    for text, option in {
        closes: {"enable_thinking": True},
        closes.replace("enable_thinking", "thinking"): {"thinking": True},
        closes.replace("'<think>\n' if enable_thinking", "'' if reasoning"): {"reasoning": True},
        CLOSES: None,
    }.items():
        assert template(tokenizer_with, text).option_that_opens_thinking() == option


def test_a_template_that_does_what_the_sandbox_forbids_is_refused_in_words(tokenizer_with):
    changes = CHATML.replace(
        "{% for m", "{% set seen = [] %}{% for x in messages %}{% set _ = seen.append(x) %}{% endfor %}{% for m"
    )
    tokenizer = tokenizer_with(changes)
    tokenizer.name_or_path = "models/kimi"
    with pytest.raises(InputError) as refused:
        ChatTemplate(tokenizer, options={})
    assert str(refused.value) == (
        "the chat template of models/kimi does what transformers, and servers that render with it, allow no template "
        "(access to attribute 'append' of 'list' object is unsafe.) Put another template of this model into "
        "its folder, as chat_template.jinja."
    )
