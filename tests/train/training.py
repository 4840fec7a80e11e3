"""One training of a tiny model, as a program: the tests run it in one process or, under torchrun, in several.

    python -m tests.train.training FOLDER '{"packs_per_step": 4}' [--stop-after N] [--lora]

FOLDER holds `rows/` and gets `model/`. The model is random, of a fixed seed, and as small as models get.
"""

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from srft.train.fit.finetune import finetune
from srft.train.fit.recipe import Recipe
from srft.train.rows.rows import RowTable

RECIPE: dict[str, Any] = {
    "compute": "float32",
    "pack_tokens": 256,
    "packs_per_step": 4,
    "steps": 4,
    "learning_rate": 1e-2,
    "warmup_steps": 1,
    "save_every": 1,
}


def tiny_model(folder: Path, tokenizer: Any, *, tied: bool = True) -> Path:
    """A random Llama of two layers, saved with a tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", type=json.loads)
    parser.add_argument("--stop-after", type=int)
    parser.add_argument("--model", default="model")
    options = parser.parse_args()
    recipe = msgspec.convert(RECIPE | options.recipe, Recipe)

    def on_log(_logs: Any, step: int, _steps: int) -> None:
        if step == options.stop_after:
            os.kill(os.getpid(), signal.SIGKILL)

    trained = finetune(
        RowTable.open(options.folder / "rows" / "srft"),
        recipe,
        model=str(options.folder / "base"),
        out=options.folder / options.model,
        on_log=on_log,
    )
    if trained is not None and os.environ.get("RANK", "0") == "0":
        print(json.dumps(trained.figures))


if __name__ == "__main__":
    main()
