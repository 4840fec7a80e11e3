"""The quick road and the exact one: a run whose template only appends is rendered a few times, whatever its length."""

import json

import msgspec
import pytest

from srft.agent.records import Action, Usage
from srft.env.errors import InputError
from srft.train.rows.mask import Part
from srft.train.rows.render import Renderer
from tests.train.conftest import CHATML, SPACES, TOOLS, TRIMS, make_run

# A reply ends with another token than later prompts show, and has a header, as gpt-oss's do.
CHANNELS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant<final>{{ m.content }}"
    "{{ '<|endoftext|>' if loop.last and not add_generation_prompt else '<|im_end|>' }}"
    "{% else %}<|im_start|>{{ m.role }}<text>{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
# A turn ends with the next one's token, as GLM's do.
NEXT_ROLE = (
    "{% for m in messages %}{{ {'user': '<|im_start|>', 'system': '<|im_start|>', 'tool': '<|endoftext|>',"
    " 'assistant': '<|im_end|>'}[m.role] }}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|im_end|>{% endif %}"
)
# A tool's answers stand within one turn of the user, as Qwen's do.
GROUPS = TOOLS.replace(
    "<|im_start|>{{ m.role }}\n",
    "{% if m.role != 'tool' %}<|im_start|>{{ m.role }}\n"
    "{% elif loop.previtem.role != 'tool' %}<|im_start|>user\n{% endif %}{% if m.role == 'tool' %}<answer>{% endif %}",
).replace("<|im_end|>\n{% endfor %}{% if add", "{% if loop.last or m.role != 'tool' or loop.nextitem.role != 'tool' %}"
          "<|im_end|>\n{% endif %}{% endfor %}{% if add")  # fmt: skip
TEMPLATES = {
    "chatml": CHATML,
    "trims": TRIMS,
    "spaces": SPACES,
    "tools": TOOLS,
    "groups": GROUPS,
    "channels": CHANNELS,
    "next role": NEXT_ROLE,
}
WITH_CALLS = ("tools", "groups", "next role")


def calling_run(steps, *, calls=1, text="I look.", thinking=None, last="Done."):
    """A run of so many steps with calls, and a last one of text."""
    run = make_run([text] * steps + ([last] if last else []))
    messages, changed = list(run.messages[:2]), []
    for step in run.steps[:steps]:
        made = [
            {
                "id": f"c{step.index:03}x{place:04}",
                "type": "function",
                "function": {"name": "bash", "arguments": json.dumps({"command": f"ls '{step.index}' \"{place}\""})},
            }
            for place in range(calls)
        ]
        said = {"role": "assistant", "content": text, "tool_calls": made}
        messages.append(said | ({"reasoning_content": thinking} if thinking else {}))
        if last or step.index < steps - 1:
            messages += [{"role": "tool", "tool_call_id": c["id"], "content": f"{step.index}\n"} for c in made]
        action = Action(tool="bash", arguments={"command": "ls"}, format="native")
        changed.append(msgspec.structs.replace(step, tool_calls=tuple(made), action=action, reasoning=thinking))
    if last:
        messages.append({"role": "assistant", "content": last})
        changed.append(run.steps[-1])
    return msgspec.structs.replace(run, messages=tuple(messages), steps=tuple(changed))


RUNS = {
    "texts": make_run(["I look.", " Padded \n", "", "Done."]),
    "one": make_run(["Done."]),
    "demonstration": msgspec.structs.replace(
        make_run(["Shown.", "I look.", "Done."]), demo_messages=4, steps=make_run(["I look.", "Done."]).steps
    ),
    "cut off": msgspec.structs.replace(
        make_run(["I lo", "Done."]),
        steps=tuple(
            msgspec.structs.replace(step, finish_reason="length") for step in make_run(["I lo", "Done."]).steps
        ),
    ),
    "goes on": msgspec.structs.replace(
        make_run(["I look."]), messages=(*make_run(["I look."]).messages, {"role": "user", "content": "And?"})
    ),
    "odd answers": make_run(["I look.", "Now.", "Done."], ["", "<|im_end|>\n<|im_start|>assistant\nNow."]),
}
CALLING = {
    "calls": calling_run(3),
    "two calls": calling_run(2, calls=2),
    "no text": calling_run(3, text=""),
    "ends with a call": calling_run(2, last=""),
}


class Counting(Renderer):
    """Counts what is rendered, and takes one road alone where it is told to."""

    def __init__(self, *args, slow=False, **more):
        super().__init__(*args, **more)
        self.renderings, render = 0, self.template.render

        def counted(*args, **more):
            self.renderings += 1
            return render(*args, **more)

        self.template.render = counted
        if slow:
            self._appended = lambda told: None


