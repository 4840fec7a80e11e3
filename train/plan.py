"""What a training will take, said before anything is loaded: parameters, memory, tokens, FLOPs, time.

Reads a recipe, the model's config.json (or the recipe's `plan.model`) and rows where there are any; writes nothing.

    planned = plan(recipe, model=None, table=RowTable.open("rows/srft"))
    planned.memory.peak_bytes, planned.fits, planned.time_s, planned.advice

Parameters, weights, gradients and optimizer states are counted on the model itself, built without memory on torch's
meta device. Activations, FLOPs and time are formulas; what they assume stands in `assumptions`, and is printed.
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import msgspec
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from srft.env.errors import InputError
from srft.train.finetune import _with_adapter, held_out_tasks
from srft.train.loss import CHUNK_BYTES
from srft.train.machine import USABLE_SHARE, Machine, read_machine
from srft.train.recipe import Recipe
from srft.train.rows import RowTable
from srft.train.schedule import Schedule

OPTIMIZER_STATES = {"adamw_torch": 2, "adamw_torch_fused": 2, "sgd": 0}
"""Tensors of the weights' size and type that an optimizer keeps."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


class Shape(NamedTuple):
    """A model in figures. query, keys: the widths of all heads together.

    matmul: parameters of the layers' matrices, adapters apart; adapters: LoRA's parameters. base_bytes: of what is
    frozen; trained_bytes: of what is trained, each in the type it is held in.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    query: int
    keys: int
    vocabulary: int
    parameters: int
    matmul: int
    adapters: int
    trained: int
    trained_tensors: int
    base_bytes: int
    trained_bytes: int
    head_is_trained: bool
    has_experts: bool


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one process.

    copies: weights cast to the type of the computation. communication: layers gathered by FSDP, or DDP's buckets.
    activations: what the recipe asks for, one of activations_kept and activations_checkpointed. head: the loss and the
    gradient of the head. peak: without accumulation, gradients come while activations go, and the larger counts.
    """

    weights_bytes: int
    copies_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    communication_bytes: int
    activations_bytes: int
    activations_kept_bytes: int
    activations_checkpointed_bytes: int
    head_bytes: int
    peak_bytes: int


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What the schedule goes through. squares: the sum of the squared lengths of its documents."""

    rows: int
    held_out_rows: int
    packs: int
    steps: int
    tokens: int
    trained_tokens: int
    squares: float
    longest_pack: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What `plan` gives. architecture: where it was read. advice: single changes of the recipe that lower the peak."""

    model: str | None
    architecture: str
    parameters: int
    trained_parameters: int
    gpus: int
    machine: Machine
    memory: Memory
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
        usable_bytes=usable,
        fits=fits,
        work=work,
        flops=flops,
        tokens_per_s=work.tokens / time_s,
        time_s=time_s,
        advice=_refused(recipe, gpus) + ([] if fits else _advice(recipe, shape, work, gpus=gpus, usable=usable)),
        assumptions=_assumptions(recipe, shape, machine, table),
    )


def read_architecture(recipe: Recipe, model: str | None) -> tuple[PreTrainedConfig, str]:
    """The model's configuration and where it was read. Raises InputError.

    A folder or a model in the hub's cache is looked at first. `plan.model` stands for the recipe's own model only; the
    hub is asked last, so that a recipe of ours is planned without a network.
    """
    name = model or recipe.model
    tries = [True, False] if name else []
    dims = recipe.plan.model if model in (None, recipe.model) else None
    reason = "the recipe names no model and has no plan.model"
    for is_local in tries:
        if dims is not None and not is_local:
            break
        try:
            return AutoConfig.from_pretrained(name, local_files_only=is_local), f"config.json of {name}"
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
    if dims is None:
        raise InputError(
            f"--model {name}: its config.json cannot be read ({reason}); give a model's folder, or the architecture in "
            "the recipe's plan.model: {type: llama, hidden_size: ...}"
        )
    try:
        return AutoConfig.for_model(**{"model_type": dims.get("type"), **_without_type(dims)}), "plan.model"
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"plan.model: {' '.join(str(error).split())[:200]}; `type` and dimensions as in config.json"
        ) from None


def _without_type(dims: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in dims.items() if name != "type"}


