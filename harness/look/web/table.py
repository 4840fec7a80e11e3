"""The table of a place's trajectories: which, in what order, which page.

Reads an address's query and the short records; 20,000 of them take milliseconds.

    query = Query.read({"outcome": "unresolved", "sort": "-steps", "page": "2"})
    table = make_table(place, arms, query)
    table.rows[0].entry.task_id, table.total, table.pages
    neighbours(place, arms, query, "9f2c...")           # (the run before, the run after, its number)
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from srft.env.errors import InputError
from srft.harness.look.web.arms import Arms, Mask, Masks, effective_codes
from srft.harness.look.web.places import Place
from srft.harness.run.index import RunEntry
from srft.train.rows.mask import Arm

PAGE_ROWS = 100
KEPT_ORDERS = 8
OUTCOMES = {True: "resolved", False: "unresolved", None: "unknown"}
SORTS = {
    "file": "order of the file",
    "task": "task",
    "outcome": "outcome",
    "stop": "stop reason",
    "steps": "steps",
    "mistakes": "mistakes",
    "masked": "masked share",
    "cost": "cost",
    "tokens": "tokens",
    "time": "time",
}
PEOPLE = {"yes": "labelled by a person", "no": "not yet labelled"}


class Query(NamedTuple):
    """What is asked for. Empty means all, or the default. sort: a key of `SORTS`, with "-" before it descending."""

    q: str = ""
    outcome: str = ""
    stop: str = ""
    people: str = ""
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
        return bool(self.q or self.outcome or self.stop or self.people)


class TableRow(NamedTuple):
    """codes: the verdicts that count, one letter a step. mask: `None` without an arm."""

    entry: RunEntry
    outcome: bool | None
    codes: str
    by_person: bool
    mask: Mask | None


class Table(NamedTuple):
    """One page.

    total: rows that the filter lets through. judges: whose verdicts are shown. remark: why there is no mask where there
    should be one. outcomes, stops: of all trajectories of the place, value -> count.
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
    first: int


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

    def row(self, entry: RunEntry) -> TableRow:
        return TableRow(
            entry,
            self.place.outcome(entry),
            effective_codes(self.place, entry, self.judges),
            self.place.is_labelled(entry.id),
            self.masks.of(entry) if self.masks else None,
        )

    def entries(self) -> list[RunEntry]:
        """Those that the filter lets through, in the order asked for; the last few such lists are kept."""
        policy = self.masks.policy if self.masks else None
        asked = (self.place.version, policy, self.judges, self.query._replace(page=1))
        if asked not in self.orders:
            while len(self.orders) >= KEPT_ORDERS:
                del self.orders[next(iter(self.orders))]
            self.orders[asked] = self._entries()
        return self.orders[asked]

    def _entries(self) -> list[RunEntry]:
        found = [entry for entry in self.place.standing if self._passes(entry)]
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
        if query.people and self.place.is_labelled(entry.id) != (query.people == "yes"):
            return False
        if not query.q:
            return True
        text = f"{entry.task_id}#{entry.attempt} {entry.id} {entry.model}".casefold()
        return all(word in text for word in query.q.casefold().split())

    def _key(self, name: str) -> Callable[[RunEntry], Any]:
        """What a column sorts by; `None`, not known, comes last either way."""
        keys: dict[str, Callable[[RunEntry], Any]] = {
            "task": lambda entry: (entry.task_id, entry.attempt),
            "outcome": self.place.outcome,
            "stop": lambda entry: entry.stop_reason,
            "steps": lambda entry: entry.steps,
            "mistakes": lambda entry: effective_codes(self.place, entry, self.judges).count("m"),
            "masked": self._masked_share,
            "cost": lambda entry: entry.cost_usd,
            "tokens": lambda entry: entry.tokens,
            "time": lambda entry: entry.wall_s,
        }
        return keys[name]

    def _masked_share(self, entry: RunEntry) -> float | None:
        masked = self.masks.of(entry).masked if self.masks else None
        return None if masked is None or not entry.steps else masked / entry.steps


def make_table(place: Place, arms: Arms, query: Query, *, page_rows: int = PAGE_ROWS) -> Table:
    """Raises InputError for an arm or critic that is not there."""
    view = _View(place, arms, query)
    entries = view.entries()
    pages = max(1, -(-len(entries) // page_rows))
    page = min(query.page, pages)
    first = (page - 1) * page_rows
    return Table(
        rows=[view.row(entry) for entry in entries[first : first + page_rows]],
        total=len(entries),
        pages=pages,
        query=query._replace(page=page),
        arm=view.arm,
        judges=view.judges,
        remark=view.remark,
        outcomes=Counter(OUTCOMES[place.outcome(entry)] for entry in place.standing),
        stops=Counter(entry.stop_reason for entry in place.standing),
        first=first,
    )


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
