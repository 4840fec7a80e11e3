"""`srft runs`: the runs below a folder, with what came of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from srft.env.errors import InputError
from srft.harness.commands.options import JsonOption, print_json

Folder = Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where to look; all folders below it too.")]


def runs(
    folder: Folder = "runs",
    match: Annotated[
        str | None, typer.Option("--match", metavar="TEXT", help="Runs with these words in their name or model.")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="running, finished or stopped ones alone.")
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            "--sort", metavar="KEY", help="changed, name, state, score, episodes, rounds or model; -score: best first."
        ),
    ] = "changed",
    json: JsonOption = False,
) -> None:
    """List all runs below a folder: their state, rounds, models, episodes and scores, the newest last.

    `srft view FOLDER` shows the same list in the browser.

    Examples: `srft runs runs`, `srft runs runs --state running`, `srft runs runs --sort -score --match qwen`
    """
    from srft.harness.look.runs import Asked, Runs, wanted

    found = Runs(Path(folder))
    asked = Asked.read({"q": match or "", "state": state or "", "sort": sort})
    found.refuse_none()
    chosen = wanted(found.lines(), asked)
    if json:
        print_json({"runs": chosen})
    elif not chosen:
        raise InputError(f"{folder}: none of its {len(found.lines())} runs is asked for; change --match or --state")
    else:
        print("\n".join(line for run in chosen for line in _lines(run)))


def _lines(run: Any) -> Iterator[str]:
    """The run, and below it a line for each folder with episodes."""
    rounds = f"{run.rounds} round{'' if run.rounds == 1 else 's'}" if run.rounds else ""
    told = [run.state or "", rounds, f"changed {run.changed} UTC" if run.changed else ""]
    told.append("" if run.places or run.problem else "no episodes")
    yield f"{run.name}  ({', '.join(part for part in told if part)})"
    if run.problem:
        yield f"  cannot be read: {run.problem}"
    width = max((len(place.folder) for place in run.places), default=0)
    for place in run.places:
        score = "not graded" if place.rate is None else _score(place.rate, place.interval)
        yield f"  {place.folder:<{width}}  {place.episodes:>7,} episodes  {score:<24}  {', '.join(place.models)}"


def _score(rate: float, interval: tuple[float, float] | None) -> str:
    low, high = interval or (rate, rate)
    return f"{100 * rate:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