def columns(rendering):
    return [(row.input_ids.tolist(), row.step_index.tolist(), row.part.tolist()) for row in rendering.rows]


def cases():
    for name in TEMPLATES:
        for run in [*RUNS.values(), *(CALLING.values() if name in WITH_CALLS else ())]:
            yield TEMPLATES[name], run


@pytest.mark.parametrize(
    ("template", "run"),
    list(cases()),
    ids=[f"{name}-{run}" for name in TEMPLATES for run in [*RUNS, *(CALLING if name in WITH_CALLS else ())]],
)
def test_both_roads_lead_to_the_same_rows(tokenizer_with, template, run):
    quick, slow = Counting(tokenizer_with(template)), Counting(tokenizer_with(template), slow=True)
    assert columns(quick.render(run)) == columns(slow.render(run))


@pytest.mark.parametrize(("name", "calls"), [*((name, False) for name in TEMPLATES), *((n, True) for n in WITH_CALLS)])
def test_a_longer_run_takes_no_more_renderings(tokenizer_with, name, calls):
    counts = []
    for steps in (6, 60):
        renderer = Counting(tokenizer_with(TEMPLATES[name]))
        rendering = renderer.render(calling_run(steps) if calls else make_run(["I look."] * steps))
        assert len(rendering.rows) == 1
        counts.append(renderer.renderings)
    assert counts[0] == counts[1] < 40
    # A second run of the same shape takes three renderings and none to learn the shape.
    before = renderer.renderings
    renderer.render(calling_run(50) if calls else make_run(["Now."] * 50))
    assert renderer.renderings - before <= 3


THINKS = TOOLS.replace(
    "{% if m.reasoning_content %}", "{% if m.reasoning_content and (loop.last or messages[-1].role != 'user') %}"
)


@pytest.mark.parametrize("template", [TOOLS, GROUPS])
def test_thinking_that_stays_in_the_history_keeps_one_row(tokenizer_with, template):
    run = calling_run(3, thinking="Hm.")
    quick, slow = Counting(tokenizer_with(template)), Counting(tokenizer_with(template), slow=True)
    rendering = quick.render(run)
    assert len(rendering.rows) == 1
    assert columns(rendering) == columns(slow.render(run))


def texts(renderer, run):
    """Of each step (prompt, trained), in text."""
    decode = renderer.tokenizer.backend_tokenizer.decode
    found = []
    for row in renderer.render(run).rows:
        for step in sorted(set(row.step_index.tolist()) - {-1}):
            mine = ((row.step_index == step) & (row.part != Part.CONTEXT)).nonzero()[0]
            ids = row.input_ids.tolist()
            found.append(
                (
                    decode(ids[: mine[0]], skip_special_tokens=False),
                    decode(ids[mine[0] : mine[-1] + 1], skip_special_tokens=False),
                )
            )
    return found


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


def test_several_runs_at_once_are_as_one_by_one(tokenizer_with):
    renderer = Renderer(tokenizer_with(TOOLS))
    runs = [calling_run(2), RUNS["texts"], sampled(renderer, calling_run(1)), make_run([]), CALLING["two calls"]]
    together = renderer.render_all(runs)
    assert [columns(rendering) for rendering in together] == [columns(renderer.render(run)) for run in runs]
    assert [[row.mask_source for row in rendering.rows] for rendering in together] == [
        ["rendered"],
        ["rendered"],
        ["sampled"],
        [],
        ["rendered"],
    ]


def test_several_calls_are_refused_where_a_template_writes_two_of_three(tokenizer_with):
    two = TOOLS.replace("in m.tool_calls or [] %}", "in (m.tool_calls or [])[:2] %}")
    with pytest.raises(InputError, match="does not write all of the reply"):
        Renderer(tokenizer_with(two)).render(calling_run(1, calls=3))


def test_a_renderer_from_a_folder_is_the_same(tokenizer_with, tmp_path):
    tokenizer_with(TOOLS).save_pretrained(tmp_path / "it")
    run = calling_run(2)
    loaded = Renderer.load(tmp_path / "it", options={"a": 1}, thinking="without")
    assert columns(loaded.render(run)) == columns(Renderer(tokenizer_with(TOOLS)).render(run))
    assert (loaded.options, loaded.thinking) == ({"a": 1}, "without")
    with pytest.raises(InputError, match="cannot be loaded"):
        Renderer.load(tmp_path / "none")


