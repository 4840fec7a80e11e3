"""The weights in a model folder: their identity, their base, how they are read.

weights_id("models/base")         # 'a 16-digit hash': equal weights and configuration give the same, whatever the path

Of an adapter it is both: the adapter's own weights, and what says which base they were trained on.
"""

import functools
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from srft.env.errors import InputError
from srft.env.identity import content_parts

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model*.bin", "*.gguf")
"""Not every .bin: the Trainer's training_args.bin holds paths."""

ADAPTER = "adapter_config.json"
CONFIGS = ("config.json", ADAPTER, "generation_config.json", "tokenizer_config.json", "tokenizer.json")
TEXTS = ("chat_template.jinja",)

PATHS = frozenset(("_name_or_path", "name_or_path", "base_model_name_or_path", "parent_library"))
"""Keys of these files that say where something lies, not what it is."""

WHOLE_BYTES = 4 << 30
"""A larger file is identified by its size and by samples: reading a 32B model through takes minutes."""


def is_hub_name(model: str | Path) -> bool:
    """Whether this is a model's name on the hub (owner/name) and not a folder that is missing here: a path that goes
    on from a folder of this machine is a path."""
    if not isinstance(model, str) or Path(model).exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model):
        return False
    return not Path(model).parent.is_dir()


def weights_id(model: str | Path) -> str:
    """A hash of the weights, configuration and tokenizer of a folder; of a hub name, which is not looked up, a hash of
    the name. Raises InputError for a folder that is not there or holds no weights."""
    folder, digest = Path(model), hashlib.sha256()
    if is_hub_name(model):
        return hashlib.sha256(f"hub:{model}".encode()).hexdigest()[:16]
    if not folder.is_dir():
        raise InputError(
            f"{model}: no such model folder (looked for from {Path.cwd()}); expected a Hugging Face folder, or a name "
            "on the hub (owner/name)"
        )
    weights = {path for pattern in WEIGHTS for path in folder.glob(pattern)}
    if not weights:
        raise InputError(f"{folder}: no model weights in it ({', '.join(WEIGHTS)}); expected a Hugging Face folder")
    for path in sorted(weights | {path for path in folder.iterdir() if path.name in CONFIGS + TEXTS}):
        digest.update(_content_of(path))
    if (config := _json(folder / ADAPTER)) is not None:
        digest.update(_base_of(config, folder).encode())
    return digest.hexdigest()[:16]


def _base_of(adapter: dict[str, Any], folder: Path) -> str:
    """The identity of an adapter's base: its training's fingerprint, which has the base's weights in it and no path;
    of an adapter made elsewhere the base's weights."""
    trained = _json(folder / "training.json") or {}
    if fingerprint := trained.get("fingerprint"):
        return str(fingerprint)
    base = adapter.get("base_model_name_or_path")
    return weights_id(str(base)) if base else ""


def base_of(folder: str | Path) -> str | None:
    """The whole model below an adapter, also below one that was trained on from another adapter; `None` for whole
    weights. Raises InputError."""
    path = Path(folder, ADAPTER)
    if not path.is_file():
        return None
    config = _json(path)
    if config is None:
        raise InputError(f"{path}: not an adapter's configuration; export the adapter again")
    trained = _json(Path(folder, "training.json")) or {}
    if (first := trained.get("model")) and (Path(first).is_dir() or is_hub_name(first)):
        return base_of(first) or str(first)
    base = config.get("base_model_name_or_path") or trained.get("model")
    if not base:
        raise InputError(f"{path}: does not say what it was trained on; set base_model_name_or_path")
    return str(base)


def _content_of(path: Path) -> bytes:
    """What of a file counts. Raises InputError."""
    if path.name in CONFIGS and path.name != "tokenizer.json" and (config := _json(path)) is not None:
        known = {name: value for name, value in config.items() if name not in PATHS}
        return path.name.encode() + b"\0" + msgspec.json.encode(_ordered(known), order="sorted")
    try:
        state = path.stat()
        hashed = _hash_of(path, state.st_ino, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from None
    return f"{path.name}\0{state.st_size}\0{hashed}".encode()


@functools.lru_cache(maxsize=1000)
def _hash_of(path: Path, inode: int, size: int, modified_ns: int) -> str:
    """Of a file's bytes; every stage of a loop asks for the same few gigabytes again."""
    digest = hashlib.sha256()
    for part in content_parts(path, whole_bytes=WHOLE_BYTES):
        digest.update(part)
    return digest.hexdigest()


def _json(path: Path) -> dict[str, Any] | None:
    """A configuration; `None` where there is none, or it is no JSON object."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    return content if isinstance(content, dict) else None


def _ordered(config: dict[str, Any]) -> dict[str, Any]:
    """peft writes the names of an adapter's modules as a set, in any order."""
    modules = config.get("target_modules")
    return {**config, "target_modules": sorted(modules)} if isinstance(modules, list) else config
