"""Which weights a model folder holds.

weights_id("models/base")         # 'a 16-digit hash': equal weights and configuration give the same, whatever the path
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from srft.env.errors import InputError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model*.bin", "*.gguf")
"""Not every .bin: the Trainer's training_args.bin holds paths."""

CONFIGS = ("config.json", "adapter_config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja")

WHOLE_BYTES = 4 << 30
"""A larger file is told by its size and by samples: to read a 32B model through takes minutes."""

SAMPLES = 64
SAMPLE_BYTES = 1 << 20


def weights_id(model: str | Path) -> str:
    """A hash of the weights, configuration and tokenizer of a folder, or of a hub name. Raises InputError."""
    folder, digest = Path(model), hashlib.sha256()
    if not folder.is_dir():
        return hashlib.sha256(f"hub:{model}".encode()).hexdigest()[:16]
    weights = {path for pattern in WEIGHTS for path in folder.glob(pattern)}
    if not weights:
        raise InputError(f"{folder}: no model weights in it ({', '.join(WEIGHTS)}); expected a Hugging Face folder")
    for path in sorted(weights | {path for path in folder.iterdir() if path.name in CONFIGS}):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        for part in content_parts(path, whole_bytes=WHOLE_BYTES):
            digest.update(part)
    return digest.hexdigest()[:16]


def content_parts(path: Path, *, whole_bytes: int) -> Iterator[bytes]:
    """The file's bytes, or evenly spread samples of a larger one's."""
    size = path.stat().st_size
    stride = SAMPLE_BYTES if size <= whole_bytes else size // SAMPLES
    with path.open("rb") as file:
        for offset in range(0, size, stride):
            file.seek(offset, os.SEEK_SET)
            yield file.read(SAMPLE_BYTES)
