"""The table of a place's trajectories: which, in what order, which page.

Reads an address's query and the short records; 20,000 of them take milliseconds.

    query = Query.read({"outcome": "unresolved", "sort": "-steps", "page": "2"})
    table = make_table(place, arms, query)
    table.rows[0].entry.task_id, table.total, table.pages
    neighbours(place, arms, query, "9f2c...")           # (the run before, the run after, its number)
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from srft.env.errors import InputError
from srft.harness.look.web.arms import Arms, Mask, Masks, effective_codes
from srft.harness.look.web.places import NO_REPOSITORY, Place
from srft.harness.run.entries import RunEntry
from srft.harness.run.search import Excerpt, Reach, excerpts_of, words_of
from srft.train.rows.mask import Arm

PAGE_ROWS = 100
TEXT_ROWS = 25
"""A page's, where each row shows what was found in its texts."""
KEPT_ORDERS = 8
OUTCOMES = {True: "resolved", False: "unresolved", None: "unknown"}
SORTS = {
    "file": "order of the file",
    "task": "task",
    "outcome": "outcome",
    "stop": "stop reason",
    "model": "model",
    "repo": "repository",
    "steps": "steps",
    "mistakes": "mistakes",
    "masked": "masked share",
    "cost": "cost",
    "tokens": "tokens",
    "time": "time",
}
PEOPLE = {"yes": "labelled by a person", "no": "not yet labelled"}
RANGES = {"steps": "steps", "mistakes": "mistakes", "cost": "cost in dollars", "time": "time in seconds"}
"""What may be asked for from a number to another."""


class Range(NamedTuple):
    """From a number to another, both included; `None` is no limit.

    >>> Range.read("10-20"), Range.read("0.5-"), Range.read("-3"), Range.read("7")
    (Range(low=10.0, high=20.0), Range(low=0.5, high=None), Range(low=None, high=3.0), Range(low=7.0, high=7.0))
    """

    low: float | None
    high: float | None

    @classmethod
    def read(cls, text: str) -> "Range":
        """Raises ValueError."""
        low, dash, high = text.partition("-")
        if not dash:
            return cls(float(low), float(low))
        return cls(float(low) if low.strip() else None, float(high) if high.strip() else None)

    def holds(self, value: float | None) -> bool:
        """What is not known is in no range."""
        if value is None:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


class Query(NamedTuple):
    """What is asked for. Empty means all, or the default. q: in task, id, model and repository; text: in all texts of
    the run. steps, mistakes, cost, time: a `Range`. sort: a key of `SORTS`, with "-" before it descending."""

    q: str = ""
    text: str = ""
    outcome: str = ""
    stop: str = ""
    model: str = ""
    repo: str = ""
    people: str = ""
    steps: str = ""
    mistakes: str = ""
    cost: str = ""
    time: str = ""
    arm: str = ""
    critic: str = ""
    sort: str = "file"
    page: int = 1

    @classmethod
    def read(cls, asked: Mapping[str, str]) -> "Query":
        """From an address. Raises InputError."""
        given = {name: asked[name].strip() for name in cls._fields if name in asked and name != "page"}
        number = asked.get("page", "1")
        if not number.isdecimal() or int(number[:9]) < 1:
            raise InputError(f"page {number}: expected a number from 1")
        query = cls(**given, page=int(number[:9]))  # type: ignore[arg-type]
        expected: tuple[tuple[str, str, Mapping[str, str]], ...] = (
            ("outcome", query.outcome, dict.fromkeys(OUTCOMES.values(), "")),
            ("people", query.people, PEOPLE),
            ("sort", query.sort.removeprefix("-"), SORTS),
        )
        for name, value, known in expected:
            if value and value not in known:
                raise InputError(f"{name} {value}: expected one of {', '.join(known)}")
        for name in RANGES:
            try:
                if value := getattr(query, name):
                    Range.read(value)
            except ValueError:
                raise InputError(f"{name} {value}: expected a range such as 10-20, 10-, -20 or 10") from None
        return query._replace(sort=query.sort or "file")

    def address(self, **changes: Any) -> str:
        """As the query of an address: what is not the default."""
        changed = self._replace(**changes)
        return urlencode(
            {name: value for name, value in changed._asdict().items() if value != self._field_defaults[name]}
        )

    @property
    def critics(self) -> tuple[str, ...]:
        return tuple(name for name in self.critic.split(",") if name)

    @property
    def is_narrowed(self) -> bool:
        """Whether it leaves anything out."""
        return any(getattr(self, name) for name in self._fields if name not in ("arm", "critic", "sort", "page"))

    @property
    def has_more(self) -> bool:
        """Whether it asks for something that the table's form folds away."""
        return any(getattr(self, name) for name in (*RANGES, "people"))


