"""The turns of a run in text: what each prompt shows, and what the model is to write behind it."""

import json
from collections import Counter

import msgspec
import pytest

from srft.agent.records import Action, Step
from srft.env.errors import InputError
from srft.train.rows.mask import Part
from srft.train.rows.prepare import Preparer
from srft.train.rows.render import Renderer
from srft.train.rows.template import ChatTemplate, RenderError
from srft.train.rows.turns import Said, Turn, action_span, check_turn, holds, step_by_step, turn_of
from tests.train.conftest import CHATML, DROPS_THINKING, SPACES, TOOLS, TRIMS, make_run
from tests.train.rows.rendered import (
    CALLING,
    CHANNELS,
    CLOSES,
    GROUPS,
    NEXT_ROLE,
    OPENS,
    RUNS,
    calling_run,
    prompts_of,
    run_with,
    texts,
    trained,
)
from tests.train.rows.test_prepare_losses import run_of_calls

THINKS = TOOLS.replace(
    "{% if m.reasoning_content %}", "{% if m.reasoning_content and (loop.last or messages[-1].role != 'user') %}"
)


def test_channels_belong_to_the_reply_and_ends_that_history_changes_are_counted(tokenizer_with):
    renderer = Renderer(tokenizer_with(CHANNELS))
    run = make_run(["I look.", "Done."])
    assert [trained for _, trained in texts(renderer, run)] == ["<final>I look.", "<final>Done.<|endoftext|>"]
    assert renderer.render(run).remarks["end_not_trained"] == 1
    assert texts(renderer, run)[1][0].endswith(
        "<final>I look.<|im_end|><|im_start|>user<text><returncode>0</returncode>\n0<|im_end|><|im_start|>assistant"
    )


def test_an_end_that_history_shows_as_another_is_kept_and_trained_where_rows_append(tokenizer_with):
    run = make_run(["I look.", "Now.", "Done."])
    renderer = Renderer(tokenizer_with(CHANNELS), append=True)
    (row,), remarks = renderer.render(run)
    decode = renderer.tokenizer.backend_tokenizer.decode
    assert decode(row.input_ids.tolist(), skip_special_tokens=False) == (
        "<|im_start|>system<text>You mend code.<|im_end|><|im_start|>user<text>The total is wrong.<|im_end|>"
        "<|im_start|>assistant<final>I look.<|endoftext|>"
        "<|im_start|>user<text><returncode>0</returncode>\n0<|im_end|><|im_start|>assistant<final>Now.<|endoftext|>"
        "<|im_start|>user<text><returncode>0</returncode>\n1<|im_end|><|im_start|>assistant<final>Done.<|endoftext|>"
    )
    ends = row.part == Part.END
    assert decode(row.input_ids[ends].tolist(), skip_special_tokens=False) == "<|endoftext|>" * 3
    assert row.step_index[ends].tolist() == [0, 1, 2]
    assert +remarks == {"end_kept": 2}


def test_a_turn_that_the_next_role_ends(tokenizer_with):
    trained = [said for _, said in texts(Renderer(tokenizer_with(NEXT_ROLE)), calling_run(1))]
    assert trained == ['I look.<call>bash {"command": "ls \'0\' \\"0\\""}</call><|endoftext|>', "Done.<|im_start|>"]


def test_two_replies_in_a_row_are_two_steps(tokenizer_with):
    run = make_run(["One.", "Two.", "Three."])
    run = msgspec.structs.replace(run, messages=(*run.messages[:3], *run.messages[4:]))
    assert [trained for _, trained in texts(Renderer(tokenizer_with(CHATML)), run)] == [
        "One.<|im_end|>",
        "Two.<|im_end|>",
        "Three.<|im_end|>",
    ]


def test_a_run_that_begins_with_a_reply_has_no_prompt(tokenizer_with):
    run = make_run(["One.", "Two."])
    with pytest.raises(InputError):
        Renderer(tokenizer_with(CHATML)).render(msgspec.structs.replace(run, messages=run.messages[2:]))


