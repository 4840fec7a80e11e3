"""Fine-tuning: rows and a recipe to a trained model.

Reads a folder of rows and a model; writes a model folder: the weights (or the adapter), the tokenizer whose template
was trained on, `training.json` (what was done, on which tasks, and every logged figure), `loss.png`, and `checkpoints/`
while it runs. The same command resumes after a stop, from the last whole checkpoint.

    trained = finetune(RowTable.open("rows/srft"), recipe, model="models/base", out=Path("model"))
    trained.figures["held_out_loss"]

Under `torchrun` every process calls it; the first one writes.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch
from loguru import logger
from torch import distributed
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainingArguments, set_seed

from srft.critic.distil import FormConfig
from srft.env.errors import InputError
from srft.env.identity import identity, key
from srft.train.fit.arguments import training_arguments
from srft.train.fit.base import load_model
from srft.train.fit.plot import plot_losses
from srft.train.fit.recipe import Recipe
from srft.train.fit.saving import save_model
from srft.train.fit.schedule import Schedule
from srft.train.fit.sequence import SequenceGroup
from srft.train.fit.slices import Slices
from srft.train.fit.trainer import MaskedTrainer
from srft.train.fit.weights import ADAPTER, WEIGHTS, weights_id
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowTable

WHOLE = "whole"
"""The file in a checkpoint's folder that says that the checkpoint was written to its end."""


BEGUN = ".begun"
"""The file in a model's folder that says which training is at work in it."""


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """training.json.

    fingerprint: a hash of rows, recipe and the base model's weights.
    model: what was trained, a folder by its whole path.
    rows: the folder of the rows.
    arm: whose rows they are.
    recipe: with which settings.
    versions: of the libraries.
    task_ids, repos: what was trained on, for the contamination guard.
    held_out_tasks: what was not.
    form: of a critic, how runs are shown to it.
    figures: what it came to; with judged held-out runs, what it did to the steps of each verdict.
    log: one entry a logged step, as the trainer gives it.
    """

    schema_version: int = 1
    fingerprint: str
    model: str
    rows: str
    arm: str
    recipe: Recipe
    versions: dict[str, str]
    task_ids: list[str]
    repos: list[str]
    held_out_tasks: list[str]
    form: FormConfig | None = None
    figures: dict[str, float | int | None]
    log: list[dict[str, float]]


