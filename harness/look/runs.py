"""All runs below a folder, with what came of them: what `srft runs` and the list of runs in the browser show.

    runs = Runs(Path("runs"))
    for run in runs.lines():
        run.name, run.state, run.score.rate
    wanted(runs.lines(), Asked(state="running", sort="-score"))

Reads the runs' indexes, stages.json and live.json; writes the indexes where they are out of date. A run that cannot be
read is listed with the reason. What was read is kept until the run's files change. Hidden folders are not looked into.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from loguru import logger

from srft.env.errors import InputError, SrftError
from srft.harness.facts.episodes import summarize_episodes
from srft.harness.run.find import places_of, round_folders, runs_near
from srft.harness.run.live import FILE_NAME, State, state_of
from srft.harness.run.stages import Stages
from srft.harness.run.store import Round
from srft.harness.statistics.statistics import Interval

WALK_EVERY_S = 10.0
"""How long the list of folders is taken to be right; the runs in it are looked at each time."""

SORTS = {
    "changed": "last change",
    "name": "name",
    "state": "state",
    "score": "score",
    "episodes": "episodes",
    "rounds": "rounds",
    "model": "model",
}
STATES: tuple[State, ...] = ("running", "finished", "stopped")
_FILES = ("trajectories.jsonl", "grades.jsonl")


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
    state: State | None
    """Whether a process works in it, and otherwise whether the last one did all that it was asked for; `None` where
    that is not known."""
    rounds: int
    changed: str
    """When its newest trajectories or grades were written, in UTC."""
    places: list[PlaceLine]
    """In the order of the rounds, each before its evaluations."""
    score: PlaceLine | None = None
    """The place that the run is known by: the best evaluation of its last round with one, else the last round with
    verdicts; `None` where nothing is graded."""
    problem: str | None = None
    """Why it cannot be read."""

    @property
    def episodes(self) -> int:
        return sum(place.episodes for place in self.places)

    @property
    def models(self) -> list[str]:
        """Of the score's place, else of all, the most frequent first."""
        counts: Counter[str] = Counter()
        for place in [self.score] if self.score else self.places:
            counts.update(place.models)
        return [model for model, _ in counts.most_common()]


class Asked(NamedTuple):
    """Which runs, and in what order. q: in name and models; model: one of theirs; sort: a key of `SORTS`, with "-"
    before it descending."""

    q: str = ""
    state: str = ""
    model: str = ""
    sort: str = "-changed"

    @classmethod
    def read(cls, asked: Mapping[str, str]) -> "Asked":
        """From an address. Raises InputError."""
        query = cls(**{name: asked[name].strip() for name in cls._fields if asked.get(name, "").strip()})
        for name, value, known in (
            ("state", query.state, STATES),
            ("sort", query.sort.removeprefix("-"), tuple(SORTS)),
        ):
            if value and value not in known:
                raise InputError(f"{name} {value}: expected one of {', '.join(known)}")
        return query

    def address(self, **changes: Any) -> str:
        """As the query of an address: what is not the default."""
        changed = self._replace(**changes)
        return urlencode({name: it for name, it in changed._asdict().items() if it != self._field_defaults[name]})


def wanted(runs: Iterable[RunLine], asked: Asked) -> list[RunLine]:
    """Those, in that order; what has no value in the column comes last."""
    words = asked.q.casefold().split()
    found = [
        run
        for run in runs
        if asked.state in ("", run.state)
        and (not asked.model or asked.model in run.models)
        and all(word in f"{run.name} {' '.join(run.models)}".casefold() for word in words)
    ]
    keys: dict[str, Callable[[RunLine], Any]] = {
        "changed": lambda run: run.changed or None,
        "name": lambda run: run.name,
        "state": lambda run: run.state,
        "score": lambda run: run.score.rate if run.score else None,
        "episodes": lambda run: run.episodes,
        "rounds": lambda run: run.rounds,
        "model": lambda run: run.models[0] if run.models else None,
    }
    key = keys[asked.sort.removeprefix("-")]
    known = sorted((run for run in found if key(run) is not None), key=lambda run: run.name)
    known.sort(key=key, reverse=asked.sort.startswith("-"))
    return known + [run for run in found if key(run) is None]


