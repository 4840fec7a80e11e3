"""A model folder as a model to serve: full weights, or a LoRA adapter merged into its base.

Reads `config.json` and the weights; or `adapter_config.json` with the adapter, and the base that `training.json` (or
else the adapter's configuration) names.

    load_weights(folder, dtype=torch.bfloat16, device=device)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from srft.env.errors import InputError
from srft.harness.serve.memory import GIB, OutOfMemory, free_host_bytes, is_out_of_memory
from srft.train.fit.weights import ADAPTER, base_of


class _AdapterConfig(msgspec.Struct, frozen=True):
    r: int = 0


def check_folder(weights: str | Path) -> None:
    """Raises InputError for something that is no model folder. A name on the hub (owner/name) is left to the hub."""
    folder = Path(weights)
    if not folder.exists() and isinstance(weights, str) and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", weights):
        return
    if not (folder / "config.json").is_file() and not (folder / ADAPTER).is_file():
        raise InputError(
            f"{folder}: no model there; expected a folder with config.json and weights, or with {ADAPTER} (LoRA)"
        )


def adapter_rank(folder: str | Path) -> int | None:
    """`None` for full weights. Raises InputError."""
    config = _adapter_config(Path(folder))
    return config.r if config else None


def _adapter_config(folder: Path) -> _AdapterConfig | None:
    path = folder / ADAPTER
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=_AdapterConfig)
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not an adapter's configuration ({error}); export the adapter again") from None


def tokenizer_of(folder: str | Path) -> str | Path:
    """Where the tokenizer is: an adapter made elsewhere may have none of its own."""
    base = base_of(folder)
    return base if base is not None and not Path(folder, "tokenizer.json").is_file() else folder


def host_bytes(folder: str | Path) -> int:
    """What `load_weights` takes of the host's memory in the type that the weights are stored in: the files' size; an
    adapter's base is held in float32. 0 where the weights are not on this machine yet."""
    base = base_of(folder)
    place = Path(folder if base is None else base)
    files = {path for pattern in ("*.safetensors", "pytorch_model*.bin") for path in place.glob(pattern)}
    size = sum(path.stat().st_size for path in files)
    return size if base is None else size * 4 // _stored_width(place)


def _stored_width(folder: Path) -> int:
    """Bytes of a stored number, as config.json has its type."""
    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return 4
    return 2 if str(config.get("dtype") or config.get("torch_dtype")).endswith("16") else 4


def refuse_too_large(folder: str | Path, *, what: str, do: str) -> None:
    """Raises OutOfMemory for weights that the host's free memory does not hold: Linux would kill the process."""
    needed, free = host_bytes(folder), free_host_bytes()
    if free is not None and needed > free:
        raise OutOfMemory(
            f"{what}: needs {needed / GIB:.1f} GiB of memory, and {free / GIB:.1f} GiB are free. "
            f"{do[0].upper()}{do[1:]}."
        )


def load_weights(folder: str | Path, *, dtype: torch.dtype | None, device: torch.device) -> PreTrainedModel:
    """The model, for inference. Raises InputError.

    dtype: as stored if `None`. An adapter is merged in float32 and cast afterwards.
    """
    base = base_of(Path(folder))
    model = _load(str(folder), dtype) if base is None else _merged(base, Path(folder))
    if base is not None and dtype is not None:
        model.to(dtype)  # type: ignore[arg-type]
    model.to(device)  # type: ignore[arg-type]
    return model.eval().requires_grad_(False)


def _load(name: str, dtype: torch.dtype | None) -> PreTrainedModel:
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(name, dtype=dtype or "auto")
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be loaded as a model ({' '.join(str(error).split())[:300]})") from None
    return model


def _merged(base: str, adapter: Path) -> PreTrainedModel:
    from peft import PeftModel

    try:
        # On the CPU whatever the machine has: a server may hold its GPUs.
        model = PeftModel.from_pretrained(_load(base, torch.float32), str(adapter), torch_device="cpu")
    except (OSError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"{adapter}: cannot be put on {base} ({' '.join(str(error).split())[:300]}); expected an adapter that "
            "was trained on it"
        ) from None
    merged: PreTrainedModel = model.merge_and_unload()  # type: ignore[operator]
    return merged
