"""Packs: rows put side by side in one sequence, documents kept apart.

    packs = pack(lengths_N, max_tokens=32768)            # lists of row numbers
    batch = flatten([rows[number] for number in packs[0]])
    batch.input_ids, batch.documents                     # (1, T) and the documents' lengths

A document of L tokens has L - 1 predictions; those behind its last trained token matter to nobody, so each document is
cut there before it is packed (`used_tokens`), and its last token is a target only. Position ids begin at 0 in each
document and attention stays within it (`attention.py`). There is no padding.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from srft.train.rows.rows import Row


class Batch(NamedTuple):
    """One flattened sequence of T input tokens, of which K predict a trained token.

    input_ids, position_ids: (1, T) int64. keep_K: where in the sequence the predictions stand, int64, ascending.
    target_K: the token ids to be predicted. weight_K: float32, all above 0. documents: input tokens of each.
    rows: the row's place in its table and its run id, by document. parts: the processes that share the sequence, of
    which this is one's part (`sequence.py`); the documents are then the whole sequence's.
    """

    input_ids: Tensor
    position_ids: Tensor
    keep_K: Tensor
    target_K: Tensor
    weight_K: Tensor
    documents: tuple[int, ...]
    rows: tuple[str, ...]
    parts: int = 1


def pack(lengths: Sequence[int], *, max_tokens: int | None) -> list[list[int]]:
    """Row numbers by pack: best fit in the order given. `max_tokens=None`: every row is a pack of its own.

    Each row goes into the fullest pack that has room for it. In an order by length that would pack a little tighter,
    but the same rows together in each epoch, long with long: what a step learns from would go by length. A row that is
    longer than `max_tokens` has a pack to itself: the rows' own limit is the one that cuts.

    >>> pack([5, 3, 4, 2], max_tokens=7)
    [[0, 3], [1, 2]]
    """
    if max_tokens is None:
        return [[number] for number in range(len(lengths))]
    packs: list[list[int]] = []
    open_packs: list[tuple[int, int]] = []  # (room, pack), the least room first
    for number, length in enumerate(lengths):
        place = bisect_left(open_packs, (length, -1))
        if place == len(open_packs):
            room, chosen = max_tokens, len(packs)
            packs.append([])
        else:
            room, chosen = open_packs.pop(place)
        packs[chosen].append(number)
        if room - length > 0:
            insort(open_packs, (room - length, chosen))
    return packs


def flatten(rows: Sequence[Row], *, names: Sequence[str] | None = None) -> Batch:
    """Rows as one sequence, each cut behind its last trained token."""
    documents, keeps, targets, weights = [], [], [], []
    offset = 0
    for row in rows:
        used = row.used_tokens
        keep = numpy.flatnonzero(row.weights[1:used] > 0)
        documents.append(row.input_ids[: used - 1])
        keeps.append(keep + offset)
        targets.append(row.input_ids[1:used][keep])
        weights.append(row.weights[1:used][keep])
        offset += used - 1
    return Batch(
        input_ids=_long(documents)[None],
        position_ids=torch.cat([torch.arange(len(document)) for document in documents])[None],
        keep_K=_long(keeps),
        target_K=_long(targets),
        weight_K=torch.from_numpy(numpy.concatenate(weights)),
        documents=tuple(len(document) for document in documents),
        rows=tuple(names or (row.run_id for row in rows)),
    )


def _long(arrays: Sequence[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(numpy.concatenate(arrays).astype(numpy.int64))