def measure(config: PreTrainedConfig, recipe: Recipe) -> Shape:
    """Build the model as `finetune` does, without memory, and count. Raises InputError."""
    text = config.get_text_config()
    with torch.device("meta"):
        try:
            model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, recipe.weights))
        except (TypeError, ValueError) as error:
            raise InputError(f"model: cannot be built ({' '.join(str(error).split())[:200]})") from None
        head, table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        matmul = sum(w.numel() for w in model.parameters() if w.dim() > 1 and w is not head and w is not table)
        base = sum(weight.numel() for weight in model.parameters())
        if recipe.lora is not None:
            model = _with_adapter(model, recipe.lora)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    # accelerate holds sharded weights that are trained in float32 whenever the computation is in bfloat16.
    held_bytes = 4 if recipe.fsdp and recipe.compute == "bfloat16" else 0
    parameters = sum(weight.numel() for weight in model.parameters())
    heads = text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Shape(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        heads=heads,
        query=heads * head_dim,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * head_dim,
        vocabulary=text.vocab_size,
        parameters=parameters,
        matmul=matmul,
        adapters=parameters - base,
        trained=sum(weight.numel() for weight in trained),
        trained_tensors=len(trained),
        base_bytes=sum(weight.numel() * weight.element_size() for weight in frozen),
        trained_bytes=sum(weight.numel() * (held_bytes or weight.element_size()) for weight in trained),
        head_is_trained=head.requires_grad,
        has_experts=any(getattr(text, name, None) for name in EXPERTS),
    )


def _widths(recipe: Recipe) -> tuple[int, int]:
    """Bytes of a number in a matrix product, and in the stream between the layers (that of the weights)."""
    computed = 2 if "bfloat16" in (recipe.compute, recipe.weights) else 4
    stream = 4 if recipe.weights == "float32" and not (recipe.fsdp and recipe.compute == "bfloat16") else 2
    return computed, stream


def layer_bytes(recipe: Recipe, shape: Shape) -> int:
    """What one layer keeps of one token for the backward pass.

    After Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (arXiv 2205.05198),
    section 4.1, with what differs here: RMSNorm in float32 (its input, and its output where its weight is trained);
    the inputs of the matrices, which autocast and adapters copy for each; queries, keys, values and twice the output of
    a fused attention, whose scores are never held, plus its float32 sum a head; gate, activated gate, up and their
    product of a gated MLP; no dropout.
    """
    computed, stream = _widths(recipe)
    norms = 2 * (4 + (stream if recipe.lora is None else 0)) * shape.hidden
    is_cast = computed != stream or (recipe.lora is not None and computed == 2)
    inputs = (5 if is_cast else 2) * computed * shape.hidden
    attention = computed * (3 * shape.query + 2 * shape.keys) + 4 * shape.heads
    return norms + inputs + attention + 4 * computed * shape.intermediate


def activation_bytes(recipe: Recipe, shape: Shape, tokens: int, *, checkpointed: bool) -> int:
    """What the layers keep of a micro-batch: all, or each layer's input and the one layer that is computed again."""
    _, stream = _widths(recipe)
    last = (4 + 2 * stream) * shape.hidden  # the final norm and its output
    layer = layer_bytes(recipe, shape)
    if not checkpointed:
        return tokens * (shape.layers * layer + last)
    return tokens * (shape.layers * stream * shape.hidden + layer + last)


def _head_bytes(recipe: Recipe, shape: Shape, trained_tokens: int) -> int:
    """`loss._HeadLoss`: hidden states and their gradients, a chunk of logits several times over, and, where the head is
    trained, its gradient in float32, scaled once more into a copy, and in the type of the computation.
    """
    computed, stream = _widths(recipe)
    weight = shape.vocabulary * shape.hidden
    cast = weight * computed if computed != stream else 0
    hidden = trained_tokens * shape.hidden * (stream + 2 * computed)
    chunk = min(CHUNK_BYTES, 4 * trained_tokens * shape.vocabulary)
    logits = chunk * 3 + chunk * computed // 4 * 2
    gradient = weight * (4 + 4 + computed) if shape.head_is_trained else 0
    return hidden + max(logits + cast, gradient)


