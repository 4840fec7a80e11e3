"""The kinds of charts of a report: each gives a matplotlib figure, for a wide page or a narrow one.

    picture = forest([Mark("base", 0.1, (0.05, 0.2), GREY, "12/120")], narrow=False)
    svg_of(picture), png_of(picture)

Nothing global is touched: no pyplot, no current figure, so threads may draw side by side.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from srft.harness.look.format import SPACE, plain
from srft.harness.look.report.palette import GRID, INK, MUTED

WIDE_INCHES, NARROW_INCHES = 7.6, 3.7
PNG_DPI = 160
PER_CENT = FuncFormatter(lambda value, _: f"{100 * value:.3g}{SPACE}%")

STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "text.parse_math": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "srft",
}

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_FONT = re.compile(r"'DejaVu Sans'(?:, [^;\"]*)?")


class Mark(NamedTuple):
    """One line of a forest chart. dots: single values (seeds) behind it; note: what stands at its right."""

    label: str
    value: float | None
    interval: tuple[float, float] | None
    colour: str
    note: str = ""
    dots: Sequence[float] = ()
    heading: bool = False


class Bar(NamedTuple):
    label: str
    value: float | None
    colour: str
    note: str


class Line(NamedTuple):
    label: str
    colour: str
    points: Sequence[tuple[float, float]]


class Draw(Protocol):
    """Draws for a wide page or a narrow one."""

    def __call__(self, *, narrow: bool) -> Figure: ...


def _figure(height_inches: float, *, narrow: bool) -> Figure:
    return Figure(figsize=(NARROW_INCHES if narrow else WIDE_INCHES, height_inches), layout="constrained")


def _bare(axes: Axes) -> None:
    """Rows of labels need no frame."""
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _rows(axes: Axes, labels: Sequence[str], *, narrow: bool) -> None:
    axes.set_yticks(range(len(labels)), [plain(label, most=20 if narrow else 34) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)


def forest(marks: Sequence[Mark], *, narrow: bool, share: bool = True, whole: bool = False) -> Figure:
    """A value and its interval a line. share: in per cent; whole: the axis goes from 0 to 1."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(0.55 + 0.31 * len(marks), narrow=narrow)
        axes = figure.add_subplot()
        _bare(axes)
        _rows(axes, [mark.label for mark in marks], narrow=narrow)
        axes.grid(axis="x")
        ends = [end for mark in marks for end in (mark.interval or (mark.value or 0.0,))]
        top = 1.0 if whole else min(1.0, max(0.05, *ends, 0.0) * 1.04)
        for row, (mark, tick) in enumerate(zip(marks, axes.get_yticklabels(), strict=True)):
            if mark.heading:
                tick.set(fontweight="bold")
            _mark(axes, row, mark)
        axes.set_xlim(-0.02 * top, top)  # a mark at 0 does not touch its label
        notes = axes.secondary_yaxis("right")
        notes.set_yticks(range(len(marks)), [mark.note for mark in marks], color=MUTED, fontsize=8.5)
        notes.tick_params(length=0)
        notes.spines["right"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 6))
        if share:
            axes.xaxis.set_major_formatter(PER_CENT)
        return figure


def _mark(axes: Axes, row: int, mark: Mark) -> None:
    if mark.interval is not None:
        axes.plot(mark.interval, (row, row), color=mark.colour, linewidth=2.2, solid_capstyle="round", alpha=0.55)
    if mark.dots:
        axes.plot(mark.dots, [row] * len(mark.dots), "o", color=mark.colour, markersize=3.5, alpha=0.5, mew=0)
    if mark.value is not None:
        axes.plot(mark.value, row, "o", color=mark.colour, markersize=7, clip_on=False)


