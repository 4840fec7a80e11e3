"""What only a GPU can tell of training, in at most 8 minutes: one JSON object a line.

    python -m tests.gpu.measure                 # on a machine with one GPU of 80 GB or more
    python -m tests.gpu.measure --tiny          # tiny sizes, on any machine: that the script itself runs
    python -m tests.gpu.measure --only equality --only flash

equality: a tiny model's loss and gradients here and on the CPU, in float32.
flash: each flash-attention that is installed against documents, loss and gradients, in bfloat16.
full: two steps of a 0.6B at 16,384 tokens, all weights: tokens a second, MFU, peak beside the plan.
adapters: the same of a 7B with adapters at 16,384 tokens.

Models are random, of the published sizes, and made where they run: nothing is loaded from anywhere.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import AutoConfig

from srft.train.fit import base
from srft.train.fit.attention import _FLASH, DOCUMENTS
from srft.train.fit.base import model_class
from srft.train.fit.loss import install_loss
from srft.train.fit.pack import flatten
from srft.train.fit.recipe import Recipe
from srft.train.plan.measure import measure_step
from srft.train.rows.mask import MaskPolicy, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RowTable, RunToRender, write_rows
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, make_run
from tests.train.fit.test_loss import row_of
from tests.train.fit.tiny_models import tiny_config

LIMIT_S = 480
SIZES: dict[str, dict[str, Any]] = {
    "full": {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "tie_word_embeddings": True, "max_position_embeddings": 40960,
    },
    "adapters": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
        "max_position_embeddings": 32768,
    },
}  # fmt: skip
RECIPES: dict[str, dict[str, Any]] = {
    "full": {"gradient_checkpointing": True},
    "adapters": {"gradient_checkpointing": True, "weights": "bfloat16", "lora": {"rank": 32, "alpha": 64}},
}
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 1024}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def equality(_tiny: bool) -> dict[str, Any]:
    """The largest differences, relative to the largest value, for an architecture of each kind of attention."""
    found = {}
    for kind in ("qwen3", "gpt_oss", "qwen3_moe"):
        config = tiny_config(kind)
        torch.manual_seed(0)
        model = model_class(config).from_config(config).eval()
        install_loss(model, attention=DOCUMENTS)
        results = []
        for place in (torch.device("cpu"), device()):
            model.to(place).zero_grad()
            batch = flatten([row_of(9, seed=1), row_of(30, seed=2)])
            moved = {
                name: value.to(place) for name, value in batch._asdict().items() if isinstance(value, torch.Tensor)
            }
            loss = model(batch=batch._replace(**moved))
            loss.backward()
            grads = [weight.grad.cpu().clone() for weight in model.parameters() if weight.grad is not None]
            results.append([loss.detach().cpu(), *grads])
        differences = [
            float((a - b).abs().max() / a.abs().max().clamp_min(1e-12)) for a, b in zip(*results, strict=True)
        ]
        found[kind] = {"loss": differences[0], "gradients": max(differences[1:])}
    return {"largest": found, "holds": all(one["loss"] < 1e-5 and one["gradients"] < 1e-3 for one in found.values())}


def flash(tiny: bool) -> dict[str, Any]:
    """Relative difference of the loss in a pack of three documents, and the seconds of a step of each."""
    config = AutoConfig.for_model(**(SIZES["full"] | {"num_hidden_layers": 2} | (TINY | HEADS if tiny else {})))
    lengths = (9, 30, 17) if tiny else (1000, 6000, 9000)
    rows = [row_of(length, seed=length) for length in lengths]
    found: dict[str, Any] = {}
    for name in (DOCUMENTS, *(name for name, is_there in _FLASH.items() if is_there())):
        torch.manual_seed(0)
        model = model_class(config).from_config(config, dtype=torch.float32).to(device())
        install_loss(model, attention=name)
        batch = flatten(rows)
        moved = {n: value.to(device()) for n, value in batch._asdict().items() if isinstance(value, torch.Tensor)}
        with torch.autocast(device().type, torch.bfloat16):
            for _ in range(2):
                begun_s = time.monotonic()
                loss = model(batch=batch._replace(**moved))
                loss.backward()
                value = float(loss.detach())
        found[name] = {"loss": value, "step_s": time.monotonic() - begun_s}
    ours = found[DOCUMENTS]["loss"]
    return {"attention": found, "holds": all(abs(one["loss"] - ours) < 1e-2 * ours for one in found.values())}


def step(name: str, tiny: bool) -> dict[str, Any]:
    """Two steps, measured."""
    dims = SIZES[name] | (TINY | HEADS if tiny else {})
    tokens = 256 if tiny else 16384
    with tempfile.TemporaryDirectory(prefix="srft-gpu-") as folder, _random_weights():
        table = _rows(Path(folder), dims, tokens=tokens)
        kinds = {"pack_tokens": tokens, "packs_per_step": 1, "compute": "bfloat16", "warmup_steps": 0}
        recipe = msgspec.convert(kinds | RECIPES[name], Recipe)
        measured = measure_step(table, recipe, model=str(Path(folder, "base")))
    return msgspec.to_builtins(measured) | {"planned_share": measured.peak_bytes / measured.planned_bytes}


def _rows(folder: Path, dims: dict[str, Any], *, tokens: int) -> RowTable:
    """Rows that fill packs, a third of their tokens trained."""
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.save_pretrained(folder / "base")
    AutoConfig.for_model(**dims).save_pretrained(folder / "base")
    runs = []
    for number in range(4):
        text = "".join(chr(97 + (number + place * 7) % 26) for place in range(tokens // 16))
        run = make_run([text] * 4, [text * 2] * 3, id=f"run-{number}", task_id=f"a__b-{number}")
        runs.append(RunToRender(run, {"all": RunFacts(run.id, 4, True, {})}))
    settings = RowSettings(max_tokens=tokens)
    renderer = Renderer.load(folder / "base")
    write_rows(folder / "rows", runs, renderer, {"all": MaskPolicy(arm="all")}, settings, fingerprints={"all": "f"})
    return RowTable.open(folder / "rows" / "all")


@contextmanager
def _random_weights() -> Iterator[None]:
    """Models are made on the device, in place of weights from a folder that somebody would have to write first."""

    class Random:
        def __init__(self, family: Any) -> None:
            self._family = family

        def from_pretrained(self, name: str, **options: Any) -> Any:
            with device():
                return self._family.from_config(AutoConfig.from_pretrained(name), **options)

    before = base.model_class
    base.model_class = lambda config: Random(before(config))
    try:
        yield
    finally:
        base.model_class = before


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "equality": equality,
    "flash": flash,
    "full": lambda tiny: step("full", tiny),
    "adapters": lambda tiny: step("adapters", tiny),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", action="append", choices=list(PARTS))
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error("there is no GPU here; --tiny runs on any machine")
    begun_s, holds = time.monotonic(), True
    for name in options.only or PARTS:
        if time.monotonic() - begun_s > LIMIT_S - 120:
            print(json.dumps({"part": name, "left_out": "no time left"}), flush=True)
            continue
        torch.manual_seed(0)
        found = PARTS[name](options.tiny)
        holds &= found.get("holds", True)
        print(json.dumps({"part": name, "device": str(device()), **found}), flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
