"""Pages of lists and of sources that give their rows page by page, as generators."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Fetch = Callable[[str | None], tuple[list[Any], str | None]]


@dataclass(frozen=True)
class Page:
    """The rows of one page; pages are counted from 1."""

    rows: list[Any]
    number: int
    pages: int
    total: int

    @property
    def has_next(self) -> bool:
        return self.number < self.pages

    @property
    def has_previous(self) -> bool:
        return self.number > 1

    def label(self) -> str:
        """As "Page 2 of 3 (25 rows)"."""
        noun = "row" if self.total == 1 else "rows"
        return f"Page {self.number} of {self.pages} ({self.total} {noun})"


def page_count(total: int, size: int) -> int:
    """How many pages the rows need; an empty list has one empty page."""
    if size < 1:
        raise ValueError("a page has at least one row")
    return max(1, -(-total // size))


def paginate(rows: Sequence[Any], number: int = 1, size: int = 10) -> Page:
    """One page of the rows; IndexError where there is no such page."""
    pages = page_count(len(rows), size)
    if number < 1 or number > pages:
        raise IndexError(f"page {number} of {pages}")
    first = (number - 1) * size
    return Page(list(rows[first : first + size]), number, pages, len(rows))


def chunks(rows: Iterable[Any], size: int, partial: bool = True) -> Iterator[list[Any]]:
    """Lists of `size` rows; the shorter rest comes last unless `partial` is False."""
    chunk: list[Any] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk and partial:
        yield chunk


def windows(rows: Iterable[Any], size: int = 2, step: int = 1) -> Iterator[tuple]:
    """Overlapping runs of `size` rows, each `step` further on."""
    held: list[Any] = []
    skip = 0
    for row in rows:
        if skip > 0:
            skip -= 1
            continue
        held.append(row)
        if len(held) == size:
            yield tuple(held)
            skip = max(0, step - size)
            held = held[step:]


def fetch_all(fetch: Fetch, limit: int | None = None) -> Iterator[Any]:
    """All rows of a source whose `fetch(cursor)` returns rows and the next cursor, None at the end.

    Fetches a page only when a row of it is needed, and no more than `limit` rows.
    """
    given = 0
    cursor = None
    seen = set()
    while limit is None or given < limit:
        rows, cursor = fetch(cursor)
        for row in rows:
            if given == limit:
                return
            yield row
            given += 1
        if cursor is None:
            return
        if cursor in seen:
            raise RuntimeError(f"the source gave cursor {cursor!r} twice")
        seen.add(cursor)


def links(number: int, pages: int, around: int = 1) -> list[int | None]:
    """Page numbers to show: first, last and those near `number`; None where some are left out."""
    near = range(number - around, number + around + 1)
    shown = sorted({1, pages, *near} & set(range(1, pages + 1)))
    result: list[int | None] = []
    for page in shown:
        if result and page - result[-1] > 1:
            result.append(None)
        result.append(page)
    return result


def interleave(*sources: Iterable[Any]) -> Iterator[Any]:
    """The first row of each source, then the second of each, until all are used up."""
    waiting = [iter(source) for source in sources]
    while waiting:
        alive = []
        for source in waiting:
            for row in source:
                yield row
                alive.append(source)
                break
        waiting = alive
