"""`srft calibrate`: a critic against true labels."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srft.env.errors import InputError
from srft.harness.commands.options import JsonOption, RunOption, print_json, required

_COLUMNS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "kappa": "kappa",
    "first_error_accuracy": "first error",
}
_TRUE_SOURCES = ("human", "oracle")
_FAILED = {"1": True, "0": False, "?": None}

_PLAIN_WIDTH = 150
"""Of the table where stdout is no terminal: no figure is cut."""


def calibrate(
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="DIR|FILE|human", help="True labels; with --run, `human`: those in the run."),
    ] = None,
    predictions: Annotated[
        str | None, typer.Option("--predictions", metavar="DIR|FILE", help="What critics say: NAME.SET.jsonl(.gz).")
    ] = None,
    critic: Annotated[
        str | None, typer.Option("--critic", metavar="NAME", help="This one; all where left out.")
    ] = None,
    run: RunOption = None,
    harmful: Annotated[
        str, typer.Option("--harmful", metavar="VERDICT,VERDICT", help="The verdicts that count as harmful.")
    ] = "mistake",
    json: JsonOption = False,
) -> None:
    """Measure critics against true labels: precision, recall, F1, kappa, first error, next to what needs no critic.

    Intervals are 95 % intervals over whole runs. Nothing is written.

    Example: `srft calibrate --labels human.jsonl --predictions judge.jsonl`

    Example: `srft calibrate --run runs/first --labels human --critic judge`
    """
    from srft.critic.calibrate import calibrate as measure
    from srft.critic.labels.label_sets import choose, judged_runs, read_predictions, read_truth

    counted = _verdicts(harmful)
    if run is not None and predictions is not None:
        raise InputError("--run and --predictions exclude each other: a run's critics stand in its labels.jsonl")
    if run is not None:
        judged = _judged_in_run(Path(run), labels=required(labels, "--labels"), critic=critic, harmful=counted)
        passed_over: tuple[str, ...] = ()
    else:
        truth = read_truth(required(labels, "--labels"))
        chosen = choose(read_predictions(required(predictions, "--predictions (or --run)"), truth), critic)
        judged, passed_over = judged_runs(truth.runs, chosen, harmful=counted), truth.passed_over
    report = measure(judged)
    if passed_over:
        typer.echo(f"srft: passed over, since without labels: {', '.join(passed_over)}", err=True)
    if json:
        print_json(_as_json(report, critic))
    else:
        _print_report(report)


def _verdicts(harmful: str) -> tuple[str, ...]:
    from srft.critic.labels.label_file import VERDICTS

    names = tuple(name.strip() for name in harmful.split(",") if name.strip())
    if not names or set(names) - set(VERDICTS):
        raise InputError(f"--harmful {harmful}: expected some of {', '.join(VERDICTS)}, with commas between")
    return names


def _judged_in_run(path: Path, *, labels: str, critic: str | None, harmful: tuple[str, ...]) -> Any:
    """The labels of a run's own trajectories; nothing is locked, as nothing is written."""
    from srft.critic.labels.label_file import FileCritic
    from srft.critic.labels.label_sets import Predictions, choose, judged_runs
    from srft.critic.labels.labels import Evidence
    from srft.harness.run.find import find_run, round_folders
    from srft.harness.run.labels import labels_by
    from srft.harness.run.store import Round

    indexes = [Round(folder).index() for _, folder in round_folders(find_run(path))]
    file = None if labels == "human" else FileCritic(labels)
    said: dict[str, dict[str, Any]] = {}
    truth: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    failed: dict[str, dict[int, bool | None]] = {}
    for index, run in ((one, run) for one in indexes for run in one.standing):
        told = index.told(run.id)
        for one in told:
            if one.source not in _TRUE_SOURCES:
                said.setdefault(one.critic, {})[run.id] = {label.step: label for label in one.critique().labels}
        if file is None:
            true: list[Any] = [one for one in told if one.source in _TRUE_SOURCES]
        else:
            given = file.judge(index.trajectory(run), Evidence())
            true = [] if given is None else [given]
        if true:
            truth[run.id] = labels_by(true, critics=[one.critic for one in true])
            lengths[run.id] = run.steps
            failed[run.id] = {step: _FAILED[letter] for step, letter in enumerate(run.failed_tools)}
    if not truth:
        raise InputError(f"{path}: no true labels for any of its runs; label some, or give --labels FILE")
    if not said:
        raise InputError(f"{path}: no critic has judged it yet; run srft critique --run {path} first")
    chosen = choose(Predictions(said, {}), critic)
    return judged_runs(truth, chosen, harmful=harmful, lengths=lengths, failed_tools=failed)


def _as_json(report: Any, critic: str | None) -> Any:
    import msgspec

    if critic is None:
        return report
    calibration = report.critics[critic]
    content: dict[str, Any] = {"critic": critic, **msgspec.structs.asdict(calibration)}
    return content | {"baselines": {**report.baselines, "random": calibration.random}}


def _print_report(report: Any) -> None:
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
    if len(report.critics) == 1:
        console.print(_profile_table(*report.critics.values()))


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
    for calibration in report.critics.values():
        table.add_row(f"random at {_share(calibration.flag_rate)}", *_cells(calibration.random))
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
