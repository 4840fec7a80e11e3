"""Scores a critic: its verdicts against true labels, next to baselines that need no critic.

Reads verdicts already in memory, writes nothing.

    report = calibrate(judged_runs(truth, {"judge": verdicts}))
    report.critics["judge"].recall, report.critics["judge"].intervals["recall"], report.baselines["flag_all"].f1

Definitions, which give AgentProcessBench's published figures for its critics:
- A step is harmful by its true verdict and flagged by the critic's: `mistake`, unless other verdicts are asked for.
- A step that the critic abstains from is not flagged: SRFT would train it. It is counted as abstained.
- First-error accuracy is over all runs: the first flagged step is the first harmful one, or the run has neither.
- A run that the critic has no verdicts for at all is left out and counted.

Two readings of the truth. AgentProcessBench labels by propagation: what follows from an error is harmful too. A critic
for masking says of each step whether it was wrong by itself. So each critic is scored twice: on the labels as they are,
and on those by which only the first step of each streak is harmful (`starts`). `ideals` are the scores of
the two judges that are always right by one of these readings: what a perfect critic could reach by the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import msgspec
import numpy

from srft.critic.agreement import Array, cohen_kappa, divided, fleiss_counts, fleiss_kappa
from srft.critic.confidence import Reliability, reliability
from srft.critic.intervals import Interval, jackknife_interval, ratio_interval
from srft.critic.labels.label_sets import Judged, JudgedRun, RunLabels, judged_runs
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


class Ideal(msgspec.Struct, frozen=True, kw_only=True):
    """A judge that is right by one reading, scored by both."""

    labelled: Score
    """By the labels as they are."""
    starts: Score
    """By those that call only the first step of each streak harmful."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two critics, or one under two prompts, on the runs that both judged: the first's figure less the second's.

    differences: figure -> (difference, its 95 % interval over runs), where both have it. disagreed: steps that one of
    them flagged and the other did not; first_right: those of them on which the first is right.
    """

    first: str
    second: str
    runs: int
    differences: dict[str, tuple[float, Interval | None]]
    disagreed: int
    first_right: int


class PeopleAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """Two people who labelled the same steps: no critic can be expected to agree more with either."""

    first: str
    second: str
    runs: int
    steps: int
    kappa: float | None
    interval: Interval | None


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How far raters agree on what is harmful, beyond chance. raters: critics, or votes of one critic."""

    runs: int
    steps: int
    fleiss_kappa: float | None
    mean_pairwise_kappa: float | None = None
    intervals: dict[str, Interval | None]


