"""One training of a tiny model, as a program: the tests run it in one process or, under torchrun, in several.

    python -m tests.train.training FOLDER '{"packs_per_step": 4}' [--stop-after N] [--term-after N] [--base NAME]

FOLDER holds `rows/` and gets `model/`. The model is random, of a fixed seed, and as small as models get. Prints what
each process found out on its way, a JSON object a line, to stderr.
"""

import argparse
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

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


def tiny_model(folder: Path, tokenizer: Any, *, tied: bool = True, **changes: Any) -> Path:
    """A random Llama of two layers, saved with a tokenizer. changes: of its configuration."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": tied,
        "eos_token_id": 0,
    }
    config = LlamaConfig(**(sizes | changes))
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Watch:
    """What a process sees of its own training."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.files_read = 0
        self.whole_gradients = 0
        self.mesh: list[int] = []

    def install(self) -> None:
        """Look at files of weights as they are read, and at gradients after each micro-batch."""
        from srft.train.fit.trainer import MaskedTrainer

        load, step = PreTrainedModel._load_pretrained_model, MaskedTrainer.training_step

        def load_and_look(*args: Any, **options: Any) -> Any:
            self.files_read += 1
            return load(*args, **options)

        def step_and_look(trainer: Any, model: Any, *args: Any, **options: Any) -> Any:
            loss = step(trainer, model, *args, **options)
            self.mesh = next((list(it.device_mesh.shape) for it in model.parameters() if isinstance(it, DTensor)), [])
            for part in model.modules():
                if isinstance(part, FSDPModule):
                    group = part._get_fsdp_state()._fsdp_param_group
                    held = [] if group is None else [p.unsharded_accumulated_grad for p in group.fsdp_params]
                    self.whole_gradients += sum(grad.numel() for grad in held if grad is not None)
            return loss

        PreTrainedModel._load_pretrained_model = staticmethod(load_and_look)
        MaskedTrainer.training_step = step_and_look

    def tell(self) -> None:
        """One line, whole, as the processes share the stream."""
        told = vars(self)
        os.write(2, (json.dumps(told) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", type=json.loads)
    parser.add_argument("--stop-after", type=int)
    parser.add_argument("--term-after", type=int)
    parser.add_argument("--model", default="model")
    parser.add_argument("--base", default="base")
    options = parser.parse_args()
    recipe = msgspec.convert(RECIPE | options.recipe, Recipe)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def on_log(_logs: Any, step: int, _steps: int) -> None:
        if step == options.stop_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == options.term_after:
            os.kill(os.getppid(), signal.SIGTERM)  # torchrun, which hands it on
            stop.wait(60)

    watch = Watch()
    watch.install()
    trained = finetune(
        RowTable.open(options.folder / "rows" / "srft"),
        recipe,
        model=str(options.folder / options.base),
        out=options.folder / options.model,
        on_log=on_log,
        stop=stop,
    )
    watch.tell()
    if trained is None:
        os.write(2, b"stopped\n")
    elif watch.rank == 0:
        print(json.dumps(trained.figures))


if __name__ == "__main__":
    main()
