import json

import pytest
from typer.testing import CliRunner

from srft.env.errors import InputError
from srft.harness.cli import app
from srft.harness.run.stages import Stages, aside_path, joint_key, remove, set_aside_below


def test_a_stage_is_done_for_the_inputs_it_was_finished_from(tmp_path):
    stages = Stages.read(tmp_path)
    assert not stages.done("collect", "k1")
    stages.begin("collect", "k1")
    assert not Stages.read(tmp_path).done("collect", "k1")
    stages.finish("collect", "k1", wall_s=1.23456, figures={"episodes": 3})
    again = Stages.read(tmp_path)
    assert again.done("collect", "k1")
    assert not again.done("collect", "k2")
    assert (again["collect"].wall_s, again["collect"].figures) == (1.235, {"episodes": 3})


def test_what_was_begun_from_other_inputs_is_known(tmp_path):
    stages = Stages.read(tmp_path)
    assert stages.others("train.srft", "k1") is None
    stages.begin("train.srft", "k1")
    assert Stages.read(tmp_path).others("train.srft", "k1") is None
    assert Stages.read(tmp_path).others("train.srft", "k2") == "k1"
    stages.finish("train.srft", "k1", wall_s=0.0, figures={})
    assert Stages.read(tmp_path).others("train.srft", "k2") == "k1"
    stages.begin("train.srft", "k2")
    assert not Stages.read(tmp_path).done("train.srft", "k1")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "stages.json").write_text('{"stages": {"collect": {}}}')
    with pytest.raises(InputError, match=r"stages\.json: not a stages file of this version .*move it away"):
        Stages.read(tmp_path)


def made(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(content)
    return folder


def test_what_was_made_from_other_inputs_is_set_aside_and_brought_back(tmp_path):
    stages, model = Stages.read(tmp_path), tmp_path / "model" / "srft"
    stages.begin("train.srft", "a" * 16)
    made(model, "a")
    stages.finish("train.srft", "a" * 16, wall_s=1.0, figures={"steps": 1})
    stages.retire("train.srft", [model])
    assert ("train.srft" in stages, model.exists()) == (False, False)
    assert not stages.restore("train.srft", "b" * 16, [model])
    stages.begin("train.srft", "b" * 16)
    made(model, "b")
    stages.finish("train.srft", "b" * 16, wall_s=1.0, figures={"steps": 2})
    stages = Stages.read(tmp_path)
    stages.retire("train.srft", [model])
    assert stages.restore("train.srft", "a" * 16, [model])
    assert ((model / "file").read_text(), stages["train.srft"].figures) == ("a", {"steps": 1})
    assert Stages.read(tmp_path).done("train.srft", "a" * 16)


def test_what_was_not_finished_is_brought_back_as_such(tmp_path):
    stages, model = Stages.read(tmp_path), tmp_path / "srft"
    stages.begin("train.srft", "a" * 16)
    made(model, "half")
    stages.retire("train.srft", [model])
    stages.begin("train.srft", "b" * 16)
    stages.retire("train.srft", [model])
    assert not stages.restore("train.srft", "a" * 16, [model])
    assert (model / "file").read_text() == "half"
    assert Stages.read(tmp_path).others("train.srft", "a" * 16) is None


def test_what_is_made_anew_is_not_what_was_set_aside_of_it_before(tmp_path):
    stages, model = Stages.read(tmp_path), made(tmp_path / "srft", "a")
    stages.finish("train.srft", "a" * 16, wall_s=1.0, figures={})
    stages.retire("train.srft", [model])
    remove(aside_path(model, "a" * 16))  # srft clean --run
    assert not stages.restore("train.srft", "a" * 16, [model])
    stages.begin("train.srft", "a" * 16)
    made(model, "half")
    assert not Stages.read(tmp_path).restore("train.srft", "a" * 16, [model])


def test_more_of_the_same_goes_on(tmp_path):
    stages = Stages.read(tmp_path)
    few, many, other = joint_key("a" * 16, "1"), joint_key("a" * 16, "2"), joint_key("b" * 16, "2")
    stages.finish("collect", few, wall_s=1.0, figures={})
    assert not stages.done("collect", many)
    assert (stages.others("collect", many), stages.others("collect", other)) == (None, few)


def test_what_is_set_aside_in_a_run_says_what_it_holds(tmp_path):
    round_ = tmp_path / "round-001"
    made(round_ / "model" / f".srft.{'a' * 16}", "x")
    trained = {"arm": "srft", "model": "models/base"}
    (round_ / "model" / f".srft.{'a' * 16}" / "training.json").write_text(json.dumps(trained))
    made(round_ / "evaluation" / f".srft.{'b' * 16}", "x")
    (round_ / "evaluation" / f".srft.{'b' * 16}" / "trajectories.jsonl").write_text("{}\n{}\n")
    (round_ / f".trajectories.jsonl.{'c' * 16}").write_text("{}\n")
    made(round_ / "model" / "srft", "x")
    assert [(str(it.path.relative_to(round_)), it.of.name, it.what) for it in set_aside_below(tmp_path)] == [
        (f".trajectories.jsonl.{'c' * 16}", "trajectories.jsonl", "1 runs"),
        (f"model/.srft.{'a' * 16}", "srft", "a model, trained on the arm srft from models/base"),
        (f"evaluation/.srft.{'b' * 16}", "srft", "an evaluation of 2 runs"),
    ]


def test_clean_removes_what_is_set_aside_in_a_run(tmp_path):
    aside = made(tmp_path / "round-001" / "model" / f".srft.{'a' * 16}", "x")
    there = made(tmp_path / "round-001" / "model" / "srft", "x")
    dry = CliRunner().invoke(app, ["clean", "--run", str(tmp_path), "--dry-run", "--json"])
    assert json.loads(dry.stdout) == {
        "set_aside": [{"path": str(aside), "of": str(there), "bytes": 1, "what": "a training that was not finished"}]
    }
    assert aside.exists()
    done = CliRunner().invoke(app, ["clean", "--run", str(tmp_path)])
    assert "1 removed, 0.00 GiB" in done.stdout
    assert (aside.exists(), there.exists()) == (False, True)
