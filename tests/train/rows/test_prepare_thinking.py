"""What becomes of a reply's thinking: recorded, empty or without, by what the template writes and begins."""

import msgspec
import pytest

from srft.env.errors import InputError
from srft.train.rows.render import Renderer
from srft.train.rows.template import RenderError
from tests.train.conftest import CHATML, TOOLS, make_run
from tests.train.rows.rendered import OPENS, run_with, trained

ALWAYS_OPENS = OPENS.replace("enable_thinking is defined and not enable_thinking", "false")


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


"""Opens the thinking in the prompt and never writes any, as DeepSeek-R1's does."""


@pytest.mark.parametrize("thinking", [None, "without"])
def test_a_template_that_always_opens_thinking_wants_a_choice(tokenizer_with, thinking):
    with pytest.raises(RenderError, match="choose thinking=empty"):
        Renderer(
            tokenizer_with(CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")),
            thinking=thinking,
        ).render(make_run(["Done."]))
