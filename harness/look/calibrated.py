"""What `srft calibrate` prints: critics beside true labels, and beside outcomes.

    print_report(measure_critics(Path("runs/first"), labels="human").report)

Reads records of `srft.critic.calibrate` and `srft.critic.separation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from srft.critic.calibrate import Calibration, Pair, Report, Score
from srft.critic.separation import ByOutcome
from srft.harness.look.format import (
    DASH,
    VERDICTS,
    count,
    decimal,
    decimal_with_interval,
    percent,
    plain,
    plural,
    share_of,
    words,
)
from srft.harness.look.tables import Cell, Parts, Row, Table
from srft.harness.look.terminal import console_for_tables, print_line, print_table

_FIGURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "kappa": "kappa",
    "first_error_accuracy": "first error",
}


def print_report(report: Report) -> None:
    console = console_for_tables()
    first = next(one for one in report.baselines.values() if one is not None)
    print_table(console, _score_table(report))
    print_line(
        console,
        f"{plural(first.steps, 'step')} of {plural(first.runs, 'run')}, {first.harmful_steps:,} of them harmful; after "
        "each figure its 95 % interval, over runs.",
    )
    print_line(console, _recall_sentence(report.critics))
    for line in _remarks(report):
        print_line(console, line)
    print_table(console, _readings_table(report))
    for name, one in report.critics.items():
        if one.reliability is not None:
            print_table(console, _reliability_table(name, one.reliability))
            print_line(console, _threshold_sentence(name, one.reliability.threshold))
    if report.pairs:
        print_table(console, _pairs_table(report.pairs))
    if len(report.critics) == 1:
        print_table(console, _profile_table(*report.critics.values()))


def print_outcomes(found: Mapping[str, ByOutcome]) -> None:
    """Each critic's verdict shares by outcome, and how its scores of runs separate them."""
    rows: list[Row] = []
    for name, one in found.items():
        for outcome in (outcome for outcome in ("resolved", "unresolved", "unknown") if outcome in one.runs):
            counts = {verdict: one.verdicts[outcome].get(verdict, 0) for verdict in VERDICTS}
            shares = [share_of(number, sum(counts.values())) for number in counts.values()]
            chart = Cell("", Parts(counts, VERDICTS))
            rows.append([plain(name), words(outcome), count(one.runs[outcome]), *shares, chart])
    console = console_for_tables()
    columns = ["critic", "outcome", ">runs", *(f">{name}" for name in VERDICTS), "verdicts"]
    print_table(console, Table("Verdicts by outcome of the run", columns, rows))
    for name, one in found.items():
        print_line(console, _separation_sentence(name, one))


def _separation_sentence(name: str, one: ByOutcome) -> str:
    sure = one.separation
    said = f"{name}: kappa with tool_error {decimal_with_interval(one.agreement, one.agreement_interval)}; "
    if sure.auc is None:
        return said + "its runs all came to the same, so whether it tells them apart cannot be measured."
    area = f"{decimal_with_interval(sure.auc, sure.interval)} over {plural(sure.tasks, 'task')}"
    said += f"area under the ROC curve of its run scores {area}"
    if one.was_told:
        return said + "; it was told the outcome, so that says nothing."
    if sure.interval is not None and sure.interval[0] > 0.5:
        return said + ": it tells resolved runs from unresolved ones."
    return said + ": it does not tell resolved runs from unresolved ones here, so do not mask by it."


def _score_table(report: Report) -> Table:
    rows: list[Row] = [[plain(name), *_scores(one)] for name, one in report.critics.items()]
    critics = len(rows)
    for name, score in report.baselines.items():
        figures = ["not known", *("" for _ in _FIGURES)] if score is None else _scores(score)
        rows.append([words(name), *figures])
    at_rates = {percent(one.flag_rate): one.random for one in report.critics.values()}
    rows += [[f"random at {rate}", *_scores(random)] for rate, random in at_rates.items()]
    columns = ["critic", ">flagged", *(f">{name}" for name in _FIGURES.values())]
    strong = frozenset(range(critics))
    return Table("Critics against true labels", columns, rows, strong, breaks=frozenset({critics}))


def _scores(score: Score) -> list[str]:
    figures = (decimal_with_interval(getattr(score, key), score.intervals[key]) for key in _FIGURES)
    return [percent(score.flag_rate), *figures]


def _readings_table(report: Report) -> Table:
    """Each critic by both readings, and what a perfect judge by the other reading would score."""
    rows: list[Row] = [[plain(name), *_three(one), *_three(one.starts)] for name, one in report.critics.items()]
    critics = len(rows)
    for name, ideal in report.ideals.items():
        rows.append([f"a perfect judge, {words(name)}", *_three(ideal.labelled), *_three(ideal.starts)])
    readings = ("as labelled", "first of a streak")
    columns = ["", *(f">{figure}, {reading}" for reading in readings for figure in ("P", "R", "F1"))]
    title = "Two readings: all harmful steps, or the first of each streak alone"
    return Table(title, columns, rows, breaks=frozenset({critics}))


