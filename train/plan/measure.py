"""One step of a training, measured: its peak of memory beside the plan's, and its pace.

    measured = measure_step(table, recipe, model="models/base")
    measured.peak_bytes, measured.planned_bytes, measured.tokens_per_s

Takes the longest pack of the training, as often as a step has packs, through forward, backward and the optimizer,
twice: the first step makes the optimizer's states and warms up, the second is timed. Writes nothing that stays. Under
`torchrun` every process measures its own; the largest counts.
"""

from __future__ import annotations

import os
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import distributed
from transformers import TrainerCallback

from srft.train.fit.arguments import training_arguments
from srft.train.fit.finetune import make_trainer
from srft.train.fit.recipe import Recipe
from srft.train.fit.schedule import Schedule
from srft.train.fit.trainer import MaskedTrainer
from srft.train.plan.plan import plan
from srft.train.rows.rows import RowTable


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One optimizer step.

    peak_bytes: of one process: of the GPU's memory, or where there is none of the process's own beyond what it had
        before the model was loaded.
    planned_bytes: what `--plan` says of the same.
    step_s: of the second step.
    tokens, tokens_per_s: input tokens of that step, of all processes together.
    mfu: the share of the GPU's peak (`plan.gpu`, or this machine's) that was reached; `null` without a GPU.
    longest_pack: its tokens.
    attention: the implementation that ran.
    apart: whether a pack's documents went through the layers one by one.
    """

    peak_bytes: int
    planned_bytes: int
    step_s: float
    tokens: int
    tokens_per_s: float
    mfu: float | None
    longest_pack: int
    attention: str
    apart: bool


def measure_step(table: RowTable, recipe: Recipe, *, model: str) -> Measured:
    """Raises InputError as the training would."""
    recipe = msgspec.structs.replace(recipe, steps=2, held_out=0.0, save_every=None, evaluate_every=None, logger="none")
    schedule = Schedule.of(table, recipe, places=range(len(table))).longest_alone()
    gpus = int(os.environ.get("WORLD_SIZE", "1"))
    planned = plan(recipe, model=model, table=table, gpus=gpus)
    with tempfile.TemporaryDirectory(prefix="srft-measure-") as folder, _Peak() as peak:
        arguments = training_arguments(recipe, out=Path(folder), steps=2, evaluates=False)
        trainer = make_trainer(table, recipe, schedule, None, arguments=arguments, model=model)
        clock = _Clock(trainer)
        trainer.add_callback(clock)
        trainer.train()
    peak_bytes = _largest(peak.bytes)
    tokens = schedule[0].input_ids.numel() * recipe.packs_per_step
    flops_per_token = planned.flops / planned.work.tokens
    on_gpu = torch.cuda.is_available()
    return Measured(
        peak_bytes=peak_bytes,
        planned_bytes=planned.memory.peak_bytes,
        step_s=clock.second_s,
        tokens=tokens,
        tokens_per_s=tokens / clock.second_s,
        mfu=flops_per_token * tokens / clock.second_s / (gpus * planned.machine.flops_per_s) if on_gpu else None,
        longest_pack=schedule[0].input_ids.numel(),
        attention=trainer.forward.attention,
        apart=trainer.forward.apart,
    )


class _Clock(TrainerCallback):
    """Probes before the first step, as a training does, and times each step."""

    def __init__(self, trainer: MaskedTrainer) -> None:
        self._trainer = trainer
        self._begun_s = 0.0
        self.second_s = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.probe()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _wait()
        self._begun_s = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _wait()
        self.second_s = time.monotonic() - self._begun_s


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class _Peak:
    """The most memory in use while it is open: of the GPU, or of this process, looked at a hundred times a second."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ends = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Peak:
        self._before = _resident()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        else:
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated()
        else:
            self._ends.set()
            self._watch.join()

    def _look(self) -> None:
        while not self._ends.wait(0.01):
            self.bytes = max(self.bytes, _resident() - self._before)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _largest(count: int) -> int:
    if not distributed.is_initialized():
        return count
    counts: list[Any] = [0] * distributed.get_world_size()
    distributed.all_gather_object(counts, count)
    return max(counts)
