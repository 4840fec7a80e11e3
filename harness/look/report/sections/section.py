"""The parts that sections are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """columns: those whose name begins with `>` are figures, set to the right. strong: rows that stand out."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()


class Section(NamedTuple):
    """id: its anchor. figures: by name, those that were drawn. notes: after the tables."""

    id: str
    title: str
    text: Sequence[str] = ()
    figures: Sequence[str] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
