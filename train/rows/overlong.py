"""Rows that are longer than the model is trained on.

    fit(row, max_tokens=32768, how="cut").rows[0]

cut    the row ends after its last whole step that fits; the steps behind are lost and counted
drop   the row is lost and counted
slide  further rows hold the later steps. Each keeps the opening (the task, up to the end of the first step) and then,
       after a gap, as many earlier steps as fill half of the room. Both are context there: every step is trained in
       exactly one row. A step that does not fit behind the opening is lost and counted
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Literal, NamedTuple

import numpy
from numpy.typing import NDArray

from srft.train.rows.mask import Part
from srft.train.rows.tokenized_row import TokenizedRow

Overlong = Literal["cut", "drop", "slide"]


class Fitted(NamedTuple):
    """dropped: rows by reason. remarks: counts of lost steps."""

    rows: list[TokenizedRow]
    dropped: Counter[str]
    remarks: Counter[str]


def fit(row: TokenizedRow, *, max_tokens: int, how: Overlong) -> Fitted:
    """The row in pieces that fit."""
    if len(row.input_ids) <= max_tokens:
        return Fitted([row], Counter(), Counter())
    if how == "drop":
        return Fitted([], Counter(overlong=1), Counter())
    steps = _steps(row)
    ends = _ends(row, steps)
    if ends[0] > max_tokens:
        return Fitted([], Counter(first_step_too_long=1), _cut(len(steps)))
    if how == "cut":
        kept = int(numpy.searchsorted(ends, max_tokens, side="right"))
        return Fitted([_piece(row, [(0, int(ends[kept - 1]))], steps)], Counter(), _cut(len(steps) - kept))
    return _slide(row, steps, ends, max_tokens)


def _slide(row: TokenizedRow, steps: NDArray[numpy.int32], ends_S: NDArray[numpy.int64], max_tokens: int) -> Fitted:
    ends = ends_S.tolist()
    opening = ends[0]
    room = max_tokens - opening
    rows = []
    lost = done = 0
    while done < len(steps):
        before = ends[: max(done, 1)]  # of the opening and of the steps that are in a row
        for shared in (room // 2, 0):  # no earlier steps for one that needs all of the room
            begin = next(end for end in before if end >= before[-1] - shared)
            last = bisect_right(ends, begin + room)
            if last > done:
                break
        else:
            lost, done = lost + 1, done + 1
            continue
        rows.append(_piece(row, [(0, opening), (begin, ends[last - 1])], steps[done:last]))
        done = last
    return Fitted(rows, Counter(), _cut(lost))


def _cut(count: int) -> Counter[str]:
    return Counter(steps_cut=count) if count else Counter()


def _steps(row: TokenizedRow) -> NDArray[numpy.int32]:
    """The steps in the row, in order."""
    found: NDArray[numpy.int32] = numpy.unique(row.step_index)
    return found[found >= 0]


def _ends(row: TokenizedRow, steps: NDArray[numpy.int32]) -> NDArray[numpy.int64]:
    """The offset behind each step's last token (S,), in increasing order."""
    backwards = row.step_index[::-1]
    return numpy.array([len(backwards) - int(numpy.argmax(backwards == step)) for step in steps], dtype=numpy.int64)


def _piece(row: TokenizedRow, spans: list[tuple[int, int]], trained: NDArray[numpy.int32]) -> TokenizedRow:
    """The spans of a row, put together. Steps that are not trained in it are context."""
    input_ids, step_index, part = (numpy.concatenate([column[begin:end] for begin, end in spans]) for column in row[:3])
    elsewhere = ~numpy.isin(step_index, trained)
    step_index[elsewhere], part[elsewhere] = -1, Part.CONTEXT
    return TokenizedRow(input_ids, step_index, part, row.mask_source)
