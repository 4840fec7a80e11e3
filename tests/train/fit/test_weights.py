import pytest

from srft.env import identity
from srft.env.errors import InputError
from srft.train.fit import weights
from srft.train.fit.weights import weights_id


def folder(path, content=b"weights", config=b"{}"):
    path.mkdir()
    (path / "model.safetensors").write_bytes(content)
    (path / "config.json").write_bytes(config)
    return path


def test_equal_weights_have_one_id_whatever_the_path_and_the_notes_beside_them(tmp_path):
    one, other = folder(tmp_path / "a"), folder(tmp_path / "b")
    (other / "training.json").write_text("{}")
    (other / "training_args.bin").write_bytes(b"a pickle that names the folder")
    assert weights_id(one) == weights_id(str(other))


@pytest.mark.parametrize("changed", [{"content": b"weightz"}, {"config": b"[]"}])
def test_any_other_byte_gives_another(tmp_path, changed):
    assert weights_id(folder(tmp_path / "a")) != weights_id(folder(tmp_path / "b", **changed))


def test_a_large_file_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr(identity, "SAMPLE_BYTES", 1 << 10)
    content = bytearray(4 << 20)
    one = folder(tmp_path / "a", bytes(content))
    content[3 << 20] = 1  # the first byte of a sample
    assert weights_id(one) != weights_id(folder(tmp_path / "b", bytes(content)))


def test_a_folder_without_weights_is_refused_and_a_hub_name_is_not_looked_up(tmp_path):
    with pytest.raises(InputError, match="no model weights in it"):
        weights_id(tmp_path)
    assert weights_id("owner/model") != weights_id("owner/other")