class Runs:
    """The runs below a folder, the folder itself included. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError for what is no folder."""
        if not folder.is_dir():
            if folder.exists():
                raise InputError(f"{folder}: a file, not a folder; name a run, or the folder that your runs are in")
            raise InputError(
                f"{folder}: no such folder; name a run, or the folder that your runs are in{runs_near(folder)}"
            )
        self.folder = folder
        self._found: list[Path] = []
        self._walked_s: float | None = None
        self._known: dict[Path, tuple[str, RunLine]] = {}

    def refuse_none(self) -> None:
        """Raises InputError where there is no run, and says what there is."""
        if self.folders():
            return
        if self.folder.name.startswith("round-") and any(True for _ in round_folders(self.folder.resolve().parent)):
            raise InputError(
                f"{self.folder}: a round, not a run; name the run that it belongs to, {self.folder.parent}"
            )
        if not any(self.folder.iterdir()):
            raise InputError(f"{self.folder}: the folder is empty; name a run, or a folder with runs in it")
        raise InputError(
            f"{self.folder}: no run directories in it or below it (a run has a round-000 or a later round)"
        )

    def folders(self) -> list[Path]:
        """Where the runs lie."""
        now = time.monotonic()
        if self._walked_s is None or now - self._walked_s > WALK_EVERY_S:
            self._found, self._walked_s = _walk(self.folder), now
        return self._found

    def lines(self) -> list[RunLine]:
        """Each run as it is now, by name."""
        for run in self.folders():
            version = version_of(run)
            if run not in self._known or self._known[run][0] != version:
                self._known[run] = (version, run_line(run))
        return [self._known[run][1] for run in self._found]

    def version(self) -> str:
        """What changes when a line does."""
        return str(hash(tuple((str(run), version_of(run)) for run in self.folders())))


def _walk(folder: Path) -> list[Path]:
    found = []
    for place, below, _ in os.walk(folder, onerror=lambda error: logger.warning("{}: cannot be looked into", error)):
        run = Path(place)
        if any(True for _ in round_folders(run)):
            below.clear()  # what is in a run is the run's
            found.append(run)
        else:
            below[:] = sorted(name for name in below if not name.startswith("."))
    return found


def version_of(run: Path) -> str:
    """What changes when a run's line does. Reads no file."""
    files = [run / FILE_NAME]
    for _, folder in round_folders(run):
        for place in (folder, *sorted(folder.glob("evaluation/*"))):
            files += [place / name for name in (*_FILES, "stages.json")]
    told = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        told.append(f"{file}\0{status.st_mtime_ns}\0{status.st_size}")
    return f"{state_of(run)} {hash(tuple(told))}"


def run_line(run: Path) -> RunLine:
    """One run; what cannot be read is its `problem`."""
    rounds = [number for number, _ in round_folders(run)]
    changed, places, problem, state = "", [], None, None
    try:
        folders = list(places_of(run))
        changed = _date(max((_changed(it) for it in folders), default=run.stat().st_mtime))
        state = _state(run)
        places = [_place(run, it) for it in folders]
    except (SrftError, OSError) as error:
        problem = str(error)
    return RunLine(
        name=str(run),
        state=state,
        rounds=sum(number > 0 for number in rounds),
        changed=changed,
        places=places,
        score=_score(places),
        problem=problem,
    )


def _state(run: Path) -> State | None:
    """As its processes told; of a run of theirs that told nothing, whether a stage was begun and not finished."""
    if (told := state_of(run)) is not None:
        return told
    stages = [Stages.read(folder) for _, folder in round_folders(run)]
    if any(one.unfinished() for one in stages):
        return "stopped"
    return "finished" if any(one.items() for one in stages) else None


def _score(places: list[PlaceLine]) -> PlaceLine | None:
    graded = [place for place in places if place.rate is not None]
    evaluations = [place for place in graded if "/evaluation/" in place.folder]
    last = [it for it in evaluations if it.folder.partition("/")[0] == evaluations[-1].folder.partition("/")[0]]
    if last:
        return max(last, key=lambda place: place.rate or 0.0)
    return graded[-1] if graded else None


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="minutes")[:16]


def _changed(folder: Path) -> float:
    return max(file.stat().st_mtime for file in (folder / name for name in _FILES) if file.exists())


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
