"""The order of the training: which packs in which optimizer step, laid out whole before it begins.

    schedule = Schedule.of(table, recipe, places=trained_rows)
    schedule.steps, schedule[0]                  # a Batch

Each epoch packs the rows in an order of its own, and goes through the packs in another: who is packed with whom, and
which packs make a step, change from epoch to epoch and do not go by length. Both orders come from the seed alone, never
from the number of processes. Epochs follow each other without a gap, so that every step but the last has
`packs_per_step` packs; the last is filled up with packs of weight 0. A resumed run just skips the
packs that are done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
import torch
from torch.utils.data import Dataset

from srft.env.errors import InputError
from srft.train.fit.pack import Batch, flatten, pack
from srft.train.fit.recipe import Recipe
from srft.train.rows.rows import RowTable


class Schedule(Dataset[Batch]):
    """The packs in order; item n is the n-th pack. Those from `real` on are fillers.

    copies, at_once: for processes that share sequences, items come in blocks of `at_once`, each block so many times.
    """

    def __init__(
        self,
        table: RowTable,
        packs: Sequence[Sequence[int]],
        *,
        packs_per_step: int,
        copies: int = 1,
        at_once: int = 1,
    ) -> None:
        self._table = table
        self._copies, self._at_once = copies, at_once
        self._packs = packs
        self.real = len(packs)
        self.steps = math.ceil(len(packs) / packs_per_step)
        self._length = self.steps * packs_per_step

    @classmethod
    def of(cls, table: RowTable, recipe: Recipe, *, places: Sequence[int]) -> Schedule:
        """The schedule of some of a table's rows. Raises InputError where there are none."""
        if not len(places):
            raise InputError(f"{table.folder}: no rows to train on; see the counts that `srft rows` printed")
        lengths = (table.used_tokens_N[list(places)] - 1).tolist()
        packs: list[list[int]] = []
        wanted = recipe.steps * recipe.packs_per_step if recipe.steps else None
        epoch = 0
        while len(packs) < wanted if wanted else epoch < recipe.epochs:
            share = 1.0 if wanted else min(1.0, recipe.epochs - epoch)
            packs += _epoch(places, lengths, recipe, epoch=epoch, share=share)
            epoch += 1
        shared = {"copies": recipe.sequence_parallel, "at_once": recipe.micro_batch}
        return cls(table, packs[:wanted], packs_per_step=recipe.packs_per_step, **shared)

    @classmethod
    def once(cls, table: RowTable, recipe: Recipe, *, places: Sequence[int], processes: int) -> Schedule:
        """Every row once, in its order: for the held-out loss. Filled up for that many processes or groups of them."""
        lengths = (table.used_tokens_N[list(places)] - 1).tolist()
        packs = [[places[number] for number in of_pack] for of_pack in pack(lengths, max_tokens=recipe.pack_tokens)]
        return cls(table, packs, packs_per_step=processes)

    def __len__(self) -> int:
        return self._length * self._copies

    def __getitem__(self, number: int) -> Batch:
        block, place = divmod(number, self._at_once)
        number = block // self._copies * self._at_once + place
        numbers = self._packs[number if number < self.real else 0]
        rows = [self._table[row] for row in numbers]
        names = [f"row {place} (run {row.run_id})" for place, row in zip(numbers, rows, strict=True)]
        batch = flatten(rows, names=names)
        return batch if number < self.real else batch._replace(weight_K=torch.zeros_like(batch.weight_K))

    def longest_alone(self) -> Schedule:
        """As many packs, each of them the longest there is: what a step takes at most."""
        inputs_N = self._table.used_tokens_N - 1
        longest = max(self._packs, key=lambda of_pack: int(inputs_N[list(of_pack)].sum()))
        shared = {"copies": self._copies, "at_once": self._at_once}
        return Schedule(self._table, [longest] * self._length, packs_per_step=self._length // self.steps, **shared)

    @property
    def packs_several(self) -> bool:
        """Whether any pack has more than one row."""
        return any(len(of_pack) > 1 for of_pack in self._packs)

    def tokens(self) -> int:
        """Input tokens of the whole schedule, fillers apart."""
        inputs_N = self._table.used_tokens_N - 1
        return int(sum(inputs_N[of_pack].sum() for of_pack in self._packs))


def _epoch(
    places: Sequence[int], lengths: Sequence[int], recipe: Recipe, *, epoch: int, share: float
) -> list[list[int]]:
    """One pass over the rows, or over a share of its packs."""
    random = numpy.random.default_rng([recipe.seed, epoch])
    order = random.permutation(len(places))
    packed = pack([lengths[number] for number in order], max_tokens=recipe.pack_tokens)
    packs = [[int(places[order[number]]) for number in of_pack] for of_pack in packed]
    random.shuffle(packs)
    return packs[: math.ceil(len(packs) * share)]
