"""Training: our MaskedTrainer against TRL's SFTTrainer, on the same rows of the recorded runs and the same model.

SmolLM2-135M, all weights, on 2 CPU threads; rows of the arm tool_error, cut to 2,048 tokens. Each side is a process of
its own that keeps its trainer between turns; the turns are as short as TRL's batches, alternate, and take turns in
being first. Each trains the same rows on both sides, and the losses of the first optimizer step, before any weight has
changed, must agree: it is the same work. That step warms up and is not counted. `ratio` is the median over the steps of
TRL's time over ours, so that a slow minute of the machine is slow for both. Processor seconds are given beside, as they
depend less on who else uses the machine.

Two opponents: TRL with what is best for it here (one row at a time, so no padding; no recomputing of activations; there
is nothing to pack, as no two of these rows fit into 2,048 tokens), and TRL as it comes, with batches of 8 rows.
SRFT_BENCH_TRL names a virtual environment that has TRL; without it, `.venv-bench-trl` is made.
"""

import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy
from benchmarks.recorded_runs import ARM, NO_MODEL, NO_RUNS, model, recorded_runs, write_arm
from benchmarks.rows import Bench, Goal, Row
from benchmarks.tiny_task import ROOT
from benchmarks.worker import PeerError, Worker, install
from loguru import logger

from srft.train.fit.pack import pack
from srft.train.rows.render import Renderer
from srft.train.rows.rows import RowSettings, RowTable

TRL = "trl==1.16.0"
TOKENS = 2048
AS_GOOD_AS_IT_GETS = {
    "max_length": None,
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 4,
    "bf16": True,
}
AS_IT_COMES = {"max_length": TOKENS}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "2",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
MEMORY = Goal(at_least_times=1.0, text="<= 1.0x TRL's")
SAME_LOSS = 0.01
"""How far apart, relatively, the losses of the first step may lie: both compute in bfloat16, each in its own order."""

MEBIBYTE = 1 << 20


class Match(NamedTuple):
    """A pairing. steps: optimizer steps that are counted. rows_a_step, rows_a_batch: TRL's; ours has batches of 1."""

    name: str
    opponent: str
    settings: dict[str, Any]
    rows_a_step: int
    rows_a_batch: int
    steps: int
    goal: Goal


BEST = Match("train_speed", "TRL at its best", AS_GOOD_AS_IT_GETS, 4, 1, 6, Goal(at_least_times=1.3))
DEFAULTS = Match("train_speed_defaults", "TRL's defaults", AS_IT_COMES, 8, 8, 3, Goal(at_least_times=1.5))


class Step(NamedTuple):
    """One side's optimizer step. peak_bytes: the most memory that the process has held so far."""

    wall_s: float
    cpu_s: float
    loss: float
    peak_bytes: int


def train_speed(bench: Bench) -> dict[str, Row]:
    return _match(bench, BEST)


def train_speed_defaults(bench: Bench) -> dict[str, Row]:
    return _match(bench, DEFAULTS)


def _match(bench: Bench, match: Match) -> dict[str, Row]:
    runs, base = recorded_runs(), model("smollm2-135m")
    python = Path(os.environ.get("SRFT_BENCH_TRL") or ROOT / ".venv-bench-trl") / "bin" / "python"
    missing = NO_RUNS if runs is None else NO_MODEL if base is None else _missing_trl(python)
    if missing or runs is None or base is None:
        return {match.name: Row(value=None, unit="rows/s", peer=str(missing), goal=str(match.goal))}
    steps = 1 if bench.quick else match.steps
    with tempfile.TemporaryDirectory(prefix="srft-bench-") as folder:
        write_arm(Path(folder), runs, Renderer.load(base), RowSettings(max_tokens=TOKENS))
        table = RowTable.open(Path(folder, ARM))
        order = _order(table, rows=(1 + steps) * match.rows_a_step)
        with _workers(match, table, base, python, order) as workers:
            played = [_step(match, workers, number) for number in range(1 + steps)]
    lengths = [len(table[number].input_ids) for number in order]
    tokens = [sum(lengths[place : place + match.rows_a_step]) for place in range(0, len(lengths), match.rows_a_step)]
    return _rows(match, [ours for ours, _ in played], [theirs for _, theirs in played], tokens)


def _missing_trl(python: Path) -> str | None:
    same = [f"{name}=={version(name)}" for name in ("transformers", "accelerate", "datasets")]
    wanted = [[f"torch=={version('torch')}"], [TRL, *same]]
    problem = install(python.parents[1], wanted, probe="from trl import SFTTrainer", size="1.5 GB")
    return None if problem is None else f"TRL: not measured, {problem}"


