"""How good a critic is: its verdicts against true labels, next to what needs no critic.

Reads verdicts already in memory, writes nothing.

    report = calibrate(judged_runs(truth, {"judge": verdicts}))
    report.critics["judge"].recall, report.critics["judge"].intervals["recall"], report.baselines["flag_all"].f1

Definitions, which give AgentProcessBench's published figures for its critics:
- A step is harmful by its true verdict and flagged by the critic's: `mistake`, unless other verdicts are asked for.
- A step that the critic abstains from is not flagged: SRFT would train it. It is counted as abstained.
- First-error accuracy is over all runs: the first flagged step is the first harmful one, or the run has neither.
- A run that the critic has no verdicts for at all is left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy

from srft.critic.agreement import (
    RESAMPLES,
    Array,
    Interval,
    cohen_kappa,
    divided,
    fleiss_counts,
    fleiss_kappa,
    interval,
    resampled_sums,
)
from srft.critic.labels.label_sets import Judged, JudgedRun
from srft.env.errors import InputError

TENTHS = 10

_SUMS = ("runs", "steps", "harmful", "flagged", "hits", "abstained", "first_right", "failed_runs", "first_found")
_TENTH_SUMS = ("steps", "harmful", "flagged", "hits")


class Tenth(msgspec.Struct, frozen=True, kw_only=True):
    """A tenth of the runs' length: how its steps fare. Rates are `None` where there is nothing to divide by."""

    steps: int
    harmful_rate: float | None
    flag_rate: float | None
    recall: float | None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What flags are worth. A figure that does not exist is `None`; `intervals` has the 95 % ones by name.

    flagged_steps: a whole number, but for an expectation. first_error_found: first-error accuracy over the runs that
    have an error.
    """

    runs: int
    steps: int
    harmful_steps: int
    flagged_steps: float
    abstained_steps: int
    precision: float | None
    recall: float | None
    f1: float | None
    kappa: float | None
    first_error_accuracy: float | None
    first_error_found: float | None
    flag_rate: float | None
    intervals: dict[str, Interval | None]
    profile: tuple[Tenth, ...]


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How far raters agree on what is harmful, beyond chance. raters: critics, or votes of one critic."""

    runs: int
    steps: int
    fleiss_kappa: float | None
    mean_pairwise_kappa: float | None = None
    intervals: dict[str, Interval | None]