class TableRow(NamedTuple):
    """codes: the verdicts that count, one letter a step. mask: `None` without an arm. excerpts: where the run holds
    what was searched for."""

    entry: RunEntry
    outcome: bool | None
    codes: str
    by_person: bool
    mask: Mask | None
    excerpts: list[Excerpt]


class Table(NamedTuple):
    """One page.

    total: rows that the filter lets through. judges: whose verdicts are shown. remark: why there is no mask where there
    should be one. outcomes, stops, models, repos: of all trajectories of the place, value -> count. reach: how far the
    search in texts goes, `None` where nothing is searched for.
    """

    rows: list[TableRow]
    total: int
    pages: int
    query: Query
    arm: Arm | None
    judges: tuple[str, ...]
    remark: str | None
    outcomes: Counter[str]
    stops: Counter[str]
    models: Counter[str]
    repos: Counter[str]
    first: int
    reach: Reach | None


class _View:
    """What rows are made of, for one query."""

    def __init__(self, place: Place, arms: Arms, query: Query) -> None:
        self.place, self.query, self.orders = place, query, arms.orders
        self.arm = arms.chosen(query.arm or None)
        self.judges = arms.judges(self.arm, query.critics)
        self.masks: Masks | None = None
        self.remark: str | None = None
        try:
            self.masks = arms.masks(self.arm, query.critics) if self.arm else None
        except InputError as error:
            self.remark = str(error)
        self.reach = place.search.reach() if query.text else None
        self.words = words_of(query.text)
        self.ranges = {name: Range.read(value) for name in RANGES if (value := getattr(query, name))}

    def row(self, entry: RunEntry) -> TableRow:
        path = self.place.round.trajectories.path
        return TableRow(
            entry,
            self.place.outcome(entry),
            effective_codes(self.place, entry, self.judges),
            self.place.is_labelled(entry.id),
            self.masks.of(entry) if self.masks else None,
            excerpts_of(path, entry.offset, self.words) if self.words else [],
        )

    def entries(self) -> list[RunEntry]:
        """Those that the filter lets through, in the order asked for; the last few such lists are kept."""
        policy = self.masks.policy if self.masks else None
        asked = (self.place.version, policy, self.judges, self.query._replace(page=1), self.reach)
        if asked not in self.orders:
            while len(self.orders) >= KEPT_ORDERS:
                del self.orders[next(iter(self.orders))]
            self.orders[asked] = self._entries()
        return self.orders[asked]

    def _entries(self) -> list[RunEntry]:
        texts = self.place.search.find(self.query.text) if self.query.text else None
        found = [
            entry for entry in self.place.standing if self._passes(entry) and (texts is None or entry.offset in texts)
        ]
        name = self.query.sort.removeprefix("-")
        if name != "file":
            key = self._key(name)
            keyed = [(key(entry), entry) for entry in found]
            known = [one for one in keyed if one[0] is not None]
            known.sort(key=lambda one: one[0], reverse=self.query.sort.startswith("-"))
            return [entry for _, entry in known] + [entry for value, entry in keyed if value is None]
        return found[::-1] if self.query.sort.startswith("-") else found

    def _passes(self, entry: RunEntry) -> bool:
        query = self.query
        if query.outcome and OUTCOMES[self.place.outcome(entry)] != query.outcome:
            return False
        if query.stop and entry.stop_reason != query.stop:
            return False
        if query.model and entry.model != query.model:
            return False
        if query.repo and (entry.repo or NO_REPOSITORY) != query.repo:
            return False
        if any(not asked.holds(self._key(name)(entry)) for name, asked in self.ranges.items()):
            return False
        if query.people and self.place.is_labelled(entry.id) != (query.people == "yes"):
            return False
        if not query.q:
            return True
        text = f"{entry.task_id}#{entry.attempt} {entry.id} {entry.model} {entry.repo}".casefold()
        return all(word in text for word in query.q.casefold().split())

    def _key(self, name: str) -> Callable[[RunEntry], Any]:
        """What a column sorts by; `None`, not known, comes last either way."""
        keys: dict[str, Callable[[RunEntry], Any]] = {
            "task": lambda entry: (entry.task_id, entry.attempt),
            "outcome": self.place.outcome,
            "stop": lambda entry: entry.stop_reason,
            "model": lambda entry: entry.model or None,
            "repo": lambda entry: entry.repo or None,
            "steps": lambda entry: entry.steps,
            "mistakes": self._mistakes,
            "masked": self._masked_share,
            "cost": lambda entry: entry.cost_usd,
            "tokens": lambda entry: entry.tokens,
            "time": lambda entry: entry.wall_s,
        }
        return keys[name]

    def _mistakes(self, entry: RunEntry) -> int | None:
        """Not known where nobody has judged the run."""
        codes = effective_codes(self.place, entry, self.judges)
        return codes.count("m") if codes.strip("-") else None

    def _masked_share(self, entry: RunEntry) -> float | None:
        masked = self.masks.of(entry).masked if self.masks else None
        return None if masked is None or not entry.steps else masked / entry.steps


