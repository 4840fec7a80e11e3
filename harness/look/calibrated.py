"""What `srft calibrate` prints: critics beside true labels, and beside outcomes.

Reads reports of `srft.critic.calibrate` and `srft.critic.separation`, prints tables.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_COLUMNS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "kappa": "kappa",
    "first_error_accuracy": "first error",
}
_PLAIN_WIDTH = 150
"""Of the table where stdout is no terminal: no figure is cut."""


def print_report(report: Any) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    first = next(iter(report.baselines.values()))
    console.print(_score_table(report))
    console.print(
        f"{first.steps:,} steps of {first.runs:,} runs, {first.harmful_steps:,} steps harmful; after each figure its "
        "95 % interval, over runs.",
        soft_wrap=True,
    )
    console.print(_recall_sentence(report.critics), soft_wrap=True)
    for line in _remarks(report):
        console.print(line, soft_wrap=True)
    console.print(_readings_table(report))
    for name, one in report.critics.items():
        if one.reliability is not None:
            console.print(_reliability_table(name, one.reliability))
            console.print(_threshold_sentence(name, one.reliability.threshold), soft_wrap=True)
    if report.pairs:
        console.print(_pairs_table(report.pairs))
    if len(report.critics) == 1:
        console.print(_profile_table(*report.critics.values()))


def _readings_table(report: Any) -> Table:
    """Each critic by both readings, and what a perfect judge by the other reading would score."""
    table = Table("", title="Two readings: all harmful steps, or the first of each streak alone")
    for reading in ("as labelled", "first of a streak"):
        for figure in ("P", "R", "F1"):
            table.add_column(f"{figure}, {reading}", justify="right")
    for name, one in report.critics.items():
        table.add_row(name, *_three(one), *_three(one.starts))
    table.add_section()
    for name, ideal in report.ideals.items():
        table.add_row(f"a perfect judge, {name.replace('_', ' ')}", *_three(ideal.labelled), *_three(ideal.starts))
    return table


def _three(score: Any) -> list[str]:
    return ["-" if value is None else _decimals(value, 3) for value in (score.precision, score.recall, score.f1)]


def _reliability_table(name: str, sure: Any) -> Table:
    table = Table("confidence", title=f"Confidences of {name}: off by {sure.error:.1%} in the mean")
    for column in ("verdicts", "mean", "right", "mistakes", "right of them"):
        table.add_column(column, justify="right")
    for place, one in enumerate(sure.curve):
        if one.steps:
            shares = _share(one.confidence), _share(one.right), f"{one.flagged:,}", _share(one.flags_right)
            table.add_row(f"{place / 10:.1f}–{(place + 1) / 10:.1f}", f"{one.steps:,}", *shares)
    return table


def _threshold_sentence(name: str, threshold: Any) -> str:
    if threshold.min_confidence is None:
        return f"{name}: no threshold on the confidence gives a higher F1 than all of its mistakes together."
    figures = (threshold.f1, threshold.f1_of_all, threshold.f1_held_out)
    at, of_all, held_out = ("-" if value is None else _decimals(value, 3) for value in figures)
    return (
        f"{name}: with policy.min_confidence={threshold.min_confidence:g} F1 is {at}, with all its mistakes {of_all}; "
        f"{held_out} where each run is measured at the others' threshold."
    )


def _pairs_table(pairs: Any) -> Table:
    table = Table("pair", title="Two critics on the same runs: the first less the second")
    for column in ("runs", "precision", "recall", "F1", "disagree on", "first is right"):
        table.add_column(column, justify="right")
    for pair in pairs:
        cells = [_figure(*pair.differences.get(name, (None, None))) for name in ("precision", "recall", "f1")]
        right = _share(pair.first_right / pair.disagreed if pair.disagreed else None)
        table.add_row(f"{pair.first} - {pair.second}", f"{pair.runs:,}", *cells, f"{pair.disagreed:,}", right)
    return table


_OUTCOMES = ("resolved", "unresolved", "unknown")
_VERDICTS = ("good", "unnecessary", "mistake", "recover", "abstained")


def print_outcomes(found: Mapping[str, Any]) -> None:
    """Each critic's verdict shares by outcome, and how its scores of runs separate them."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    table = Table("critic", "outcome", title="Critics beside outcomes")
    for column in ("runs", *_VERDICTS):
        table.add_column(column, justify="right")
    for name, one in found.items():
        for outcome in (outcome for outcome in _OUTCOMES if outcome in one.runs):
            counts = one.verdicts[outcome]
            shares = [_share(counts.get(verdict, 0) / max(sum(counts.values()), 1)) for verdict in _VERDICTS]
            table.add_row(name, outcome, f"{one.runs[outcome]:,}", *shares)
    console.print(table)
    for name, one in found.items():
        console.print(_separation_sentence(name, one), soft_wrap=True, highlight=False)


