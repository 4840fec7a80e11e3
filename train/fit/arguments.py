"""A recipe in transformers' words: TrainingArguments.

arguments = training_arguments(recipe, out=Path("model"), steps=120, evaluates=False)
arguments.gradient_accumulation_steps

`recipe.trainer` goes to TrainingArguments as it is, but for what the recipe itself says (OURS), and for what the loss,
its denominator or the order of the rows depend on (REFUSED).
"""

from __future__ import annotations

import dataclasses
import os
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from srft.env.errors import InputError
from srft.train.fit.recipe import Recipe

OURS = {
    "activation_checkpointing": "gradient_checkpointing",
    "activation_checkpointing_kwargs": "activation_offload",
    "bf16": "compute",
    "eval_steps": "evaluate_every",
    "eval_strategy": "evaluate_every",
    "fsdp": "fsdp",
    "fsdp_config": "fsdp",
    "gradient_accumulation_steps": "packs_per_step",
    "gradient_checkpointing": "gradient_checkpointing",
    "gradient_checkpointing_kwargs": "activation_offload",
    "learning_rate": "learning_rate",
    "logging_steps": "log_every",
    "lr_scheduler_type": "schedule",
    "max_grad_norm": "max_grad_norm",
    "max_steps": "steps",
    "num_train_epochs": "epochs",
    "optim": "optimizer",
    "per_device_train_batch_size": "micro_batch",
    "report_to": "logger",
    "save_steps": "save_every",
    "save_strategy": "save_every",
    "save_total_limit": "checkpoints",
    "seed": "seed",
    "use_liger_kernel": "liger",
    "warmup_steps": "warmup_steps",
    "weight_decay": "weight_decay",
}
"""Arguments that a field of the recipe gives."""

REFUSED = {
    "accelerator_config": "how gradients are summed up",
    "bf16_full_eval": "the held-out loss",
    "do_eval": "what is done",
    "do_predict": "what is done",
    "enable_jit_checkpoint": "how a training is stopped",
    "fp16_full_eval": "the held-out loss",
    "include_num_input_tokens_seen": "how tokens are counted",
    "logging_strategy": "what is logged when",
    "push_to_hub": "which files a model has; push the finished folder",
    "auto_find_batch_size": "how many packs a step has",
    "average_tokens_across_devices": "the loss's denominator",
    "data_seed": "the order of the rows",
    "dataloader_drop_last": "which rows are trained on",
    "deepspeed": "how gradients are summed up",
    "do_train": "what is done",
    "eval_on_start": "what is done",
    "fp16": "the type of the computation, which is bfloat16 or float32",
    "ignore_data_skip": "the order of the rows after a stop",
    "include_for_metrics": "what the model gives back",
    "label_names": "what the model is given",
    "label_smoothing_factor": "the loss",
    "length_column_name": "the order of the rows",
    "liger_kernel_config": "the loss",
    "load_best_model_at_end": "which weights are saved",
    "local_rank": "which process this is",
    "logging_nan_inf_filter": "whether a loss that is no number is seen",
    "neftune_noise_alpha": "what the probe compares",
    "output_dir": "where checkpoints lie",
    "parallelism_config": "which process has which rows",
    "per_device_eval_batch_size": "the held-out loss",
    "remove_unused_columns": "what the model is given",
    "resume_from_checkpoint": "where a stopped training resumes",
    "save_only_model": "whether a stopped training can be resumed",
    "torch_compile": "the forward pass",
    "torch_compile_backend": "the forward pass",
    "torch_compile_mode": "the forward pass",
    "train_sampling_strategy": "the order of the rows",
    "use_cpu": "where it runs",
    "warmup_ratio": "the warm-up, which is warmup_steps",
}
"""Arguments that would change something which srft answers for, and what."""


