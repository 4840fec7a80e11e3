"""The hardware of a training: a GPU of the table, this machine's GPU, or this machine's processor, timed.

    read_machine(recipe, processes=8)            # Machine(name="H100-80GB", memory_bytes=..., flops_per_s=989e12, ...)

Peaks are the vendors' for dense matrices, 16-bit with float32 sums. Memory is what a program sees of it.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

import msgspec
import torch

from srft.env.errors import InputError
from srft.train.fit.recipe import Recipe

USABLE_SHARE = 0.92
"""Of the memory: the rest goes to the runtime, the kernels' workspaces and fragmentation."""
MFU = 0.35
MEASURED_SHARE = 0.5
"""Of the pace of one large product, what a whole training reaches."""


class Gpu(NamedTuple):
    """gib: memory. bfloat16, float32: peak FLOP/s. words: all stand in the name that the driver gives."""

    gib: float
    bfloat16: float
    float32: float
    words: tuple[str, ...]


GPUS = {
    "H200": Gpu(139.8, 989e12, 67e12, ("H200",)),
    "H100-80GB": Gpu(79.1, 989e12, 67e12, ("H100", "HBM3")),
    "A100-80GB": Gpu(79.1, 312e12, 19.5e12, ("A100", "80GB")),
    "L40S": Gpu(44.4, 362e12, 91.6e12, ("L40S",)),
    "RTX4090": Gpu(23.5, 165e12, 82.6e12, ("4090",)),
}


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One process's share of the machine. basis: where flops_per_s and reached_share come from, for a person."""

    name: str
    memory_bytes: int
    flops_per_s: float
    reached_share: float
    basis: str


def read_machine(recipe: Recipe, *, processes: int) -> Machine:
    """The recipe's GPU, else this machine's GPU, else its processor. Raises InputError for a GPU not known."""
    wanted = recipe.plan.gpu
    if wanted is not None:
        if wanted not in GPUS:
            raise InputError(f"plan.gpu {wanted}: not known; expected one of {', '.join(GPUS)}, or none: this machine")
        return _published(wanted, recipe, memory_bytes=int(GPUS[wanted].gib * 2**30))
    if torch.cuda.is_available():
        name, memory_bytes = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
        for known, gpu in GPUS.items():
            if all(word in name for word in gpu.words):
                return _published(known, recipe, memory_bytes=memory_bytes)
        return _timed(name, "cuda", recipe, memory_bytes=memory_bytes, processes=1)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // processes
    return _timed(
        f"CPU, {torch.get_num_threads()} threads", "cpu", recipe, memory_bytes=memory_bytes, processes=processes
    )


def _published(name: str, recipe: Recipe, *, memory_bytes: int) -> Machine:
    gpu, share = GPUS[name], recipe.plan.mfu or MFU
    kind = "bfloat16" if "bfloat16" in (recipe.compute, recipe.weights) else "float32"
    peak = gpu.bfloat16 if kind == "bfloat16" else gpu.float32
    basis = f"{share:.0%} (plan.mfu) of {name}'s published dense {kind} peak, {peak / 1e12:,.0f} TFLOP/s"
    return Machine(name=name, memory_bytes=memory_bytes, flops_per_s=peak, reached_share=share, basis=basis)


def _timed(name: str, device: str, recipe: Recipe, *, memory_bytes: int, processes: int) -> Machine:
    """processes: those that share the device."""
    kind = torch.bfloat16 if "bfloat16" in (recipe.compute, recipe.weights) else torch.float32
    pace, share = time_product(device, kind) / processes, recipe.plan.mfu or MEASURED_SHARE
    basis = f"{share:.0%} (plan.mfu) of {pace / 1e12:,.3f} TFLOP/s, timed here just now on a product of matrices"
    return Machine(name=name, memory_bytes=memory_bytes, flops_per_s=pace, reached_share=share, basis=basis)


def time_product(device: str, kind: torch.dtype, *, seconds: float = 0.5) -> float:
    """FLOP/s of products of square matrices, over about that many seconds; the first product warms up."""
    size = 8192 if device == "cuda" else 1024
    left, right = (torch.ones(size, size, dtype=kind, device=device) for _ in range(2))
    last = (left @ right)[0, 0].item()  # item() waits for the device
    products, begun_s = 0, time.monotonic()
    while time.monotonic() - begun_s < seconds:
        last = (left @ right)[0, 0].item()
        products += 1
    assert last == size
    return products * 2 * size**3 / (time.monotonic() - begun_s)
