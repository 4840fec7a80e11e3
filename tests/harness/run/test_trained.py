"""What is in an arm's rows of a run, and whether the rows are older than the labels."""

import shlex

import pytest
from typer.testing import CliRunner

from srft.env.errors import InputError
from srft.harness.cli import app
from srft.harness.run.store import Round, Run
from srft.harness.run.trained import (
    arms_on_file,
    open_rows,
    rows_command,
    rows_on_file,
    runs_on_file,
    trained_of,
)
from srft.harness.stages.rows import RowsConfig, make_rows
from srft.train.rows.mask import MaskPolicy
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
    assert (left_out.in_rows, left_out.trained) == (set(), set())


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


def made(tmp_path, run, codes, *, template=CHATML, outcome=False, **config):
    """(round, what became of the run in the rows of srft)."""
    byte_tokenizer(template).save_pretrained(tmp_path / "made")
    with Run(tmp_path / "of") as opened:
        opened.round(0).trajectories.append(run)
        opened.round(0).critiques.append(critique_of(run, codes))
        make_rows(RowsConfig(tokenizer=str(tmp_path / "made"), **config), opened.round(0))
    return opened.round(0)


def test_the_command_makes_the_same_rows_again(tmp_path):
    run = make_run(["One.", "Two."], id="abc1", recorded_resolved=False)
    policy, rows = MaskPolicy(mistake=0.25, min_confidence=0.5), RowSettings(max_tokens=1000, overlong="slide")
    round_ = made(tmp_path / "a b", run, "gm", policy=policy, rows=rows, thinking="without", critics=("judge",))
    before = open_rows(round_, "srft").manifest
    command = shlex.split(rows_command(round_, "srft"))
    assert command[:4] == ["srft", "rows", "--run", str(round_.path.parent)]
    (round_.path / "rows" / "srft" / "rows.arrow").write_bytes(b"")
    result = CliRunner().invoke(app, command[1:])
    assert result.exit_code == 0, result.output
    assert open_rows(round_, "srft").manifest == before


def test_rows_of_an_earlier_version_say_nothing_of_runs(round_):
    (round_.path / "rows" / "srft" / "runs.json").unlink()
    assert runs_on_file(round_, "srft") is None
    (round_.path / "rows" / "srft" / "runs.json").write_text("{")
    with pytest.raises(InputError, match="make the rows again"):
        runs_on_file(round_, "srft")