def finetune(
    table: RowTable,
    recipe: Recipe,
    *,
    model: str,
    out: Path,
    judged: RowTable | None = None,
    on_log: Callable[[dict[str, Any], int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Trained | None:
    """Train, or resume, or find it done; `None` where it was stopped. Raises InputError, TrainingDiverged.

    judged: rows whose runs have verdicts, for the losses by verdict; those trained on unless given. on_log: called with
    the logged figures, the step and the number of steps. stop: when set in any process, the step under way is finished
    and a checkpoint written.
    """
    fingerprint = _fingerprint(table, recipe, model)
    _refuse_itself(model, out)
    set_seed(recipe.seed)  # before the model: adapters begin at random
    held_out = held_out_tasks(table.task_ids, share=recipe.held_out, seed=recipe.seed)
    schedule, aside = _schedules(table, recipe, held_out)
    arguments = training_arguments(recipe, out=out, steps=schedule.steps, evaluates=aside is not None)
    done, checkpoint = _found(out, arguments, fingerprint)
    if done is not None:
        return done
    trainer = make_trainer(table, recipe, schedule, aside, arguments=arguments, model=model)
    slices = Slices.of(judged or table, seed=recipe.seed, share=recipe.held_out) if held_out else None
    begun = _Begin(trainer, slices, kept=out / "checkpoints" / "before.json", sharded=recipe.fsdp)
    for callback in (begun, _Checkpoints(fingerprint), *([_Report(on_log)] if on_log else []), _Stop(stop)):
        trainer.add_callback(callback)
    arguments.eval_on_start &= checkpoint is None
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.state.global_step < schedule.steps:
        return None
    held_out_loss = trainer.evaluate()["eval_loss"] if aside is not None else None
    by_verdict = slices.figures(begun.before, slices.losses(trainer)) if slices else {}
    if by_verdict:
        trainer.log({name: value for name, value in by_verdict.items() if isinstance(value, float)})
    save_model(trainer, out, kind=recipe.weights)
    trained = Trained(
        fingerprint=fingerprint,
        model=str(Path(model).resolve()) if Path(model).is_dir() else model,
        rows=str(table.folder),
        arm=table.manifest.arm,
        recipe=recipe,
        versions={name: version(name) for name in ("torch", "transformers", "accelerate", "peft")},
        task_ids=table.manifest.task_ids,
        repos=table.manifest.repos,
        held_out_tasks=sorted(held_out),
        form=table.manifest.form,
        figures=_figures(trainer, schedule, held_out_loss) | by_verdict,
        log=trainer.state.log_history,
    )
    if trainer.is_world_process_zero():
        _write(trained, out)
    trainer.accelerator.wait_for_everyone()
    return trained


def make_trainer(
    table: RowTable,
    recipe: Recipe,
    schedule: Schedule,
    aside: Schedule | None,
    *,
    arguments: TrainingArguments,
    model: str,
) -> MaskedTrainer:
    """The model loaded, and what trains it. Raises InputError."""
    renderer = Renderer.load(table.manifest.tokenizer)
    several = schedule.packs_several or recipe.micro_batch > 1
    loaded = load_model(model, recipe, renderer, table, several=several, on_gpu=arguments.device.type == "cuda")
    loaded.forward.sequence = SequenceGroup.of(recipe.sequence_parallel)
    return MaskedTrainer(
        loaded.model,
        arguments,
        forward=loaded.forward,
        train=schedule,
        held_out=aside,
        replicas=recipe.replicas,
        processing_class=renderer.tokenizer,
    )


def _found(out: Path, arguments: TrainingArguments, fingerprint: str) -> tuple[Trained | None, str | None]:
    """What the first process finds in the folder, which it makes ready: this training done, or its last checkpoint.

    Raises InputError, in all processes, where one of them does not see the folder.
    """
    found: list[Any] = [None, None, None]
    if arguments.process_index == 0:
        try:
            done = read_trained(out)
            if done is not None and done.fingerprint == fingerprint:
                found = [done, None, None]
            else:
                make_way(out, fingerprint)
                found = [None, last_checkpoint(arguments, fingerprint), None]
        except InputError as error:
            found = [None, None, error]
    if arguments.world_size > 1:
        distributed.broadcast_object_list(found, src=0)
    done, checkpoint, refusal = found
    if refusal is not None:
        raise refusal
    if done is None and arguments.world_size > 1:
        _refuse_other_disks(out, fingerprint)
    return done, checkpoint


def _refuse_other_disks(out: Path, fingerprint: str) -> None:
    begun = out / BEGUN
    sees: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(sees, begun.exists() and begun.read_text() == fingerprint)
    if not all(sees):
        raise InputError(
            f"--out {out}: the processes {', '.join(str(rank) for rank, is_seen in enumerate(sees) if not is_seen)} do "
            "not see the folder that the first one made; name one on a disk that all machines share"
        )


def _schedules(table: RowTable, recipe: Recipe, held_out: frozenset[str]) -> tuple[Schedule, Schedule | None]:
    """What is trained on, and what gives the held-out loss, if anything."""
    trained = [place for place, task_id in enumerate(table.task_ids) if task_id not in held_out]
    aside = [place for place, task_id in enumerate(table.task_ids) if task_id in held_out]
    groups = int(os.environ.get("WORLD_SIZE", "1")) // recipe.sequence_parallel
    once = Schedule.once(table, recipe, places=aside, processes=max(1, groups)) if aside else None
    return Schedule.of(table, recipe, places=trained), once


def read_trained(folder: str | Path) -> Trained | None:
    """What a model folder says of its training; `None` where it does not. Raises InputError for one it cannot read."""
    path = Path(folder, "training.json")
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Trained)
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not a training record of this version of srft ({error}); move it away") from None


def _write(trained: Trained, out: Path) -> None:
    plot_losses(trained.log, out / "loss.png", title=f"{trained.arm}: {trained.figures['steps']} steps")
    temporary = out / ".training.json.tmp"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(trained)) + b"\n")
    temporary.replace(out / "training.json")
    (out / BEGUN).unlink(missing_ok=True)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def _fingerprint(table: RowTable, recipe: Recipe, model: str) -> str:
    """By the base model's weights, wherever they lie."""
    return key(
        "train", table.manifest.fingerprint, table.manifest.arm, identity(recipe, base=Path()), weights_id(model)
    )


def _refuse_itself(model: str, out: Path) -> None:
    """Raises InputError where a model would be written over what it is trained from."""
    if Path(model).is_dir() and out.exists() and Path(model).resolve() == out.resolve():
        raise InputError(f"--out {out}: is the model that is trained from; name another folder for the new one")


def make_way(out: Path, fingerprint: str) -> None:
    """Let a folder hold nothing but this training: an earlier model's adapter beside new weights would be served with
    them. What another training left is set aside as `.<name>.<its fingerprint>`. Raises InputError for model files
    that no training of srft's left."""
    begun = out / BEGUN
    done = read_trained(out)
    before = done.fingerprint if done else begun.read_text() if begun.exists() else _checkpointed(out)
    if before is None and out.is_dir() and (found := _model_files(out)):
        raise InputError(
            f"--out {out}: holds a model that srft did not train ({', '.join(found[:3])}); name another folder, or "
            "move it away"
        )
    if before is not None and before != fingerprint:
        aside = out.with_name(f".{out.name}.{before}")
        shutil.rmtree(aside, ignore_errors=True)  # set aside before, and trained again since
        logger.warning("{}: trained from other rows, weights or settings; set aside as {}", out, aside.name)
        out.rename(aside)
    out.mkdir(parents=True, exist_ok=True)
    begun.write_text(fingerprint)