class Calibration(Score, frozen=True, kw_only=True):
    """One critic's score. random: the expectation of flags thrown at its rate. votes: how its own votes agree."""

    runs_without_verdicts: int
    runs_without_truth: int
    random: Score
    votes: Agreement | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All critics, on the same resamples. flag_non_zero_exit is `None` where no exit codes are known.

    agreement: between the critics, on the runs that all of them judged; `None` for fewer than two.
    """

    critics: dict[str, Calibration]
    baselines: dict[str, Score | None]
    agreement: Agreement | None


def calibrate(judged: Judged, *, seed: int = 0, resamples: int = RESAMPLES) -> Report:
    """Scores with 95 % bootstrap intervals over runs. All rows see the same resamples, so they can be compared.

    Raises InputError for a critic that judged none of the runs.
    """
    for critic, judged_by_it in judged.runs.items():
        if not judged_by_it:
            raise InputError(f"{critic} has no verdicts on any of the runs with true labels; are they the same runs?")
    every = {run.id: run for runs in judged.runs.values() for run in runs}
    table = _Table(list(every), seed=seed, resamples=resamples)
    # The baselines come first: they are on all runs, whoever judged them.
    baselines: dict[str, list[JudgedRun] | None] = {
        "flag_all": [_flag(run, [True] * len(run.harmful)) for run in every.values()],
        "flag_last": [
            _flag(run, [place == len(run.harmful) - 1 for place in range(len(run.harmful))]) for run in every.values()
        ],
        "flag_non_zero_exit": _flag_failed_tools(list(every.values())),
    }
    for name, flagged in baselines.items():
        if flagged is not None:
            table.add(("baseline", name), _score_counts(flagged))
    for critic, runs in judged.runs.items():
        table.add(("critic", critic), _score_counts(runs))
        table.add(("random", critic), _random_counts(runs))
        table.add(("votes", critic), _vote_counts(runs))
    table.add(("agreement",), _agreement_counts(judged.runs))
    sums = table.summed()
    return Report(
        critics={critic: _calibration(critic, judged, sums) for critic in judged.runs},
        baselines={name: None if runs is None else _score(sums["baseline", name]) for name, runs in baselines.items()},
        agreement=_agreement(sums["agreement",], pairs=len(judged.runs) * (len(judged.runs) - 1) // 2),
    )


def _flag(run: JudgedRun, flagged: Sequence[bool | None]) -> JudgedRun:
    return run._replace(flagged=tuple(flagged))


def _flag_failed_tools(runs: Sequence[JudgedRun]) -> list[JudgedRun] | None:
    """`None` where no exit code of any step is known."""
    known = any(failed is not None for run in runs for failed in run.failed_tools)
    return [_flag(run, run.failed_tools or [None] * len(run.harmful)) for run in runs] if known else None


class _Sums(NamedTuple):
    """Sums over the runs (K,) and over each resample of the runs (R, K)."""

    whole: Array
    resampled: Array


class _Table:
    """Counts a run, side by side for everything that is scored, so that all of it is resampled at once."""

    def __init__(self, runs: Sequence[str], *, seed: int, resamples: int) -> None:
        self._row = {run: place for place, run in enumerate(runs)}
        self._seed, self._resamples = seed, resamples
        self._blocks: dict[tuple[str, ...], Array] = {}

    def add(self, key: tuple[str, ...], counts: Mapping[str, Array]) -> None:
        """counts: run -> (K,). Runs without any stay 0: they are not in this score."""
        width = len(next(iter(counts.values()), ()))
        block = numpy.zeros((len(self._row), width))
        for run, of_run in counts.items():
            block[self._row[run]] = of_run
        self._blocks[key] = block

    def summed(self) -> dict[tuple[str, ...], _Sums]:
        counts_NK = numpy.concatenate(list(self._blocks.values()), axis=1)
        resampled = resampled_sums(counts_NK, seed=self._seed, resamples=self._resamples)
        ends = numpy.cumsum([block.shape[1] for block in self._blocks.values()])
        parts = numpy.split(resampled, ends[:-1], axis=1)
        return {
            key: _Sums(block.sum(axis=0), part) for (key, block), part in zip(self._blocks.items(), parts, strict=True)
        }


def _score_counts(runs: Sequence[JudgedRun]) -> dict[str, Array]:
    """Run -> the counts named by _SUMS, then those named by _TENTH_SUMS of each tenth."""
    return {run.id: _counts(run, numpy.array([one is True for one in run.flagged], dtype=float)) for run in runs}


def _counts(run: JudgedRun, flagged_T: Array, *, first_flagged_T: Array | None = None) -> Array:
    """flagged_T: 0 or 1, or the chance of it. first_flagged_T: the chance that the first flag is there, and nowhere."""
    harmful_T = numpy.array(run.harmful, dtype=float)
    steps = len(harmful_T)
    if first_flagged_T is None:
        first_flagged_T = numpy.zeros(steps + 1)
        first_flagged_T[int(flagged_T.argmax()) if flagged_T.any() else steps] = 1
    failed = bool(harmful_T.any())
    first_right = first_flagged_T[int(harmful_T.argmax()) if failed else steps]
    abstained = sum(one is None for one in run.flagged)
    columns_CT = numpy.stack([numpy.ones(steps), harmful_T, flagged_T, harmful_T * flagged_T])
    tenths = numpy.zeros((TENTHS, len(_TENTH_SUMS)))
    numpy.add.at(tenths, (numpy.array(run.places) * TENTHS).astype(int), columns_CT.T)
    whole = [1, *columns_CT.sum(axis=1), abstained, first_right, failed, failed * first_right]
    return numpy.concatenate([whole, tenths.ravel()])


def _random_counts(runs: Sequence[JudgedRun]) -> dict[str, Array]:
    """The exact expectation of the counts where each step is flagged by itself at the critic's rate."""
    flags = [one is True for run in runs for one in run.flagged]
    rate = sum(flags) / len(flags) if flags else 0.0
    counts = {}
    for run in runs:
        steps = len(run.harmful)
        unflagged_before = (1 - rate) ** numpy.arange(steps + 1)
        first = numpy.append(unflagged_before[:-1] * rate, unflagged_before[-1])
        known = run._replace(flagged=(False,) * steps)
        counts[run.id] = _counts(known, numpy.full(steps, rate), first_flagged_T=first)
    return counts


def _vote_counts(runs: Sequence[JudgedRun]) -> dict[str, Array]:
    """Run -> 1 and `fleiss_counts`, of the runs that have steps with votes."""
    counts = {}
    for run in runs:
        votes = [vote for vote in run.votes if vote is not None and vote[1] > 1]
        if votes:
            counts[run.id] = numpy.append(1, fleiss_counts(*zip(*votes, strict=True)))
    return counts