def _separation_sentence(name: str, one: Any) -> str:
    sure = one.separation
    agreed = "-" if one.agreement is None else f"{_decimals(one.agreement, 3)} ({_ends(one.agreement_interval)})"
    said = f"{name}: kappa with tool_error {agreed}; "
    if sure.auc is None:
        return said + "its runs all came to the same, so whether it tells them apart cannot be measured."
    interval = f" ({_ends(sure.interval)}, over {sure.tasks:,} tasks)"
    said += f"area under the ROC curve of its run scores {_decimals(sure.auc, 3)}{interval}"
    if one.was_told:
        return said + "; it was told the outcome, so that says nothing."
    if sure.interval is not None and sure.interval[0] > 0.5:
        return said + ": it tells resolved runs from unresolved ones."
    return said + ": it does not tell resolved runs from unresolved ones here, so do not mask by it."


def _score_table(report: Any) -> Table:
    table = Table(title="Critics against true labels")
    table.add_column("critic", overflow="fold")
    table.add_column("flagged", justify="right")
    for column in _COLUMNS.values():
        # An interval stands beside its figure, or below it where there is no room; it is never cut.
        table.add_column(column, justify="right", min_width=max(7, *map(len, column.split())))
    for name, calibration in report.critics.items():
        table.add_row(name, *_cells(calibration), style="bold")
    table.add_section()
    for name, score in report.baselines.items():
        unknown = ["unknown", *("" for _ in _COLUMNS)]
        table.add_row(name.replace("_", " "), *(unknown if score is None else _cells(score)))
    # Critics that flag as often, of as many runs, have the same neighbour.
    for cells in dict.fromkeys(
        (f"random at {_share(one.flag_rate)}", *_cells(one.random)) for one in report.critics.values()
    ):
        table.add_row(*cells)
    return table


def _cells(score: Any) -> list[str]:
    return [
        _share(score.flag_rate),
        *(_figure(getattr(score, name), score.intervals[name]) for name in _COLUMNS),
    ]


def _figure(value: float | None, interval: Any) -> str:
    return "-" if value is None else f"{_decimals(value, 3)} [dim]{_ends(interval)}[/dim]"


def _ends(interval: Any) -> str:
    return "" if interval is None else "–".join(_decimals(end, 2) for end in interval)


def _decimals(value: float, digits: int) -> str:
    """As papers print shares: no zero before the point, and none with a sign, whatever rounding left."""
    text = f"{value:.{digits}f}"
    text = text.lstrip("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("-").startswith("0.") else text


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _recall_sentence(critics: Mapping[str, Any]) -> str:
    """What recall means for training, with the measured numbers."""
    measured = {name: one for name, one in critics.items() if one.recall is not None}
    if not measured:
        return "No step is harmful by the true labels, so recall cannot be measured."
    if len(critics) == 1:
        [(name, one)] = measured.items()
        hits = round(one.recall * one.harmful_steps)
        return (
            f"Recall: with {name}, SRFT will mask {one.recall:.1%} of the harmful steps ({hits:,} of "
            f"{one.harmful_steps:,}) and train on the other {1 - one.recall:.1%}."
        )
    best, worst = (pick(measured, key=lambda name: measured[name].recall) for pick in (max, min))
    return (
        f"Recall is the share of the harmful steps that SRFT will mask, the others it trains on: "
        f"{measured[best].recall:.1%} with {best}, {measured[worst].recall:.1%} with {worst}."
    )


def _remarks(report: Any) -> Iterable[str]:
    """What was left out, what is not known, and how the raters agree: nothing silent."""
    for name, one in report.critics.items():
        if one.abstained_steps:
            yield f"{name}: no verdict on {one.abstained_steps:,} steps, counted as not flagged."
        if one.runs_without_verdicts:
            yield f"{name}: no verdicts on {one.runs_without_verdicts:,} runs with true labels, left out."
        if one.runs_without_truth:
            yield f"{name}: {one.runs_without_truth:,} of its runs have no true labels, left out."
        if one.votes is not None:
            yield f"{name}: its votes agree with {_kappas(one.votes)} on {one.votes.steps:,} steps."
    if report.baselines["flag_non_zero_exit"] is None:
        yield "Flag non-zero exit: no exit codes are known of these runs."
    for pair in report.people:
        kappa = "-" if pair.kappa is None else f"{_decimals(pair.kappa, 3)} ({_ends(pair.interval)})"
        yield f"{pair.first} and {pair.second} agree with kappa {kappa} on {pair.steps:,} steps of {pair.runs:,} runs."
    if report.agreement is not None:
        yield f"The critics agree with {_kappas(report.agreement)} on what is harmful."


def _kappas(agreement: Any) -> str:
    names = {"fleiss_kappa": "Fleiss' kappa", "mean_pairwise_kappa": "mean pairwise kappa"}
    return ", ".join(
        f"{text} {_decimals(getattr(agreement, name), 3)} ({_ends(agreement.intervals[name])})"
        for name, text in names.items()
        if getattr(agreement, name) is not None
    )


def _profile_table(calibration: Any) -> Table:
    table = Table("tenth of the run", title="By place in the run")
    for column in ("steps", "harmful", "flagged", "recall"):
        table.add_column(column, justify="right")
    for place, tenth in enumerate(calibration.profile, 1):
        rates = (tenth.harmful_rate, tenth.flag_rate, tenth.recall)
        table.add_row(str(place), f"{tenth.steps:,}", *(_share(rate) for rate in rates))
    return table
