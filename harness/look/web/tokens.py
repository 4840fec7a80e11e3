"""An arm's token rows of one run, in coloured pieces.

Reads the rows' Arrow file, mapped, and the tokenizer that they were made with; both are opened when first asked for.

    view = TokenViews(tokenizer=None).of(place, arms, "srft", entry)
    view.rows[0].groups[0].pieces, view.rows[0].figures.trained
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from srft.env.errors import InputError
from srft.harness.look.web.arms import Arms
from srft.harness.look.web.places import Place
from srft.harness.run.entries import RunEntry
from srft.harness.run.trained import arms_on_file, rows_command, rows_folder
from srft.train.rows.mask import Arm
from srft.train.rows.rows import RowTable
from srft.train.rows.show import Piece, RowFigures, figures, pieces, rows_of_run


class Group(NamedTuple):
    """Neighbouring pieces that are alike. opens_step: the step whose first tokens these are."""

    kind: str
    weight: float
    step: int
    opens_step: bool
    pieces: list[Piece]


class RowView(NamedTuple):
    figures: RowFigures
    groups: list[Group]


class Tokens(NamedTuple):
    """rows: of this run, none where the arm has none of it."""

    arm: Arm
    rows: list[RowView]
    folder: Path
    tokenizer: str


class TokenViews:
    """tokenizer: where it lies now, if not where the rows say."""

    def __init__(self, tokenizer: str | None) -> None:
        self._named = tokenizer
        self._tables: dict[Path, tuple[float, RowTable]] = {}
        self._backends: dict[str, tuple[str, Any]] = {}
        self._lock = threading.Lock()

    def of(self, place: Place, arms: Arms, arm: Arm | None, entry: RunEntry) -> Tokens:
        """Raises InputError where there are no rows of the arm, or no tokenizer to read them with."""
        if arm is None or arm not in arms.made:
            made = f"; rows were made of {', '.join(arms.made)}" if arms.made else ""
            raise InputError(
                f"no rows of the arm {arm or '(none chosen)'}{made}; make them: {rows_command(place.round, arm)}"
            )
        with self._lock:
            table = self._table(place.round.path / "rows" / arm)
            backend = self._backend(table)
        rows = rows_of_run(table, entry.id)
        counted = figures(rows, table.manifest.settings)
        seen: set[int] = set()
        return Tokens(
            arm,
            [RowView(one, list(_groups(pieces(row, backend), seen))) for one, row in zip(counted, rows, strict=True)],
            table.folder,
            self._named or table.manifest.tokenizer,
        )

    def warm(self, places: Iterable[Place]) -> threading.Thread:
        """Open all rows and their tokenizers in the background, which takes seconds, so that no page has to wait. What
        cannot be opened is told by the page that wants it."""

        def load() -> None:
            for place in places:
                for arm in arms_on_file(place.round):
                    with contextlib.suppress(InputError, OSError), self._lock:
                        self._backend(self._table(rows_folder(place.round, arm)))

        thread = threading.Thread(target=load, name="warm tokenizers", daemon=True)
        thread.start()
        return thread

    def _table(self, folder: Path) -> RowTable:
        changed = (folder / "rows.json").stat().st_mtime
        known = self._tables.get(folder)
        if known is None or known[0] != changed:
            known = self._tables[folder] = (changed, RowTable.open(folder))
        return known[1]

    def _backend(self, table: RowTable) -> Any:
        """The rows' tokenizer, from a folder: the viewer asks no hub."""
        name = self._named or table.manifest.tokenizer
        if name not in self._backends:
            if not Path(name).is_dir():
                raise InputError(f"the rows' tokenizer, {name}, is no folder on this machine; give --tokenizer DIR")
            from srft.train.rows.render import Renderer

            os.environ.setdefault("HF_HUB_OFFLINE", "1")
            renderer = Renderer.load(name)
            self._backends[name] = (renderer.vocabulary, renderer.tokenizer.backend_tokenizer)  # type: ignore[attr-defined]
        vocabulary, backend = self._backends[name]
        if vocabulary != table.manifest.vocabulary:
            raise InputError(f"the tokenizer in {name} is not that of the rows in {table.folder}; give --tokenizer DIR")
        return backend


def _groups(found: Iterator[Piece], seen: set[int]) -> Iterator[Group]:
    for (kind, weight, step), alike in groupby(found, key=lambda piece: (piece.kind, piece.weight, piece.step)):
        opens = step >= 0 and step not in seen
        seen.add(step)
        yield Group(kind, weight, step, opens, list(alike))