def test_a_reply_that_holds_what_the_template_looks_for_is_taken_as_it_was_shown(tokenizer_with):
    looks = CHATML.replace("{{ m.content }}", "{{ m.content.split('<cut>')[0] if not loop.last else m.content }}")
    renderer = Renderer(tokenizer_with(looks))
    shown = renderer.render(make_run(["I look.", "Done <cut>."]))
    assert len(shown.rows) == 1
    run = make_run(["I <cut> look.", "Done."])
    assert len(renderer.render(run).rows) == 2
    assert [trained for _, trained in texts(renderer, run)] == ["I <cut> look.<|im_end|>", "Done.<|im_end|>"]


def test_several_calls_are_refused_where_a_template_writes_two_of_three(tokenizer_with):
    two = TOOLS.replace("in m.tool_calls or [] %}", "in (m.tool_calls or [])[:2] %}")
    with pytest.raises(InputError, match="does not write all of the reply"):
        Renderer(tokenizer_with(two)).render(calling_run(1, calls=3))


def test_thinking_that_the_template_shows_in_the_last_turn_alone_is_trained(tokenizer_with):
    run = calling_run(1, thinking="Hm.", last="")
    run = msgspec.structs.replace(
        run,
        messages=(*run.messages[:2], {"role": "assistant", "content": "Done.", "reasoning_content": "Hm."}),
        steps=(msgspec.structs.replace(run.steps[0], content="Done.", tool_calls=(), action=None),),
    )
    assert [trained for _, trained in texts(Renderer(tokenizer_with(THINKS)), run)] == [
        "<think>Hm.</think>Done.<|im_end|>"
    ]


def test_action_spans():
    native = Step(index=0, content="Look.", tool_calls=({},), action=Action(tool="bash", format="native"))
    assert action_span(native, "Look.<tool_call>x</tool_call>") == (5, 29)
    xml = Step(index=0, content="", action=Action(tool="bash", format="xml"))
    assert action_span(xml, "Look.\n<function=bash>\n</function>\n") == (6, 33)
    assert action_span(Step(index=0, content="No action."), "No action.") is None


def test_a_block_that_the_prompt_closes_stands_before_each_reply(tokenizer_with):
    run = make_run(["I look.", "Done."])
    renderer = Renderer(tokenizer_with(CLOSES))
    assert texts(renderer, run) == [
        (prompt, f"{step.content}<|im_end|>") for prompt, step in zip(prompts_of(renderer, run), run.steps, strict=True)
    ]
    assert renderer.render(run).remarks["history_rewritten"] == 1
    assert renderer.keeps_history() == "rows.rewritten=append"


def test_a_reply_behind_a_header_of_words_is_refused(tokenizer_with):
    steps = CHATML.replace("assistant\n{% endif %}", "assistant\nMy steps:\n{% endif %}")
    with pytest.raises(RenderError, match=r"^step 0: the chat template does not write the reply behind its generation"):
        Renderer(tokenizer_with(steps)).render(make_run(["Done."]))


@pytest.mark.parametrize(
    ("block", "ways"),
    [
        ("{{ '<think>\n\n</think>\n\n' }}", "set thinking=without$"),
        (
            "{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}",
            r"set template.enable_thinking=true \(when serving too\) or thinking=without$",
        ),
    ],
)
@pytest.mark.parametrize("shown", ["", "</think>"])
def test_thinking_behind_a_prompt_that_closes_it_is_refused(tokenizer_with, block, ways, shown):
    closes = TOOLS.replace("assistant\n{% endif %}", f"assistant\n{block}{{% endif %}}")
    closes = closes.replace("</think>{% endif %}", "</think>{% elif m.role == 'assistant' %}" + shown + "{% endif %}")
    run = make_run(["Done."])
    run = msgspec.structs.replace(run, steps=(msgspec.structs.replace(run.steps[0], reasoning="Hm."),))
    with pytest.raises(RenderError, match=f"^step 0: .* prompt closes the thinking, and this run has some; {ways}"):
        Renderer(tokenizer_with(closes)).render(run)
    without = Renderer(tokenizer_with(closes), thinking="without")
    assert [said for _, said in texts(without, run)] == ["Done.<|im_end|>"]


