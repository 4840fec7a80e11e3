"""The trained model on disk: whole, once, and in the type that the recipe asks for.

save_model(trainer, Path("model"), kind="bfloat16")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from srft.train.fit.trainer import MaskedTrainer


def save_model(trainer: MaskedTrainer, out: Path, *, kind: str) -> None:
    """The weights, or the adapter, with the tokenizer and with what servers stop at. Every process calls it.

    kind: of a whole model's weights; an adapter keeps the type that it was trained in.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    # Gathered from the shards where there are some; the first process alone has it then.
    state: dict[str, Tensor] = trainer.accelerator.get_state_dict(trainer.model)
    if not trainer.is_world_process_zero():
        return
    base = trainer.forward.model
    is_whole = model is base
    if is_whole:
        for name in list(state):  # one by one: two copies of a large model need not fit into this machine
            state[name] = _cast(base, name, state[name], getattr(torch, kind))
        for doubled, original in getattr(base, "all_tied_weights_keys", {}).items():
            if original in state:
                state.pop(doubled, None)
    model.save_pretrained(out, state_dict=state)
    trainer.processing_class.save_pretrained(out)  # type: ignore[union-attr]
    if is_whole:
        _name_type(out / "config.json", kind)
    # An adapter's base may stop elsewhere; whoever serves both reads this one.
    base.generation_config.save_pretrained(out)


def _cast(model: PreTrainedModel, name: str, tensor: Tensor, kind: torch.dtype) -> Tensor:
    """But for what the architecture wants in float32: routers' biases, decays of states."""
    kept = [
        *(getattr(model, "_keep_in_fp32_modules", None) or ()),
        *(getattr(model, "_keep_in_fp32_modules_strict", None) or ()),
    ]
    wide = not tensor.is_floating_point() or any(part in name for part in kept)
    return tensor if wide else tensor.to(kind)


def _name_type(path: Path, kind: str) -> None:
    """transformers writes the type of the weights in memory."""
    config = json.loads(path.read_text())
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if "dtype" in part:
            part["dtype"] = kind
    path.write_text(json.dumps(config, indent=2) + "\n")
