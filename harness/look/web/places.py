"""The places of a run where trajectories lie: its rounds, and the evaluations in them.

Reads a run directory by its index (`srft.harness.run.index`); the short records stay in memory.

    library = Library(Path("runs/demo"))
    place = library.place("round-001~srft")             # round-001/evaluation/srft
    entry = place.by_id["9f2c..."]
    place.index.trajectory(entry), place.told(entry.id), place.outcome(entry)
"""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from srft.critic.labels.labels import Source
from srft.env.errors import InputError
from srft.harness.run.entries import CritiqueEntry, RunEntry
from srft.harness.run.find import find_run, places_of
from srft.harness.run.index import Index
from srft.harness.run.live import read_live
from srft.harness.run.search import TextSearch
from srft.harness.run.store import Round

NO_REPOSITORY = "–"


class PlaceCounts(NamedTuple):
    """The trajectories of a place by what they are: value -> how many."""

    outcomes: Counter[bool | None]
    stops: Counter[str]
    models: Counter[str]
    repos: Counter[str]


def key_of(folder: str) -> str:
    """A place's name in addresses.

    >>> key_of("round-001/evaluation/srft"), key_of("round-001")
    ('round-001~srft', 'round-001')
    """
    return folder.replace("/evaluation/", "~")


class Place:
    """One folder with trajectories. `refresh` before use; `lock` while the labels are being changed.

    key: its name in addresses. standing: of each task's attempt the last trajectory, in the order of the file;
    superseded: how many others there are. version: counts the changes seen. only: the tasks that count, all for `None`.
    """

    def __init__(self, run: Path, folder: Path, *, only: frozenset[str] | None = None) -> None:
        parts = folder.relative_to(run).parts
        self.run = run
        self.key = key_of(folder.relative_to(run).as_posix())
        name = f"round {int(parts[0].removeprefix('round-'))}"
        self.title = name + (f", evaluation of {parts[2]}" if len(parts) > 2 else "")
        self.round = Round(folder)
        self.index = Index(self.round, only=only)
        self.search = TextSearch(self.round.trajectories.path)
        self.only = only
        self.lock = threading.RLock()
        self.standing: list[RunEntry] = []
        self.superseded = 0
        self.by_id: dict[str, RunEntry] = {}
        self._counts: tuple[int, PlaceCounts] | None = None

    @property
    def version(self) -> int:
        return self.index.version

    def refresh(self) -> None:
        """Take in what was appended meanwhile."""
        with self.lock:
            if self.index.refresh():
                self.standing = self.index.standing
                self.superseded = len(self.index.runs) - len(self.index.standing)
                self.by_id = self.index.by_id

    def counts(self) -> "PlaceCounts":
        """What there is to filter by; counted again when something changed."""
        if self._counts is None or self._counts[0] != self.version:
            standing = self.standing
            counts = PlaceCounts(
                outcomes=Counter(self.outcome(entry) for entry in standing),
                stops=Counter(entry.stop_reason for entry in standing),
                models=Counter(entry.model for entry in standing if entry.model),
                repos=Counter(entry.repo or NO_REPOSITORY for entry in standing),
            )
            self._counts = (self.version, counts)
        return self._counts[1]

    def damaged(self) -> Iterator[str]:
        """Every line that cannot be read, as file:line: reason."""
        for reasons in self.index.damaged.values():
            yield from reasons

    def told(self, run_id: str) -> list[CritiqueEntry]:
        """What critics and people said of a run, oldest first, in short."""
        return self.index.told(run_id)

    def is_labelled(self, run_id: str) -> bool:
        """Whether a verdict of a person stands: the last line of each says all that they said."""
        last = {told.critic: told for told in self.told(run_id) if told.source == "human"}
        return any(told.verdicts.strip("-") for told in last.values())

    def human_told(self, name: str) -> list[CritiqueEntry]:
        """All that a person said, in short."""
        return [told for told in self.index.critiques if told.source == "human" and told.critic == name]

    def critics(self) -> dict[str, Source]:
        """Everyone who has said something here -> what they are."""
        return self.index.critics

    def outcome(self, entry: RunEntry) -> bool | None:
        return self.index.outcome(entry).resolved


class Library:
    """All places of a run, oldest round first, a round before its evaluations. Raises InputError for none, unless a
    process has begun to work in the run.

    only: the tasks that count, all for `None`.
    """

    def __init__(self, run: Path, *, only: frozenset[str] | None = None) -> None:
        self.run, self.only = find_run(run), only
        self._places: dict[str, Place] = {}
        self._lock = threading.Lock()
        if not self.places() and read_live(self.run) is None:
            raise InputError(f"{run}: no trajectories in it; check the folder, or collect or import some first")

    def places(self) -> list[Place]:
        """Those that are there now: a loop makes new ones while it is looked at."""
        with self._lock:
            for folder in places_of(self.run):
                place = Place(self.run, folder, only=self.only)
                self._places.setdefault(place.key, place)
            return [self._places[key] for key in sorted(self._places)]

    def place(self, key: str) -> Place:
        """Refreshed. Raises InputError."""
        known = {place.key: place for place in self.places()}
        if key not in known:
            raise InputError(f"{key}: no such round or evaluation in {self.run}; there are {', '.join(known)}")
        known[key].refresh()
        return known[key]
