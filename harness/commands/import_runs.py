"""`srft import`: runs of other systems."""

import time
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console
from rich.table import Table

from srft.harness.commands.options import JsonOption, OnlyOption, RunOption, fail, ids, print_json, required, stopping

FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME|FILE|FOLDER",
        help="A Hub dataset, OWNER/NAME[@REVISION][:CONFIG][:SPLIT]; .traj, .json, .jsonl, .parquet, .arrow, also "
        ".gz, .zst; a folder of them, a Harbor job, a dataset saved to disk.",
    ),
]
FormatOption = Annotated[
    str, typer.Option("--format", metavar="NAME", help="auto, or a format or dataset that --list names.")
]
ReportOption = Annotated[
    str | None, typer.Option("--report", metavar="FILE", help="The official report of these runs' verdicts.")
]
OutcomeOption = Annotated[
    str, typer.Option("--outcome", metavar="KIND", help="resolved, unresolved or all, by the verdict on record.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many runs.")]
ToolsOption = Annotated[
    str | None,
    typer.Option(
        "--tools",
        metavar="FILE|NAME",
        help="The tools that were offered, for runs without them: JSON, or swe-agent, openhands, mini-swe-agent.",
    ),
]
ColumnsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Where the rows have what, say columns.messages=dialogue."),
]
ListOption = Annotated[bool, typer.Option("--list", help="Print the formats and the datasets that are known.")]


def import_runs(
    files: FilesArgument = None,
    run: RunOption = None,
    format: FormatOption = "auto",
    report: ReportOption = None,
    only: OnlyOption = None,
    outcome: OutcomeOption = "all",
    limit: LimitOption = None,
    tools: ToolsOption = None,
    set_: ColumnsOption = None,
    list_: ListOption = False,
    json: JsonOption = False,
) -> None:
    """Add the runs of other systems to a run's trajectories. The same command again adds what is missing.

    Example: `srft import nebius/SWE-rebench-openhands-trajectories --outcome unresolved --limit 1000 --run runs/public`
    """
    if list_:
        _print_known(json)
        return
    from srft.env.errors import InputError
    from srft.harness.run.store import Run
    from srft.harness.stages.import_runs import check_input
    from srft.harness.stages.import_runs import import_runs as add_runs
    from srft.harness.stages.progress import watch

    if not files:
        raise InputError("nothing to import; name a Hub dataset, a file or a folder (--list prints what is known)")
    folder = Path(required(run, "--run"))
    choice = _choice(format, set_ or [], tools=tools, only=ids(only), outcome=outcome, limit=limit, files=files)
    check_input(files, folder, choice)
    with stopping() as stop, Run(folder) as opened:
        imported = add_runs(
            files, opened, choice=choice, report=report, stop=stop, watch=lambda progress: watch(progress, _figures)
        )
    print_json(imported._asdict()) if json else _print_imported(imported, run)
    if imported.stopped:
        fail("stopped; run the same command to resume", 130)
    if imported.not_found:
        fail(f"--only: no run on {', '.join(imported.not_found)}; check the ids", 1)
    if imported.damaged:
        fail(f"{imported.damaged_runs} damaged runs were left out: {_some(imported.damaged, imported.damaged_runs)}", 1)


def _choice(
    format: str, changes: list[str], *, tools: str | None, only: Any, outcome: str, limit: int | None, files: list[str]
) -> Any:
    from srft.agent.importing.columns import described, named
    from srft.agent.importing.importers import FORMATS
    from srft.agent.importing.readers.hub import hub_name
    from srft.env.errors import InputError
    from srft.harness.stages.import_runs import Choice, Outcome

    if outcome not in get_args(Outcome):
        raise InputError(f"--outcome {outcome}: expected {', '.join(get_args(Outcome))}")
    chosen: Any = format
    if changes:
        on_hub = [it.dataset for file in files if not Path(file).exists() and (it := hub_name(file))]
        name = format if format != "auto" else on_hub[0] if on_hub else "chat"
        if format in FORMATS and named(format) is None:
            raise InputError(f"--set says where rows have what, and {format} is the file of a program; leave one out")
        chosen = described(name, changes=changes)
    return Choice(chosen, tools=_tools(tools), only=only, outcome=cast(Outcome, outcome), limit=limit)


def _tools(path: str | None) -> tuple[dict[str, Any], ...]:
    from srft.agent.importing.columns import KNOWN_TOOLS, known_tools
    from srft.agent.importing.readers.dialects import tool_descriptions
    from srft.env.errors import InputError

    if path is None:
        return ()
    if path in KNOWN_TOOLS:
        return known_tools(path)
    try:
        return tool_descriptions(Path(path).read_text(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected JSON, a list of tool descriptions, or one of "
            f"{', '.join(KNOWN_TOOLS)}"
        ) from None


def _figures(progress: Any) -> list[str]:
    per_minute = progress.done / (time.monotonic() - progress.started) * 60
    return [
        f"runs {progress.resumed + progress.done:,}",
        f"steps {progress.steps:,}",
        f"{per_minute:,.0f} runs a minute",
    ]


def _some(messages: list[str], total: int, *, most: int = 10) -> str:
    more = [f"and {total - most} more; --json names them"] if total > most else []
    return "".join(f"\n  {message}" for message in [*messages[:most], *more])


def _print_known(as_json: bool) -> None:
    from srft.agent.importing.columns import datasets
    from srft.agent.importing.importers import FORMATS

    known = datasets()
    if as_json:
        print_json({"formats": [name for name in FORMATS if name not in known], "datasets": known})
        return
    for dataset in known.values():
        outcome = "all resolved" if dataset.all_resolved else ", ".join(dataset.columns.paths("outcome")) or "unknown"
        facts = [f"outcome: {outcome}", *filter(None, (dataset.rows, dataset.licence))]
        print("\n".join((dataset.name, *dataset.also)))
        print(f"    {'; '.join(facts)}")
        if dataset.remarks:
            print(f"    {dataset.remarks}")
    programs = ", ".join(name for name in FORMATS if name not in known)
    print(f"Files of programs: {programs}. Any other dataset: --set columns.messages=COLUMN ...")


def _print_imported(imported: Any, run: str | None) -> None:
    table = Table("", "runs", title=f"Imported into {run}", title_justify="left")
    table.add_row("read", str(imported.read))
    table.add_row("on file already", str(imported.on_file))
    table.add_row("damaged", str(imported.damaged_runs))
    for reason, count in imported.dropped.items():
        table.add_row(f"dropped: {reason}", str(count))
    table.add_row("added", str(imported.added), end_section=True)
    if imported.added:
        _add_facts(table, imported)
    console = Console()
    console.print(table)
    formats = ", ".join(sorted(set(imported.formats.values())))
    sources = f"{len(imported.formats)} source{'' if len(imported.formats) == 1 else 's'}, read as {formats}"
    steps = f"{imported.steps} steps added, {imported.steps_with_exit_code} with an exit code"
    console.print(f"{steps if imported.added else 'nothing is new'}; {sources}", markup=False)
    for what, count in imported.left_out.items():
        console.print(f"left out: {count} {what}", markup=False)


def _add_facts(table: Table, imported: Any) -> None:
    """Of the runs that were added."""
    for outcome in ("resolved", "unresolved", "unknown"):
        table.add_row(outcome, str(getattr(imported, outcome)))
    if imported.unreported is not None:
        table.add_row("not in the report", str(imported.unreported))
    table.add_row("with a patch", str(imported.patches))
    table.add_row("with descriptions of tools", str(imported.tools))
    table.add_section()
    for reason, count in imported.stop_reasons.items():
        table.add_row(reason, str(count))
