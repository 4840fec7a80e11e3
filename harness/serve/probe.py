"""Checks that the served weights are those of a folder: logprobs of a fixed text, by the server and by a direct forward.

A server can keep old weights and say nothing: vLLM's `reload_weights` answers 200 and is silently wrong where
embeddings are tied, an adapter under a known name is served from stale prefix blocks, a restart can hit the old
process.

    expected = expected_logprobs(weights)            # before the server starts; on the CPU
    probe(server, expected)                          # Probe(verdict="served", ...), or StaleWeights is raised
    probe(server, expected, base=of_base)            # "undecided" where the two cannot be told apart

The measure is the mean over the text's tokens of |served - direct| in nats. The direct forward computes in the type
that the weights are stored in, so the tolerance is that of the coarser of the two types: what rounding comes to,
measured. It runs on the CPU: a server may hold the GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import torch
from torch import Tensor

from srft.env.errors import SrftError
from srft.harness.serve.memory import out_of_memory
from srft.harness.serve.server import Server
from srft.harness.serve.weights import load_weights, refuse_too_large, tokenizer_of
from srft.train.rows.render import Renderer

TEXT = '''\
The tests fail since the last change. I look at the file first, then I run the one test that shows it.

def moving_average(values, width):
    """The mean of each window of `width` neighbours."""
    if width < 1:
        raise ValueError(f"width: expected at least 1, got {width}")
    total, means = 0.0, []
    for place, value in enumerate(values):
        total += value
        if place >= width:
            total -= values[place - width]
        if place >= width - 1:
            means.append(total / width)
    return means

$ python -m pytest -q test_average.py
F                                                                [100%]
E       assert [1.5, 2.5] == [1.5, 2.5, 3.5]
The loop ends one place too early: range(len(values) - 1) leaves out the last window. I fix the bound and run it again.

$ sed -i 's/range(len(values) - 1)/range(len(values))/' average.py && python -m pytest -q test_average.py
.                                                                [100%]
Le coût total est de 12,50 euros; die Prüfung läuft; 東京は雨です。 {"name": "x", "values": [1, 2.5, -3e8, null, true]}
'''
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.03}
"""Mean differences in nats that rounding explains, with room: of a model of 135 M weights it is 3e-6 and 0.04."""
LARGEST_ERROR = 0.1
"""The standard error of `moved` up to which it decides."""

Verdict = Literal["served", "undecided"]


class StaleWeights(SrftError):
    """The server does not serve the weights that it was given."""


class Probe(NamedTuple):
    """What a probe found. difference: mean |served - direct| over the tokens, in nats.

    moved: how far what is served has come from the base (0) to the weights (1), by least squares, and its standard
    error; `None` without a base, and where base and weights give the same. verdict: "undecided" where a base was given
    and cannot be told from the weights.
    """

    verdict: Verdict
    tokens: int
    difference: float
    tolerance: float
    moved: float | None
    moved_error: float | None


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a direct forward of some weights gives.

    weights: the folder, for messages. token_ids: of the text, (T,). logprobs: of token_ids[1:]. dtype: the type that
    the weights are stored in.
    """

    weights: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    dtype: str


def probe(server: Server, expected: Expected, *, base: Expected | None = None) -> Probe:
    """Compare what is served with the weights. Raises StaleWeights, ModelError.

    base: of the weights that the server would have if it had not taken the new ones, where known; of the same tokens.
    """
    served = torch.tensor(server.logprobs(expected.token_ids), dtype=torch.float64)
    direct = torch.tensor(expected.logprobs, dtype=torch.float64)
    tolerance = max(TOLERANCES[server.dtype], TOLERANCES[expected.dtype])
    difference = float((served - direct).abs().mean())
    moved = _moved(served, direct, torch.tensor(base.logprobs, dtype=torch.float64)) if base is not None else None
    decides = moved is not None and moved.error <= LARGEST_ERROR
    # "not <=", so that nan is caught
    if not difference <= tolerance or (moved is not None and decides and moved.share < 0.5):
        raise StaleWeights(_complaint(expected, base, difference, tolerance, moved))
    verdict: Verdict = "served" if base is None or decides else "undecided"
    found = (moved.share, moved.error) if moved is not None else (None, None)
    return Probe(verdict, len(expected.token_ids), difference, tolerance, *found)


class _Moved(NamedTuple):
    share: float
    error: float


def _moved(served: Tensor, expected: Tensor, of_base: Tensor) -> _Moved | None:
    """Where `served` lies between the base and the weights: the coefficient of the difference between these two."""
    way, gone = expected - of_base, served - of_base
    length = float(way.norm())
    if length == 0:
        return None
    share = float(gone @ way) / length**2
    rest = gone - share * way
    return _Moved(share, float(rest.square().mean().sqrt()) / length)


def probe_tokens(weights: str | Path) -> list[int]:
    """The fixed text in the tokens of the folder's tokenizer."""
    tokenizer = Renderer.load(tokenizer_of(weights)).tokenizer
    return list(tokenizer.backend_tokenizer.encode(TEXT, add_special_tokens=False).ids)  # type: ignore[attr-defined]


def expected_logprobs(weights: str | Path, token_ids: Sequence[int] | None = None) -> Expected:
    """One plain forward of transformers over the probe's text, on the CPU. Raises InputError, OutOfMemory.

    token_ids: those of another folder's tokenizer.
    """
    ids = probe_tokens(weights) if token_ids is None else list(token_ids)
    what = f"the weight probe of {weights}, which computes with them on the CPU"
    do = "free memory on this machine, or serve them from one that has more"
    refuse_too_large(weights, what=what, do=do)
    with out_of_memory(what, do=do):
        model = load_weights(weights, dtype=None, device=torch.device("cpu"))
        model.set_attn_implementation("eager")
        row = torch.tensor([ids])
        with torch.inference_mode():
            logits = model(input_ids=row, use_cache=False).logits[0, :-1].float()
        logprobs = logits.log_softmax(-1).gather(1, row[0, 1:, None])[:, 0].double().tolist()
    dtype = str(model.dtype).removeprefix("torch.")
    return Expected(weights=str(weights), token_ids=tuple(ids), logprobs=tuple(logprobs), dtype=dtype)


def _complaint(
    expected: Expected, base: Expected | None, difference: float, tolerance: float, moved: _Moved | None
) -> str:
    way = (
        f", {round(100 * moved.share)}% of the way to them from {base.weights}"
        if moved is not None and base is not None
        else ""
    )
    return (
        f"the server does not serve {expected.weights}: expected logprobs of the probe text within {tolerance:g} nats "
        f"of a direct forward of these weights, on the mean, got {difference:.4g}{way}; start the server again with "
        "them, and do not trust what was evaluated since they were loaded"
    )