def training_arguments(recipe: Recipe, *, out: Path, steps: int, evaluates: bool) -> TrainingArguments:
    """Raises InputError for what this machine or recipe cannot do."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes % recipe.sequence_parallel:
        raise InputError(
            f"recipe: sequence_parallel {recipe.sequence_parallel}: {processes} processes cannot be divided into "
            "groups of that many; start it under torchrun with a multiple of it"
        )
    if recipe.replicas > 1 and not recipe.fsdp:
        raise InputError("recipe: replicas are copies of sharded weights; set fsdp: true with them")
    if recipe.replicas > 1 and (processes % recipe.replicas or processes == recipe.replicas):
        raise InputError(
            f"recipe: replicas {recipe.replicas}: {processes} processes are too few, or cannot be divided into that "
            "many groups of two and more; start it under torchrun with a multiple of it"
        )
    groups = processes // recipe.sequence_parallel
    at_once = groups * recipe.micro_batch
    if recipe.packs_per_step % at_once:
        by = "processes" if groups == processes else "groups of processes"
        raise InputError(
            f"recipe: packs_per_step {recipe.packs_per_step} cannot be divided among {groups} {by} with "
            f"micro_batch {recipe.micro_batch} each; make it a multiple of {at_once}"
        )
    _refuse(recipe)
    evaluates = evaluates and recipe.evaluate_every is not None
    ours: dict[str, Any] = {
        "output_dir": str(out / "checkpoints"),
        "per_device_train_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.packs_per_step // at_once,
        "max_steps": steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "optim": recipe.optimizer,
        "bf16": recipe.compute == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        # FSDP has its own, which gathers a layer once for both passes, and offloads nothing.
        "activation_checkpointing": recipe.gradient_checkpointing and (recipe.activation_offload or not recipe.fsdp),
        "activation_checkpointing_kwargs": {"use_reentrant": False}
        | ({"offload": True} if recipe.activation_offload else {}),
        "use_liger_kernel": recipe.liger,
        "liger_kernel_config": {"fused_linear_cross_entropy": False, "cross_entropy": False} if recipe.liger else None,
        "eval_strategy": "steps" if evaluates else "no",
        "eval_on_start": evaluates,
        "eval_steps": recipe.evaluate_every,
        "save_strategy": "steps" if recipe.save_every else "no",
        "save_steps": recipe.save_every or steps,
        "save_total_limit": recipe.checkpoints,
        "logging_steps": recipe.log_every,
        "logging_nan_inf_filter": False,  # a loss that is not a number is an error here, not a gap in the curve
        "report_to": recipe.logger,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "ddp_find_unused_parameters": False,
        "seed": recipe.seed,
        **(_sharded(recipe) if recipe.fsdp else {}),
    }
    try:
        return TrainingArguments(**(ours | recipe.trainer))
    except (TypeError, ValueError) as error:
        raise InputError(f"recipe: trainer: {' '.join(str(error).split())[:300]}") from None


def _sharded(recipe: Recipe) -> dict[str, Any]:
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "activation_checkpointing": recipe.gradient_checkpointing and not recipe.activation_offload,
            "state_dict_type": "SHARDED_STATE_DICT",  # each process writes its shard, and the weights once
            "cpu_ram_efficient_loading": True,
        },
        # Else each process keeps the gradient of all weights between the micro-batches of a step, unsharded.
        "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
    }


def _refuse(recipe: Recipe) -> None:
    """Raises InputError for settings that do not exist, are not installed, or are not for `recipe.trainer`."""
    for package, wanted, instead in (
        (recipe.logger, recipe.logger != "none", "logger: none"),
        ("liger_kernel", recipe.liger, "liger: false"),
    ):
        if wanted and not find_spec(package):
            raise InputError(f"recipe: {package.replace('_', '-')} is not installed; install it, or say {instead}")
    if recipe.activation_offload and not recipe.gradient_checkpointing:
        raise InputError("recipe: activation_offload keeps what gradient_checkpointing saves; set that to true too")
    if recipe.sequence_parallel > 1 and recipe.router_loss is not None:
        raise InputError(
            "recipe: router_loss is a product of means over whole sequences, which no process has under "
            "sequence_parallel; set router_loss: null"
        )
    if recipe.optimizer not in (names := [name.value for name in OptimizerNames]):
        near = get_close_matches(recipe.optimizer, names, n=3, cutoff=0.5)
        raise InputError(
            f"recipe: optimizer {recipe.optimizer}: transformers has none of this name; did you mean "
            f"{', '.join(near) or 'adamw_torch_fused'}?"
        )
    _refuse_settings(recipe.trainer)


def _refuse_settings(trainer: dict[str, Any]) -> None:
    known = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    for name, value in trainer.items():
        if name in OURS:
            raise InputError(f"recipe: trainer.{name}: the recipe says this itself; set {OURS[name]}")
        if name in REFUSED:
            raise InputError(f"recipe: trainer.{name}: srft answers for {REFUSED[name]}; leave it out")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise InputError(
                f"recipe: trainer.{name}: TrainingArguments has no such setting"
                + (f"; did you mean {near[0]}?" if near else "; see transformers' documentation of it")
            )
        default = known[name]
        kinds = (int, float) if type(default) is float else (type(default),)
        if type(default) in (bool, int, float) and type(value) not in kinds:
            raise InputError(f"recipe: trainer.{name}: {value!r}; expected {type(default).__name__}, as {default!r}")