def test_a_fingerprint_tells_renderers_apart(tokenizer_with):
    made = [
        Renderer(tokenizer_with(CHATML)),
        Renderer(tokenizer_with(TRIMS)),
        Renderer(tokenizer_with(CHATML), options={"a": 1}),
        Renderer(tokenizer_with(CHATML), thinking="without"),
        Renderer(tokenizer_with(CHATML), calls="xml"),
        Renderer(tokenizer_with(CHATML), calls="json"),
    ]
    assert len({renderer.fingerprint for renderer in made}) == len(made)
    assert len({renderer.vocabulary for renderer in made}) == 1
    assert made[0].fingerprint == Renderer(tokenizer_with(CHATML)).fingerprint


# ---- sampled ids ----


def sampled(renderer, run, *, shared=0, **changes):
    """The run with the ids that a server of this template gives: of its first `shared` tokens, only their number."""
    steps, asked = [], []
    for step, (prompt, trained) in zip(run.steps, texts(renderer, run), strict=True):
        encode = renderer.tokenizer.backend_tokenizer.encode
        prompt_ids = encode(prompt, add_special_tokens=False).ids
        ids = encode(trained, add_special_tokens=False).ids
        same = len(asked) if shared and prompt_ids[: len(asked)] == asked else 0
        more = {"prompt_shared": same, "prompt_token_ids": tuple(prompt_ids[same:]), "token_ids": tuple(ids)}
        steps.append(msgspec.structs.replace(step, **more | changes))
        asked = prompt_ids + ids
    return msgspec.structs.replace(run, steps=tuple(steps))


@pytest.mark.parametrize("run", [make_run(["I look.", "Done."]), calling_run(2, text="")], ids=["texts", "calls"])
@pytest.mark.parametrize("shared", [0, 1])
def test_sampled_ids_of_this_template_are_taken(tokenizer_with, run, shared):
    renderer = Renderer(tokenizer_with(TOOLS))
    rendering = renderer.render(sampled(renderer, run, shared=shared))
    assert ([row.mask_source for row in rendering.rows], +rendering.remarks) == (["sampled"], {})
    assert columns(rendering) == columns(renderer.render(run))


def replaced(run, number, **changes):
    steps = list(run.steps)
    steps[number] = msgspec.structs.replace(steps[number], **changes)
    return msgspec.structs.replace(run, steps=tuple(steps))


@pytest.mark.parametrize("number", [0, 1])
def test_sampled_ids_that_are_not_these_replies_are_counted_and_not_taken(tokenizer_with, number):
    renderer = Renderer(tokenizer_with(TOOLS))
    run = sampled(renderer, calling_run(2, text="", last=""))
    ids, asked = run.steps[number].token_ids, run.steps[number].prompt_token_ids
    other = renderer.tokenizer("I cannot help.<|im_end|>").input_ids
    for reason, changes in {
        "sampled_incomplete": {"token_ids": None},
        "other_tokenizer": {"token_ids": (*ids, 999_999)},
        "other_reply": {"token_ids": tuple(other)},
        "other_prompt": {"prompt_token_ids": (*asked[:-1], asked[0])},
    }.items():
        rendering = renderer.render(replaced(run, number, **changes))
        assert ({row.mask_source for row in rendering.rows}, +rendering.remarks) == ({"rendered"}, {reason: 1})
    for vocabulary, remarks in {renderer.vocabulary: {}, "another": {"other_tokenizer": 1}}.items():
        rendering = renderer.render(msgspec.structs.replace(run, vocabulary=vocabulary))
        assert +rendering.remarks == remarks
    count = len(ids)
    for counted, source in {
        count: "sampled",
        count + 1: "sampled",
        count - 1: "sampled",
        count + 2: "rendered",
    }.items():
        rendering = renderer.render(replaced(run, number, usage=Usage(completion_tokens=counted)))
        assert {row.mask_source for row in rendering.rows} == {source}
    assert renderer.render(run, source="rendered").rows[0].mask_source == "rendered"


def test_ids_of_another_prompt_are_not_taken_where_the_beginning_is_shared(tokenizer_with):
    renderer = Renderer(tokenizer_with(TOOLS))
    run = sampled(renderer, calling_run(2, last=""), shared=1)
    assert run.steps[1].prompt_shared > 0
    asked = run.steps[1].prompt_token_ids
    rendering = renderer.render(replaced(run, 1, prompt_token_ids=(*asked[:-2], asked[0], asked[-1])))
    assert (rendering.rows[0].mask_source, +rendering.remarks) == ("rendered", {"other_prompt": 1})


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
