import json

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


def adapter(path, *, base, modules=("q", "v"), **training):
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(b"adapter")
    config = {"r": 2, "base_model_name_or_path": str(base), "target_modules": list(modules)}
    (path / "adapter_config.json").write_text(json.dumps(config))
    if training:
        (path / "training.json").write_text(json.dumps(training))
    return path


def test_an_adapter_counts_with_its_base_wherever_that_lies(tmp_path):
    base, moved, other = folder(tmp_path / "a"), folder(tmp_path / "b"), folder(tmp_path / "c", b"others")
    one = weights_id(adapter(tmp_path / "one", base=base))
    assert weights_id(adapter(tmp_path / "two", base=moved, modules=("v", "q"))) == one  # peft writes a set
    assert weights_id(adapter(tmp_path / "three", base=other)) != one
    trained = weights_id(adapter(tmp_path / "four", base="gone", fingerprint="f"))
    assert weights_id(adapter(tmp_path / "five", base=base, fingerprint="f")) == trained
    assert weights_id(adapter(tmp_path / "six", base=base, fingerprint="g")) != trained


def test_where_a_model_was_loaded_from_does_not_count(tmp_path):
    one = folder(tmp_path / "a", config=b'{"hidden_size": 8, "_name_or_path": "/here"}')
    other = folder(tmp_path / "b", config=b'{"_name_or_path": "/there", "hidden_size": 8}')
    assert weights_id(one) == weights_id(other)


def test_a_folder_that_is_not_there_is_no_name_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for missing in ("runs/demo/round-001/model/srft", "models/base", "/gone", "./base"):
        with pytest.raises(InputError, match="no such model folder"):
            weights_id(missing)
