"""What is trained of a run: each step trained, masked or cut, as the rows on file say; older than the labels or not."""

from collections import Counter

import msgspec
import pytest

from srft.agent.importing.importers import read_runs
from srft.critic.labels.labels import Evidence, StepLabel
from srft.critic.rules.rules import ToolErrorCritic
from srft.harness.run.entries import VERDICTS, tool_error_codes
from srft.harness.run.run_mask import mask_of
from srft.harness.run.store import Run
from srft.harness.run.trained import open_rows, runs_on_file, trained_of
from srft.harness.stages.rows import RowsConfig, make_rows
from srft.train.rows.mask import MaskPolicy, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings
from tests.harness.run.test_trained import made, round_
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, DROPS_THINKING, TOOLS, make_run
from tests.train.rows.rendered import sampled

__all__ = ["round_"]


def mask(round_, run, codes, policy=None, arm="srft"):
    labels = {step: StepLabel(step=step, verdict=VERDICTS[code]) for step, code in enumerate(codes)}
    facts = RunFacts(run.id, len(run.steps), run.recorded_resolved, labels)
    on_file = runs_on_file(round_, arm)
    return mask_of(facts, policy or MaskPolicy(), on_file.get(run.id) if on_file is not None else None)


def words(mask):
    return [step and step.words for step in map(mask.step, range(len(mask.weight_S)))]


def test_each_step_is_trained_masked_or_cut(round_, tmp_path):
    run = make_run(["First.", "Wrong.", "Third.", "Last."], id="abc1", recorded_resolved=False)
    shown = mask(round_, run, "gmgg")
    assert words(shown) == ["trained", "masked", "trained", "cut"]
    assert (shown.is_on_file, shown.is_stale, shown.summary()) == (True, False, "1 of 4 steps masked, 1 cut")
    assert "greatest length" in shown.step(3).why
    assert mask(round_, run, "gmgm").is_stale is False  # the last one is in no row: its label makes no difference
    changed = mask(round_, run, "gggg")
    assert words(changed) == ["trained", "masked", "trained", "cut"], "what is on file"
    assert [changed.step(step).later for step in range(4)] == [None, "trained", None, None]
    assert (changed.is_stale, changed.later) == (True, "mask 0 of 4 steps")
    masked_and_cut = made(tmp_path, run, "gmgm", rows=open_rows(round_, "srft").manifest.settings)
    assert words(mask(masked_and_cut, run, "gmgm")) == ["trained", "masked", "trained", "cut"], (
        "in no row, whatever its label"
    )
    assert mask(masked_and_cut, run, "gmgm").summary() == "1 of 4 steps masked, 1 cut"
    unknown = mask(round_, make_run(["Hm."], id="abc2"), "g")
    assert (unknown.is_on_file, unknown.left_out, unknown.weight_S) == (True, "outcome_unknown", None)
    assert unknown.summary() == "leaves this run out: its outcome is not known"
    known_now = mask(round_, make_run(["Hm."], id="abc2", recorded_resolved=True), "g")
    assert (known_now.left_out, known_now.is_stale, known_now.later) == ("outcome_unknown", True, "mask 0 of 1 step")


def test_a_run_that_no_row_was_made_of_yet(round_):
    later = make_run(["One.", "Two."], id="new", recorded_resolved=False)
    shown = mask(round_, later, "gm")
    assert (shown.is_on_file, shown.is_stale, words(shown)) == (False, False, ["would be trained", "would be masked"])
    assert mask(round_, later, "gm", arm="all").is_on_file is False
    assert mask(round_, make_run(["x"], id="new2"), "g").summary() == (
        "if rows were made now: leaves this run out: its outcome is not known"
    )


def test_rows_of_one_step_each(tmp_path):
    """A masked step has no row of its own, and is masked; one whose row is too long is cut."""
    replies = ["<think>a</think>One.", "<think>b</think>Two.", "<think>c</think>Three.", "Four."]
    run = make_run(replies, id="abc1", recorded_resolved=False)
    round_ = made(tmp_path, run, "gmgg", template=DROPS_THINKING)
    table = open_rows(round_, "srft")
    assert len(table) == 3
    assert words(mask(round_, run, "gmgg")) == ["trained", "masked", "trained", "trained"]
    lengths = sorted(len(row.input_ids) for row in table)
    round_ = made(tmp_path / "2", run, "gmgg", template=DROPS_THINKING, rows=RowSettings(max_tokens=lengths[-1] - 1))
    of_run = trained_of(open_rows(round_, "srft"), "abc1")
    assert words(mask(round_, run, "gmgg")) == [
        "trained" if step in of_run.trained else "masked" if step == 1 else "cut" for step in range(4)
    ]
    assert "cut" in words(mask(round_, run, "gmgg"))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"policy": MaskPolicy(train="action")}, ["trained", "masked", "not trained", "not trained"]),
        ({"rows": RowSettings(max_tokens=60, overlong="drop")}, 4 * ["in no row"]),
        ({"policy": MaskPolicy(good=0.5)}, ["trained, weight 0.5", "masked", *2 * ["trained, weight 0.5"]]),
    ],
)
def test_other_reasons_why_a_step_is_not_trained(tmp_path, config, expected):
    run = make_run(["I look.\n```bash\nls\n```", "Wrong.", "Third.", "Last."], id="abc1", recorded_resolved=False)
    round_ = made(tmp_path, run, "gmgg", **config)
    assert words(mask(round_, run, "gmgg", config.get("policy"))) == expected
    assert trained_of(open_rows(round_, "srft"), "abc1").trained == {
        step for step, word in enumerate(expected) if word.startswith("trained")
    }


