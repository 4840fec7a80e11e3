"""A run's tokens as one row: their ids, and of each the step it belongs to and the part of it.

Reads ids that `render.py` has encoded, or a server has sampled; gives a `TokenizedRow`. Writes nothing.

    row = RowBuilder()
    row.add_context([1, 2, 3])                        # what the model was asked
    row.add_reply(0, [4, 5, 6], slice(1, 3))          # step 0: one token of thought, two of its action
    row.add_end(0, [7])
    row.tokenized("rendered").part                    # array([0, 0, 0, 1, 2, 2, 3], dtype=uint8)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy
from numpy.typing import NDArray

from srft.train.rows.mask import Part

MaskSource = Literal["sampled", "rendered"]


class TokenizedRow(NamedTuple):
    """One sequence, T tokens. step_index: -1 outside steps. part: of each token, see `mask.Part`."""

    input_ids: NDArray[numpy.int32]
    step_index: NDArray[numpy.int32]
    part: NDArray[numpy.uint8]
    mask_source: MaskSource


class RowBuilder:
    """A row that grows by spans of tokens, each of one step and one part."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self._spans: list[tuple[int, Part, int]] = []  # step, part, how many tokens

    def __len__(self) -> int:
        return len(self.ids)

    def add_context(self, ids: Sequence[int]) -> None:
        self.ids += ids
        self._spans.append((-1, Part.CONTEXT, len(ids)))

    def add_reply(self, step: int, ids: Sequence[int], action: slice) -> None:
        self.ids += ids
        before, acting = action.start, action.stop - action.start
        self._spans.append((step, Part.THOUGHT, before))
        self._spans.append((step, Part.ACTION, acting))
        self._spans.append((step, Part.THOUGHT, len(ids) - before - acting))

    def add_end(self, step: int, ids: Sequence[int]) -> None:
        self.ids += ids
        self._spans.append((step, Part.END, len(ids)))

    def tokenized(self, source: MaskSource) -> TokenizedRow:
        steps, parts, counts = zip(*self._spans, strict=True)
        return TokenizedRow(
            numpy.array(self.ids, dtype=numpy.int32),
            numpy.repeat(numpy.array(steps, dtype=numpy.int32), counts),
            numpy.repeat(numpy.array(parts, dtype=numpy.uint8), counts),
            source,
        )
