"""What a training takes of its machine beside the GPUs' memory: disk for checkpoints and the model, and host memory.

    storage_of(recipe, shape, work, memory, gpus=8, on_gpu=True).disk_bytes

Sizes are counts of what transformers, accelerate and peft write and hold; where one is not plain, `origins` says why.
"""

from __future__ import annotations

import math

import msgspec

from srft.train.fit.recipe import Recipe
from srft.train.plan.architecture import Shape
from srft.train.plan.footprint import OPTIMIZER_STATES, Memory, Work, trained_bytes

GPUS_A_NODE = 8
"""What a machine has at most, as far as a plan knows."""

WRITTEN_WITHIN_S = 1800
"""torch's time limit of the processes that wait while the first one writes."""

GIB = 1 << 30


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one training.

    model: of the saved model, or adapter. checkpoint: of one; checkpoints: how many lie there at most, the one that is
    being written included. disk: the most at a time, the model included. host: of one machine's memory, the most at a
    time. nodes: machines. origins: where the figures are from, for a person.
    """

    model_bytes: int
    checkpoint_bytes: int
    checkpoints: int
    disk_bytes: int
    host_bytes: int
    nodes: int
    origins: list[str]


def storage_of(recipe: Recipe, shape: Shape, work: Work, memory: Memory, *, gpus: int, on_gpu: bool) -> Storage:
    """gpus: processes. on_gpu: whether they have GPUs; else the training itself is in the host's memory."""
    model = trained_bytes(recipe, shape)  # what is trained is what is saved: all weights, or the adapter
    states = OPTIMIZER_STATES.get(recipe.optimizer, 2) * model
    checkpoint = model * (2 if recipe.fsdp else 1) + states
    saves = math.ceil(work.steps / recipe.save_every) if recipe.save_every else 0
    kept = min(saves, recipe.checkpoints)
    most = min(saves, recipe.checkpoints + 1)
    nodes = math.ceil(gpus / GPUS_A_NODE) if on_gpu else 1
    processes = min(gpus, GPUS_A_NODE) if on_gpu else gpus
    loaded = shape.base_bytes + (model if recipe.lora is None or recipe.fsdp else shape.trained_bytes)
    gathered = max(model, states) if recipe.fsdp else model
    host = max(processes * loaded, gathered) if on_gpu else processes * memory.peak_bytes
    storage = Storage(
        model_bytes=model,
        checkpoint_bytes=checkpoint,
        checkpoints=most,
        disk_bytes=max(most * checkpoint, kept * checkpoint + model),
        host_bytes=host,
        nodes=nodes,
        origins=[],
    )
    said = [
        _disk(recipe, storage),
        _host(recipe, storage, processes=processes, loaded=processes * loaded, gathered=gathered, on_gpu=on_gpu),
    ]
    if recipe.fsdp and most:
        pace = checkpoint / WRITTEN_WITHIN_S / 1e6
        said.append(
            f"a checkpoint is written by one process while the others wait, {WRITTEN_WITHIN_S:,} s at most: the disk "
            f"must take {pace:,.0f} MB/s"
        )
    if nodes > 1:
        said.append(
            f"nodes: {nodes} of {GPUS_A_NODE} GPUs (a plan takes no machine to have more). `srft loop` trains on one: "
            f"start `torchrun --nnodes {nodes} --nproc-per-node {GPUS_A_NODE} -m srft.harness.cli train ...` on each, "
            "with --out on a disk that all of them see; host memory is that of each"
        )
    return msgspec.structs.replace(storage, origins=said)


def _disk(recipe: Recipe, storage: Storage) -> str:
    is_cast = recipe.fsdp and recipe.compute == "bfloat16" and recipe.weights == "bfloat16"
    kind = "float32, as sharded weights are held" if is_cast else "in the type that it is trained in"
    what = "the adapter" if recipe.lora is not None else "the model"
    text = f"disk: {what} saved {_gib(storage.model_bytes)} ({kind})"
    if not storage.checkpoints:
        return f"{text}; no checkpoints (save_every: null)"
    files = "model.safetensors, pytorch_model_fsdp.bin and the optimizer" if recipe.fsdp else "weights and optimizer"
    number = f"{storage.checkpoints} at a time (checkpoints: {recipe.checkpoints} are kept, and one more while written)"
    return f"{text}; a checkpoint {_gib(storage.checkpoint_bytes)} ({files}), {number}"


def _host(recipe: Recipe, storage: Storage, *, processes: int, loaded: int, gathered: int, on_gpu: bool) -> str:
    host = _gib(storage.host_bytes)
    if not on_gpu:
        return f"host memory: {host}: {processes} x the peak, as the training is on the processor"
    if recipe.fsdp and gathered > loaded:
        return f"host memory: {host}: the first process gathers weights and then the optimizer to write a checkpoint"
    cast = ", cast to float32 there," if recipe.fsdp and recipe.compute == "bfloat16" else ""
    return f"host memory: {host}: each of {processes} processes of a machine loads the whole model{cast} before its GPU"


def _gib(count: int) -> str:
    return f"{count / GIB:,.1f} GiB"
