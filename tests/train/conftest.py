"""What the tests of rows and training share: a byte-level tokenizer with any template, runs and rows made by hand.

The templates are our own, one for each thing that chat templates do to a conversation.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from transformers import PreTrainedTokenizerFast

from srft.agent.records import Action, Step, Trajectory, trajectory_id
from tests.train.byte_tokenizer import byte_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Shows earlier replies without their thinking, and a last reply with an empty block where it has none, as Qwen3's does.
DROPS_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and '</think>' in m.content and not loop.last %}"
    "{{ m.content.split('</think>')[1].lstrip('\n') }}"
    "{% elif m.role == 'assistant' and loop.last and '</think>' not in m.content %}"
    "<think>\n\n</think>\n\n{{ m.content }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMS = CHATML.replace("{{ m.content }}", "{{ m.content | trim }}")
# Puts a space before every reply and before the token that ends it, as Mistral's and Llama 2's do.
SPACES = (
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }} <|im_end|>"
    "{% else %}<|im_start|>{{ m.content }}[/INST]{% endif %}{% endfor %}"
)
TOOLS = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """What accelerate sets in the environment does not outlive a test: the programs of later ones would inherit it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def tokenizer_with() -> Callable[[str], PreTrainedTokenizerFast]:
    """tokenizer_with(template): a small byte-level tokenizer."""
    return byte_tokenizer


def make_run(replies: list[str], observations: list[str] | None = None, **changes: Any) -> Trajectory:
    """A run of the given replies; each is one step that runs `ls`, the last submits."""
    observations = observations or [f"<returncode>0</returncode>\n{number}" for number in range(len(replies) - 1)]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You mend code."},
        {"role": "user", "content": "The total is wrong."},
    ]
    steps = []
    for number, reply in enumerate(replies):
        messages.append({"role": "assistant", "content": reply})
        seen = observations[number] if number < len(observations) else None
        if seen is not None:
            messages.append({"role": "user", "content": seen})
        action = Action(tool="bash", arguments={"command": "ls"}, format="backtick") if "```" in reply else None
        steps.append(Step(index=number, content=reply, action=action, observation=seen))
    run = Trajectory(
        id=trajectory_id(task_id="a__b-1", model="m", attempt=0, messages=messages),
        task_id="a__b-1",
        repo="a/b",
        model="m",
        sampling={},
        scaffold="test",
        prompt="test",
        seed=None,
        attempt=0,
        messages=tuple(messages),
        steps=tuple(steps),
        patch=None,
        stop_reason="submitted",
    )
    return msgspec.structs.replace(run, **changes)