def test_the_templates_own_refusal_is_told(tokenizer_with):
    both = "{% if m.content and m.reasoning_content and m.tool_calls %}{{ raise_exception('Not both!') }}{% endif %}"
    strict = TOOLS.replace("{% for c in m", both + "{% for c in m")
    with pytest.raises(
        RenderError, match=r"^step 0: the chat template refuses the messages \(Not both!\); set thinking="
    ):
        Renderer(tokenizer_with(strict)).render(calling_run(1, thinking="Hm."))


def test_a_system_message_that_stands_before_the_last_question_alone(tokenizer_with):
    begin = "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }} {% endif %}"
    last = (
        f"{{% for m in messages %}}{{% if m.role == 'user' %}}<|im_start|>{begin}{{{{ m.content }}}}[/INST]"
        "{% elif m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    )
    run = make_run(["I look.", "Done."])
    assert texts(Renderer(tokenizer_with(last)), run) == [
        ("<|im_start|>You mend code. The total is wrong.[/INST]", "I look.<|im_end|>"),
        (
            "<|im_start|>The total is wrong.[/INST]I look.<|im_end|><|im_start|>You mend code. "
            f"{run.messages[3]['content']}[/INST]",
            "Done.<|im_end|>",
        ),
    ]


def test_thinking_in_tags_of_start_and_end(tokenizer_with):
    opens = CHATML.replace("assistant\n{% endif %}", "assistant\n<|START_THINKING|>{% endif %}")
    run = make_run(["Done."])
    run = msgspec.structs.replace(run, steps=(msgspec.structs.replace(run.steps[0], reasoning="Hm."),))
    assert [said for _, said in texts(Renderer(tokenizer_with(opens)), run)] == ["Hm.<|END_THINKING|>Done.<|im_end|>"]


NEVER_WRITES = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")


@pytest.mark.parametrize(
    ("thinking", "replies", "trained"),
    [
        (None, ["<think>\nHm.\n</think>\n\nDone."], "Hm.\n</think>\n\nDone."),
        (None, ["Hm.\n</think>\n\nDone."], "Hm.\n</think>\n\nDone."),
        ("empty", ["Done."], "\n</think>\n\nDone."),
        ("empty", ["<think>Hm.</think>Done."], "\n</think>\n\nDone."),
    ],
)
def test_a_tag_that_the_prompt_opens_is_closed_behind_the_thinking(tokenizer_with, thinking, replies, trained):
    renderer = Renderer(tokenizer_with(NEVER_WRITES), thinking=thinking)
    (row,) = renderer.render(make_run(replies)).rows
    ids = row.input_ids[(row.step_index == 0) & (row.part != Part.END)].tolist()
    assert renderer.tokenizer.decode(ids) == trained


@pytest.mark.parametrize(("thinking", "trained"), [("recorded", "Hm, the"), ("empty", "")])
def test_a_reply_that_was_cut_off_in_its_thinking_closes_nothing(tokenizer_with, thinking, trained):
    run = run_with("Hm, the")
    cut = msgspec.structs.replace(run.steps[0], content="", finish_reason="length")
    messages = tuple({**m, "content": ""} if m["role"] == "assistant" else m for m in run.messages)
    run = msgspec.structs.replace(run, messages=messages, steps=(cut, *run.steps[1:]))
    renderer = Renderer(tokenizer_with(OPENS), thinking=thinking)
    row = renderer.render(run).rows[0]
    assert renderer.tokenizer.decode(row.input_ids[row.step_index == 0].tolist()) == trained


@pytest.mark.parametrize("thinking", [None, "recorded"])
@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_recorded_thinking_is_written_as_the_template_writes_it(tokenizer_with, thinking, key):
    run = run_with("Hm.", "Ho.", key=key)
    assert trained(Renderer(tokenizer_with(TOOLS), thinking=thinking), run) == (
        1,
        ["<think>Hm.</think>Reply 0.", "<think>Ho.</think>Reply 1."],
        {},
    )
    opened = trained(Renderer(tokenizer_with(OPENS), thinking=thinking), run)
    assert opened == (1, ["Hm.\n</think>\n\nReply 0.", "Ho.\n</think>\n\nReply 1."], {})


def test_thinking_that_was_not_sent_back_gives_a_row_a_step(tokenizer_with):
    rows, texts, remarks = trained(Renderer(tokenizer_with(TOOLS)), run_with("Hm.", "Ho.", back=False))
    assert (rows, texts) == (2, ["<think>Hm.</think>Reply 0.", "<think>Ho.</think>Reply 1."])
    assert remarks.keys() == {"history_rewritten", "tokens_repeated"}
    assert remarks["history_rewritten"] == 1


def test_an_empty_block_is_trained_where_it_is_chosen(tokenizer_with):
    run = run_with("Hm.", None)
    rows, texts, remarks = trained(Renderer(tokenizer_with(OPENS), thinking="empty"), run)
    assert (rows, texts, remarks) == (1, ["\n</think>\n\nReply 0.", "\n</think>\n\nReply 1."], {"thinking_left_out": 1})


def test_special_tokens_of_the_template_in_a_reply_are_tokens_and_a_mixture_is_refused(tokenizer_with):
    marked = TOOLS.replace("<tool_call>", "<|im_start|>call ").replace("</tool_call>", "<|im_start|>over")
    renderer = Renderer(tokenizer_with(marked))
    (row,) = renderer.render(run_of_calls(text="I say it now.")).rows
    start = renderer.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert (row.input_ids[(row.step_index == 0) & (row.part != 0)] == start).sum() == 2
    with pytest.raises(RenderError, match="spells a special token"):
        renderer.render(run_of_calls(text="I say <|im_start|> now."))


def test_a_text_that_a_template_changes_is_refused(tokenizer_with):
    renderer = Renderer(tokenizer_with(TOOLS.replace("{{ m.content }}", "{{ m.content | replace('ook', 'uck') }}")))
    with pytest.raises(InputError):
        renderer.render(make_run(["I look.", "Done."]))


# ---- each part by itself ----


def by_steps(tokenizer, run, *, thinking=None):
    """The turns of the exact road, a list a row, and what is counted."""
    remarks = Counter()
    prepared = Preparer(ChatTemplate(tokenizer, options={}), thinking=thinking, tools="refuse").prepare(run, remarks)
    return step_by_step(prepared, remarks), dict(+remarks)


def server_prompts(tokenizer, run):
    """What a server shows before each reply: the template's own words, by transformers."""
    places = [n for n, m in enumerate(run.messages) if m["role"] == "assistant" and n >= run.demo_messages]
    messages = []
    for message in run.messages:
        calls = [
            {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
            for call in message.get("tool_calls") or ()
        ]
        messages.append({**message, "tool_calls": calls} if calls else message)
    return [
        tokenizer.apply_chat_template(messages[:place], tokenize=False, add_generation_prompt=True) for place in places
    ]


BLOCK_AT_THE_END = TOOLS.replace(
    "{{ m.content }}", "{{ '<think></think>' if m.role == 'assistant' and loop.last }}{{ m.content }}"
)
WRITTEN = {
    "chatml": (CHATML, "", "<|im_end|>"),
    "trims": (TRIMS, "", "<|im_end|>"),
    "spaces": (SPACES, " ", " <|im_end|>"),
    "tools": (TOOLS, "", "<|im_end|>"),
    "groups": (GROUPS, "", "<|im_end|>"),
    "channels": (CHANNELS, "<final>", "<|endoftext|>"),
    "drops": (DROPS_THINKING, "", "<|im_end|>"),
    "block at the end": (BLOCK_AT_THE_END, "", "<|im_end|>"),
}
"""Template -> what it writes before and behind a reply."""


@pytest.mark.parametrize(
    ("name", "run"),
    [(name, run) for name in WRITTEN for run in [*RUNS, *(CALLING if "tool_calls" in WRITTEN[name][0] else ())]],
)
def test_every_prompt_is_the_servers_and_every_reply_the_templates(tokenizer_with, name, run):
    (template, before, end), run = WRITTEN[name], (RUNS | CALLING)[run]
    tokenizer = tokenizer_with(template)
    rows, remarks = by_steps(tokenizer, run)
    (row,) = rows
    assert (len(row), remarks) == (len(run.steps), {})
    shown = ""
    for turn, step, prompt in zip(row, run.steps, server_prompts(tokenizer, run), strict=True):
        assert shown + turn.context == prompt
        calls = "".join(
            f"<tool_call>bash {json.dumps(json.loads(call['function']['arguments']))}</tool_call>"
            for call in step.tool_calls
        )
        content = step.content.strip() if template == TRIMS else step.content
        assert (turn.step, turn.reply, turn.end) == (step.index, before + content + calls, end)
        shown = prompt + turn.reply + turn.shown


def test_a_reply_that_ends_a_conversation_is_written_as_its_middle_shows_it(tokenizer_with):
    """By the message behind it, of whatever role, or one made up."""
    run = calling_run(1, last="")
    for following in ([], [{"role": "tool", "tool_call_id": "c000x0000", "content": "seen"}]):
        (row,), _ = by_steps(
            tokenizer_with(NEXT_ROLE), msgspec.structs.replace(run, messages=(*run.messages, *following))
        )
        assert (row[0].end, row[0].shown) == ("<|endoftext|>", "<|endoftext|>")
    text = make_run(["Done."])
    for following, end in (
        ([], "<|im_start|>"),
        ([{"role": "user", "content": "And?"}], "<|im_start|>"),
        ([{"role": "assistant", "content": "More."}], "<|im_end|>"),
    ):
        more = make_run(["Done.", "More."]) if following and following[0]["role"] == "assistant" else text
        messages = (*text.messages, *following)
        (row,), _ = by_steps(tokenizer_with(NEXT_ROLE), msgspec.structs.replace(more, messages=messages))
        assert (row[0].reply, row[0].end) == ("Done.", end)


def test_a_block_that_ends_a_conversation_is_written_where_an_empty_one_is_chosen(tokenizer_with):
    tokenizer = tokenizer_with(BLOCK_AT_THE_END)
    rows, remarks = by_steps(tokenizer, calling_run(1), thinking="empty")
    assert [[turn.reply for turn in row] for row in rows] == [
        ['<think></think>I look.<tool_call>bash {"command": "ls \'0\' \\"0\\""}</tool_call>'],
        ["<think></think>Done."],
    ]
    assert remarks == {"history_rewritten": 1}


def test_a_template_that_forgets_replies(tokenizer_with):
    forgets = CHATML.replace(
        "{{ m.content }}", "{{ '...' if m.role == 'assistant' and loop.revindex > 2 else m.content }}"
    )
    rows, remarks = by_steps(tokenizer_with(forgets), make_run(["I look.", "Now.", "Done."]))
    assert [[turn.reply for turn in row] for row in rows] == [["I look.", "Now."], ["Done."]]
    assert "assistant\n...<|im_end|>" in rows[1][0].context
    assert remarks == {"history_rewritten": 1}


def test_a_template_that_writes_first_replies_alone(tokenizer_with):
    """What it would write of another is told by the same reply behind the task."""
    first = CHATML.replace("{{ m.content }}", "{{ '' if m.role == 'assistant' and loop.index0 > 2 else m.content }}")
    run = make_run(["I look.", "Done."])
    rows, _ = by_steps(tokenizer_with(first), run)
    assert [[turn.reply for turn in row] for row in rows] == [["I look.", "Done."]]
    other = first.replace("assistant\n{% endif %}", "assistant\n{{ '>' if messages | length > 2 }}{% endif %}")
    with pytest.raises(RenderError, match=r"^step 1: the chat template does not write the reply behind"):
        by_steps(tokenizer_with(other), run)


def call_of(arguments, name="edit"):
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("arguments", "text", "held"),
    [
        ('{"a": "x y"}', "edit x y", True),
        ('{"a": "x y"}', "edit x", False),
        ('{"a": "x y"}', "x y", False),
        ('{"a": " x "}', "edit x.", True),
        ('{"a": "x\\n\\"y\\""}', 'edit {"a": "x\\n\\"y\\""}', True),
        ('{"a": "é\\u2028"}', 'edit {"a": "é\u2028"}', True),
        ('{"a": "é"}', 'edit {"a": "\\u00e9"}', True),
        ('{"a": "<b> & \'c\'"}', 'edit {"a": "\\u003cb\\u003e \\u0026 \\u0027c\\u0027"}', True),
        ('{"a": "it\'s a \\\\ \\n"}', r"edit('it\'s a \\ \n')", True),
        ('{"a": "it\'s a \\\\ \\n"}', "edit('it\\'s a \\\\ \n')", True),
        ('{"a": "say \\"x\\" \\\\"}', 'edit("say \\"x\\" \\")', True),
        ('{"a": "it\'s"}', "edit('its')", False),
        ('{"a": "é\\n\\"b\\""}', 'edit <a>é\\n\\"b\\"</a>', True),
        ('{"a": "é\\n\\"b\\""}', 'edit <a>\\u00e9\\n\\"b\\"</a>', True),
        ('{"a": ["x", {"b": "y"}]}', "edit x y", True),
        ('{"a": ["x", {"b": "y"}]}', "edit x", False),
        ('{"a": 3, "b": null, "c": true}', "edit", True),
        ("", "edit", True),
        (None, "edit", True),
        ({"a": "x"}, "edit x", True),
        ({"a": "x"}, "edit y", False),
        ("{", "edit", True),
    ],
)
def test_what_a_text_holds_of_a_call(arguments, text, held):
    step = Step(index=0, content=" I look. ", tool_calls=(call_of(arguments),))
    assert holds(step, f"I look. {text}") is held
    assert holds(step, text) is False
    both = msgspec.structs.replace(step, tool_calls=(call_of(arguments), call_of('{"a": "zz"}', "run")))
    assert holds(both, f"I look. {text} run zz") is held
    assert holds(both, f"I look. {text} run") is False


@pytest.mark.parametrize(
    ("changes", "reply", "shown"),
    [
        ({"content": "I lo"}, "<t>I lo</t>", "<end>"),
        ({"reasoning": "Hm"}, "<t>Hm", "</t><end>"),
        ({"reasoning": " Hm\n"}, "<t>Hm", "</t><end>"),
        ({"reasoning": "t"}, "<t", ">Hm</t><end>"),
        ({"reasoning": "Other"}, "", "<t>Hm</t><end>"),
        ({"reasoning": None}, "", "<t>Hm</t><end>"),
        ({"tool_calls": ({},)}, "<t>Hm</t>", "<end>"),
    ],
)
def test_a_reply_that_was_cut_off(changes, reply, shown):
    """What the template writes behind the thinking is not the model's where the model never came so far."""
    whole = "<t>I lo</t>" if changes.get("content") else "<t>Hm</t>"
    step = Step(index=7, content="", finish_reason="length")
    turn = turn_of(msgspec.structs.replace(step, **changes), "asked", Said(whole, "<stop>", "<end>"))
    assert turn == Turn(7, "asked", reply, None, False, "<stop>", shown)
    ended = msgspec.structs.replace(step, finish_reason="stop", reasoning="Hm")
    assert turn_of(ended, "", Said(whole, "<stop>", "<end>")) == Turn(7, "", whole, None, True, "<stop>", "<end>")


@pytest.mark.parametrize(
    ("step", "reply", "span"),
    [
        ({"action": "native", "tool_calls": ({},), "content": "I"}, "I <c>I</c>", (1, 10)),
        ({"action": "native", "tool_calls": ({},), "content": "Not there"}, "<c>I</c>", (0, 8)),
        ({"action": "json"}, "I\n<tool_call>\n{}\n</tool_call>.", (2, 29)),
        ({"action": "json"}, 'I\n<tool_call>\n{"name": "</tool_call>"}\n</tool_call>.', (2, 51)),
        ({"action": "xml"}, "I <function=a>\n</function> <function=b>\n</function>", (2, 51)),  # both
        ({"action": "xml"}, "I <function=a>\n</function>.", (2, 26)),
        ({"action": "xml"}, "no call", (0, 7)),
        ({"action": "backtick"}, "```\na\n``` and ```py \nb\n``` so", (14, 26)),
        ({"action": "backtick"}, "no fence", (0, 8)),
        ({}, "```\na\n```", None),
    ],
)
def test_where_an_action_is(step, reply, span):
    action = Action(tool="bash", format=step["action"]) if "action" in step else None
    made = Step(index=0, content=step.get("content", ""), tool_calls=step.get("tool_calls", ()), action=action)
    assert action_span(made, reply) == span


def test_whose_a_special_token_in_a_reply_is(tokenizer_with):
    """The template's where the model's texts hold none; the model's where they hold all of them."""
    marked = TOOLS.replace("<tool_call>", "<|im_start|>").replace("</tool_call>", "")
    run = calling_run(1)
    said = msgspec.structs.replace(run.steps[1], content="Say <|im_start|>.")
    messages = (*run.messages[:-1], {"role": "assistant", "content": "Say <|im_start|>."})
    run = msgspec.structs.replace(run, messages=messages, steps=(run.steps[0], said))
    prepared = Preparer(ChatTemplate(tokenizer_with(marked), options={}), thinking=None, tools="refuse").prepare(
        run, Counter()
    )
    (row,) = step_by_step(prepared, Counter())
    checked = [check_turn(prepared, step, turn) for step, turn in zip(prepared.steps, row, strict=True)]
    assert [turn.spells_specials for turn in checked] == [False, True]
    assert [turn.spells_specials for turn in row] == [False, False]
    plain = row[0]._replace(reply=row[0].reply.replace("<|im_start|>", ""))
    assert check_turn(prepared, prepared.steps[0], plain) is plain
    with pytest.raises(RenderError, match=r"^step 1: the reply spells a special token"):
        check_turn(prepared, prepared.steps[1], row[1]._replace(reply="<|im_end|>Say <|im_start|>."))
    with pytest.raises(RenderError, match=r"^step 1: the chat template does not write all of the reply"):
        check_turn(prepared, prepared.steps[1], row[1]._replace(reply="Say."))


def test_an_action_in_a_longer_fence_holds_shorter_ones():
    reply = "I write.\n````bash\ncat <<'E' >a.md\n```\nx\n```\nE\n````\n"
    step = Step(index=0, content=reply, action=Action(tool="bash", format="backtick"))
    begin, end = action_span(step, reply)
    assert reply[begin:end] == "````bash\ncat <<'E' >a.md\n```\nx\n```\nE\n````"