def _order(table: RowTable, *, rows: int) -> list[int]:
    """So many row numbers, drawn with a fixed seed, each a pack of its own on our side as well."""
    packs = pack((table.used_tokens_N - 1).tolist(), max_tokens=TOKENS)
    if len(packs) != len(table) or len(packs) < rows:
        raise PeerError(f"{len(packs)} packs of {len(table)} rows; expected as many, and {rows} or more")
    order: list[int] = numpy.random.default_rng(0).permutation(len(table))[:rows].tolist()
    return order


@contextmanager
def _workers(
    match: Match, table: RowTable, base: Path, python: Path, order: list[int]
) -> Iterator[tuple[Worker, Worker]]:
    """Ours and TRL's, both ready for their first step."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="srft-bench-") as out, ExitStack() as stack:
        env = {**ENVIRONMENT, "HF_HOME": out}
        paths = {"rows": str(table.folder), "model": str(base), "out": out}
        packs = {"packs": [[number] for number in order], "packs_per_step": match.rows_a_step}
        settings = {"order": order, "settings": match.settings}
        ours = [sys.executable, here / "trainer_worker.py", json.dumps(paths | packs)]
        theirs = [python, here / "trl_worker.py", json.dumps(paths | settings)]
        workers = (Worker("srft", ours, env=env), Worker(match.opponent, theirs, env=env))
        for worker in workers:
            stack.enter_context(closing(worker))
        for worker in workers:
            worker.hear()
        yield workers


def _step(match: Match, workers: tuple[Worker, Worker], number: int) -> tuple[Step, Step]:
    """One optimizer step of both, in turns. Raises PeerError where the first one is not the same work."""
    answers: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    batches = (match.rows_a_batch, 1)  # a turn trains the same rows on both sides
    for turn in range(match.rows_a_step // match.rows_a_batch):
        for side in (0, 1) if (number + turn) % 2 else (1, 0):
            answers[side].append(workers[side].ask(batches=batches[side]))
    ours, theirs = (
        Step(
            sum(answer["wall_s"] for answer in of_side),
            sum(answer["cpu_s"] for answer in of_side),
            of_side[-1]["loss"],
            of_side[-1]["peak_bytes"],
        )
        for of_side in answers
    )
    logger.info("step {}: {:.1f} s (loss {:.4f}) and TRL {:.1f} s ({:.4f})", number, *ours[::2], *theirs[::2])
    if not number and not math.isclose(ours.loss, theirs.loss, rel_tol=SAME_LOSS):
        raise PeerError(
            f"the first step's losses are {ours.loss:.4f} and TRL's {theirs.loss:.4f}: this is not the same work"
        )
    return ours, theirs


def _rows(match: Match, ours: list[Step], theirs: list[Step], tokens: list[int]) -> dict[str, Row]:
    """The first step of each is the one that warmed up."""
    peer = f"{match.opponent} ({TRL})"
    rows = match.rows_a_step
    losses = [f"{name} losses {ours[n].loss:.4f} and {theirs[n].loss:.4f}" for name, n in (("first", 0), ("last", -1))]
    note = f"{len(ours) - 1} steps of {rows} rows; {', '.join(losses)}"
    wall_s, cpu_s = ([(a[field], b[field]) for a, b in zip(ours[1:], theirs[1:], strict=True)] for field in (0, 1))
    per_token = [(a / count, b / count) for (a, b), count in zip(wall_s, tokens[1:], strict=True)]
    return {
        match.name: _rate(1 / rows, wall_s, "rows/s", peer, note=note, goal=match.goal),
        f"{match.name}_tokens": _rate(1, per_token, "row tokens/s", peer),
        f"{match.name}_cpu": _rate(1 / rows, cpu_s, "rows/processor s", peer),
        f"{match.name}_memory": _memory(peer, ours, theirs),
    }


def _rate(
    scale: float, pairs: list[tuple[float, float]], unit: str, peer: str, *, note: str = "", goal: Goal | None = None
) -> Row:
    """Rates from pairs of seconds, ours and theirs, each for one unit once it is multiplied by `scale`."""
    ours, theirs = (median(1 / (pair[side] * scale) for pair in pairs) for side in (0, 1))
    ratio = median(pair[1] / pair[0] for pair in pairs)
    return Row(
        value=round(ours, 4),
        unit=unit,
        peer=f"{peer} {theirs:,.3g}" + (f"; {note}" if note else ""),
        ratio=round(ratio, 2),
        goal=str(goal) if goal else None,
        met=goal.met(0.0, ratio) if goal else None,
    )


def _memory(peer: str, ours: list[Step], theirs: list[Step]) -> Row:
    ours_bytes, theirs_bytes = ours[-1].peak_bytes, theirs[-1].peak_bytes
    ratio = theirs_bytes / ours_bytes
    return Row(
        value=round(ours_bytes / MEBIBYTE, 1),
        unit="MiB at most",
        peer=f"{peer} {theirs_bytes / MEBIBYTE:,.0f}",
        ratio=round(ratio, 2),
        goal=str(MEMORY),
        met=MEMORY.met(0.0, ratio),
    )