def _agreement_counts(by_critic: Mapping[str, Sequence[JudgedRun]]) -> dict[str, Array]:
    """Run -> 1, `fleiss_counts`, then for each pair of critics both, first, second; of the runs that all judged."""
    flags_of = [{run.id: [one is True for one in run.flagged] for run in runs} for runs in by_critic.values()]
    if len(flags_of) < 2:
        return {}
    shared = set.intersection(*(set(flags) for flags in flags_of))
    first, second = numpy.triu_indices(len(flags_of), k=1)
    counts = {}
    for run in flags_of[0]:
        if run in shared:
            flags_CT = numpy.array([flags[run] for flags in flags_of], dtype=float)
            each = flags_CT.sum(axis=1)
            pairs = numpy.stack([(flags_CT[first] * flags_CT[second]).sum(axis=1), each[first], each[second]], axis=1)
            raters = numpy.full(flags_CT.shape[1], len(flags_of))
            counts[run] = numpy.concatenate([[1], fleiss_counts(flags_CT.sum(axis=0), raters), pairs.ravel()])
    return counts


def _metrics(sums: Array) -> dict[str, Array]:
    """The figures from sums of counts (..., K), K as in _SUMS."""
    named = dict(zip(_SUMS, numpy.moveaxis(sums[..., : len(_SUMS)], -1, 0), strict=True))
    steps, harmful, flagged, hits = (named[name] for name in _TENTH_SUMS)
    return {
        "precision": divided(hits, flagged),
        "recall": divided(hits, harmful),
        "f1": divided(2 * hits, flagged + harmful),
        "kappa": cohen_kappa(both=hits, first=harmful, second=flagged, items=steps),
        "first_error_accuracy": divided(named["first_right"], named["runs"]),
        "first_error_found": divided(named["first_found"], named["failed_runs"]),
        "flag_rate": divided(flagged, steps),
    }


def _known(value: Array) -> float | None:
    return None if numpy.isnan(value) else float(value)


def _score(sums: _Sums) -> Score:
    named = dict(zip(_SUMS, sums.whole[: len(_SUMS)], strict=True))
    flagged = float(named["flagged"])
    return Score(
        runs=int(named["runs"]),
        steps=int(named["steps"]),
        harmful_steps=int(named["harmful"]),
        flagged_steps=int(flagged) if flagged.is_integer() else flagged,
        abstained_steps=int(named["abstained"]),
        **{name: _known(value) for name, value in _metrics(sums.whole).items()},
        intervals={name: interval(values) for name, values in _metrics(sums.resampled).items()},
        profile=tuple(_tenth(tenth) for tenth in sums.whole[len(_SUMS) :].reshape(TENTHS, len(_TENTH_SUMS))),
    )


def _tenth(sums: Array) -> Tenth:
    steps, harmful, flagged, hits = sums
    rates = (_known(divided(harmful, steps)), _known(divided(flagged, steps)), _known(divided(hits, harmful)))
    return Tenth(steps=int(steps), harmful_rate=rates[0], flag_rate=rates[1], recall=rates[2])


def _calibration(critic: str, judged: Judged, sums: Mapping[tuple[str, ...], _Sums]) -> Calibration:
    return Calibration(
        **msgspec.structs.asdict(_score(sums["critic", critic])),
        runs_without_verdicts=judged.without_verdicts[critic],
        runs_without_truth=judged.without_truth[critic],
        random=_score(sums["random", critic]),
        votes=_agreement(sums["votes", critic], pairs=0),
    )


def _agreement(sums: _Sums, *, pairs: int) -> Agreement | None:
    """sums: 1 a run, `fleiss_counts`, and both, first, second of each pair."""
    if sums.whole.size == 0:
        return None
    figures = {"fleiss_kappa": (fleiss_kappa(sums.whole[1:5]), fleiss_kappa(sums.resampled[:, 1:5]))}
    if pairs:
        figures["mean_pairwise_kappa"] = (_mean_kappa(sums.whole, pairs), _mean_kappa(sums.resampled, pairs))
    return Agreement(
        runs=int(sums.whole[0]),
        steps=int(sums.whole[1]),
        **{name: _known(whole) for name, (whole, _) in figures.items()},
        intervals={name: interval(resampled) for name, (_, resampled) in figures.items()},
    )


def _mean_kappa(sums: Array, pairs: int) -> Array:
    both, first, second = numpy.moveaxis(sums[..., 5:].reshape(*sums.shape[:-1], pairs, 3), -1, 0)
    kappa: Array = cohen_kappa(both=both, first=first, second=second, items=sums[..., 1:2]).mean(axis=-1)
    return kappa
