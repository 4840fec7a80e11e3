"""A loop's figures in TensorBoard, its hooks, and what it tells while it goes on: read back from the files."""

import json

import pytest
import yaml

from srft.env.errors import InputError
from srft.harness.loop.round_log import RoundLog, check_logger
from srft.harness.run.live import read_live
from tests.harness.loop.small_loop import Loops, make_folder


def curves(folder):
    """Name -> (step, value), of all event files in a folder."""
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard; the extra tensorboard has it"
    )
    read = reading.EventAccumulator(str(folder)).Reload()
    return {name: [(one.step, one.value) for one in read.Scalars(name)] for name in read.Tags()["scalars"]}


def test_figures_are_curves_over_rounds(tmp_path):
    pytest.importorskip("tensorboard")
    log = RoundLog("tensorboard", tmp_path)
    for number, rate in enumerate((0.25, 0.5)):
        log.stage(
            "evaluate.srft", number, {"rate": rate, "interval": [0.0, 0.75], "decision": "promoted", "by": {"a": 1}}
        )
    log.close()
    found = curves(tmp_path / "tensorboard" / "rounds")
    assert found == {
        "evaluate.srft/rate": [(0, 0.25), (1, 0.5)],
        "evaluate.srft/interval/0": [(0, 0.0), (1, 0.0)],
        "evaluate.srft/interval/1": [(0, 0.75), (1, 0.75)],
        "evaluate.srft/by/a": [(0, 1.0), (1, 1.0)],
    }


@pytest.mark.slow
def test_a_loop_logs_its_stages_and_losses_and_tells_its_hooks(tmp_path):
    pytest.importorskip("tensorboard")
    folder = make_folder(tmp_path / "small")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "logger": "tensorboard"}))
    sets = ("rounds=1", "arms=[srft]", f"hooks.command=cat >>{folder}/told.jsonl; echo >>{folder}/told.jsonl")
    with Loops() as loops:
        assert loops(folder, folder / "run", *sets) == {"code": 0, "error": ""}
    rounds = curves(folder / "run" / "tensorboard" / "rounds")
    assert [step for step, _ in rounds["collect/episodes"]] == [1]
    assert [step for step, _ in rounds["evaluate.base/rate"]] == [0]
    losses = curves(folder / "run" / "round-001" / "model" / "srft" / "tensorboard")
    assert [step for step, _ in losses["train/loss"]] == [1, 2]
    told = [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]
    assert [(one["event"], one["round"], one["stage"]) for one in told] == [
        ("stage", "round-000", "serve.base"),
        ("stage", "round-000", "evaluate.base"),
        *(("stage", "round-001", name) for name in ("collect", "critique", "rows.srft", "train.srft")),
        *(("stage", "round-001", name) for name in ("serve.srft", "evaluate.srft", "promote")),
        ("finished", "", ""),
    ]
    assert told[1]["figures"]["tasks"] == 2
    assert (read_live(folder / "run").state, read_live(folder / "run").live.last) == ("finished", "loop")


@pytest.mark.slow
def test_a_loop_that_fails_tells_why(tmp_path):
    folder = make_folder(tmp_path / "small")
    with Loops() as loops:
        failed = loops(folder, folder / "run", f"hooks.command=cat >{folder}/told.json", grader_fails=True)
    assert failed["code"] != 0
    told = json.loads((folder / "told.json").read_text())
    assert (told["event"], "could not be graded" in told["reason"]) == ("failure", True)
    assert "could not be graded" in read_live(folder / "run").live.reason


def test_a_logger_that_is_not_installed_is_refused_and_one_that_fails_stops_nothing(tmp_path, capsys):
    check_logger("none")
    with pytest.raises(InputError, match="logger: no_such_logger is not installed"):
        check_logger("no_such_logger")
    RoundLog("no_such_logger", tmp_path).stage("collect", 1, {"episodes": 2})