def make_table(place: Place, arms: Arms, query: Query, *, page_rows: int | None = None) -> Table:
    """Raises InputError for an arm or critic that is not there."""
    page_rows = page_rows or (TEXT_ROWS if query.text else PAGE_ROWS)
    view = _View(place, arms, query)
    entries = view.entries()
    pages = max(1, -(-len(entries) // page_rows))
    page = min(query.page, pages)
    first = (page - 1) * page_rows
    counts = place.counts()
    return Table(
        rows=[view.row(entry) for entry in entries[first : first + page_rows]],
        total=len(entries),
        pages=pages,
        query=query._replace(page=page),
        arm=view.arm,
        judges=view.judges,
        remark=view.remark,
        outcomes=Counter({OUTCOMES[outcome]: number for outcome, number in counts.outcomes.items()}),
        stops=counts.stops,
        models=counts.models,
        repos=counts.repos,
        first=first,
        reach=view.reach,
    )


CSV_COLUMNS = (
    *("outcome", "task", "attempt", "id", "model", "repository", "ended_by", "steps", "mistakes", "masked_steps"),
    *("cost_usd", "prompt_tokens", "reply_tokens", "wall_s", "verdicts"),
)


def csv_lines(place: Place, arms: Arms, query: Query) -> Iterator[str]:
    """The whole of a filtered table as CSV, a line at a time."""
    view = _View(place, arms, query._replace(page=1))
    view.words = []
    yield _csv(CSV_COLUMNS)
    for entry in view.entries():
        row = view.row(entry)
        judged = row.codes if row.codes.strip("-") else ""
        masked = None if row.mask is None or row.mask.left_out else row.mask.masked
        yield _csv(
            (
                *(OUTCOMES[row.outcome], entry.task_id, entry.attempt, entry.id, entry.model, entry.repo),
                *(entry.stop_reason, entry.steps, judged.count("m") if judged else None, masked, entry.cost_usd),
                *(entry.usage.prompt_tokens, entry.usage.completion_tokens, entry.wall_s, judged),
            )
        )


def _csv(values: Iterable[Any]) -> str:
    """A line. A text that a spreadsheet would take for a formula is made one that it does not."""
    line = io.StringIO()
    csv.writer(line).writerow(
        [f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value for value in values]
    )
    return line.getvalue()


class Neighbours(NamedTuple):
    """The runs before and after one in a table's order, and its number in it, from 1; `None` where it is not in it."""

    before: str | None
    after: str | None
    number: int | None
    total: int


def run_ids(place: Place, arms: Arms, query: Query) -> list[str]:
    """All runs that the query lets through, in its order."""
    return [entry.id for entry in _View(place, arms, query).entries()]


def neighbours(place: Place, arms: Arms, query: Query, run_id: str) -> Neighbours:
    ids = run_ids(place, arms, query)
    if run_id not in ids:
        return Neighbours(None, ids[0] if ids else None, None, len(ids))
    at = ids.index(run_id)
    after = ids[at + 1] if at + 1 < len(ids) else None
    return Neighbours(ids[at - 1] if at else None, after, at + 1, len(ids))
