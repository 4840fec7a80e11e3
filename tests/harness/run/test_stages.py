import pytest

from srft.env.errors import InputError
from srft.harness.run.stages import Stages


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
