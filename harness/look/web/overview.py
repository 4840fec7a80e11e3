"""A run at a glance: each place's trajectories, outcomes, critics, arms and stages.

Reads the short records and small files; writes nothing.

    overview = Overviews(library).make()
    overview.cards[0].rate, overview.cards[0].interval
"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from srft.env.errors import InputError
from srft.harness.look.web.arms import Arms
from srft.harness.look.web.folding import Folded, folded
from srft.harness.look.web.places import Library, Place
from srft.harness.run.stages import Stage, Stages
from srft.harness.run.trained import RowsFile, runs_changed_ns
from srft.harness.statistics.statistics import Interval, mean_rate, rate_interval
from srft.train.rows.mask import Arm

CONFIGURATIONS = ("loop.yaml", "run.yaml")


class Critics(NamedTuple):
    """One critic's or person's last words on the runs of a place. verdicts: letter -> steps."""

    name: str
    source: str
    runs: int
    verdicts: Counter[str]


class Card(NamedTuple):
    """One place. rate: mean share of resolved attempts a task, of those with an outcome; interval: 95 %. stale: arm ->
    the number of runs that its rows are older than, see `Arms.stale`."""

    place: Place
    trajectories: int
    tasks: int
    steps: int
    outcomes: Counter[str]
    rate: float | None
    interval: Interval | None
    stops: Counter[str]
    models: Counter[str]
    cost_usd: float | None
    critics: list[Critics]
    made: dict[Arm, RowsFile]
    stale: dict[Arm, int]
    stages: list[tuple[str, Stage]]
    problems: list[str]
    damaged: list[str]


class Overview(NamedTuple):
    """configurations: file name -> its text. report: whether there is one to show."""

    name: str
    cards: list[Card]
    configurations: list[tuple[str, Folded]]
    report: bool


class Overviews:
    """Makes overviews; a place's card is made again when something in it changed."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._cards: dict[str, tuple[int, Card]] = {}
        self._arms: dict[str, Arms] = {}
        self._stale_runs: dict[str, tuple[Any, dict[Arm, int]]] = {}

    def make(self) -> Overview:
        run = self._library.run
        cards = [self._card(place) for place in self._library.places()]
        texts = [(name, folded(_text(run / name), head=0, tail=0)) for name in CONFIGURATIONS if (run / name).exists()]
        return Overview(run.resolve().name, cards, texts, report_file(self._library)[0] is not None)

    def _card(self, place: Place) -> Card:
        place.refresh()
        known = self._cards.get(place.key)
        if known is None or known[0] != place.version:
            known = self._cards[place.key] = (place.version, make_card(place))
        made, stages, problems = _small_files(place)
        stale = self._stale(place, made) if not problems else {}
        return known[1]._replace(made=made, stale=stale, stages=stages, problems=problems)

    def _stale(self, place: Place, made: dict[Arm, RowsFile]) -> dict[Arm, int]:
        """Counted anew when a label, a run or rows are new."""
        arms = self._arms.setdefault(place.key, Arms(place))
        state = (place.version, tuple(runs_changed_ns(place.round, arm) for arm in made))
        if self._stale_runs.get(place.key, (None, {}))[0] != state:
            self._stale_runs[place.key] = (state, {arm: arms.stale(arm) for arm in made})
        return self._stale_runs[place.key][1]


def report_file(library: Library) -> tuple[Path | None, str | None]:
    """(report.html, why one that is there is not shown)."""
    path = library.run / "report.html"
    if path.is_symlink():
        return None, f"{path}: left out, as it is a link, which a run from elsewhere may point at any file"
    if not path.is_file():
        return None, None
    if library.only is not None:
        return None, f"{path}: left out, as it tells of more than the tasks of --only"
    return path, None


def make_card(place: Place) -> Card:
    """What the short records of a place come to."""
    outcomes: Counter[str] = Counter()
    by_task: dict[str, list[bool]] = defaultdict(list)
    for entry in place.standing:
        outcome = place.outcome(entry)
        outcomes[{True: "resolved", False: "unresolved", None: "unknown"}[outcome]] += 1
        if outcome is not None:
            by_task[entry.task_id].append(outcome)
    costs = [entry.cost_usd for entry in place.standing if entry.cost_usd is not None]
    attempts = list(by_task.values())
    return Card(
        place=place,
        trajectories=len(place.standing),
        tasks=len({entry.task_id for entry in place.standing}),
        steps=sum(entry.steps for entry in place.standing),
        outcomes=outcomes,
        rate=mean_rate(attempts),
        interval=rate_interval(attempts) if attempts else None,
        stops=Counter(entry.stop_reason for entry in place.standing),
        models=Counter(entry.model for entry in place.standing),
        cost_usd=sum(costs) if costs else None,
        critics=_critics(place),
        made={},
        stale={},
        stages=[],
        problems=[],
        damaged=list(place.damaged()),
    )


def _critics(place: Place) -> list[Critics]:
    runs: Counter[str] = Counter()
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in place.standing:
        last = {told.critic: told for told in place.told(entry.id)}
        for critic, told in last.items():
            runs[critic] += 1
            # A person says something of the steps that they labelled, and of no others.
            verdicts[critic].update(told.verdicts.replace("-", "") if told.source == "human" else told.verdicts)
    sources = place.critics()
    return [Critics(name, sources[name], runs[name], verdicts[name]) for name in sorted(runs)]


def _small_files(place: Place) -> tuple[dict[Arm, RowsFile], list[tuple[str, Stage]], list[str]]:
    """(arms, stages, what could not be read)."""
    problems, made, stages = [], {}, []
    try:
        made = Arms(place).made
    except InputError as error:
        problems.append(str(error))
    try:
        stages = Stages.read(place.round.path).items()
    except InputError as error:
        problems.append(str(error))
    return made, stages, problems


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")
