"""`srft export`: a run to another trainer's file, whole or not at all, with every run accounted for."""

import json

import pyarrow.parquet
import pytest
import typer
from datasets import load_from_disk
from typer.testing import CliRunner

from srft.env.errors import InputError
from srft.harness.commands.export import export as export_command
from srft.harness.run.store import Run
from srft.harness.stages.export import ExportConfig, export
from srft.harness.stages.rows import RowsConfig, make_rows
from srft.train.rows.mask import MaskPolicy
from tests.harness.look.test_show import ACT, critique
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, make_run


@pytest.fixture
def path(tmp_path):
    """A failed run with a mistake, a resolved one, one without an outcome, one without labels."""
    failed = make_run([ACT, "Wrong.\u2028", "Done."], id="failed", recorded_resolved=False)
    solved = make_run([ACT, "Done."], id="solved", attempt=1, recorded_resolved=True)
    unknown = make_run([ACT], id="unknown", attempt=2)
    unlabelled = make_run([ACT], id="unlabelled", attempt=3, recorded_resolved=False)
    with Run(tmp_path / "run") as run:
        for trajectory in (failed, solved, unknown, unlabelled):
            run.round(0).trajectories.append(trajectory)
        run.round(0).critiques.append(critique(failed, "judge", ["good", "mistake", "recover"]))
    return tmp_path / "run"


@pytest.fixture
def exported(path, tmp_path):
    def exported(format, out, **changes):
        with Run(path) as run:
            return export(ExportConfig(format=format, out=str(tmp_path / out), **changes), run.round(0))

    return exported


