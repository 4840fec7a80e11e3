"""Tests whether a critic tells good runs from bad ones: its score of a run beside the run's outcome.

Reads critiques and outcomes, writes nothing.

    by_outcome([Judgement(critique, resolved=True, failed=[False, True])])["milestones"].separation.auc
    separation([Scored("a", 0.9, True), Scored("b", 0.2, False), Scored("b", 0.3, False)])
    # Separation(auc=1.0, interval=None, ...)

The area under the ROC curve is the chance that a resolved run has a higher score than an unresolved one, both drawn at
random; 0.5 is a coin. Tasks are the sample, so the interval leaves out each task with all of its runs (jackknife). A
critic that cannot tell runs apart should not mask their steps; one that was told the outcome proves nothing by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy
from numpy.typing import NDArray
from scipy import stats

from srft.critic.agreement import Array, cohen_kappa
from srft.critic.intervals import Interval, jackknife_interval
from srft.critic.labels.labels import SHOWN, Critique


class Scored(NamedTuple):
    """A run's score by a critic, higher is better, and what it came to."""

    task: str
    score: float
    resolved: bool


class Separation(msgspec.Struct, frozen=True, kw_only=True):
    """How well scores separate. auc: `None` where all runs came to the same."""

    runs: int
    resolved: int
    tasks: int
    auc: float | None
    interval: Interval | None


def run_score(critique: Critique) -> float | None:
    """What a critic's verdicts say of a run as a whole: the share of its milestones where it counts those, else of the
    judged steps those that are no mistake. `None` where nothing was judged.

    A remark that counts nothing is left out of a critique, so no `reached` is 0.
    """
    if milestones := critique.remarks.get("milestones"):
        return critique.remarks.get("reached", 0) / milestones
    verdicts = [label.verdict for label in critique.labels if label.verdict is not None]
    return 1 - verdicts.count("mistake") / len(verdicts) if verdicts else None


def separation(runs: Sequence[Scored]) -> Separation:
    """The area under the ROC curve, with its 95 % interval by task."""
    tasks: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        tasks.setdefault(run.task, []).append(place)
    resolved_N = numpy.array([run.resolved for run in runs], dtype=bool)
    found = Separation(runs=len(runs), resolved=int(resolved_N.sum()), tasks=len(tasks), auc=None, interval=None)
    if not resolved_N.any() or resolved_N.all():
        return found
    wins_N = _wins(numpy.array([run.score for run in runs]), resolved_N)
    resolved, unresolved = int(resolved_N.sum()), int((~resolved_N).sum())
    won, pairs = float(wins_N[resolved_N].sum()), resolved * unresolved
    without = []
    for places in tasks.values():
        own = _own_pairs([runs[place] for place in places], wins_N[places])
        left = (resolved - own.resolved) * (unresolved - own.unresolved)
        without.append((won - own.won) / left if left else float("nan"))
    interval = jackknife_interval(won / pairs, numpy.array(without))
    return msgspec.structs.replace(
        found,
        auc=float(won / pairs),
        interval=None if interval is None else Interval(max(0.0, interval[0]), interval[1]),
    )


def _wins(score_N: Array, resolved_N: NDArray[numpy.bool_]) -> Array:
    """Of each run, the runs of the other outcome over which the resolved one is the higher; a tie is half of one."""
    wins_N = numpy.zeros(len(score_N))
    for side, others in ((resolved_N, ~resolved_N), (~resolved_N, resolved_N)):
        both = numpy.concatenate([score_N[side], score_N[others]])
        own = stats.rankdata(score_N[side])
        below = stats.rankdata(both)[: side.sum()] - own
        wins_N[side] = below if side is resolved_N else others.sum() - below
    return wins_N


class _OwnPairs(NamedTuple):
    """What falls out with a task: its runs of each outcome, and what the pairs with one of them in it have won."""

    resolved: int
    unresolved: int
    won: float


def _own_pairs(runs: Sequence[Scored], wins: Array) -> _OwnPairs:
    good, bad = ([run.score for run in runs if run.resolved is outcome] for outcome in (True, False))
    within = sum((one > other) + (one == other) / 2 for one in good for other in bad)  # counted from both sides
    return _OwnPairs(len(good), len(bad), float(wins.sum()) - within)


class Judgement(NamedTuple):
    """A critique of a run, with what the run came to. failed: of each step whether the rule `tool_error` calls it a
    mistake, `None` where it cannot tell."""

    critique: Critique
    resolved: bool | None
    failed: Sequence[bool | None]


class ByOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One critic beside the outcomes of the runs that it judged."""

    was_told: bool
    """Whether the outcome was shown to it: then `separation` says nothing."""
    runs: dict[str, int]
    """resolved, unresolved, unknown -> how many runs."""
    verdicts: dict[str, dict[str, int]]
    """The same -> verdict, or "abstained" -> how many steps."""
    separation: Separation
    agreement: float | None
    """Cohen's kappa with the rule `tool_error`, of mistake or not, on the steps that both judged."""
    agreement_interval: Interval | None
    """Its 95 % interval, over runs."""


def by_outcome(judgements: Sequence[Judgement]) -> dict[str, ByOutcome]:
    """Critic -> how it fares. Of each critic the last critique of a run counts."""
    last: dict[str, dict[str, Judgement]] = {}
    for one in judgements:
        last.setdefault(one.critique.critic, {})[one.critique.trajectory_id] = one
    return {critic: _beside(list(runs.values())) for critic, runs in sorted(last.items())}


_NAMES = {True: "resolved", False: "unresolved", None: "unknown"}


def _beside(judgements: Sequence[Judgement]) -> ByOutcome:
    runs: Counter[str] = Counter()
    verdicts: dict[str, Counter[str]] = {}
    scored = []
    for critique, resolved, _ in judgements:
        outcome = _NAMES[resolved]
        runs[outcome] += 1
        verdicts.setdefault(outcome, Counter()).update(label.verdict or "abstained" for label in critique.labels)
        if resolved is not None and (score := run_score(critique)) is not None:
            scored.append(Scored(critique.task_id, score, resolved))
    counts_NK = numpy.array([_marks(one) for one in judgements])
    sums = counts_NK.sum(axis=0)
    agreement = _kappa(sums)
    return ByOutcome(
        was_told=any("resolved" in SHOWN[one.critique.information] for one in judgements),
        runs=dict(runs),
        verdicts={outcome: dict(counts) for outcome, counts in verdicts.items()},
        separation=separation(scored),
        agreement=None if numpy.isnan(agreement) else float(agreement),
        agreement_interval=jackknife_interval(float(agreement), _kappa(sums - counts_NK)),
    )


def _marks(judgement: Judgement) -> list[int]:
    """(4,) of the steps that critic and rule both judged: how many; both mistakes; the critic's; the rule's."""
    failed_at = dict(enumerate(judgement.failed))
    both = [
        (label.verdict == "mistake", failed)
        for label in judgement.critique.labels
        if label.verdict is not None and (failed := failed_at.get(label.step)) is not None
    ]
    mistakes = [mistake and failed for mistake, failed in both]
    return [len(both), sum(mistakes), sum(mistake for mistake, _ in both), sum(failed for _, failed in both)]


def _kappa(counts: Array) -> Array:
    items, both, first, second = numpy.moveaxis(counts, -1, 0)
    return cohen_kappa(both=both, first=first, second=second, items=items)