class Calibration(Score, frozen=True, kw_only=True):
    """One critic's score. random: the expectation of flags thrown at its rate. votes: how its own votes agree. starts:
    its score where only the first step of each streak is harmful. reliability: of its confidences, if it gives any."""

    runs_without_verdicts: int
    runs_without_truth: int
    random: Score
    votes: Agreement | None
    starts: Score
    reliability: Reliability | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All critics. flag_non_zero_exit is `None` where no exit codes are known.

    agreement: between the critics, on the runs that all of them judged; `None` for fewer than two. ideals: of a judge
    whose verdicts propagate and of one whose do not. pairs: each two critics. people: each two who labelled.
    """

    critics: dict[str, Calibration]
    baselines: dict[str, Score | None]
    agreement: Agreement | None
    ideals: dict[str, Ideal]
    pairs: tuple[Pair, ...]
    people: tuple[PeopleAgreement, ...] = ()


def calibrate(judged: Judged, *, people: Mapping[str, RunLabels] | None = None) -> Report:
    """Scores with 95 % intervals over runs: steps of one run share its task and its errors. people: who labelled ->
    what they said.

    Raises InputError for a critic that judged none of the runs.
    """
    for critic, judged_by_it in judged.runs.items():
        if not judged_by_it:
            raise InputError(f"{critic} has no verdicts on any of the runs with true labels; are they the same runs?")
    every = list({run.id: run for runs in judged.runs.values() for run in runs}.values())
    # The baselines are on all runs, whoever judged them.
    baselines: dict[str, list[JudgedRun] | None] = {
        "flag_all": [_flag(run, [True] * len(run.harmful)) for run in every],
        "flag_last": [
            _flag(run, [place == len(run.harmful) - 1 for place in range(len(run.harmful))]) for run in every
        ],
        "flag_non_zero_exit": _flag_failed_tools(every),
    }
    return Report(
        critics={critic: _calibration(critic, judged) for critic in judged.runs},
        baselines={name: None if runs is None else _score(_score_counts(runs)) for name, runs in baselines.items()},
        agreement=_agreement(_agreement_counts(judged.runs), pairs=len(judged.runs) * (len(judged.runs) - 1) // 2),
        ideals={
            "propagating": _ideal([_flag(run, run.harmful) for run in every]),
            "not_propagating": _ideal([_flag(run, _starts(run.harmful)) for run in every]),
        },
        pairs=tuple(_pair(first, second, judged.runs) for first, second in combinations(judged.runs, 2)),
        people=tuple(_people(first, second, people) for first, second in combinations(people, 2)) if people else (),
    )


def _starts(harmful: Sequence[bool]) -> tuple[bool, ...]:
    """The first step of each streak.

    >>> _starts((False, True, True, False, True))
    (False, True, False, False, True)
    """
    return tuple(now and not before for before, now in zip((False, *harmful), harmful, strict=False))


def _by_starts(run: JudgedRun) -> JudgedRun:
    return run._replace(harmful=_starts(run.harmful))


def _ideal(runs: Sequence[JudgedRun]) -> Ideal:
    return Ideal(labelled=_score(_score_counts(runs)), starts=_score(_score_counts([_by_starts(run) for run in runs])))


def _pair(first: str, second: str, by_critic: Mapping[str, Sequence[JudgedRun]]) -> Pair:
    of_first, of_second = ({run.id: run for run in by_critic[name]} for name in (first, second))
    shared = [run for run in of_first if run in of_second]
    runs = [(of_first[run], of_second[run]) for run in shared]
    flags = [
        (one is True, other is True, harmful)
        for left, right in runs
        for one, other, harmful in zip(left.flagged, right.flagged, left.harmful, strict=True)
    ]
    return Pair(
        first=first,
        second=second,
        runs=len(shared),
        differences=_differences(*(_score_counts(side) for side in zip(*runs, strict=True))) if runs else {},
        disagreed=sum(one != other for one, other, _ in flags),
        first_right=sum(one != other and one == harmful for one, other, harmful in flags),
    )


def _differences(first_NK: Array, second_NK: Array) -> dict[str, tuple[float, Interval | None]]:
    """Of both on the same runs, each of which is left out once on both sides."""
    both_NK, half = numpy.concatenate([first_NK, second_NK], axis=1), first_NK.shape[1]

    def difference(figure: Callable[[Array], Array]) -> tuple[float | None, Interval | None]:
        return _with_interval(lambda sums: figure(sums[..., :half]) - figure(sums[..., half:]), both_NK)

    figures: dict[str, Callable[[Array], Array]] = {
        name: (lambda sums, name=name: divided(*_ratios(sums)[name]))  # type: ignore[misc]
        for name in ("precision", "recall", "f1", "first_error_accuracy")
    }
    found = {name: difference(figure) for name, figure in {**figures, "kappa": _kappa}.items()}
    return {name: (value, interval) for name, (value, interval) in found.items() if value is not None}


def _people(first: str, second: str, people: Mapping[str, RunLabels]) -> PeopleAgreement:
    judged = judged_runs(people[first], {second: people[second]}).runs[second]
    kept = [_agreed_on(run) for run in judged]
    counts = [_counts(run, numpy.array(run.flagged, dtype=float)) for run in kept if run.harmful]
    kappa, interval = _with_interval(_kappa, numpy.array(counts)) if counts else (None, None)
    steps = sum(len(run.harmful) for run in kept)
    return PeopleAgreement(first=first, second=second, runs=len(counts), steps=steps, kappa=kappa, interval=interval)


def _agreed_on(run: JudgedRun) -> JudgedRun:
    """The steps that both gave a verdict."""
    both = [place for place, one in enumerate(run.flagged) if one is not None]
    return JudgedRun(
        run.id,
        *(tuple(column[place] for place in both) for column in (run.harmful, run.flagged, run.places)),  # type: ignore[arg-type]
    )


def _flag(run: JudgedRun, flagged: Sequence[bool | None]) -> JudgedRun:
    return run._replace(flagged=tuple(flagged))


def _flag_failed_tools(runs: Sequence[JudgedRun]) -> list[JudgedRun] | None:
    """`None` where no exit code of any step is known."""
    known = any(failed is not None for run in runs for failed in run.failed_tools)
    return [_flag(run, run.failed_tools or [None] * len(run.harmful)) for run in runs] if known else None


def _score_counts(runs: Sequence[JudgedRun]) -> Array:
    """(N, K): of each run the counts named by _SUMS, then those named by _TENTH_SUMS of each tenth."""
    return numpy.array([_counts(run, numpy.array([one is True for one in run.flagged], dtype=float)) for run in runs])


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


def _random_counts(runs: Sequence[JudgedRun]) -> Array:
    """The exact expectation of `_score_counts` where each step is flagged by itself at the critic's rate."""
    flags = [one is True for run in runs for one in run.flagged]
    rate = sum(flags) / len(flags) if flags else 0.0
    counts = []
    for run in runs:
        steps = len(run.harmful)
        unflagged_before = (1 - rate) ** numpy.arange(steps + 1)
        first = numpy.append(unflagged_before[:-1] * rate, unflagged_before[-1])
        known = run._replace(flagged=(False,) * steps)
        counts.append(_counts(known, numpy.full(steps, rate), first_flagged_T=first))
    return numpy.array(counts)


