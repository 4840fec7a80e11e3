"""`srft export`: masked data for other trainers."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srft.harness.commands.options import (
    ConfigOption,
    CriticsOption,
    JsonOption,
    RoundOption,
    RunOption,
    SetOption,
    ids,
    print_json,
    required,
)

_MEANINGS = {
    "runs": "runs",
    "runs_written": "runs written",
    "rows": "rows",
    "messages": "messages",
    "tokens": "tokens",
    "trained": "trained",
    "masked": "masked",
    "cut": "cut, behind the last trained",
    "rounded": "weights rounded",
    "nulls": "keys without a value left out",
    "lost": "trained replies behind a masked one, which it cannot say",
    "cut_off": "trained replies that met their length limit",
    "untrained_rows": "rows that rounding left untrained",
}

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="trl, hf (token rows); axolotl, ms-swift, slime, llama-factory, swe-lego, verl, prime-rl, nemo, atif.",
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out", metavar="FILE|DIR", help=".jsonl; verl: .parquet; trl: either; hf: a folder; atif: .jsonl or one."
    ),
]
ArmOption = Annotated[str | None, typer.Option("--arm", metavar="ARM", help="Whose mask: srft, all, resolved, ...")]
BinaryOption = Annotated[
    bool | None, typer.Option("--binary", help="Round weights to 0 and 1: 0.5 and above is trained.")
]
EvaluationOption = Annotated[
    str | None,
    typer.Option("--evaluation", metavar="TASKS,TASKS", help="Runs on these or their repositories are refused."),
]


def export(
    run: RunOption = None,
    format: FormatOption = None,
    out: OutOption = None,
    arm: ArmOption = None,
    critic: CriticsOption = None,
    binary: BinaryOption = None,
    evaluation: EvaluationOption = None,
    round_number: RoundOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Write a run's data, masked by an arm, as another trainer reads it; prints what its configuration needs.

    trl and hf hold exactly the tokens of `srft rows`. The others mask by message; what their chat template makes of
    the messages is theirs.

    Example: `srft export --run runs/first --format axolotl --arm srft --out data.jsonl`
    """
    from srft.harness.config.config import read_config
    from srft.harness.run.find import find_round
    from srft.harness.run.store import Run
    from srft.harness.stages.export import ExportConfig
    from srft.harness.stages.export import export as write

    settings = read_config(
        ExportConfig,
        file=config,
        sets=sets or (),
        **{
            "format": format,
            "out": out,
            "arm": arm,
            "critics": ids(critic),
            "binary": binary,
            "evaluation": ids(evaluation),
        },
    )
    number = find_round(required(run, "--run"), round_number)
    with Run(required(run, "--run")) as opened:
        exported = write(settings, opened.round(number))
    print_json(exported._asdict()) if json else _print_exported(exported)


def _print_exported(exported: Any) -> None:
    table = Table("", "", title=f"{exported.format}, arm {exported.arm}", show_header=False)
    for name, count in exported.counts.items():
        if count or name in ("runs", "runs_written", "trained", "masked"):
            table.add_row(_MEANINGS[name], f"{count:,}")
    for reason, count in sorted(exported.left_out.items()):
        table.add_row(f"left out: {reason.replace('_', ' ')}", f"{count:,}")
    console = Console(markup=False, highlight=False)
    console.print(table)
    console.print(exported.out, soft_wrap=True)
    console.print(f"\n{exported.settings}", soft_wrap=True)
