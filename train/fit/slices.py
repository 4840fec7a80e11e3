"""The loss by verdict: good, unnecessary, mistake and recover steps apart, on held-out runs, before and after.

    slices = Slices.of(table, share=0.1, seed=0)     # None where nobody judged the held-out runs
    before = slices.losses(trainer)                  # {"good": 0.41, "mistake": 0.87, ...}
    slices.figures(before, slices.losses(trainer))   # {"mistake_tokens": 211, "mistake_loss_before": 0.87, ...}

Every token that the model wrote counts once, whatever weight it has in the rows: a mistake's tokens have none, and how
their loss moves is the proof that the mask works. Trained unmasked, mistakes become likelier; under `srft` they must
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy
import torch

from srft.train.fit.pack import Batch, flatten
from srft.train.rows.mask import Part
from srft.train.rows.rows import Row, RowTable

if TYPE_CHECKING:
    from srft.train.fit.trainer import MaskedTrainer

UNJUDGED = "unjudged"
"""Steps without a verdict: of runs that were not judged, or where the critic abstained."""


class _Judged(NamedTuple):
    """A row and the number of the verdict of each of its tokens that the model wrote, in their order."""

    batch: Batch
    verdict_K: torch.Tensor


class Slices:
    """The judged rows of held-out tasks. names: the verdicts there are; tokens: of each."""

    def __init__(self, table: RowTable, places: Sequence[int]) -> None:
        self._table, self._places = table, places
        verdicts = table.verdicts
        known = sorted({verdict for steps in verdicts.values() for verdict in steps.values()})
        self.names = [*known, UNJUDGED]
        self._number = {
            run_id: {step: known.index(verdict) for step, verdict in steps.items()}
            for run_id, steps in verdicts.items()
        }
        self.tokens = torch.zeros(len(self.names), dtype=torch.int64)
        for place in places:
            self.tokens += torch.bincount(self._judged(table[place]).verdict_K, minlength=len(self.names))

    @classmethod
    def of(cls, table: RowTable, *, share: float, seed: int) -> Self | None:
        """`None` where the rows of held-out tasks have no verdicts."""
        from srft.train.fit.finetune import held_out_tasks

        held_out = held_out_tasks(table.task_ids, share=share, seed=seed)
        places = [place for place, task_id in enumerate(table.task_ids) if task_id in held_out]
        found = cls(table, places)
        return found if int(found.tokens[:-1].sum()) else None

    def losses(self, trainer: MaskedTrainer) -> dict[str, float]:
        """The mean loss of each verdict's tokens. Every process calls it, and each goes through its share."""
        state = trainer.accelerator
        sums = torch.zeros(len(self.names), dtype=torch.float64, device=trainer.args.device)
        groups, group = trainer.groups
        rounds = -(-len(self._places) // groups)
        with trainer.measuring() as model:
            for turn in range(rounds):
                number = turn * groups + group
                judged = self._judged(self._table[self._places[min(number, len(self._places) - 1)]])
                loss_K = model(batch=trainer.moved(judged.batch), by_token=True).double()
                if number < len(self._places):  # else only to keep the others company
                    sequence = trainer.forward.sequence
                    verdict_K = (
                        judged.verdict_K if sequence is None else judged.verdict_K[sequence.of_part(judged.batch)]
                    )
                    sums.index_add_(0, verdict_K.to(sums.device), loss_K)
        total = state.reduce(sums).tolist()
        return {
            name: loss / int(count)
            for name, loss, count in zip(self.names, total, self.tokens, strict=True)
            if int(count)
        }

    def figures(self, before: dict[str, float], after: dict[str, float]) -> dict[str, float | int | None]:
        """By verdict: tokens, and their mean loss under the base model (`null` where a training that was stopped lost
        it) and under the trained one."""
        found: dict[str, float | int | None] = {}
        for name, tokens in zip(self.names, self.tokens.tolist(), strict=True):
            if tokens:
                found |= {f"{name}_tokens": tokens, f"{name}_loss_before": before.get(name)}
                found[f"{name}_loss_after"] = after[name]
        return found

    def _judged(self, row: Row) -> _Judged:
        written_T = row.part != Part.CONTEXT
        written_T[:1] = False
        last = int(numpy.flatnonzero(written_T)[-1]) + 1
        whole = row._replace(weights=written_T.astype(numpy.float32), used_tokens=last)
        batch = flatten([whole])
        numbers, unjudged = self._number.get(row.run_id, {}), len(self.names) - 1
        steps_K = row.step_index[1:last][written_T[1:last]]
        return _Judged(batch, torch.tensor([numbers.get(int(step), unjudged) for step in steps_K]))
