"""The reliability of a critic's confidences, and the confidence below which its mistakes are better not masked.

Reads judged runs, writes nothing.

    sure = reliability(judged.runs["judge"])
    sure.curve[8].right, sure.curve[8].confidence          # of verdicts about 0.85 sure, the share that was right
    sure.threshold.min_confidence                          # what to set as policy.min_confidence; None: nothing is won

A verdict is right where it calls harmful what the truth calls harmful, and only then. The threshold is the one whose
flags have the highest F1 (of several, the lowest); a flag without a confidence always counts, as it does in the mask.
Chosen and measured on the same runs it flatters itself, so `f1_held_out` measures each run at the others' threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy

from srft.critic.agreement import Array, divided
from srft.critic.labels.label_sets import JudgedRun

BINS = 10
CANDIDATES = 100
"""Thresholds that are tried at most; of more confidences, this many quantiles."""


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts with a confidence from a tenth up to the next. Shares are `None` where there are none."""

    steps: int
    confidence: float | None
    """Their mean."""
    right: float | None
    """The share that is right."""
    flagged: int
    """How many of them are flags."""
    flags_right: float | None
    """The share of those that is right: what a mask by them is worth."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """Flags that are sure enough."""

    min_confidence: float | None
    """What to set; `None` where all flags together are as good."""
    precision: float | None
    recall: float | None
    f1: float | None
    f1_of_all: float | None
    """Of all flags, however sure."""
    f1_held_out: float | None
    """With each run at the threshold of the others."""


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """The confidences of one critic."""

    curve: tuple[Bin, ...]
    """From the lowest tenth to the highest."""
    error: float
    """The mean distance of confidence and share right, weighted by verdicts (expected calibration error)."""
    threshold: Threshold


def reliability(runs: Sequence[JudgedRun]) -> Reliability | None:
    """`None` where no verdict comes with a confidence."""
    known = [
        (sure, flagged, harmful)
        for run in runs
        for sure, flagged, harmful in zip(run.confidences, run.flagged, run.harmful, strict=False)
        if sure is not None and flagged is not None
    ]
    if not known:
        return None
    sure_V, flagged_V, harmful_V = (numpy.array(column, dtype=float) for column in zip(*known, strict=True))
    right_V = (flagged_V == harmful_V).astype(float)
    bin_V = numpy.minimum((sure_V * BINS + 1e-9).astype(int), BINS - 1)
    curve = tuple(_bin(bin_V == place, sure_V, flagged_V, right_V) for place in range(BINS))
    error = sum(abs((one.confidence or 0) - (one.right or 0)) * one.steps for one in curve)
    return Reliability(curve=curve, error=error / len(known), threshold=_threshold(runs, sure_V[flagged_V == 1]))


def _bin(in_it_V: Array, sure_V: Array, flagged_V: Array, right_V: Array) -> Bin:
    flags_V = in_it_V & (flagged_V == 1)
    return Bin(
        steps=int(in_it_V.sum()),
        confidence=float(sure_V[in_it_V].mean()) if in_it_V.any() else None,
        right=float(right_V[in_it_V].mean()) if in_it_V.any() else None,
        flagged=int(flags_V.sum()),
        flags_right=float(right_V[flags_V].mean()) if flags_V.any() else None,
    )


def _threshold(runs: Sequence[JudgedRun], sure_F: Array) -> Threshold:
    """sure_F: the confidences of the flags that have one."""
    given = numpy.unique(sure_F)
    if len(given) > CANDIDATES:
        given = numpy.unique(numpy.quantile(given, numpy.linspace(0, 1, CANDIDATES), method="lower"))
    candidates_C = numpy.array([0.0, *given])
    flagged_NC, hits_NC = _kept(runs, candidates_C)
    harmful_N = numpy.array([sum(run.harmful) for run in runs], dtype=float)
    f1_C = _f1(hits_NC.sum(axis=0), flagged_NC.sum(axis=0), harmful_N.sum())
    best = _best(f1_C)
    of_others = numpy.array(
        [
            _best(_f1(*(counts.sum(axis=0) - counts[place] for counts in (hits_NC, flagged_NC, harmful_N))))
            for place in range(len(runs))
        ]
    )
    each = numpy.arange(len(runs))
    held_out = _f1(hits_NC[each, of_others].sum(), flagged_NC[each, of_others].sum(), harmful_N.sum())
    hits, flagged = hits_NC[:, best].sum(), flagged_NC[:, best].sum()
    return Threshold(
        min_confidence=float(candidates_C[best]) if best > 1 else None,  # 0 and the lowest of all keep every flag
        precision=_known(divided(hits, flagged)),
        recall=_known(divided(hits, harmful_N.sum())),
        f1=_known(f1_C[best]),
        f1_of_all=_known(f1_C[0]),
        f1_held_out=_known(held_out),
    )


def _kept(runs: Sequence[JudgedRun], candidates_C: Array) -> tuple[Array, Array]:
    """(N, C) each: the flags that each threshold keeps in each run, and those of them that are right."""
    flagged, hits = [], []
    for run in runs:
        sure_T = numpy.array([numpy.inf if sure is None else sure for sure in _confidences(run)])
        flag_T = numpy.array([one is True for one in run.flagged])
        kept_CT = flag_T & (sure_T >= candidates_C[:, None])
        flagged.append(kept_CT.sum(axis=1))
        hits.append((kept_CT & numpy.array(run.harmful)).sum(axis=1))
    return numpy.array(flagged, dtype=float), numpy.array(hits, dtype=float)


def _confidences(run: JudgedRun) -> tuple[float | None, ...]:
    return run.confidences or (None,) * len(run.harmful)


def _f1(hits: Array, flagged: Array, harmful: Array) -> Array:
    return divided(2 * hits, flagged + harmful)


def _best(f1_C: Array) -> int:
    """The lowest threshold of those with the highest F1."""
    return int(numpy.nanargmax(f1_C)) if not numpy.isnan(f1_C).all() else 0


def _known(value: Array) -> float | None:
    return None if numpy.isnan(value) else float(value)
