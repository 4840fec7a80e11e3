"""What pages and terminal show, before it is drawn: sections, tables, cells with a small chart.

    Table("Resolved", ["model", ">share"], [["base", Cell("10 %", Range(0.1, (0.0, 0.2), top=0.5))]])
    chart_text(Bar(0.5))                 # '█████·····'

The page draws a chart as a picture (templates/report_body.html), report.md and the terminal as text. No chart says what
the text of its row does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

CHART_CHARS = 10


class Bar(NamedTuple):
    """A share of a whole, from 0 to 1."""

    share: float


class Range(NamedTuple):
    """A value with its interval, on an axis from 0 to `top` that the whole column shares."""

    value: float
    interval: tuple[float, float] | None
    top: float
    dots: Sequence[float] = ()
    """Single values behind it, as of seeds."""


class Parts(NamedTuple):
    """A whole in parts."""

    counts: Mapping[str, int]
    """Name -> how many, in the order of the table's columns of these names."""
    letters: Mapping[str, str]
    """Name -> the letter that shows it in text; the class of its colour is "f-" and this letter."""


Chart = Bar | Range | Parts


class Cell(NamedTuple):
    """A text, with a chart beside it or a link to a folder's runs."""

    text: str
    chart: Chart | None = None
    folder: str | None = None
    """Of a round or an evaluation, as seen from the run: the page links to the table of its runs."""
    arm: str = ""
    """With `folder`: whose masks the table shows."""


Row = Sequence[str | Cell]


class Table(NamedTuple):
    title: str
    columns: Sequence[str]
    """Those whose name begins with `>` are figures, set to the right."""
    rows: Sequence[Row]
    strong: frozenset[int] = frozenset()
    """Rows that stand out."""
    breaks: frozenset[int] = frozenset()
    """Rows with a line above them."""
    letters: Mapping[str, str] = {}
    """Name of a column -> the letter of its part in the charts, whose colour its head shows."""


class Curve(NamedTuple):
    label: str
    points: Sequence[tuple[float, float]]


class Curves(NamedTuple):
    """Lines on one scale that begins at 0. x, y: what the axes are."""

    title: str
    curves: Sequence[Curve]
    x: str
    y: str


class Section(NamedTuple):
    id: str
    """Its anchor."""
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    curves: Sequence[Curves] = ()
    notes: Sequence[str] = ()
    """After the tables."""


def cell_of(cell: str | Cell) -> Cell:
    return Cell(cell) if isinstance(cell, str) else cell


def chart_text(chart: Chart, *, chars: int = CHART_CHARS) -> str:
    """A chart as text.

    >>> chart_text(Bar(0.5))
    '█████·····'
    >>> chart_text(Range(0.5, (0.2, 0.8), top=1.0))
    '··━━━●━━━·'
    >>> chart_text(Parts({"good": 3, "mistake": 1}, {"good": "g", "mistake": "m"}))
    'ggggggggmm'
    """
    if isinstance(chart, Bar):
        full = round(chart.share * chars) or int(chart.share > 0)
        return "█" * full + "·" * (chars - full)
    if isinstance(chart, Range):
        drawn = ["·"] * chars
        if chart.interval is not None:
            low, high = (_place(end, chart.top, chars) for end in chart.interval)
            drawn[low : high + 1] = "━" * (high + 1 - low)
        drawn[_place(chart.value, chart.top, chars)] = "●"
        return "".join(drawn)
    whole, text, before = sum(chart.counts.values()), "", 0
    for name, count in chart.counts.items():
        before += count
        text += chart.letters[name] * (round(before / whole * chars) - len(text)) if whole else ""
    return text


def _place(value: float, top: float, chars: int) -> int:
    return min(chars - 1, max(0, int(value / top * chars)))


def curve_text(curve: Curve, *, top: float, chars: int = 2 * CHART_CHARS) -> str:
    """
    >>> curve_text(Curve("loss", [(1, 4.0), (2, 2.0), (3, 0.0)]), top=4.0)
    '█▄▁'
    """
    steps = "▁▂▃▄▅▆▇█"
    values = [value for _, value in curve.points]
    each = (len(values) - 1) / (chars - 1)
    kept = values if len(values) <= chars else [values[round(at * each)] for at in range(chars)]
    return "".join(steps[min(7, int(value / top * 8 - 0.001))] if top else steps[0] for value in kept)