def _checkpointed(out: Path) -> str | None:
    """The fingerprint that the checkpoints in a folder are of."""
    return next((mark.read_text() for mark in sorted(out.glob(f"checkpoints/*/{WHOLE}"))), None)


def _model_files(out: Path) -> list[str]:
    return sorted(path.name for pattern in (*WEIGHTS, ADAPTER) for path in out.glob(pattern))


def _figures(trainer: MaskedTrainer, schedule: Schedule, held_out_loss: float | None) -> dict[str, float | int | None]:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    few = max(1, len(losses) // 10)
    weights = list(trainer.accelerator.unwrap_model(trainer.model).parameters())
    return {
        "steps": trainer.state.global_step,
        "tokens": schedule.tokens(),
        "first_loss": sum(losses[:few]) / few if losses else None,
        "last_loss": sum(losses[-few:]) / few if losses else None,
        "held_out_loss": held_out_loss,
        "parameters": sum(weight.numel() for weight in weights),
        "trained_parameters": sum(weight.numel() for weight in weights if weight.requires_grad),
    }


def held_out_tasks(task_ids: Sequence[str], *, share: float, seed: int) -> frozenset[str]:
    """Tasks whose rows are kept aside, at least one where a share is asked for, and never all.

    Each task by its own name, whatever other tasks there are: arms of one run, and rounds of one loop, keep the same
    ones aside.

    >>> len(held_out_tasks(["a", "b", "a", "c"], share=0.1, seed=0))
    1
    """
    tasks = sorted(set(task_ids), key=lambda task: _place(task, seed))
    if not share or len(tasks) < 2:
        return frozenset()
    count = sum(_place(task, seed) < share for task in tasks)
    return frozenset(tasks[: min(max(count, 1), len(tasks) - 1)])


def _place(task_id: str, seed: int) -> float:
    """Evenly between 0 and 1, by name and seed."""
    return int.from_bytes(sha256(f"{seed}:{task_id}".encode()).digest()[:8]) / 2**64


def last_checkpoint(arguments: TrainingArguments, fingerprint: str) -> str | None:
    """The newest whole checkpoint of this very training. What a killed process left half-written is no checkpoint."""
    numbered: list[tuple[int, Path]] = []
    for folder in Path(arguments.output_dir or "").glob("checkpoint-*"):
        mark = folder / WHOLE
        if mark.exists() and mark.read_text() == fingerprint:
            numbered.append((int(folder.name.rpartition("-")[2]), folder))
    if not numbered:
        return None
    newest = max(numbered)[1]
    logger.info("resuming from {}", newest)
    return str(newest)


class _Begin(TrainerCallback):
    """Just before the first step: the probe, what is to be sharded is, and the losses by verdict before training.

    kept: where those are kept for a resumed training.
    """

    def __init__(self, trainer: MaskedTrainer, slices: Slices | None, *, kept: Path, sharded: bool) -> None:
        self._trainer, self._slices, self._kept, self._sharded = trainer, slices, kept, sharded
        self.before: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        is_sharded = any(isinstance(weight, DTensor) for weight in model.parameters())
        assert is_sharded == self._sharded, f"fsdp is {self._sharded}, and weights are sharded: {is_sharded}"
        self._trainer.probe()
        if self._slices is None:
            return
        if state.global_step:
            self.before = json.loads(self._kept.read_text()) if self._kept.exists() else {}
            return
        self.before = self._slices.losses(self._trainer)
        if state.is_world_process_zero:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            self._kept.write_text(json.dumps(self.before))


class _Checkpoints(TrainerCallback):
    """Marks a checkpoint when it is whole."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.world_size > 1:
            distributed.barrier()  # each process writes a part of it
        if state.is_world_process_zero:
            Path(args.output_dir, f"checkpoint-{state.global_step}", WHOLE).write_text(self._fingerprint)


class _Stop(TrainerCallback):
    """Writes a checkpoint and ends the training when a process is asked to: all of them, at the same step."""

    def __init__(self, stop: threading.Event | None) -> None:
        self._stop = stop

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        asked = self._stop is not None and self._stop.is_set()
        if args.world_size > 1:
            of_any = torch.tensor(int(asked), device=args.device)
            distributed.all_reduce(of_any, op=distributed.ReduceOp.MAX)
            asked = bool(of_any.item())
        if asked and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True


class _Report(TrainerCallback):
    """Hands logged figures on, from the first process."""

    def __init__(self, on_log: Callable[[dict[str, Any], int, int], None]) -> None:
        self._on_log = on_log

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if state.is_world_process_zero and logs:
            self._on_log(dict(logs), state.global_step, state.max_steps)
