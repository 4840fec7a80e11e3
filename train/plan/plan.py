"""The plan of a training, computed before anything is loaded: parameters, memory, tokens, FLOPs, time.

Reads a recipe, the model's config.json (or the recipe's `plan.model`) and rows where there are any; writes nothing.

    planned = plan(recipe, model=None, table=RowTable.open("rows/srft"))
    planned.memory.peak_bytes, planned.fits, planned.time_s, planned.advice

Parameters, weights, gradients and optimizer states are counted on the model itself, built without memory on torch's
meta device. Activations, FLOPs and time are formulas; what they assume is listed in `assumptions`, and printed.
"""

from __future__ import annotations

import math
import os

import msgspec

from srft.train.fit.finetune import held_out_tasks
from srft.train.fit.recipe import Recipe
from srft.train.fit.schedule import Schedule
from srft.train.plan.architecture import Shape, measure, read_architecture
from srft.train.plan.footprint import OPTIMIZER_STATES, Memory, Work, flops_of, memory_of
from srft.train.plan.machine import USABLE_SHARE, Machine, read_machine
from srft.train.plan.storage import GPUS_A_NODE, Storage, storage_of
from srft.train.rows.rows import RowTable


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What `plan` gives. architecture: where it was read. storage: disk and host memory. advice: single changes of the
    recipe that lower the peak."""

    model: str | None
    architecture: str
    parameters: int
    trained_parameters: int
    gpus: int
    machine: Machine
    memory: Memory
    storage: Storage
    usable_bytes: int
    fits: bool
    work: Work
    flops: float
    tokens_per_s: float
    time_s: float
    advice: list[str]
    assumptions: list[str]


def plan(
    recipe: Recipe,
    *,
    model: str | None,
    table: RowTable | None,
    gpus: int | None = None,
    machine: Machine | None = None,
) -> Plan:
    """Plan a training. Raises InputError.

    gpus: processes; else the recipe's, torchrun's, or 1. machine: what they run on; else the recipe's GPU or this
    machine. With both given the result depends on the arguments alone; a machine that no table knows is timed.
    """
    gpus = gpus or recipe.plan.gpus or int(os.environ.get("WORLD_SIZE", "1"))
    config, architecture = read_architecture(recipe, model)
    shape = measure(config, recipe)
    machine = machine or read_machine(recipe, processes=gpus)
    work = _work_of(table, recipe) if table is not None else _assumed_work(recipe)
    memory = memory_of(recipe, shape, work, gpus=gpus)
    on_gpu = not machine.name.startswith("CPU")
    storage = storage_of(recipe, shape, work, memory, gpus=gpus, on_gpu=on_gpu)
    flops = flops_of(recipe, shape, work)
    time_s = flops / (gpus * machine.flops_per_s * machine.reached_share)
    if recipe.plan.tokens_per_s:
        time_s = work.tokens / recipe.plan.tokens_per_s
    usable = int(machine.memory_bytes * USABLE_SHARE)
    fits = memory.peak_bytes <= usable
    return Plan(
        model=model or recipe.model,
        architecture=architecture,
        parameters=shape.parameters,
        trained_parameters=shape.trained,
        gpus=gpus,
        machine=machine,
        memory=memory,
        storage=storage,
        usable_bytes=usable,
        fits=fits,
        work=work,
        flops=flops,
        tokens_per_s=work.tokens / time_s,
        time_s=time_s,
        advice=_refused(recipe, gpus) + ([] if fits else _advice(recipe, shape, work, gpus=gpus, usable=usable)),
        assumptions=[*_assumptions(recipe, shape, machine, table), *storage.origins],
    )


def _work_of(table: RowTable, recipe: Recipe) -> Work:
    """The very schedule that `finetune` makes. Squares and trained tokens are exact where all epochs are whole."""
    held_out = held_out_tasks(table.task_ids, share=recipe.held_out, seed=recipe.seed)
    places = [place for place, task_id in enumerate(table.task_ids) if task_id not in held_out]
    schedule = Schedule.of(table, recipe, places=places)
    lengths_N = table.used_tokens_N[places] - 1
    once, tokens = int(lengths_N.sum()), schedule.tokens()
    trained = sum(table[place].trained_tokens for place in places)
    return Work(
        rows=len(places),
        held_out_rows=len(table) - len(places),
        packs=schedule.real,
        steps=schedule.steps,
        tokens=tokens,
        trained_tokens=round(trained * tokens / once),
        squares=float((lengths_N.astype(float) ** 2).sum()) * tokens / once,
        longest_pack=max(int(lengths_N.max()), min(recipe.pack_tokens or 0, once)),
    )


def _assumed_work(recipe: Recipe) -> Work:
    assumed = recipe.plan
    length = min(assumed.row_tokens, recipe.pack_tokens or assumed.row_tokens)
    rows_per_pack = recipe.pack_tokens // length if recipe.pack_tokens else 1
    packs = recipe.packs_per_step * (recipe.steps or 0) or math.ceil(
        math.ceil(assumed.rows / rows_per_pack) * recipe.epochs
    )
    tokens = packs * rows_per_pack * length if recipe.steps else round(assumed.rows * recipe.epochs) * length
    return Work(
        rows=assumed.rows,
        held_out_rows=0,
        packs=packs,
        steps=math.ceil(packs / recipe.packs_per_step),
        tokens=tokens,
        trained_tokens=round(tokens * assumed.trained_share),
        squares=float(tokens * length),
        longest_pack=recipe.pack_tokens or length,
    )


def _refused(recipe: Recipe, gpus: int) -> list[str]:
    """What `srft train` would refuse on that many processes."""
    said = []
    if gpus % recipe.sequence_parallel:
        said.append(f"sequence_parallel must divide the number of processes, {gpus}")
    elif recipe.packs_per_step % (at_once := gpus // recipe.sequence_parallel * recipe.micro_batch):
        by = "processes" if recipe.sequence_parallel == 1 else "processes by sequence_parallel,"
        said.append(f"packs_per_step must be a multiple of {at_once} ({by} times micro_batch)")
    if recipe.fsdp and gpus == 1:
        said.append("fsdp needs more than one process: start it under torchrun, or say fsdp: false")
    return said


def _advice(recipe: Recipe, shape: Shape, work: Work, *, gpus: int, usable: int) -> list[str]:
    """Single changes that lower the peak, those that are enough first, each with the peak that it gives."""
    peaks: dict[str, int] = {}

    def try_out(words: str, changed: Recipe, *, processes: int = gpus, tokens: int = work.longest_pack) -> int:
        cut = msgspec.structs.replace(work, longest_pack=tokens)
        peaks[words] = memory_of(changed, shape, cut, gpus=processes).peak_bytes
        return peaks[words]

    again = msgspec.structs.replace(recipe, gradient_checkpointing=True)
    if not recipe.gradient_checkpointing:
        try_out("gradient_checkpointing: true", again)
    if not recipe.activation_offload:
        offloads = msgspec.structs.replace(again, activation_offload=True)
        try_out("gradient_checkpointing: true with activation_offload: true", offloads)
    if recipe.micro_batch > 1:
        try_out("micro_batch: 1", msgspec.structs.replace(recipe, micro_batch=1))
    tokens = work.longest_pack // 2
    while tokens >= 1024 and try_out(f"rows and pack_tokens of at most {tokens:,}", recipe, tokens=tokens) > usable:
        tokens //= 2
    for shares in (2, 4, 8):
        if shares > recipe.sequence_parallel and gpus % shares == 0:
            shared = msgspec.structs.replace(again, sequence_parallel=shares)
            try_out(f"gradient_checkpointing: true with sequence_parallel: {shares}", shared)
    sharded = msgspec.structs.replace(recipe, fsdp=True)
    processes = 2 * gpus
    while processes <= 64 and try_out(_fsdp_on(processes), sharded, processes=processes) > usable:
        processes *= 2
    lower = [words for words, peak in peaks.items() if peak <= usable] or sorted(peaks, key=lambda w: peaks[w])[:1]
    return [f"{words}: peak {peaks[words] / 2**30:,.1f} GiB" for words in lower]


def _fsdp_on(gpus: int) -> str:
    nodes = f" of {math.ceil(gpus / GPUS_A_NODE)} nodes" if gpus > GPUS_A_NODE else ""
    return f"fsdp on {gpus} GPUs{nodes}"


def _assumptions(recipe: Recipe, shape: Shape, machine: Machine, table: RowTable | None) -> list[str]:
    """What the figures rest on, for a person."""
    assumed = recipe.plan
    pace = f"{assumed.tokens_per_s:,.0f} tokens/s (plan.tokens_per_s)" if assumed.tokens_per_s else machine.basis
    said = [
        f"pace: {pace}; evaluation, saving and loading apart",
        f"memory: {1 - USABLE_SHARE:.0%} of it left to the runtime and to fragmentation",
    ]
    if table is None:
        said.insert(
            0,
            f"no rows given: {assumed.rows:,} of {assumed.row_tokens:,} tokens, {assumed.trained_share:.0%} trained "
            "(plan.rows, plan.row_tokens, plan.trained_share)",
        )
    if recipe.optimizer not in OPTIMIZER_STATES:
        said.append(f"optimizer {recipe.optimizer}: counted as AdamW's two states in the weights' type")
    if recipe.lora is None and recipe.weights == "bfloat16":
        said.append("weights: what is trained is held in float32, and saved in bfloat16")
    if shape.has_experts:
        said.append(f"experts: a token goes through {shape.active / shape.matmul:.0%} of the layers' weights")
    if recipe.attention not in ("auto", "documents") and not recipe.attention.startswith(("flash", "kernels")):
        said.append(f"attention {recipe.attention}: its masks and scores are not counted")
    return said
