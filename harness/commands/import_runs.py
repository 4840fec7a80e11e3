"""`srft import`: runs of other systems."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from srft.harness.commands.options import JsonOption, RunOption, fail, print_json, required


def import_runs(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help=".traj, .traj.json, .jsonl, .jsonl.gz, .parquet, or a folder."),
    ],
    run: RunOption = None,
    format: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="auto, mini-swe-agent, openhands, swe-agent, swe-smith or chat."),
    ] = "auto",
    report: Annotated[
        str | None, typer.Option("--report", metavar="FILE", help="The official report of these runs' verdicts.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add the runs of other systems to a run's trajectories. The same command again adds nothing.

    Example: `srft import trajectories/ --report model.run.json --run runs/recorded`
    """
    from srft.harness.run.store import Run
    from srft.harness.stages.import_runs import import_runs as add_runs

    with Run(required(run, "--run")) as opened:
        imported = add_runs(files, opened, format=format, report=report)
    print_json(imported._asdict()) if json else _print_imported(imported, run)
    if imported.damaged:
        fail(f"{len(imported.damaged)} damaged runs were left out: {_some(imported.damaged)}", 1)


def _some(messages: list[str], *, most: int = 10) -> str:
    more = [f"and {len(messages) - most} more; --json names them all"] if len(messages) > most else []
    return "".join(f"\n  {message}" for message in [*messages[:most], *more])


def _print_imported(imported: Any, run: str | None) -> None:
    table = Table("", "runs", title=f"Imported into {run}", title_justify="left")
    table.add_row("read", str(imported.read))
    table.add_row("on file already", str(imported.on_file))
    table.add_row("damaged", str(len(imported.damaged)))
    for reason, count in imported.dropped.items():
        table.add_row(f"dropped: {reason}", str(count))
    table.add_row("added", str(imported.added), end_section=True)
    for outcome in ("resolved", "unresolved", "unknown"):
        table.add_row(outcome, str(getattr(imported, outcome)))
    if imported.unreported is not None:
        table.add_row("not in the report", str(imported.unreported))
    table.add_section()
    for reason, count in imported.stop_reasons.items():
        table.add_row(reason, str(count))
    console = Console()
    console.print(table)
    formats = sorted(set(imported.formats.values()))
    console.print(f"{imported.steps} steps added; {len(imported.formats)} files, read as {', '.join(formats)}")
    for what, count in imported.left_out.items():
        console.print(f"left out: {count} {what}", markup=False)
