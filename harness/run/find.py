"""Where runs and their rounds lie: the folder that a name means, and the round that a command is about.

Reads folders, makes none: a mistyped `--run` or `--round` is refused before anything is written, with what there is.

    place = find_place("runs/demo", None)                 # its newest round with trajectories
    find_place("runs/demo:round-001/evaluation/srft", None).folder
    number = find_round("runs/demo", 7)                   # InputError: there are rounds 0 to 2
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from srft.env.errors import InputError
from srft.harness.run.store import Round

NAMED_RUNS = 5
TRAJECTORIES, GRADES = "trajectories.jsonl", "grades.jsonl"


class Place(NamedTuple):
    """A folder with episodes: a round's, or an evaluation's in it. run: the run directory that it belongs to."""

    run: Path
    folder: Path

    @property
    def round(self) -> Round:
        return Round(self.folder)


def round_folders(run: Path) -> Iterator[tuple[int, Path]]:
    """(number, folder) of a run's rounds, in their order."""
    found = []
    for folder in run.glob("round-*"):
        number = folder.name.removeprefix("round-")
        if number.isdecimal() and folder.is_dir():
            found.append((int(number), folder))
    yield from sorted(found)


def places_of(run: Path) -> Iterator[Path]:
    """The folders of a run that have trajectories: its rounds', each before its evaluations'."""
    for _, folder in round_folders(run):
        evaluations = (place for place in sorted(folder.glob("evaluation/*")) if not place.name.startswith("."))
        yield from (place for place in (folder, *evaluations) if (place / TRAJECTORIES).is_file())


def find_run(name: str | Path) -> Path:
    """The run directory of that name. Raises InputError, which names those that are near."""
    run = Path(name)
    if not run.is_dir():
        raise InputError(f"{run}: no such run directory; check --run{runs_near(run)}")
    if not any(round_folders(run)):
        raise InputError(f"{run}: not a run directory (it has no round-000); check --run{runs_near(run)}")
    return run


def find_round(name: str | Path, number: int | None) -> int:
    """The round of that number, the newest with trajectories where none is given. Raises InputError."""
    run = find_run(name)
    rounds = dict(round_folders(run))
    with_runs = [known for known, folder in rounds.items() if (folder / TRAJECTORIES).is_file()]
    if number is not None and number not in rounds:
        raise InputError(f"{run}: no round {number}; check --round: {_rounds(list(rounds), with_runs)}")
    if number is None and not with_runs:
        raise InputError(f"{run}: no trajectories in it; collect or import some first, or check --run")
    if number is not None and number not in with_runs:
        raise InputError(
            f"{run}: round {number} has no trajectories; check --round ({_rounds(list(rounds), with_runs)}), or "
            "collect or import some first"
        )
    return with_runs[-1] if number is None else number


def find_place(name: str, number: int | None) -> Place:
    """A run's round, or with RUN:FOLDER a folder of it. number: as for `find_round`. Raises InputError."""
    run, colon, inside = name.rpartition(":")
    if not colon or Path(name).exists():
        found = find_run(name)
        return Place(found, found / f"round-{find_round(found, number):03d}")
    if number is not None:
        raise InputError(f"{name}: names a folder, and --round {number} another; give one of them")
    folder = find_run(run) / inside
    if not (folder / TRAJECTORIES).is_file():
        there = ", ".join(str(place.relative_to(run)) for place in places_of(Path(run)))
        raise InputError(f"{name}: no trajectories in {folder}; expected one of {there or 'none, as the run has none'}")
    return Place(Path(run), folder)


def _rounds(rounds: list[int], with_runs: list[int]) -> str:
    empty = [number for number in rounds if number not in with_runs]
    said = f"there {'is round' if len(rounds) == 1 else 'are rounds'} {', '.join(map(str, rounds))}"
    return said + (f", {', '.join(map(str, empty))} without trajectories" if empty else "")


def runs_near(run: Path) -> str:
    """The runs that lie beside it, as the end of a sentence."""
    if not run.parent.is_dir():
        return ""
    runs = sorted(folder.name for folder in run.parent.iterdir() if folder.is_dir() and any(round_folders(folder)))
    near = difflib.get_close_matches(run.name, runs, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {run.parent / near[0]}?"
    some = ", ".join(runs[:NAMED_RUNS]) + (", ..." if len(runs) > NAMED_RUNS else "")
    return f"; runs in {run.parent}: {some}" if runs else ""
