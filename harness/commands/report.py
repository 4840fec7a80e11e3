"""`srft report`: what a run came to, as a page."""

from pathlib import Path

import typer

from srft.harness.commands.options import JsonOption, RunOption, print_json, required


def report(run: RunOption = None, json: JsonOption = False) -> None:
    """Write report.html, report.md and report.json in a run's folder, from its files alone.

    Any run will do: a loop's, a collection, imported runs, graded patches. What is not there is said.

    Example: `srft report --run runs/demo`
    """
    from srft.harness.look.report.write import write_report

    page = write_report(Path(required(run, "--run")))
    if json:
        print_json({name: str(page.with_suffix(f".{name}")) for name in ("html", "md", "json")})
    else:
        typer.echo(page)
