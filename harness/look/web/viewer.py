"""A run's pages: what an address asks for, as HTML. The server and the export both ask here.

viewer = Viewer(Path("runs/demo"), person="human", tasks=None, tokenizer=None)
viewer.table(pages, "round-000", Query(outcome="unresolved"))
"""

import contextlib
import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from srft.env.errors import InputError
from srft.harness.facts.compare import Side, compare_sides
from srft.harness.look.compared import score_table, sentences
from srft.harness.look.show import match_run
from srft.harness.look.web.arms import Arms
from srft.harness.look.web.contrast import contrast_places, contrast_runs
from srft.harness.look.web.evidence import TaskBook
from srft.harness.look.web.label_queue import Found, find_next
from srft.harness.look.web.live import live_view, version_of
from srft.harness.look.web.overview import Overviews, report_values
from srft.harness.look.web.pages import Pages
from srft.harness.look.web.people import PEOPLE_NAME, Person, Word, agreement
from srft.harness.look.web.places import Library, Place
from srft.harness.look.web.table import OUTCOMES, PEOPLE, SORTS, Query, csv_lines, make_table, neighbours, run_ids
from srft.harness.look.web.timeline import Timeline, make_timeline, whole_text
from srft.harness.look.web.tokens import TokenViews
from srft.harness.run.entries import RunEntry
from srft.harness.run.evidence import log_of
from srft.train.rows.mask import ARMS
from srft.train.rows.show import inert

TEXT_CHUNK_CHARS = 1 << 16


class Missing(InputError):
    """Something that an address names is not there."""