def test_thinking_that_is_in_no_row(tmp_path):
    run = make_run(["One.", "Two."], id="abc1", recorded_resolved=True)
    run = msgspec.structs.replace(
        run,
        steps=(msgspec.structs.replace(run.steps[0], reasoning="Hm."), run.steps[1]),
        messages=tuple(
            {**message, "reasoning_content": "Hm."} if message["content"] == "One." else message
            for message in run.messages
        ),
    )
    assert mask(made(tmp_path / "1", run, "gg"), run, "gg").thinking == "left_out"
    assert mask(made(tmp_path / "2", run, "gg", template=TOOLS), run, "gg").thinking == "trained"
    action = {"policy": MaskPolicy(train="action")}
    round_ = made(tmp_path / "3", run, "gg", template=TOOLS, **action)
    assert mask(round_, run, "gg", action["policy"]).thinking == "masked"


def test_thinking_that_was_sampled_is_trained(tmp_path):
    """The template does not write it, and the sampled tokens are taken as they are."""
    renderer = Renderer(byte_tokenizer(CHATML))
    run = sampled(renderer, make_run(["One."], id="abc1", recorded_resolved=True))
    ids = renderer.tokenizer("Hm.\nOne.<|im_end|>").input_ids
    thought = msgspec.structs.replace(run.steps[0], reasoning="Hm.", token_ids=tuple(ids))
    run = msgspec.structs.replace(run, steps=(thought,))
    round_ = made(tmp_path, run, "g")
    assert open_rows(round_, "srft").manifest.mask_sources == {"sampled": 1}
    assert mask(round_, run, "g").thinking == "trained"
    assert open_rows(round_, "srft").manifest.remarks == {}


def truth(round_, run):
    """Of each step what the rows themselves hold."""
    of_run = trained_of(open_rows(round_, "srft"), run.id)
    return ["trained" if step in of_run.trained else "not" for step in range(len(run.steps))], of_run.in_rows


@pytest.mark.parametrize("template", [CHATML, DROPS_THINKING], ids=["one-row", "row-a-step"])
@pytest.mark.parametrize("overlong", ["cut", "slide", "drop"])
def test_masks_are_what_the_rows_hold(tmp_path, template, overlong):
    """Whatever the template, the length and the labels: a step is called trained where a token of it is, and masked or
    cut where none is; cut ones are in no row."""
    renderer = Renderer(byte_tokenizer(template))
    for number, codes in enumerate(("gmgmg", "mgggm", "ggggg", "mmmmm")):
        texts = [f"<think>{step}</think>{'x' * 40 * step}{number}." for step in range(5)]
        run = make_run(texts, id=f"run{number}", recorded_resolved=False)
        whole = max(len(row.input_ids) for row in renderer.render(run).rows)
        for length in (whole, whole * 3 // 4, whole // 2):
            settings = RowSettings(max_tokens=length, overlong=overlong)
            round_ = made(tmp_path / f"{number}-{length}", run, codes, template=template, rows=settings)
            shown = mask(round_, run, codes)
            trained, in_rows = truth(round_, run)
            states = [shown.step(step).state for step in range(5)]
            assert ["trained" if state == "trained" else "not" for state in states] == trained, (codes, length)
            assert {step for step in range(5) if states[step] in ("cut", "overlong")}.isdisjoint(in_rows)
            assert {step for step in range(5) if states[step] == "masked"} <= {n for n in range(5) if codes[n] == "m"}
            assert not shown.is_stale


@pytest.mark.slow
def test_masks_of_the_recorded_runs(shared_data, tmp_path):
    """Each of 10,222 real steps."""
    byte_tokenizer(CHATML).save_pretrained(tmp_path / "tokenizer")
    runs = list(read_runs(shared_data / "trajectories" / "gemini3pro_mini_verified.jsonl.gz"))
    with Run(tmp_path / "run") as opened:
        round_ = opened.round(0)
        for run in runs:
            round_.trajectories.append(run)
            round_.critiques.append(ToolErrorCritic().judge(run, Evidence()))
        make_rows(RowsConfig(tokenizer=str(tmp_path / "tokenizer"), rows=RowSettings(max_tokens=60_000)), round_)
    manifest = open_rows(round_, "srft").manifest
    counts = Counter()
    for run in runs:
        codes = tool_error_codes(run)
        shown = mask(round_, run, codes)
        trained, in_rows = truth(round_, run)
        for step, state in enumerate(trained):
            expected = state if state == "trained" else "masked" if step in in_rows else "cut"
            assert shown.step(step).state == expected, (run.task_id, step)
        assert not shown.is_stale
        counts.update(shown.counts)
    assert (counts["masked"], counts["cut"]) == (manifest.steps_masked, manifest.remarks["steps_cut"])
    assert counts.total() == 10_222
