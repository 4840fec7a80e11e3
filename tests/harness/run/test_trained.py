"""What is in an arm's rows of a run, and whether the rows are older than the labels."""

import numpy
import pytest

from srft.env.errors import InputError
from srft.harness.run.store import Round, Run
from srft.harness.run.trained import arms_on_file, open_rows, rows_command, rows_on_file, trained_of
from srft.harness.stages.rows import RowsConfig, make_rows
from srft.train.rows.rows import RowSettings
from tests.harness.loop_run import critique_of
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, make_run


@pytest.fixture
def round_(tmp_path):
    """A run of four steps of which the row holds three; the second is a mistake."""
    byte_tokenizer(CHATML).save_pretrained(tmp_path / "tokenizer")
    run = make_run(["First.", "Wrong.", "Third.", "Last."], id="abc1", recorded_resolved=False)
    with Run(tmp_path / "run") as opened:
        round_ = opened.round(0)
        round_.trajectories.append(run)
        round_.trajectories.append(make_run(["Hm."], id="abc2", task_id="c__d-2"))
        round_.critiques.append(critique_of(run, "gmgg"))
        config = RowsConfig(tokenizer=str(tmp_path / "tokenizer"))
        whole = make_rows(config, round_)["srft"].manifest.longest_row
        make_rows(RowsConfig(tokenizer=config.tokenizer, rows=RowSettings(max_tokens=whole - 10)), round_)
    return round_


def test_which_steps_are_in_a_row_and_which_are_trained(round_):
    of_run = trained_of(open_rows(round_, "srft"), "abc1")
    assert (of_run.in_rows, of_run.trained) == ({0, 1, 2}, {0, 2})
    assert of_run.trained_tokens == rows_on_file(round_)["srft"].trained_tokens > 0
    left_out = trained_of(open_rows(round_, "srft"), "abc2")
    assert (left_out.in_rows, left_out.trained, left_out.is_stale(numpy.ones(1))) == (set(), set(), False)


@pytest.mark.parametrize(
    ("weights", "is_stale"),
    [((1, 0, 1, 1), False), ((1, 0, 1, 0), False), ((1, 1, 1, 1), True), ((0, 0, 1, 1), True), ((0.5, 0, 1, 1), True)],
)
def test_rows_that_are_older_than_the_labels(round_, weights, is_stale):
    """The last step is in no row, so its label makes no difference."""
    of_run = trained_of(open_rows(round_, "srft"), "abc1")
    assert of_run.is_stale(numpy.array(weights, numpy.float32)) == is_stale


def test_what_is_on_file(round_):
    assert arms_on_file(round_) == list(rows_on_file(round_)) == ["srft"]
    rows = rows_on_file(round_)["srft"]
    assert (rows.runs, rows.runs_used, rows.left_out, rows.critics) == (2, 1, {"outcome_unknown": 1}, ("judge",))
    assert rows.policy.arm == "srft"
    with pytest.raises(InputError, match=r"rows/all: no rows \(rows were made of srft\); make them: srft rows --run"):
        open_rows(round_, "all")
    assert rows_command(Round(round_.path.parent / "round-002"), "all") == (
        f"srft rows --run {round_.path.parent} --round 2 --tokenizer D --arm all"
    )