def _vote_counts(runs: Sequence[JudgedRun]) -> Array:
    """(N, 4): `fleiss_counts` of the runs that have steps with votes."""
    counts = []
    for run in runs:
        votes = [vote for vote in run.votes if vote is not None and vote[1] > 1]
        if votes:
            counts.append(fleiss_counts(*zip(*votes, strict=True)))
    return numpy.array(counts)


def _agreement_counts(by_critic: Mapping[str, Sequence[JudgedRun]]) -> Array:
    """(N, K): `fleiss_counts`, then of each pair of critics both, first, second; of the runs that all judged."""
    flags_of = [{run.id: [one is True for one in run.flagged] for run in runs} for runs in by_critic.values()]
    if len(flags_of) < 2:
        return numpy.zeros((0, 4))
    shared = set.intersection(*(set(flags) for flags in flags_of))
    first, second = numpy.triu_indices(len(flags_of), k=1)
    counts = []
    for run in flags_of[0]:
        if run in shared:
            flags_CT = numpy.array([flags[run] for flags in flags_of], dtype=float)
            each = flags_CT.sum(axis=1)
            pairs = numpy.stack([(flags_CT[first] * flags_CT[second]).sum(axis=1), each[first], each[second]], axis=1)
            raters = numpy.full(flags_CT.shape[1], len(flags_of))
            counts.append(numpy.concatenate([fleiss_counts(flags_CT.sum(axis=0), raters), pairs.ravel()]))
    return numpy.array(counts)


def _ratios(counts: Array) -> dict[str, tuple[Array, Array]]:
    """Figure -> (of what, through what), from counts or sums of them (..., K), K as in _SUMS."""
    named = _named(counts)
    steps, harmful, flagged, hits = (named[name] for name in _TENTH_SUMS)
    return {
        "precision": (hits, flagged),
        "recall": (hits, harmful),
        "f1": (2 * hits, flagged + harmful),
        "first_error_accuracy": (named["first_right"], named["runs"]),
        "first_error_found": (named["first_found"], named["failed_runs"]),
        "flag_rate": (flagged, steps),
    }