def stacked(rows: Sequence[tuple[str, Mapping[str, int]]], colours: Mapping[str, str], *, narrow: bool) -> Figure:
    """Shares of a whole, a line each; the numbers are counts. A name without a colour is drawn grey."""
    names = [name for name in colours if any(counts.get(name) for _, counts in rows)]
    names += sorted({name for _, counts in rows for name in counts if name not in colours})
    lines = -(-len(names) // (2 if narrow else 5))
    with matplotlib.rc_context(STYLE):
        figure = _figure(0.5 + 0.31 * len(rows) + 0.2 * lines, narrow=narrow)
        axes = figure.add_subplot()
        _bare(axes)
        _rows(axes, [f"{label}" for label, _ in rows], narrow=narrow)
        starts = [0.0] * len(rows)
        for name in names:
            shares = [counts.get(name, 0) / max(1, sum(counts.values())) for _, counts in rows]
            colour = colours.get(name, MUTED)
            label = name.replace("_", " ")
            axes.barh(range(len(rows)), shares, left=starts, height=0.62, color=colour, label=label, linewidth=0)
            starts = [start + share for start, share in zip(starts, shares, strict=True)]
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PER_CENT)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        figure.legend(loc="outside upper left", ncols=2 if narrow else 5, handlelength=0.9, columnspacing=1.4)
        return figure


def bars(panels: Sequence[tuple[str, Sequence[Bar]]], *, narrow: bool, share: bool = False) -> Figure:
    """Panels of bars, one below the other, each with a scale of its own that begins at 0."""
    with matplotlib.rc_context(STYLE):
        rows = [len(panel) for _, panel in panels]
        titled = sum(bool(title) for title, _ in panels)
        figure = _figure(0.15 + 0.27 * sum(rows) + 0.34 * titled + (0.3 if share else 0), narrow=narrow)
        grid = figure.subplots(len(panels), 1, height_ratios=rows, squeeze=False)
        for axes, (title, panel) in zip(grid[:, 0], panels, strict=True):
            _bare(axes)
            _rows(axes, [bar.label for bar in panel], narrow=narrow)
            values = [bar.value or 0 for bar in panel]
            axes.barh(range(len(panel)), values, height=0.66, color=[bar.colour for bar in panel], linewidth=0)
            top = max([*values, 0]) or 1.0
            for row, bar in enumerate(panel):
                axes.text((bar.value or 0) + top * 0.015, row, bar.note, va="center", color=MUTED, fontsize=8.5)
            axes.set_xlim(0, top * (1.42 if narrow else 1.28))
            axes.set_title(title)
            axes.xaxis.set_visible(share)
            if share:
                axes.grid(axis="x")
                axes.xaxis.set_major_locator(MaxNLocator(4))
                axes.xaxis.set_major_formatter(PER_CENT)
        return figure


def lines(panels: Sequence[tuple[str, Sequence[Line]]], *, narrow: bool, x_label: str, y_label: str) -> Figure:
    """Panels of curves on one scale, side by side, or one below the other where it is narrow."""
    labels: dict[str, str] = {line.label: line.colour for _, panel in panels for line in panel}
    with matplotlib.rc_context(STYLE):
        height = (2.3 * len(panels) if narrow else 2.7) + 0.2 * -(-len(labels) // (3 if narrow else 6))
        figure = _figure(height, narrow=narrow)
        shape = (len(panels), 1) if narrow else (1, len(panels))
        grid = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
        for axes, (title, panel) in zip(grid.flat, panels, strict=True):
            for line in panel:
                style = {"marker": "o", "markersize": 3} if len(line.points) < 30 else {}
                axes.plot(*zip(*line.points, strict=True), color=line.colour, linewidth=1.3, **style)
            axes.set_title(title)
            axes.grid(axis="y")
            axes.tick_params(length=0)
            axes.spines["left"].set_visible(False)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.set_ylim(bottom=0)
        figure.supxlabel(x_label, fontsize=8.5, color=MUTED)
        grid.flat[0].set_ylabel(y_label)
        handles = [matplotlib.lines.Line2D([], [], color=colour, linewidth=2.2) for colour in labels.values()]
        names = [plain(label, most=22) for label in labels]
        if len(labels) > 1:
            figure.legend(handles, names, loc="outside upper left", ncols=3 if narrow else 6, handlelength=1.0)
        return figure


def svg_of(figure: Figure) -> str:
    """The drawing with its text as text, in the reader's own font."""
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = stream.getvalue()
    return _FONT.sub(FONTS, svg[svg.index("<svg") :])


def png_of(figure: Figure) -> bytes:
    stream = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None})
    return stream.getvalue()
