"""The quick road and the exact one: a run whose template only appends is rendered a few times, whatever its length."""

import pytest

from srft.train.rows.render import Renderer
from tests.train.conftest import CHATML, SPACES, TOOLS, TRIMS, make_run
from tests.train.rows.rendered import CALLING, CHANNELS, CLOSES, GROUPS, NEXT_ROLE, RUNS, calling_run, columns, texts

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
            assert hasattr(self._one_pass, "turns")
            self._one_pass.turns = lambda run: None


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


@pytest.mark.parametrize("template", [TOOLS, GROUPS])
def test_thinking_that_stays_in_the_history_keeps_one_row(tokenizer_with, template):
    run = calling_run(3, thinking="Hm.")
    quick, slow = Counting(tokenizer_with(template)), Counting(tokenizer_with(template), slow=True)
    rendering = quick.render(run)
    assert len(rendering.rows) == 1
    assert columns(rendering) == columns(slow.render(run))


# ---- sampled ids ----


BLOCK = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    "template",
    [
        CLOSES,
        TOOLS.replace("assistant\n{% endif %}", f"assistant\n{{{{ '{BLOCK}' }}}}{{% endif %}}"),
        # History has another white space before a reply.
        CHATML.replace("add_generation_prompt %}<", "add_generation_prompt %}{{ '\n' }}<"),
    ],
    ids=["closes", "tools", "white space"],
)
def test_a_row_may_keep_what_each_prompt_ended_with(tokenizer_with, template):
    run = calling_run(3) if "tool_calls" in template else make_run(["I look.", "Now.", "Done."])
    split, kept = Renderer(tokenizer_with(template)), Counting(tokenizer_with(template), append=True)
    assert len(split.render(run).rows) == len(run.steps)
    assert (len(kept.render(run).rows), +kept.render(run).remarks) == (1, {})
    asked, shown = kept.template.headers
    before = ""
    for (prompt, trained), (expected, said) in zip(texts(kept, run), texts(split, run), strict=True):
        assert trained == said
        assert prompt.startswith(before)
        # With what earlier prompts ended with taken out, it is the prompt that a server shows.
        assert prompt.removesuffix(asked).replace(asked, shown) + asked == expected
        before = prompt + trained
    assert kept.keeps_history() == ("thinking=without" if kept.template.thinks else None)


def test_where_history_shows_the_block_nothing_is_appended(tokenizer_with):
    shows = CLOSES.replace(
        "{{ m.content", f"{{% if m.role == 'assistant' %}}{{{{ '{BLOCK}' }}}}{{% endif %}}{{{{ m.content"
    )
    run = make_run(["I look.", "Done."])
    rows = [columns(Renderer(tokenizer_with(shows), append=append).render(run)) for append in (False, True)]
    assert (len(rows[0]), rows[0]) == (1, rows[1])
    # It does in later turns alone: what it shows is not told twice.
    later = shows.replace("m.role == 'assistant' %}{{", "m.role == 'assistant' and loop.index0 > 3 %}{{")
    assert [
        said for _, said in texts(Renderer(tokenizer_with(later), append=True), make_run(["One.", "Two.", "Three."]))
    ] == [
        "One.<|im_end|>",
        "Two.<|im_end|>",
        "Three.<|im_end|>",
    ]
