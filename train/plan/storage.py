"""The disk and host memory of a training: checkpoints, the saved model, and memory beside the GPUs'.

    storage_of(recipe, shape, work, memory, gpus=8, on_gpu=True).disk_bytes

Sizes are counts of what transformers, accelerate and peft write and hold; where one is not plain, `origins` says why.
"""

from __future__ import annotations

import math

import msgspec

from srft.train.fit.recipe import Recipe
from srft.train.plan.architecture import Shape
from srft.train.plan.footprint import OPTIMIZER_STATES, Memory, Work, offloaded_bytes, tokens_held, trained_bytes

GPUS_A_NODE = 8
"""What a machine has at most, as far as a plan knows."""

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
    trained = trained_bytes(recipe, shape)
    # A whole model is saved in the recipe's type, an adapter in the one that it is trained in.
    model = trained if recipe.lora is not None else shape.trained * (2 if recipe.weights == "bfloat16" else 4)
    states = OPTIMIZER_STATES.get(recipe.optimizer, 2) * trained
    checkpoint = trained + states + (shape.base_bytes if recipe.fsdp else 0)  # shards hold the frozen weights too
    saves = math.ceil(work.steps / recipe.save_every) if recipe.save_every else 0
    kept = min(saves, recipe.checkpoints)
    most = min(saves, recipe.checkpoints + 1)
    nodes = math.ceil(gpus / GPUS_A_NODE) if on_gpu else 1
    processes = min(gpus, GPUS_A_NODE) if on_gpu else gpus
    loaded = shape.base_bytes + trained
    loading = loaded if recipe.fsdp else processes * loaded  # sharded: by the first process alone
    offloaded = processes * offloaded_bytes(recipe, shape, tokens_held(recipe, work))
    host = max(loading, loaded, offloaded) if on_gpu else processes * memory.peak_bytes
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
        _host(recipe, storage, processes=processes, is_offloaded=offloaded > loading, on_gpu=on_gpu),
    ]
    if nodes > 1:
        said.append(
            f"nodes: {nodes} of {GPUS_A_NODE} GPUs (a plan takes no machine to have more). `srft loop` trains on one: "
            f"start `torchrun --nnodes {nodes} --nproc-per-node {GPUS_A_NODE} -m srft.harness.cli train ...` on each, "
            "with --out on a disk that all of them see; host memory is that of each"
        )
    return msgspec.structs.replace(storage, origins=said)


def _disk(recipe: Recipe, storage: Storage) -> str:
    what = "the adapter" if recipe.lora is not None else f"the model in {recipe.weights}"
    text = f"disk: {what} saved {_gib(storage.model_bytes)}"
    if not storage.checkpoints:
        return f"{text}; no checkpoints (save_every: null)"
    files = "weights and optimizer, each process its shard" if recipe.fsdp else "weights and optimizer"
    number = f"{storage.checkpoints} at a time (checkpoints: {recipe.checkpoints} are kept, and one more while written)"
    return f"{text}; a checkpoint {_gib(storage.checkpoint_bytes)} ({files}), {number}"


def _host(recipe: Recipe, storage: Storage, *, processes: int, is_offloaded: bool, on_gpu: bool) -> str:
    host = _gib(storage.host_bytes)
    if not on_gpu:
        return f"host memory: {host}: {processes} x the peak, as the training is on the processor"
    if is_offloaded:
        return f"host memory: {host}: the layers' inputs of {processes} processes (activation_offload)"
    if recipe.fsdp:
        return f"host memory: {host}: the first process alone loads the model, in float32 where it is trained"
    return f"host memory: {host}: each of {processes} processes of a machine loads the whole model before its GPU"


def _gib(count: int) -> str:
    return f"{count / GIB:,.1f} GiB"
