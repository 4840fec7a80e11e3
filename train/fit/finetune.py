"""Fine-tuning: rows and a recipe to a trained model.

Reads a folder of rows and a model; writes a model folder: the weights (or the adapter), the tokenizer whose template
was trained on, `training.json` (what was done, on which tasks, and every logged figure), `loss.png`, and `checkpoints/`
while it goes on. The same command goes on after a stop, from the last whole checkpoint.

    trained = finetune(RowTable.open("rows/srft"), recipe, model="models/base", out=Path("model"))
    trained.figures["held_out_loss"]

Under `torchrun` every process calls it; the first one writes.
"""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy
import torch
from loguru import logger
from torch.distributed.tensor import DTensor
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from srft.critic.distil import FormConfig
from srft.env.errors import InputError
from srft.env.identity import identity, key
from srft.train.fit.attention import choose_attention, refuse_other_layers
from srft.train.fit.loss import install_loss
from srft.train.fit.plot import plot_losses
from srft.train.fit.recipe import Lora, Recipe
from srft.train.fit.schedule import Schedule
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

    fingerprint: a hash of rows, recipe and the base model's weights. task_ids, repos: what was trained on, for the
    contamination guard. form: of a critic, how runs are shown to it. log: one entry a logged step, as the trainer gives
    it. figures: what it came to.
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
    on_log: Callable[[dict[str, Any], int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Trained | None:
    """Train, or go on, or find it done; `None` where it was stopped. Raises InputError, TrainingDiverged.

    on_log: called with the logged figures, the step and the number of steps. stop: when set, the step under way is
    finished and a checkpoint written; not under torchrun, whose processes would stop at different steps.
    """
    fingerprint = _fingerprint(table, recipe, model)
    _refuse_itself(model, out)
    if (done := read_trained(out)) is not None and done.fingerprint == fingerprint:
        return done
    set_seed(recipe.seed)  # before the model: adapters begin at random
    held_out = held_out_tasks(table.task_ids, share=recipe.held_out, seed=recipe.seed)
    schedule, aside = _schedules(table, recipe, held_out)
    arguments = training_arguments(recipe, out=out, steps=schedule.steps, evaluates=aside is not None)
    renderer = Renderer.load(table.manifest.tokenizer)
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            make_way(out, fingerprint)
    trainer = MaskedTrainer(
        load_model(model, recipe, renderer, table, on_gpu=arguments.device.type == "cuda"),
        arguments,
        train=schedule,
        held_out=aside,
        processing_class=renderer.tokenizer,
        callbacks=[
            _Checkpoints(fingerprint, sharded=recipe.fsdp),
            *([_Report(on_log)] if on_log else []),
            *([_Stop(stop)] if stop else []),
        ],
    )
    checkpoint = last_checkpoint(arguments, fingerprint)
    arguments.eval_on_start &= checkpoint is None
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.state.global_step < schedule.steps:
        return None
    held_out_loss = trainer.evaluate()["eval_loss"] if aside is not None else None
    trainer.save_model(str(out))
    trained = Trained(
        fingerprint=fingerprint,
        model=model,
        rows=str(table.folder),
        arm=table.manifest.arm,
        recipe=recipe,
        versions={name: version(name) for name in ("torch", "transformers", "accelerate", "peft")},
        task_ids=table.manifest.task_ids,
        repos=table.manifest.repos,
        held_out_tasks=sorted(held_out),
        form=table.manifest.form,
        figures=_figures(trainer, schedule, held_out_loss),
        log=trainer.state.log_history,
    )
    if trainer.is_world_process_zero():
        _write(trained, out)
    trainer.accelerator.wait_for_everyone()
    return trained


def _schedules(table: RowTable, recipe: Recipe, held_out: frozenset[str]) -> tuple[Schedule, Schedule | None]:
    """What is trained on, and what gives the held-out loss, if anything."""
    trained = [place for place, task_id in enumerate(table.task_ids) if task_id not in held_out]
    aside = [place for place, task_id in enumerate(table.task_ids) if task_id in held_out]
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    once = Schedule.once(table, recipe, places=aside, processes=processes) if aside else None
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

    >>> len(held_out_tasks(["a", "b", "a", "c"], share=0.1, seed=0))
    1
    """
    tasks = sorted(set(task_ids))
    count = min(math.ceil(share * len(tasks)), len(tasks) - 1)
    chosen = numpy.random.default_rng(seed).permutation(len(tasks))[:count]
    return frozenset(tasks[number] for number in chosen)


def load_model(name: str, recipe: Recipe, renderer: Renderer, table: RowTable, *, on_gpu: bool) -> torch.nn.Module:
    """The model as it is trained. Raises InputError where it does not go with the rows."""
    own = Renderer.load(name).vocabulary if name != table.manifest.tokenizer else renderer.vocabulary
    if own != table.manifest.vocabulary:
        raise InputError(
            f"--model {name}: its tokenizer is not the one that {table.folder} was made with "
            f"({table.manifest.tokenizer}); make the rows again with --tokenizer {name}"
        )
    attention = choose_attention(recipe.attention, on_gpu=on_gpu)
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, recipe.weights))
    except (OSError, ValueError) as error:
        raise InputError(f"--model {name}: cannot be loaded ({' '.join(str(error).split())[:300]})") from None
    refuse_other_layers(model.config)
    install_loss(model, attention=attention)
    _stop_at(model, renderer.stop_ids)
    return model if recipe.lora is None else with_adapter(model, recipe.lora)


def _stop_at(model: PreTrainedModel, end_ids: Sequence[int]) -> None:
    """Have servers stop where the model was taught to: its own configuration may name another token."""
    known = model.generation_config.eos_token_id
    ids = [] if known is None else [known] if isinstance(known, int) else list(known)
    if missing := [end_id for end_id in end_ids if end_id not in ids]:
        model.generation_config.eos_token_id = [*ids, *missing]


def with_adapter(model: PreTrainedModel, lora: Lora) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model

    modules = lora.modules if isinstance(lora.modules, str) else list(lora.modules)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"lora.modules: {modules}: {error}") from None


def training_arguments(recipe: Recipe, *, out: Path, steps: int, evaluates: bool) -> TrainingArguments:
    """The recipe in transformers' words. Raises InputError for what this machine or recipe cannot do."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    at_once = processes * recipe.micro_batch
    if recipe.packs_per_step % at_once:
        raise InputError(
            f"recipe: packs_per_step {recipe.packs_per_step} cannot be divided among {processes} processes with "
            f"micro_batch {recipe.micro_batch} each; make it a multiple of {at_once}"
        )
    if recipe.logger != "none" and not find_spec(recipe.logger):
        raise InputError(f"recipe: logger {recipe.logger} is not installed; install it, or say logger: none")
    evaluates = evaluates and recipe.evaluate_every is not None
    return TrainingArguments(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.packs_per_step // at_once,
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim=recipe.optimizer,
        bf16=recipe.compute == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=recipe.gradient_checkpointing and not recipe.fsdp,
        activation_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps" if evaluates else "no",
        eval_on_start=evaluates,
        eval_steps=recipe.evaluate_every,
        save_strategy="steps" if recipe.save_every else "no",
        save_steps=recipe.save_every or steps,
        save_total_limit=recipe.checkpoints,
        logging_steps=recipe.log_every,
        logging_nan_inf_filter=False,  # a loss that is not a number is an error here, not a gap in the curve
        report_to=recipe.logger,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        seed=recipe.seed,
        **(_sharded(recipe) if recipe.fsdp else {}),
    )


def _sharded(recipe: Recipe) -> dict[str, Any]:
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "activation_checkpointing": recipe.gradient_checkpointing,
            "state_dict_type": "FULL_STATE_DICT",
            "cpu_ram_efficient_loading": True,
        },
    }


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
    logger.info("going on from {}", newest)
    return str(newest)


class _Checkpoints(TrainerCallback):
    """Marks a checkpoint when it is whole. Looks that what is to be sharded is."""

    def __init__(self, fingerprint: str, *, sharded: bool) -> None:
        self._fingerprint = fingerprint
        self._sharded = sharded

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        is_sharded = any(isinstance(weight, DTensor) for weight in model.parameters())
        assert is_sharded == self._sharded, f"fsdp is {self._sharded}, and weights are sharded: {is_sharded}"

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            Path(args.output_dir, f"checkpoint-{state.global_step}", WHOLE).write_text(self._fingerprint)


class _Stop(TrainerCallback):
    """Writes a checkpoint and ends the training when it is asked to."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._stop.is_set() and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True


class _Report(TrainerCallback):
    """Hands logged figures on, from the first process."""

    def __init__(self, on_log: Callable[[dict[str, Any], int, int], None]) -> None:
        self._on_log = on_log

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if state.is_world_process_zero and logs:
            self._on_log(dict(logs), state.global_step, state.max_steps)
