"""Sampled token ids: taken as they are where they are this run's, counted and left where they are not."""

import msgspec
import pytest

from srft.agent.records import Usage
from srft.train.rows.mask import Part
from srft.train.rows.render import Renderer
from tests.train.conftest import CHATML, TOOLS, make_run
from tests.train.rows.rendered import ACT, CALLS_END_OTHERWISE, calling_run, columns, sampled, sampled_run


def test_sampled_ids_are_taken_as_they_are(tokenizer_with):
    renderer = Renderer(tokenizer_with(CHATML))
    run = sampled_run(renderer, [ACT, "Done."])
    rendering = renderer.render(run)
    (row,) = rendering.rows
    assert row.mask_source == "sampled"
    for step in run.steps:
        assert tuple(row.input_ids[row.step_index == step.index]) == step.token_ids
    assert (row.part[row.step_index == 0] == Part.ACTION).sum() == len("```bash\nls\n```")
    assert renderer.render(run, source="rendered").rows[0].mask_source == "rendered"


def test_a_prompt_that_does_not_repeat_what_was_sampled_starts_a_row(tokenizer_with):
    renderer = Renderer(tokenizer_with(CHATML))
    rendering = renderer.render(sampled_run(renderer, [ACT, ACT, "Done."], drift_at=1))
    assert ([row.mask_source for row in rendering.rows], rendering.remarks) == (["sampled"] * 2, {"sampled_drift": 1})
    assert [sorted({int(s) for s in row.step_index if s >= 0}) for row in rendering.rows] == [[0], [1, 2]]


def test_an_end_that_the_server_kept_to_itself_is_trained(tokenizer_with):
    renderer = Renderer(tokenizer_with(CHATML))
    (row,) = renderer.render(sampled_run(renderer, ["Done."], stop_withheld=True)).rows
    assert row.input_ids[-1] == renderer.end_id
    assert row.part[-1] == Part.END


def test_ids_of_another_tokenizer_are_not_used(tokenizer_with):
    renderer = Renderer(tokenizer_with(CHATML))
    run = sampled_run(renderer, [ACT, "Done."])
    foreign = tuple(msgspec.structs.replace(step, token_ids=(5, 6, 7)) for step in run.steps)
    rendering = renderer.render(msgspec.structs.replace(run, steps=foreign))
    assert (rendering.rows[0].mask_source, rendering.remarks["other_tokenizer"]) == ("rendered", 1)


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
        "other_tokenizer": {"token_ids": (*ids, len(renderer.tokenizer))},
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
        assert +rendering.remarks == ({} if source == "sampled" else {"sampled_incomplete": 1})
    assert renderer.render(run, source="rendered").rows[0].mask_source == "rendered"


def test_ids_of_another_prompt_are_not_taken_where_the_beginning_is_shared(tokenizer_with):
    renderer = Renderer(tokenizer_with(TOOLS))
    run = sampled(renderer, calling_run(2, last=""), shared=1)
    assert run.steps[1].prompt_shared > 0
    asked = run.steps[1].prompt_token_ids
    rendering = renderer.render(replaced(run, 1, prompt_token_ids=(*asked[:-2], asked[0], asked[-1])))
    assert (rendering.rows[0].mask_source, +rendering.remarks) == ("rendered", {"other_prompt": 1})


def test_an_end_that_the_server_kept_to_itself_is_that_of_a_call_or_of_a_text(tokenizer_with):
    renderer = Renderer(tokenizer_with(CALLS_END_OTHERWISE))
    run = sampled(renderer, calling_run(1))
    reasons = ("tool_calls", "stop")
    for number, reason in enumerate(reasons):
        run = replaced(run, number, token_ids=run.steps[number].token_ids[:-1], finish_reason=reason)
    (row,) = renderer.render(run).rows
    assert row.mask_source == "sampled"
    assert row.input_ids[row.part == Part.END].tolist() == list(reversed(renderer.stop_ids))
    cut = renderer.render(replaced(run, 1, finish_reason="length")).rows[0]
    assert (cut.part == Part.END).sum() == 1