def memory_of(recipe: Recipe, shape: Shape, work: Work, *, gpus: int) -> Memory:
    """Bytes of one process, by part."""
    computed, stream = _widths(recipe)
    shards = gpus if recipe.fsdp else 1
    tokens = work.longest_pack * recipe.micro_batch
    kept, checkpointed = (activation_bytes(recipe, shape, tokens, checkpointed=again) for again in (False, True))
    activations = checkpointed if recipe.gradient_checkpointing else kept
    head = _head_bytes(recipe, shape, math.ceil(tokens * work.trained_tokens / work.tokens))
    weights = (shape.base_bytes + shape.trained_bytes) // shards
    gradients = shape.trained_bytes // shards
    states = OPTIMIZER_STATES.get(recipe.optimizer, 2)
    optimizer = states * shape.trained_bytes // shards + (4 * shape.trained_tensors if states else 0)
    # Autocast keeps its casts of trained weights to the end of the forward pass; of frozen ones only what is saved.
    is_cast = computed != stream and (recipe.lora is None or not recipe.gradient_checkpointing)
    copies = computed * shape.matmul if is_cast else 0
    layer = shape.matmul // shape.layers
    communication = shape.trained_bytes if gpus > 1 else 0  # DDP's buckets
    if recipe.fsdp:
        # Two layers and the head whole; one layer's gradient whole, and in float32 on its way to the others.
        own = layer * (computed + 4) if recipe.lora is None else 0
        communication = computed * (2 * layer + shape.vocabulary * shape.hidden) + own
    layer_again = tokens * layer_bytes(recipe, shape)
    is_accumulated = recipe.packs_per_step > gpus * recipe.micro_batch
    together = gradients + activations + head
    running = together if is_accumulated else max(activations + head, gradients + layer_again)
    return Memory(
        weights_bytes=weights,
        copies_bytes=copies,
        gradients_bytes=gradients,
        optimizer_bytes=optimizer,
        communication_bytes=communication,
        activations_bytes=activations,
        activations_kept_bytes=kept,
        activations_checkpointed_bytes=checkpointed,
        head_bytes=head,
        peak_bytes=weights + copies + optimizer + communication + running,
    )


def flops_of(recipe: Recipe, shape: Shape, work: Work) -> float:
    """Floating-point operations of the whole training, recomputed ones included.

    Kaplan et al. (arXiv 2001.08361), section 2.1: 2N a token forward, 4N backward, of which 2N for the weights'
    gradients, so that frozen weights cost 4N in all and adapters 6N. Attention as in Chowdhery et al. (PaLM, arXiv
    2204.02311), appendix B, 12 * layers * width * length a token, halved because causal kernels skip the other half;
    lengths are the documents'. The head counts on trained tokens alone. Checkpointing adds a forward of the layers.
    """
    is_full = recipe.lora is None
    attention = 2 * shape.layers * shape.query * work.squares  # forward
    layers = (6 if is_full else 4) * shape.matmul * work.tokens + 6 * shape.adapters * work.tokens
    again = 2 * (shape.matmul + shape.adapters) * work.tokens + attention if recipe.gradient_checkpointing else 0
    head = (6 if shape.head_is_trained else 4) * shape.vocabulary * shape.hidden * work.trained_tokens
    return float(layers + 3 * attention + again + head)


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
    if recipe.packs_per_step % (gpus * recipe.micro_batch):
        said.append(f"packs_per_step must be a multiple of {gpus * recipe.micro_batch} (processes times micro_batch)")
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

    if not recipe.gradient_checkpointing:
        try_out("gradient_checkpointing: true", msgspec.structs.replace(recipe, gradient_checkpointing=True))
    if recipe.micro_batch > 1:
        try_out("micro_batch: 1", msgspec.structs.replace(recipe, micro_batch=1))
    tokens = work.longest_pack // 2
    while tokens >= 1024 and try_out(f"rows and pack_tokens of at most {tokens:,}", recipe, tokens=tokens) > usable:
        tokens //= 2
    sharded = msgspec.structs.replace(recipe, fsdp=True)
    processes = 2 * gpus
    while processes <= 64 and try_out(f"fsdp on {processes} GPUs", sharded, processes=processes) > usable:
        processes *= 2
    lower = {words: peak for words, peak in peaks.items() if peak <= usable} or {min(peaks, key=lambda w: peaks[w]): 0}
    return [f"{words}: peak {peaks[words] / 2**30:,.1f} GiB" for words in lower]


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
    if recipe.fsdp and recipe.compute == "bfloat16":
        said.append("fsdp: trained weights are held in float32 whatever `weights` says (accelerate casts them up)")
    if shape.has_experts:
        said.append("experts: time and activations as though each token passed through all: an upper bound")
    return said
