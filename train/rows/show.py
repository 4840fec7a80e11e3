r"""Token rows for the eye: a row's text in coloured pieces, whose place in the loss is plain to see.

Reads rows and their tokenizer; writes nothing and knows no terminal.

    rows = rows_of_run(RowTable.open("rows/srft"), run_id)
    for piece in pieces(rows[0], renderer.tokenizer.backend_tokenizer):
        piece.text, piece.kind, piece.weight        # 'I look', 'trained', 1.0

A piece is one token, or the tokens that share a character: that character is printed once, as its last token's. The
pieces' texts, one behind the other, are the decoded row. `inert` makes a text safe to print: what an agent wrote or saw
may hold anything.

>>> print(inert("\x1b[31mred\u202e"))
␛[31mred⟨U+202E⟩
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy
import pyarrow.compute
from tokenizers import Tokenizer

from srft.train.rows.mask import Part
from srft.train.rows.rows import Row, RowSettings, RowTable

Kind = Literal["context", "trained", "masked"]
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_CHARACTER_TOKENS = 4
"""A character has at most four bytes, hence at most so many tokens."""


class Piece(NamedTuple):
    """Neighbouring tokens of a row that are printed together. text: as decoded; `inert` it before printing.

    kind: context; trained (weight above 0); masked: written by the model and without loss. ends_turn: whether it is of
    the end of a turn that the model wrote. step: -1 outside steps. tokens: how many.
    """

    text: str
    kind: Kind
    weight: float
    ends_turn: bool
    step: int
    tokens: int


class RowFigures(NamedTuple):
    """What a row comes to. steps: the first and the last in it. split: why it does not continue the row before."""

    tokens: int
    written: int
    trained: int
    masked: int
    mask_source: str
    steps: tuple[int, int]
    split: str | None


def rows_of_run(table: RowTable, run_id: str) -> list[Row]:
    """A run's rows in their order, found in the column of run ids: other rows are not touched."""
    found = pyarrow.compute.equal(table._table["run_id"], run_id)
    return [table[int(place)] for place in numpy.flatnonzero(found.to_numpy())]


def figures(rows: Sequence[Row], settings: RowSettings) -> list[RowFigures]:
    """The figures of a run's rows, given in their order."""
    found: list[RowFigures] = []
    whole: Row | None = None  # the last row that was not slid on
    for number, row in enumerate(rows):
        split = None if whole is None else _split(row, rows[number - 1], whole, settings)
        whole = whole if split == "overlong" else row
        found.append(_figures(row, split))
    return found


def _figures(row: Row, split: str | None) -> RowFigures:
    steps = row.step_index[row.step_index >= 0]
    written = int((row.part != Part.CONTEXT).sum())
    return RowFigures(
        tokens=len(row.input_ids),
        written=written,
        trained=row.trained_tokens,
        masked=written - row.trained_tokens,
        mask_source=row.mask_source,
        steps=(int(steps.min()), int(steps.max())),
        split=split,
    )


def _split(row: Row, before: Row, whole: Row, settings: RowSettings) -> str:
    """Why a new row began. With `slide`, one that keeps the opening and would not have fitted was slid on."""
    if settings.overlong == "slide":
        opening = int(numpy.argmax(whole.step_index >= 0))
        first_step = row.step_index == row.step_index[numpy.argmax(row.step_index >= 0)]
        room_tokens = settings.max_tokens - len(before.input_ids)
        kept = numpy.array_equal(row.input_ids[:opening], whole.input_ids[:opening])
        if kept and int(numpy.flatnonzero(first_step)[-1]) + 1 - opening > room_tokens:
            return "overlong"
    return "sampled_drift" if row.mask_source == "sampled" else "history_rewritten"


def pieces(row: Row, tokenizer: Tokenizer) -> Iterator[Piece]:
    """The row's text in pieces, in order."""
    ids = row.input_ids.tolist()
    begin = 0
    for end, text in _texts(ids, tokenizer):
        last = end - 1
        weight, part = float(row.weights[last]), row.part[last]
        kind: Kind = "trained" if weight > 0 else "context" if part == Part.CONTEXT else "masked"
        yield Piece(text, kind, weight, bool(part == Part.END), int(row.step_index[last]), end - begin)
        begin = end


def _texts(ids: Sequence[int], tokenizer: Tokenizer) -> Iterator[tuple[int, str]]:
    """(end, text) of each piece. Decoded behind the piece before: some tokenizers treat a first token differently."""

    def decoded(begin: int, end: int) -> str:
        return tokenizer.decode(ids[begin:end], skip_special_tokens=False)

    anchor = begin = 0
    for end in range(1, len(ids) + 1):
        known, text = decoded(anchor, begin), decoded(anchor, end)
        if end < len(ids) and (len(text) == len(known) or _is_open(decoded, anchor, end, text, len(ids))):
            continue
        yield end, text[len(known) :]
        anchor, begin = begin, end


def _is_open(decoded: Callable[[int, int], str], anchor: int, end: int, text: str, total: int) -> bool:
    """Whether the next tokens complete the character at the end of the text."""
    if not text.endswith(_BROKEN):
        return False
    later = text
    for further in range(end + 1, min(end + _CHARACTER_TOKENS, total + 1)):
        later = decoded(anchor, further)
        if not later.endswith(_BROKEN):
            break
    return not later.startswith(text)


_UNSAFE = re.compile(r"[^\t\n -~]")
_ALSO_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u180b\u180c\u180d\u180e\u180f")


def inert(text: str) -> str:
    r"""The text with all that a terminal would obey, or not show, as symbols; tabs and line feeds stay.

    >>> inert("a\x00b\r\n\x7f \x9b1m"), inert("naïve 你好 👍")
    ('a␀b␍\n␡ ⟨U+009B⟩1m', 'naïve 你好 👍')
    """
    return _UNSAFE.sub(lambda found: _visible(found[0]), text)


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    # Cc, Cf: controls, bidi marks, zero width; Zl, Zp: line ends; Co, Cs, Cn: no character; Zs: spaces besides ours.
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")
    if hidden or character in _ALSO_INVISIBLE or "VARIATION SELECTOR" in unicodedata.name(character, ""):
        return f"⟨U+{code:04X}⟩"
    return character