def _named(counts: Array) -> dict[str, Array]:
    return dict(zip(_SUMS, numpy.moveaxis(counts[..., : len(_SUMS)], -1, 0), strict=True))


def _kappa(sums: Array) -> Array:
    named = _named(sums)
    return cohen_kappa(both=named["hits"], first=named["harmful"], second=named["flagged"], items=named["steps"])


def _known(value: Array) -> float | None:
    return None if numpy.isnan(value) else float(value)


def _with_interval(figure: Callable[[Array], Array], counts_NK: Array) -> tuple[float | None, Interval | None]:
    """A figure of the sums over runs, and its interval by leaving out each run once."""
    sums = counts_NK.sum(axis=0)
    whole = figure(sums)
    return _known(whole), jackknife_interval(float(whole), figure(sums - counts_NK))


def _score(counts_NK: Array) -> Score:
    sums = counts_NK.sum(axis=0)
    named = {name: float(value) for name, value in _named(sums).items()}
    kappa, kappa_interval = _with_interval(_kappa, counts_NK)
    flagged = named["flagged"]
    return Score(
        runs=int(named["runs"]),
        steps=int(named["steps"]),
        harmful_steps=int(named["harmful"]),
        flagged_steps=int(flagged) if flagged.is_integer() else flagged,
        abstained_steps=int(named["abstained"]),
        **{name: _known(divided(*pair)) for name, pair in _ratios(sums).items()},
        kappa=kappa,
        intervals={name: ratio_interval(*pair) for name, pair in _ratios(counts_NK).items()}
        | {"kappa": kappa_interval},
        profile=tuple(_tenth(tenth) for tenth in sums[len(_SUMS) :].reshape(TENTHS, len(_TENTH_SUMS))),
    )


def _tenth(sums: Array) -> Tenth:
    steps, harmful, flagged, hits = sums
    rates = (_known(divided(harmful, steps)), _known(divided(flagged, steps)), _known(divided(hits, harmful)))
    return Tenth(steps=int(steps), harmful_rate=rates[0], flag_rate=rates[1], recall=rates[2])


def _calibration(critic: str, judged: Judged) -> Calibration:
    runs = judged.runs[critic]
    return Calibration(
        **msgspec.structs.asdict(_score(_score_counts(runs))),
        runs_without_verdicts=judged.without_verdicts[critic],
        runs_without_truth=judged.without_truth[critic],
        random=_score(_random_counts(runs)),
        votes=_agreement(_vote_counts(runs), pairs=0),
        starts=_score(_score_counts([_by_starts(run) for run in runs])),
        reliability=reliability(runs),
    )


def _agreement(counts_NK: Array, *, pairs: int) -> Agreement | None:
    """counts_NK: `fleiss_counts`, and both, first, second of each pair."""
    if len(counts_NK) == 0:
        return None
    figures = {"fleiss_kappa": _with_interval(lambda sums: fleiss_kappa(sums[..., :4]), counts_NK)}
    if pairs:
        figures["mean_pairwise_kappa"] = _with_interval(lambda sums: _mean_kappa(sums, pairs), counts_NK)
    return Agreement(
        runs=len(counts_NK),
        steps=int(counts_NK[:, 0].sum()),
        **{name: value for name, (value, _) in figures.items()},
        intervals={name: interval for name, (_, interval) in figures.items()},
    )


def _mean_kappa(sums: Array, pairs: int) -> Array:
    both, first, second = numpy.moveaxis(sums[..., 4:].reshape(*sums.shape[:-1], pairs, 3), -1, 0)
    kappa: Array = cohen_kappa(both=both, first=first, second=second, items=sums[..., 0:1]).mean(axis=-1)
    return kappa
