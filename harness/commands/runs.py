"""`srft runs`: the runs below a folder, with what came of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from srft.env.errors import InputError
from srft.harness.commands.options import JsonOption, print_json

Folder = Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where to look; all folders below it too.")]


def runs(folder: Folder = "runs", json: JsonOption = False) -> None:
    """List all runs below a folder: their rounds, models, episodes and scores, the newest last.

    Example: `srft runs runs`
    """
    from srft.harness.look.runs import runs_below

    where = Path(folder)
    if not where.is_dir():
        raise InputError(f"{folder}: no such folder; name the one that your runs are in")
    found = sorted(runs_below(where), key=lambda run: run.changed)
    if json:
        print_json({"runs": found})
        return
    if not found:
        raise InputError(f"{folder}: no run directories in it or below it (a run has a round-000 or a later round)")
    print("\n".join(line for run in found for line in _lines(run)))


def _lines(run: Any) -> Iterator[str]:
    """The run, and below it a line for each folder with episodes."""
    rounds = f"{run.rounds} round{'' if run.rounds == 1 else 's'}, " if run.rounds else ""
    yield f"{run.name}  ({rounds}changed {run.changed} UTC{'' if run.places else ', no episodes'})"
    width = max((len(place.folder) for place in run.places), default=0)
    for place in run.places:
        score = "not graded" if place.rate is None else _score(place.rate, place.interval)
        yield f"  {place.folder:<{width}}  {place.episodes:>7,} episodes  {score:<24}  {', '.join(place.models)}"


def _score(rate: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * rate:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