class Viewer:
    """Everything that is known of one run directory. Its methods may be called from several threads."""

    def __init__(
        self,
        run: Path,
        *,
        person: str = PEOPLE_NAME,
        tasks: str | None = None,
        tokenizer: str | None = None,
        only: frozenset[str] | None = None,
    ) -> None:
        self.library = Library(run, only=only)
        self.run, self.name = run, run.resolve().name
        self.person = Person(person)
        self._book, self._tokens = TaskBook(tasks), TokenViews(tokenizer)
        self._overviews = Overviews(self.library)
        self._arms: dict[str, Arms] = {}

    def prepare(self, *, search: bool = True) -> None:
        """Read all that pages need, so that none has to wait for it. search: have texts indexed meanwhile."""
        for place in self.library.places():
            self._place(place.key)
            if search:
                place.search.update_aside()
            with contextlib.suppress(InputError):  # of a damaged file; its page says so
                make_table(place, self._arms[place.key], Query(sort="-masked"))
        self._overviews.make()

    def warm(self) -> threading.Thread:
        """Load the rows' tokenizers in the background: the first token view would wait for seconds."""
        return self._tokens.warm(self.library.places())

    # ---- pages ----

    def overview(self, pages: Pages) -> str:
        overview = self._overviews.make(wait_s=None) if pages.is_static else self._overviews.make()
        values = {"report": None} if overview.report is None else report_values(overview.report)
        live = None if pages.is_static else live_view(self.run)
        return pages.html("overview.html", overview=overview, live=live, **values)

    def table(self, pages: Pages, key: str, query: Query, *, page_rows: int | None = None) -> str:
        place = self._place(key)
        query, gone = _with_known_critics(place, query)
        if query.text:
            place.search.update_aside()
        table = make_table(place, self._arms[key], query, page_rows=page_rows)
        live = None if pages.is_static else live_view(self.run)
        choices = self._choices(place)
        return pages.html("table.html", place=place, table=table, query=table.query, gone=gone, live=live, **choices)

    def csv(self, key: str, query: Query) -> Iterator[str]:
        """A filtered table, whole. Raises InputError."""
        place = self._place(key)
        query, _ = _with_known_critics(place, query)
        lines = csv_lines(place, self._arms[key], query)
        return itertools.chain([next(lines)], lines)  # what is wrong with the query shows before the answer begins

    def csv_name(self, key: str) -> str:
        return f"{re.sub(r'[^A-Za-z0-9._-]', '-', f'{self.name}-{key}')}.csv"

    def version(self) -> dict[str, str]:
        """What changes when what a page shows does."""
        return version_of(self.library)

    def live(self, pages: Pages) -> str:
        """The panel of the work under way."""
        return pages.html("live.html", live=live_view(self.run))

    def timeline(self, pages: Pages, key: str, run_id: str, query: Query) -> str:
        place, entry = self._entry(key, run_id)
        query, gone = _with_known_critics(place, query)
        return pages.html(
            "run.html",
            place=place,
            query=query,
            gone=gone,
            page=self.page(place, entry, query),
            near=neighbours(place, self._arms[key], query, run_id),
            everywhere=agreement(place, self.person.name),
            rows_made=list(self._arms[key].made),
            elsewhere=self._elsewhere(place, entry),
            **self._choices(place),
        )

    def tokens(self, pages: Pages, key: str, run_id: str, query: Query) -> str:
        place, entry = self._entry(key, run_id)
        query, _ = _with_known_critics(place, query)
        arms = self._arms[key]
        tokens, problem = None, None
        try:
            tokens = self._tokens.of(place, arms, arms.chosen(query.arm or None), entry)
        except InputError as error:
            problem = str(error)
        return pages.html(
            "tokens.html",
            place=place,
            query=query,
            entry=entry,
            tokens=tokens,
            problem=problem,
            arm=arms.chosen(query.arm or None),
            masked=arms.view(arms.chosen(query.arm or None), query.critics, entry),
            rows_made=list(arms.made),
            near=neighbours(place, arms, query, run_id),
        )

    def contrast(
        self,
        pages: Pages,
        keys: tuple[str, str],
        run_ids: tuple[str, str],
        arm_names: tuple[str, str],
        *,
        critic: str = "",
    ) -> str:
        """Two runs side by side, each under an arm."""
        sides, remarks, known = [], set(), set()
        for key, run_id, arm in zip(keys, run_ids, arm_names, strict=True):
            place, entry = self._named(key, run_id)
            query, gone = _with_known_critics(place, Query(arm=arm, critic=critic))
            remarks |= {gone} if gone else set()
            known |= set(_critics(place))
            sides.append((place, query, self.page(place, entry, query)))
        tasks = {side[2].entry.task_id for side in sides}
        return pages.html(
            "contrast.html",
            sides=sides,
            contrast=contrast_runs(sides[0][2], sides[1][2]),
            near=[other for side in sides for other in side[0].standing if other.task_id in tasks],
            places=self.library.places(),
            arms=ARMS,
            critic=critic,
            known_critics=sorted(known),
            remarks=sorted(remarks),
        )

    def outcomes(self, pages: Pages, left: str, right: str) -> str:
        """The outcomes of two places, task by task."""
        one, other = self._place(left), self._place(right)
        pair, places = contrast_places(one, other), self.library.places()
        return pages.html("outcomes.html", left=one, right=other, pair=pair, places=places, score=_score(one, other))

    def text(self, key: str, run_id: str, part: str, step: int | None) -> Iterator[str]:
        """A folded text, whole and inert, in pieces."""
        place, entry = self._entry(key, run_id)
        if part == "log":
            grade = place.index.grade(entry)
            path = None if grade is None else log_of(place.round, grade)
            text = None if path is None else path.read_bytes().decode(errors="replace")
        elif part == "fix":
            text = self._book.fix(place, entry.task_id).patch
        else:
            text = whole_text(place.index.trajectory(entry), part, step)
        if text is None:
            where = "" if step is None else f" of step {step}"
            raise Missing(f"{part}{where}: there is none in the run {run_id}")
        return (inert(text[at : at + TEXT_CHUNK_CHARS]) for at in range(0, len(text), TEXT_CHUNK_CHARS))

    def next_step(self, key: str, run_id: str, query: Query, *, after: int, kind: str) -> Found | None:
        """The next step of a labelling queue, through the runs that the query lets through."""
        place, _ = self._entry(key, run_id)
        query, _ = _with_known_critics(place, query)
        arms = self._arms[key]
        judges = arms.judges(arms.chosen(query.arm or None), query.critics)
        ids = run_ids(place, arms, query)
        return find_next(place, ids, judges, self.person.name, run_id=run_id, after=after, kind=kind)

    # ---- labels ----

    def label(self, pages: Pages, word: Word) -> dict[str, str]:
        """Keep a person's word; the parts of the page that it changes."""
        place, entry = self._entry(word.place, word.run)
        self.person.label(
            place, entry, step=word.step, verdict=word.verdict, reason=word.reason, take_back=word.take_back
        )
        query, _ = _with_known_critics(place, Query(arm=word.arm, critic=word.critic))
        page = self.page(place, entry, query)
        values: dict[str, Any] = {
            "place": place,
            "query": query,
            "page": page,
            "everywhere": agreement(place, self.person.name),
        }
        return {
            "step": pages.html("step.html", view=page.steps[word.step], **values),
            "said": pages.html("said.html", **values),
            "code": page.steps[word.step].code,
        }

    # ---- finding ----

    def _place(self, key: str) -> Place:
        try:
            place = self.library.place(key)
        except InputError as error:
            raise Missing(str(error)) from None
        self._arms.setdefault(key, Arms(place))
        return place

    def _entry(self, key: str, run_id: str) -> tuple[Place, RunEntry]:
        place = self._place(key)
        entry = place.by_id.get(run_id)
        if entry is None:
            raise Missing(f"{run_id}: no such run in {place.round.path}")
        return place, entry

    def _named(self, key: str, name: str) -> tuple[Place, RunEntry]:
        """By id, task, or task#attempt."""
        place = self._place(key)
        entry = match_run(place.standing, name)
        if entry is None:
            raise Missing(f"{name}: no such run in {place.round.path}; give task#attempt, or an id")
        return place, entry

    def _elsewhere(self, place: Place, entry: RunEntry) -> list[tuple[Place, RunEntry, bool | None]]:
        """The runs of the same task in other rounds and evaluations."""
        found = []
        for other in self.library.places():
            if other.key != place.key:
                other.refresh()
                found += [(other, one, other.outcome(one)) for one in other.standing if one.task_id == entry.task_id]
        return found

    def page(self, place: Place, entry: RunEntry, query: Query) -> Timeline:
        return make_timeline(place, self._arms[place.key], query, entry, person=self.person, book=self._book)

    def _choices(self, place: Place) -> dict[str, Any]:
        """What the selections of a page offer."""
        return {
            "arms": ARMS,
            "made": list(self._arms[place.key].made),
            "known_critics": _critics(place),
            "outcomes": list(OUTCOMES.values()),
            "people": PEOPLE,
            "sorts": SORTS,
            "places": self.library.places(),
        }


def _score(left: Place, right: Place) -> dict[str, Any] | None:
    """What `srft compare` says of two places; `None` where no task has a verdict in both."""
    sides = [Side(Path(place.title), [place.index.attempts_by_task()]) for place in (left, right)]
    try:
        compared = compare_sides(*sides, common=True)
    except InputError:
        return None
    return {"table": score_table(compared), "sentences": sentences(compared)}


def _critics(place: Place) -> list[str]:
    """Those whose verdicts an arm can be made of."""
    return sorted(name for name, source in place.critics().items() if source in ("model", "rule"))


def _with_known_critics(place: Place, query: Query) -> tuple[Query, str | None]:
    """(a query without the critics that a place does not know, what to say of it): an address is carried from round to
    round, and not every critic judged in each."""
    unknown = [name for name in query.critics if name not in place.critics()]
    if not unknown:
        return query, None
    kept = ",".join(name for name in query.critics if name not in unknown)
    return query._replace(critic=kept), f"No labels by {', '.join(unknown)} in {place.title}: shown without."
