"""What becomes of a reply's thinking: recorded, empty or without, by what the template writes and begins."""

import msgspec
import pytest

from srft.env.errors import InputError
from srft.train.rows.mask import Part
from srft.train.rows.render import Renderer
from srft.train.rows.template import RenderError
from tests.train.conftest import CHATML, TOOLS, make_run

# (The newline behind a block's tag is cut off when templates are compiled, so it is written as text.)
# The generation prompt begins the thinking, as that of Qwen3.5 and of Nemotron does; `enable_thinking` closes it.
OPENS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\n</think>\n\n' }}{% endif %}{% endif %}"
)
ALWAYS_OPENS = OPENS.replace("enable_thinking is defined and not enable_thinking", "false")


def run_with(*thoughts, key="reasoning_content", back=True):
    """A run of so many steps with their thinking; back: the history shows it too."""
    run = make_run([f"Reply {number}." for number in range(len(thoughts))])
    steps = tuple(
        msgspec.structs.replace(step, reasoning=thought) for step, thought in zip(run.steps, thoughts, strict=True)
    )
    messages, said = [], iter(thoughts)
    for message in run.messages:
        thought = next(said) if message["role"] == "assistant" else None
        messages.append({**message, key: thought} if thought and back else message)
    return msgspec.structs.replace(run, messages=tuple(messages), steps=steps)


def trained(renderer, run):
    """(rows, what is trained of each step, remarks that count something)"""
    rendering = renderer.render(run)
    decode = renderer.tokenizer.backend_tokenizer.decode
    texts = {}
    for row in rendering.rows:
        for step in set(row.step_index.tolist()) - {-1}:
            mine = row.input_ids[(row.step_index == step) & (row.part != Part.CONTEXT)]
            texts[step] = decode(mine.tolist(), skip_special_tokens=False).removesuffix("<|im_end|>")
    return len(rendering.rows), [texts[step] for step in sorted(texts)], dict(+rendering.remarks)


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


@pytest.mark.parametrize("back", [True, False])
def test_without_thinking_it_is_left_out_and_counted(tokenizer_with, back):
    run = run_with("Hm.", None, "Ho.", back=back)
    whole = (1, ["Reply 0.", "Reply 1.", "Reply 2."], {"thinking_left_out": 2})
    assert trained(Renderer(tokenizer_with(TOOLS), thinking="without"), run) == whole
    # A template that writes no thinking has no choice.
    for thinking in (None, "recorded", "without", "empty"):
        assert trained(Renderer(tokenizer_with(CHATML), thinking=thinking), run) == whole


def test_without_thinking_the_prompt_closes_what_it_opens(tokenizer_with):
    renderer = Renderer(tokenizer_with(OPENS), thinking="without")
    run = run_with("Hm.", None)
    rows, texts, remarks = trained(renderer, run)
    assert (texts, remarks["thinking_left_out"]) == (["Reply 0.", "Reply 1."], 1)
    first = renderer.render(run).rows[0]
    prompt = renderer.tokenizer.backend_tokenizer.decode(
        first.input_ids[: int((first.step_index == 0).argmax())].tolist(), skip_special_tokens=False
    )
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert rows == 1, "the history shows the same"


def test_an_empty_block_is_trained_where_it_is_chosen(tokenizer_with):
    run = run_with("Hm.", None)
    rows, texts, remarks = trained(Renderer(tokenizer_with(OPENS), thinking="empty"), run)
    assert (rows, texts, remarks) == (1, ["\n</think>\n\nReply 0.", "\n</think>\n\nReply 1."], {"thinking_left_out": 1})


@pytest.mark.parametrize("template", [OPENS, ALWAYS_OPENS])
def test_a_run_without_thinking_behind_an_opened_block_wants_a_choice(tokenizer_with, template):
    run = run_with(None, None)
    with pytest.raises(InputError, match="choose thinking=empty"):
        Renderer(tokenizer_with(template)).render(run)
    assert trained(Renderer(tokenizer_with(template), thinking="empty"), run)[1] == [
        "\n</think>\n\nReply 0.",
        "\n</think>\n\nReply 1.",
    ]


def test_a_template_without_such_an_option_cannot_go_without(tokenizer_with):
    with pytest.raises(InputError, match="choose thinking=empty or recorded"):
        Renderer(tokenizer_with(ALWAYS_OPENS), thinking="without").render(run_with("Hm."))


def test_a_users_message_keeps_what_it_has(tokenizer_with):
    run = run_with("Hm.")
    user = {**run.messages[1], "reasoning_content": "A note."}
    run = msgspec.structs.replace(run, messages=(run.messages[0], user, *run.messages[2:]))
    renderer = Renderer(tokenizer_with(TOOLS), thinking="without")
    row = renderer.render(run).rows[0]
    assert "<think>A note.</think>" in renderer.tokenizer.decode(row.input_ids)


NEVER_WRITES = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
"""Opens the thinking in the prompt and never writes any, as DeepSeek-R1's does."""


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


@pytest.mark.parametrize("thinking", [None, "without"])
def test_a_template_that_always_opens_thinking_wants_a_choice(tokenizer_with, thinking):
    with pytest.raises(RenderError, match="choose thinking=empty"):
        Renderer(tokenizer_with(NEVER_WRITES), thinking=thinking).render(make_run(["Done."]))


@pytest.mark.parametrize(("thinking", "trained"), [("recorded", "Hm, the"), ("empty", "")])
def test_a_reply_that_was_cut_off_in_its_thinking_closes_nothing(tokenizer_with, thinking, trained):
    run = run_with("Hm, the")
    cut = msgspec.structs.replace(run.steps[0], content="", finish_reason="length")
    messages = tuple({**m, "content": ""} if m["role"] == "assistant" else m for m in run.messages)
    run = msgspec.structs.replace(run, messages=messages, steps=(cut, *run.steps[1:]))
    renderer = Renderer(tokenizer_with(OPENS), thinking=thinking)
    row = renderer.render(run).rows[0]
    assert renderer.tokenizer.decode(row.input_ids[row.step_index == 0].tolist()) == trained
