"""Prompts: what the engine shows a model is what stands before a trained reply in its row."""

import numpy
import pytest

from srft.harness.serve.conversation import Conversation
from srft.train.rows.render import Renderer
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, DROPS_THINKING, SPACES, TOOLS, TRIMS, make_run

REPLIES = [
    "<think>\nWhere?\n</think>\n\nI look.\n```bash\nls -la\n```",
    "Odd token: <|im_end|>\n```bash\ncat setup.py\n```",
    "  Done.\n```bash\nsubmit\n```",
]


@pytest.mark.parametrize("template", [CHATML, DROPS_THINKING, TRIMS, SPACES, TOOLS])
def test_a_prompt_is_what_stands_before_the_trained_reply(template):
    renderer = Renderer(byte_tokenizer(template))
    run = make_run(REPLIES)
    places = [place for place, message in enumerate(run.messages) if message["role"] == "assistant"]
    before = {}
    for row in renderer.render(run).rows:
        for step in set(row.step_index.tolist()) - {-1}:
            before[step] = row.input_ids[: numpy.flatnonzero(row.step_index == step)[0]].tolist()
    for step, place in enumerate(places):
        assert Conversation(renderer).prompt(run.messages[:place]) == before[step]


def test_the_first_prompt_is_the_templates_own():
    tokenizer = byte_tokenizer(CHATML)
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "naïve 東京\u2028x"}]
    ids = Conversation(Renderer(tokenizer)).prompt(messages)
    assert ids == tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]


def test_a_sampled_reply_keeps_its_ids_in_later_prompts():
    renderer = Renderer(byte_tokenizer(CHATML))
    conversation = Conversation(renderer)
    asked = [{"role": "user", "content": "x"}]
    first = conversation.prompt(asked)
    vocabulary = renderer.tokenizer.get_vocab()
    sampled = [vocabulary[letter] for letter in "def"]  # encoded anew, it is fewer tokens
    assert len(renderer.tokenizer("def")["input_ids"]) < 3
    conversation.note("def", sampled)
    later = conversation.prompt([*asked, {"role": "assistant", "content": "def"}, {"role": "user", "content": "y"}])
    assert later[: len(first) + 4] == [*first, *sampled, renderer.end_id]
    assert renderer.tokenizer.decode(later) == (
        "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\ndef<|im_end|>\n"
        "<|im_start|>user\ny<|im_end|>\n<|im_start|>assistant\n"
    )


def test_tools_are_shown_and_calls_go_back_as_the_template_writes_them():
    renderer = Renderer(byte_tokenizer(TOOLS))
    call = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "content": "a.py", "tool_call_id": "1"},
    ]
    ids = Conversation(renderer).prompt(messages, tools=[{"type": "function", "function": {"name": "bash"}}])
    assert renderer.tokenizer.decode(ids) == (
        '<|im_start|>system\n[{"type": "function", "function": {"name": "bash"}}]<|im_end|>\n'
        '<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\nI look.<tool_call>bash {"command": "ls"}</tool_call>'
        "<|im_end|>\n<|im_start|>tool\na.py<|im_end|>\n<|im_start|>assistant\n"
    )
