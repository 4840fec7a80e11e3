"""The turns of a run in text: what each prompt shows, and what the model is to write behind it."""

import msgspec
import pytest

from srft.agent.records import Action, Step
from srft.env.errors import InputError
from srft.train.rows.render import Renderer
from srft.train.rows.template import RenderError
from srft.train.rows.turns import action_span
from tests.train.conftest import CHATML, TOOLS, make_run
from tests.train.rows.rendered import CHANNELS, CLOSES, NEXT_ROLE, calling_run, prompts_of, texts

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