def _three(score: Any) -> list[str]:
    return [decimal(value) for value in (score.precision, score.recall, score.f1)]


def _reliability_table(name: str, sure: Any) -> Table:
    rows = [
        [
            f"{place / 10:.1f}{DASH}{(place + 1) / 10:.1f}",
            count(one.steps),
            percent(one.confidence),
            percent(one.right),
            count(one.flagged),
            percent(one.flags_right),
        ]
        for place, one in enumerate(sure.curve)
        if one.steps
    ]
    columns = ["confidence", ">verdicts", ">mean", ">right", ">mistakes", ">right of them"]
    return Table(f"Confidences of {plain(name)}: off by {percent(sure.error)} in the mean", columns, rows)


def _threshold_sentence(name: str, threshold: Any) -> str:
    if threshold.min_confidence is None:
        return f"{name}: no threshold on the confidence gives a higher F1 than all of its mistakes together."
    return (
        f"{name}: with policy.min_confidence={threshold.min_confidence:g} F1 is {decimal(threshold.f1)}, with all its "
        f"mistakes {decimal(threshold.f1_of_all)}; {decimal(threshold.f1_held_out)} where each run is measured at the "
        "others' threshold."
    )


def _pairs_table(pairs: tuple[Pair, ...]) -> Table:
    rows = []
    for pair in pairs:
        figures = [
            decimal_with_interval(*pair.differences.get(name, (None, None))) for name in ("precision", "recall", "f1")
        ]
        right = share_of(pair.first_right, pair.disagreed)
        rows.append([f"{pair.first} - {pair.second}", count(pair.runs), *figures, count(pair.disagreed), right])
    columns = ["pair", ">runs", ">precision", ">recall", ">F1", ">disagree on", ">first is right"]
    return Table("Two critics on the same runs: the first minus the second", columns, rows)


def _recall_sentence(critics: Mapping[str, Calibration]) -> str:
    """What recall means for training, with the measured numbers."""
    recall = {name: one.recall for name, one in critics.items() if one.recall is not None}
    if not recall:
        return "No step is harmful by the true labels, so recall cannot be measured."
    if len(critics) == 1:
        [(name, share)] = recall.items()
        harmful = critics[name].harmful_steps
        return (
            f"Recall: with {name}, SRFT will mask {percent(share)} of the harmful steps ({round(share * harmful):,} of "
            f"{harmful:,}) and train on the other {percent(1 - share)}."
        )
    best, worst = (pick(recall, key=recall.__getitem__) for pick in (max, min))
    return (
        "Recall is the share of the harmful steps that SRFT will mask, the others it trains on: "
        f"{percent(recall[best])} with {best}, {percent(recall[worst])} with {worst}."
    )


def _remarks(report: Report) -> Iterator[str]:
    """What was left out, what is not known, and how the raters agree: nothing silent."""
    for name, one in report.critics.items():
        if one.abstained_steps:
            yield f"{name}: no verdict on {plural(one.abstained_steps, 'step')}, counted as not flagged."
        if one.runs_without_verdicts:
            yield f"{name}: no verdicts on {plural(one.runs_without_verdicts, 'run')} with true labels, left out."
        if one.runs_without_truth:
            yield f"{name}: {plural(one.runs_without_truth, 'judged run')} without true labels, left out."
        if one.votes is not None:
            yield f"{name}: its votes agree with {_kappas(one.votes)} on {plural(one.votes.steps, 'step')}."
    if report.baselines["flag_non_zero_exit"] is None:
        yield "Flag non-zero exit: no exit codes are known of these runs."
    for pair in report.people:
        kappa, of = decimal_with_interval(pair.kappa, pair.interval), plural(pair.runs, "run")
        yield f"{pair.first} and {pair.second} agree with kappa {kappa} on {plural(pair.steps, 'step')} of {of}."
    if report.agreement is not None:
        yield f"The critics agree with {_kappas(report.agreement)} on what is harmful."


def _kappas(agreement: Any) -> str:
    names = {"fleiss_kappa": "Fleiss' kappa", "mean_pairwise_kappa": "mean pairwise kappa"}
    known = {name: getattr(agreement, name) for name in names if getattr(agreement, name) is not None}
    return ", ".join(
        f"{names[name]} {decimal_with_interval(value, agreement.intervals[name])}" for name, value in known.items()
    )


def _profile_table(calibration: Calibration) -> Table:
    rows = [
        [str(place), count(tenth.steps), percent(tenth.harmful_rate), percent(tenth.flag_rate), percent(tenth.recall)]
        for place, tenth in enumerate(calibration.profile, 1)
    ]
    return Table("By place in the run", ["tenth of the run", ">steps", ">harmful", ">flagged", ">recall"], rows)
