"""A run at a glance: the figures that report.json has, with links to the runs behind them.

    overview = Overviews(library).make()
    overview.report.headline, overview.places
    lone_page(read_report(Path("runs/demo")))          # the same as one file, which needs nothing else

Reads what `srft.harness.facts` reads; writes nothing.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from srft.env.errors import InputError
from srft.harness.facts import Report, read_report
from srft.harness.facts.episodes import read_episodes
from srft.harness.look.report.opening import cards, kind_sentence, verdict_sentences
from srft.harness.look.report.sections import sections
from srft.harness.look.web.arms import Arms
from srft.harness.look.web.pages import STATIC, NoLinks, Pages
from srft.harness.look.web.places import Library, Place
from srft.harness.run.index import Index
from srft.harness.run.trained import runs_changed_ns
from srft.train.rows.mask import Arm

_SMALL_FILES: tuple[str, ...] = (
    "*.yaml",
    "practice/practice.json",
    "round-*/stages.json",
    "round-*/predictions*.jsonl",
)
_SMALL_FILES += ("round-*/rows/*/rows.json", "round-*/model/*/training.json", "round-*/.*", "round-*/*/.*")


WAIT_S = 1.0
"""How long a page waits for figures that are being read anew; then it shows those from before."""


class Overview(NamedTuple):
    """report: `None` where a file cannot be read, and then `problems` says which. damaged: lines that are left out.
    is_old: whether the run has changed since, and newer figures are being read."""

    places: list[Place]
    report: Report | None
    problems: list[str]
    damaged: list[str]
    stale: list[tuple[Place, Arm, int]]
    """Arms whose rows are older than some runs, see `Arms.stale`."""
    is_old: bool = False

    @property
    def pair(self) -> tuple[str, str]:
        """The places that are compared unless others are chosen: the first model that was evaluated, and the last."""
        keys = [place.key for place in self.places if "~" in place.key] or [place.key for place in self.places]
        return keys[0], keys[-1]


class _Figures(NamedTuple):
    """state: of the run, when they were read."""

    state: Any
    report: Report | None
    problems: list[str]


class Overviews:
    """Makes overviews; the figures are read again when something has changed, which takes seconds of 20,000 runs."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._arms: dict[str, Arms] = {}
        self._stale_runs: dict[str, tuple[Any, dict[Arm, int]]] = {}
        self._figures: _Figures | None = None
        self._newer: Future[_Figures] | None = None

    def make(self, *, wait_s: float | None = WAIT_S) -> Overview:
        """wait_s: for newer figures, where there are older ones; `None`: until they are there."""
        places = self._library.places()
        with self._lock:
            for place in places:
                place.refresh()
            state = ([(place.key, place.version) for place in places], list(self._small_files()))
            if self._newer is None and (self._figures is None or self._figures.state != state):
                self._newer = self._reader.submit(self._read, places, state)
            figures = self._now(None if self._figures is None else wait_s)
            stale = list(self._stale(places)) if figures.report else []
        damaged = [line for place in places for line in place.damaged()]
        return Overview(places, figures.report, figures.problems, damaged, stale, figures.state != state)

    def _stale(self, places: list[Place]) -> Iterator[tuple[Place, Arm, int]]:
        """Counted anew when a label, a run or rows are new."""
        for place in places:
            arms = self._arms.setdefault(place.key, Arms(place))
            made = list(arms.made)
            state = (place.version, tuple(runs_changed_ns(place.round, arm) for arm in made))
            if self._stale_runs.get(place.key, (None, {}))[0] != state:
                self._stale_runs[place.key] = (state, {arm: arms.stale(arm) for arm in made})
            yield from ((place, arm, number) for arm, number in self._stale_runs[place.key][1].items() if number)

    def _now(self, wait_s: float | None) -> _Figures:
        newer, self._newer = self._newer, None
        if newer is not None:
            try:
                self._figures = newer.result(wait_s)
            except TimeoutError:
                self._newer = newer
        assert self._figures is not None
        return self._figures

    def _small_files(self) -> Iterator[tuple[Path, int]]:
        for pattern in _SMALL_FILES:
            for path in sorted(self._library.run.glob(pattern)):
                yield path, path.lstat().st_mtime_ns

    def _read(self, places: list[Place], state: Any) -> _Figures:
        known = {place.round.path: place.index for place in places}

        def read(folder: Path) -> Index | None:
            index = known.get(folder)
            return read_episodes(folder, only=self._library.only) if index is None else index

        try:
            return _Figures(state, read_report(self._library.run, read=read), [])
        except InputError as error:
            return _Figures(state, None, [str(error)])


def report_values(report: Report) -> dict[str, Any]:
    """What report_body.html shows."""
    return {
        "report": report,
        "kind": kind_sentence(report),
        "cards": cards(report),
        "verdicts": verdict_sentences(report),
        "sections": sections(report),
        "settings": yaml.safe_dump(report.origin.settings, sort_keys=False, allow_unicode=True),
    }


def lone_page(report: Report) -> str:
    """report.html: no script, and no link to anything else."""
    style = (STATIC / "view.css").read_text()
    return Pages(NoLinks(), run=report.run, person="").html("report.html", style=style, **report_values(report))