def lines(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_messages(exported, tmp_path):
    made = exported("axolotl", "data.jsonl")
    failed, solved = lines(tmp_path / "data.jsonl")
    assert [message["train"] for message in failed["messages"]] == [False, False, True, False, False, False, True]
    assert failed["messages"][4]["content"] == "Wrong.\u2028"
    assert [message["train"] for message in solved["messages"]] == [False, False, True, False, True]
    assert made.counts == {
        "runs": 4, "runs_written": 2, "messages": 12, "trained": 4, "masked": 1, "cut": 0, "rounded": 0, "cut_off": 0
    }  # fmt: skip
    assert made.left_out == {"outcome_unknown": 1, "unlabelled": 1}
    assert f"- path: {tmp_path / 'data.jsonl'}" in made.settings


def test_arms_and_critics_are_those_of_rows(exported, tmp_path, path):
    assert exported("slime", "all.jsonl", arm="all").counts["runs_written"] == 4
    assert exported("slime", "resolved.jsonl", arm="resolved").counts["runs_written"] == 1
    with pytest.raises(InputError, match="no labels by nobody"):
        exported("slime", "a.jsonl", critics=("nobody",))
    assert not (tmp_path / "a.jsonl").exists()


def test_weights_between_need_a_format_that_knows_them(exported, tmp_path):
    (tmp_path / "data.jsonl").write_text("before")
    policy = MaskPolicy(recover=0.5)
    with pytest.raises(InputError, match=r"run failed: messages\[6\] has the weight 0\.5, and slime knows trained or"):
        exported("slime", "data.jsonl", policy=policy)
    assert (tmp_path / "data.jsonl").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl", "run"]
    assert exported("slime", "data.jsonl", policy=policy, binary=True).counts["rounded"] == 1
    exported("llama-factory", "data.jsonl", policy=policy)
    assert [message["loss_weight"] for message in lines(tmp_path / "data.jsonl")[0]["messages"]] == [
        0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.5
    ]  # fmt: skip
    assert "--is_binary_loss_scale false" in exported("ms-swift", "data.jsonl", policy=policy).settings


def test_no_empty_file_is_written(exported, tmp_path, path):
    with Run(path) as run:
        run.round(1).trajectories.append(make_run([ACT], id="unknown"))
        with pytest.raises(InputError, match=r"not written, as no run is left \(outcome_unknown: 1\)"):
            export(ExportConfig(format="slime", out=str(tmp_path / "a.jsonl"), arm="resolved"), run.round(1))
    assert not (tmp_path / "a.jsonl").exists()


def test_a_mask_within_a_message_is_refused(exported):
    with pytest.raises(InputError, match=r"policy\.train: 'action' masks within a message"):
        exported("axolotl", "a.jsonl", policy=MaskPolicy(train="action"))


@pytest.mark.parametrize(
    ("format", "out", "message"),
    [
        ("axolotl", "a.json", r"expected a file that ends in \.jsonl for the format axolotl"),
        ("trl", "a.txt", r"\.parquet or \.jsonl"),
        ("hf", "run", "is there and is no dataset"),
        ("trl", "a.parquet", r"no rows; make them: srft rows --run .*/run --tokenizer D --arm srft$"),
    ],
)
def test_what_cannot_be_written(exported, format, out, message):
    with pytest.raises(InputError, match=message):
        exported(format, out)


def test_token_rows(exported, tmp_path, path):
    byte_tokenizer(CHATML).save_pretrained(tmp_path / "tokenizer")
    with Run(path) as run:
        rows = make_rows(RowsConfig(tokenizer=str(tmp_path / "tokenizer")), run.round(0))["srft"].manifest
    made = exported("trl", "rows.parquet")
    assert (made.counts["rows"], made.counts["trained"]) == (2, rows.trained_tokens)
    assert made.left_out == {"outcome_unknown": 1, "unlabelled": 1}
    assert "completion_only_loss=True, max_length=None" in made.settings
    for _ in range(2):  # the same command again writes the same folder
        assert exported("hf", "rows-hf").counts["trained"] == rows.trained_tokens
    assert load_from_disk(str(tmp_path / "rows-hf"))["run_id"] == ["failed", "solved"]
    with pytest.raises(InputError, match="give it --critic and the policy"):
        exported("hf", "rows-hf", critics=("judge",))


def test_the_command(path, tmp_path):
    app = typer.Typer()
    app.command()(export_command)
    arguments = ["--run", path, "--format", "swe-lego", "--out", tmp_path / "o.jsonl"]
    printed = CliRunner().invoke(app, [*map(str, arguments)]).stdout
    assert "left out: outcome unknown" in printed
    assert "turn_mask: true" in printed
    made = json.loads(CliRunner().invoke(app, [*map(str, arguments), "--json"]).stdout)
    assert (made["counts"]["trained"], made["counts"]["masked"]) == (4, 1)
    assert [message.get("turn_mask") for message in lines(tmp_path / "o.jsonl")[0]["messages"]] == [
        None, None, False, None, True, None, False
    ]  # fmt: skip


def test_verl_gets_parquet_and_needs_to_know(exported, tmp_path):
    made = exported("verl", "data.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "data.parquet").to_pylist()
    assert [[message["loss_mask"] for message in row["messages"]] for row in rows] == [
        [0, 0, 1, 0, 0, 0, 1],
        [0, 0, 1, 0, 1],
    ]
    assert (made.counts["trained"], made.counts["masked"], made.counts["runs_written"]) == (4, 1, 2)
    assert "data.custom_cls.name=Masked" in made.settings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.parquet", "run"]
    with pytest.raises(InputError, match=r"messages\[6\] has the weight 0\.5, and verl knows trained or"):
        exported("verl", "data.parquet", policy=MaskPolicy(recover=0.5))
    assert len(pyarrow.parquet.read_table(tmp_path / "data.parquet")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.parquet", "run"]


def test_nemo_counts_its_rows_and_no_line_ends_within_a_text(exported, tmp_path):
    made = exported("nemo", "data.jsonl")
    assert (made.counts["rows"], made.counts["trained"]) == (4, 4)
    text = (tmp_path / "data.jsonl").read_text()
    read = [json.loads(line) for line in text.splitlines()]  # as NeMo Automodel reads it
    assert [len(row["messages"]) for row in read] == [3, 7, 3, 5]
    assert read[1]["messages"][4]["content"] == "Wrong.\u2028"


def test_prime_rl_counts_what_it_cannot_say(exported, tmp_path):
    made = exported("prime-rl", "data.jsonl")
    assert [len(line["messages"]) for line in lines(tmp_path / "data.jsonl")] == [3, 5]
    assert (made.counts["trained"], made.counts["masked"], made.counts["lost"], made.counts["cut"]) == (3, 0, 1, 4)
    assert f'name = "{tmp_path}"' in made.settings


def test_atif_as_lines_and_as_a_folder(exported, tmp_path):
    made = exported("atif", "data.jsonl", policy=MaskPolicy(recover=0.5))
    failed, solved = lines(tmp_path / "data.jsonl")
    weights = [step["extra"]["loss_weight"] for step in failed["steps"] if step["source"] == "agent"]
    assert (weights, made.counts["cut"]) == ([1.0, 0.0, 0.5], 0)
    exported("atif", "folder", policy=MaskPolicy(recover=0.5))
    documents = {path.name: json.loads(path.read_text()) for path in (tmp_path / "folder").iterdir()}
    assert documents == {"failed.json": failed, "solved.json": solved}
    with pytest.raises(InputError, match=r"ends in \.jsonl, or a new folder for the format atif"):
        exported("atif", "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl", "folder", "run"]
