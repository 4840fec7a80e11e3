"""`srft calibrate`: a critic against true labels."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from srft.env.errors import InputError
from srft.harness.commands.options import JsonOption, RunOption, print_json, required


def calibrate(
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="DIR|FILE|human|oracle|outcome",
            help="True labels; with --run, `human` or `oracle`: those in the run, `outcome`: what its runs came to.",
        ),
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

    Example: `srft calibrate --run runs/first --labels outcome` says whether critics tell resolved runs from others.
    """
    from srft.harness.facts.critics import critics_by_outcome, measure_critics, measure_files
    from srft.harness.look.calibrated import print_outcomes, print_report

    counted = _verdicts(harmful)
    if run is not None and predictions is not None:
        raise InputError("--run and --predictions exclude each other: a run's critics stand in its labels.jsonl")
    if labels == "outcome":
        by_outcome = critics_by_outcome(Path(required(run, "--run")), critic=critic)
        print_json(by_outcome) if json else print_outcomes(by_outcome)
        return
    true = required(labels, "--labels")
    if run is not None:
        measured = measure_critics(Path(run), labels=true, critic=critic, harmful=counted)
    else:
        files = true, required(predictions, "--predictions (or --run)")
        measured = measure_files(*files, critic=critic, harmful=counted)
    for remark in measured.remarks:
        typer.echo(f"srft: {remark}", err=True)
    print_json(_as_json(measured.report, critic)) if json else print_report(measured.report)


def _verdicts(harmful: str) -> tuple[str, ...]:
    from srft.critic.labels.label_file import VERDICTS

    names = tuple(name.strip() for name in harmful.split(",") if name.strip())
    if not names or set(names) - set(VERDICTS):
        raise InputError(f"--harmful {harmful}: expected some of {', '.join(VERDICTS)}, with commas between")
    return names


def _as_json(report: Any, critic: str | None) -> Any:
    if critic is None:
        return report
    calibration = report.critics[critic]
    content: dict[str, Any] = {"critic": critic, **msgspec.structs.asdict(calibration)}
    more = {"ideals": report.ideals, "people": report.people}
    return content | more | {"baselines": {**report.baselines, "random": calibration.random}}
