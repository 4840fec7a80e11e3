"""All runs below a folder, a line for each place with episodes: what `srft runs` prints.

    for run in runs_below(Path("runs")):
        run.name, run.places[-1].rate

Reads the runs' indexes; writes those where they are out of date.
"""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from srft.harness.facts.episodes import summarize_episodes
from srft.harness.run.find import places_of, round_folders
from srft.harness.run.store import Round
from srft.harness.statistics.statistics import Interval


class PlaceLine(msgspec.Struct, frozen=True, kw_only=True):
    """The episodes of one folder of a run."""

    folder: str
    """As seen from the run: `round-001/evaluation/srft`."""
    models: dict[str, int]
    """Model -> its episodes."""
    tasks: int
    episodes: int
    resolved: int
    not_graded: int
    rate: float | None
    """The tasks' mean share of resolved attempts; `None` where nothing is graded."""
    interval: Interval | None
    """Of the rate, 95 %."""


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """One run directory."""

    name: str
    """Its path."""
    rounds: int
    changed: str
    """When its newest trajectories or grades were written, in UTC."""
    places: list[PlaceLine]
    """In the order of the rounds, each before its evaluations."""


def runs_below(folder: Path) -> Iterator[RunLine]:
    """The runs in a folder and in the folders below it, the folder itself included. Raises InputError."""
    for place, below, _ in os.walk(folder):
        below.sort()
        run = Path(place)
        rounds = [number for number, _ in round_folders(run)]
        if rounds:
            below.clear()  # what is in a run is the run's
            places = list(places_of(run))
            changed = max((_changed(it) for it in places), default=run.stat().st_mtime)
            yield RunLine(
                name=str(run),
                rounds=sum(number > 0 for number in rounds),
                changed=datetime.fromtimestamp(changed, UTC).isoformat(sep=" ", timespec="minutes")[:16],
                places=[_place(run, it) for it in places],
            )


def _changed(folder: Path) -> float:
    files = (folder / "trajectories.jsonl", folder / "grades.jsonl")
    return max(file.stat().st_mtime for file in files if file.exists())


def _place(run: Path, folder: Path) -> PlaceLine:
    found = summarize_episodes(Round(folder).index(), run=run)
    return PlaceLine(
        folder=found.folder,
        models=dict(Counter(found.models).most_common()),
        tasks=found.tasks,
        episodes=found.predictions,
        resolved=found.resolved,
        not_graded=sum(found.not_graded.values()),
        rate=found.rate,
        interval=found.interval,
    )
