"""Rows on disk: every drop counted, arms from one rendering, mapped back as they were written."""

from pathlib import Path

import msgspec
import numpy
import pytest
from datasets import Dataset

from srft.critic.labels.labels import StepLabel
from srft.env.errors import InputError
from srft.train.rows.mask import MaskPolicy, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RowTable, RunToRender, write_rows
from tests.train.conftest import CHATML, DROPS_THINKING, make_run

ACT = "I look.\n```bash\nls\n```"


def run_with(replies, *, resolved=True, mistakes=(), **changes):
    run = make_run(replies, **changes)
    labels = {n: StepLabel(step=n, verdict="mistake" if n in mistakes else "good") for n in range(len(replies))}
    return run, RunFacts(run.id, len(replies), resolved, labels)


@pytest.fixture
def renderer(tokenizer_with):
    return Renderer(tokenizer_with(CHATML))


def write(folder: Path, renderer, runs, arms=("srft",), settings=None, **policy):
    policies = {arm: MaskPolicy(arm=arm, **policy) for arm in arms}
    to_render = [RunToRender(run, dict.fromkeys(arms, facts)) for run, facts in runs]
    return write_rows(
        folder, to_render, renderer, policies, settings or RowSettings(), fingerprints=dict.fromkeys(arms, "f")
    )


def test_arms_of_the_same_runs(tmp_path, renderer):
    runs = [
        run_with([ACT, "Done."], resolved=True, attempt=0, id="a"),
        run_with([ACT, ACT, "Over."], resolved=False, mistakes=[1], id="b"),
    ]
    made = write(tmp_path, renderer, runs, arms=("all", "resolved", "srft", "unresolved_masked"))
    assert {arm: (m.runs, m.runs_used, m.rows, m.steps, m.steps_masked) for arm, m in made.items()} == {
        "all": (2, 2, 2, 5, 0),
        "resolved": (2, 1, 1, 2, 0),
        "srft": (2, 2, 2, 5, 1),
        "unresolved_masked": (2, 1, 1, 3, 1),
    }
    assert made["resolved"].left_out == {"unresolved": 1}
    for arm, manifest in made.items():
        table = RowTable.open(tmp_path / arm)
        assert table.manifest == manifest
        assert sum(row.trained_tokens for row in table) == manifest.trained_tokens
        assert sum(float(row.weights.sum()) for row in table) == manifest.weight
        assert table.used_tokens_N.tolist() == [int(numpy.flatnonzero(row.weights)[-1]) + 1 for row in table]
    masked = RowTable.open(tmp_path / "srft")[1]
    assert not masked.weights[masked.step_index == 1].any()
    assert masked.weights[masked.step_index == 2].all()


def test_the_trained_tokens_read_as_the_replies(tmp_path, renderer):
    write(tmp_path, renderer, [run_with([ACT, "Wrong.", "Done."], resolved=False, mistakes=[1])])
    (row,) = RowTable.open(tmp_path / "srft")
    assert renderer.tokenizer.decode(row.input_ids[row.weights > 0]) == ACT + "<|im_end|>" + "Done.<|im_end|>"


def test_other_programs_read_the_file(tmp_path, renderer):
    write(tmp_path, renderer, [run_with([ACT, "Done."])])
    row = Dataset.from_file(str(tmp_path / "srft" / "rows.arrow"))[0]
    assert row["input_ids"] == RowTable.open(tmp_path / "srft")[0].input_ids.tolist()


def test_drops_are_counted(tmp_path, renderer, tokenizer_with):
    same = run_with([ACT, "Done."], id="same")
    runs = [
        same,
        (msgspec.structs.replace(same[0], id="again"), same[1]),
        run_with(["Bad."], resolved=False, mistakes=[0]),
        run_with([ACT], resolved=None),
        run_with([ACT * 40, "Done."]),
        (msgspec.structs.replace(same[0], steps=same[0].steps[:1], id="torn"), same[1]._replace(steps=1)),
    ]
    manifest = write(tmp_path, renderer, runs, settings=RowSettings(max_tokens=120, overlong="drop"))["srft"]
    assert manifest.rows == 1
    assert manifest.dropped == {"duplicate": 1, "nothing_trained": 1, "overlong": 1}
    assert manifest.left_out == {
        "outcome_unknown": 1,
        "not readable: torn: 2 assistant messages and 1 steps; expected one a step": 1,
    }
    assert (manifest.runs, manifest.runs_used) == (6, 1)


def test_history_that_a_template_rewrites_is_split_or_refused(tmp_path, tokenizer_with):
    renderer = Renderer(tokenizer_with(DROPS_THINKING))
    runs = [run_with(["<think>a</think>one", "two"])]
    split = write(tmp_path, renderer, runs)["srft"]
    assert (split.rows, split.remarks) == (2, {"history_rewritten": 1, "characters_repeated": 205})
    refused = write(tmp_path, renderer, runs, settings=RowSettings(rewritten="refuse"))["srft"]
    assert (refused.rows, refused.left_out) == (0, {"history_rewritten": 1})


def test_sliding_counts_what_is_written_once(tmp_path, renderer):
    runs = [run_with([ACT] * 8)]
    whole = write(tmp_path / "whole", renderer, runs)["srft"]
    slid = write(tmp_path / "slid", renderer, runs, settings=RowSettings(max_tokens=200, overlong="slide"))["srft"]
    assert slid.rows > 1
    assert (slid.written_tokens, slid.trained_tokens, slid.steps) == (
        whole.written_tokens,
        whole.trained_tokens,
        whole.steps,
    )


def test_a_folder_without_a_manifest_is_no_rows(tmp_path, renderer):
    write(tmp_path, renderer, [run_with([ACT])])
    (tmp_path / "srft" / "rows.json").unlink()
    with pytest.raises(InputError, match="make them with `srft rows`"):
        RowTable.open(tmp_path / "srft")


def test_places_in_a_table(tmp_path, renderer):
    runs = [run_with([ACT] * (n + 1), id=str(n)) for n in range(5)]
    write(tmp_path, renderer, runs)
    table = RowTable.open(tmp_path / "srft")
    assert [row.run_id for row in table] == ["0", "1", "2", "3", "4"]
    assert (table[-1].run_id, [row.run_id for row in table[1:3]]) == ("4", ["1", "2"])
    with pytest.raises(IndexError):
        table[5]
    assert table[0].input_ids.dtype == numpy.int32
