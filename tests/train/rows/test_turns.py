"""The turns of a run in text: what each prompt shows, and what the model is to write behind it."""

import msgspec
import pytest

from srft.agent.records import Action, Step
from srft.env.errors import InputError
from srft.train.rows.render import Renderer
from srft.train.rows.turns import action_span
from tests.train.conftest import CHATML, TOOLS, make_run
from tests.train.rows.rendered import CHANNELS, NEXT_ROLE, calling_run, texts

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
