"""The footprint of a training: the bytes of a process and the floating-point operations of the whole.

    memory_of(recipe, shape, work, gpus=8).peak_bytes
    flops_of(recipe, shape, work)

Weights, gradients and optimizer states are counts; activations and operations are formulas, cited where they stand.
"""

from __future__ import annotations

import math

import msgspec

from srft.train.fit.loss import CHUNK_BYTES
from srft.train.fit.recipe import Recipe
from srft.train.plan.architecture import Shape

OPTIMIZER_STATES = {"adamw_torch": 2, "adamw_torch_fused": 2, "sgd": 0}
"""Tensors of the weights' size and type that an optimizer keeps."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one process.

    copies: weights cast to the type of the computation. communication: layers gathered by FSDP, or DDP's buckets.
    activations: what the recipe asks for, activations_kept or activations_checkpointed, without what is offloaded to
    the host. head: the loss and the gradient of the head. peak: without accumulation, gradients come while activations
    go, and the larger counts.
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


def _widths(recipe: Recipe) -> tuple[int, int]:
    """Bytes of a number in a matrix product, and in the stream between the layers (that of the weights)."""
    computed = 2 if "bfloat16" in (recipe.compute, recipe.weights) else 4
    held = "float32" if recipe.lora is None and not recipe.fsdp else recipe.weights
    stream = 4 if held == "float32" and not (recipe.fsdp and recipe.compute == "bfloat16") else 2
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


def tokens_held(recipe: Recipe, work: Work) -> int:
    """The input tokens of a micro-batch in one process, at most."""
    return math.ceil(work.longest_pack * recipe.micro_batch / recipe.sequence_parallel)


def offloaded_bytes(recipe: Recipe, shape: Shape, tokens: int) -> int:
    """The layers' inputs, where they lie in the host's memory until they are needed."""
    return tokens * shape.layers * _widths(recipe)[1] * shape.hidden if recipe.activation_offload else 0


def _head_bytes(recipe: Recipe, shape: Shape, trained_tokens: int) -> int:
    """What `loss._HeadLoss` holds at its peak.

    The head cast, its gradient in float32 where it is trained (once: it becomes the weight's own), and a chunk of
    logits, raw and three times in float32. Under FSDP the gathered head is in the type of the computation, and so is
    the copy of the gradient that is sent. Beside them all the while hidden states and their gradients.
    """
    computed, stream = _widths(recipe)
    weight = shape.vocabulary * shape.hidden
    cast = weight * computed if computed != stream else 0
    hidden = trained_tokens * shape.hidden * (stream + 2 * computed)
    rows = min(trained_tokens, 2 * shape.hidden, CHUNK_BYTES["cuda"] // (4 * shape.vocabulary))
    chunk = 4 * max(1, rows) * shape.vocabulary
    logits = chunk * 3 + chunk * computed // 4
    gradient = weight * 4 if shape.head_is_trained else 0
    sent = weight * computed if shape.head_is_trained and recipe.fsdp and computed == 2 else 0
    return hidden + max(cast + gradient + logits, gradient + sent)


def trained_bytes(recipe: Recipe, shape: Shape) -> int:
    """What is trained, which is held in float32 whatever the type that the base model is loaded in."""
    return 4 * shape.trained


def memory_of(recipe: Recipe, shape: Shape, work: Work, *, gpus: int) -> Memory:
    """Bytes of one process, by part."""
    computed, stream = _widths(recipe)
    shards = max(1, gpus // recipe.replicas) if recipe.fsdp else 1
    tokens = tokens_held(recipe, work)
    kept, checkpointed = (activation_bytes(recipe, shape, tokens, checkpointed=again) for again in (False, True))
    activations = checkpointed if recipe.gradient_checkpointing else kept
    activations -= offloaded_bytes(recipe, shape, tokens)
    whole = work.longest_pack * recipe.micro_batch  # of a shared sequence one process may have all trained tokens
    head = _head_bytes(recipe, shape, min(tokens, math.ceil(whole * work.trained_tokens / work.tokens)))
    trained = trained_bytes(recipe, shape)
    weights = (shape.base_bytes + trained) // shards
    is_accumulated = recipe.packs_per_step > gpus // recipe.sequence_parallel * recipe.micro_batch
    gradients = trained // shards  # after each micro-batch (`sync_each_batch`)
    states = OPTIMIZER_STATES.get(recipe.optimizer, 2)
    optimizer = states * trained // shards + (4 * shape.trained_tensors if states else 0)
    # Autocast keeps its casts of trained weights to the end of the forward pass; of frozen ones only what is saved.
    is_cast = computed != stream and (recipe.lora is None or not recipe.gradient_checkpointing)
    copies = computed * shape.matmul if is_cast else 0
    layer = shape.matmul // shape.layers
    communication = trained if gpus > 1 else 0  # DDP's buckets
    if recipe.fsdp:
        # Two layers and the head whole; one layer's gradient whole, and in float32 on its way to the others.
        own = layer * (computed + 4) if recipe.lora is None else 0
        communication = computed * (2 * layer + shape.vocabulary * shape.hidden) + own
    layer_again = tokens * layer_bytes(recipe, shape)
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
    lengths are the documents'. Of experts those count that a token is sent to. The head counts on trained tokens alone.
    Checkpointing adds a forward of the layers.
    """
    is_full = recipe.lora is None
    attention = 2 * shape.layers * shape.query * work.squares  # forward
    layers = (6 if is_full else 4) * shape.active * work.tokens + 6 * shape.adapters * work.tokens
    again = 2 * (shape.active + shape.adapters) * work.tokens + attention if recipe.gradient_checkpointing else 0
    head = (6 if shape.head_is_trained else 4) * shape.vocabulary * shape.hidden * work.trained_tokens
    return float(layers + 3 * attention + again + head)
