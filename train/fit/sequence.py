"""Sequence parallelism: the processes of a group hold a part of each sequence, and exchange heads for tokens to attend.

    group = SequenceGroup.of(2)                  # under torchrun: processes 0 and 1, 2 and 3, ...; None of one process
    part = group.part(batch)                     # this process's tokens; sums of the group's losses are the batch's
    query = group.heads(query_1HLD)              # (1, H / P, P * L, D): all tokens of some heads (Ulysses)

Everything but attention looks at one token at a time and needs nothing of the others, so a sequence of 131,072 tokens
takes a P-th of the memory for its activations in each process. Weights, gradients and their sum over the processes are
as without it: a process's loss is that of its tokens, and the step's denominator counts each token once.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, distributed
from torch.nn.functional import pad

from srft.env.errors import InputError
from srft.train.fit.pack import Batch


class SequenceGroup(NamedTuple):
    """The processes that share sequences. rank: this process's place among them. group: of torch.distributed."""

    size: int
    rank: int
    group: Any

    @classmethod
    def of(cls, size: int) -> Self | None:
        """Neighbouring processes. Every process calls it, once. `None` where each has sequences of its own."""
        if size == 1:
            return None
        group, _ = distributed.new_subgroups(size)
        return cls(size, distributed.get_rank(group), group)

    def part(self, batch: Batch) -> Batch:
        """This process's tokens and those of its predictions. The documents stay whole: attention sees all of them."""
        tokens = batch.input_ids.shape[1]
        behind = -tokens % self.size
        length = (tokens + behind) // self.size
        begin = self.rank * length
        mine_K = self.of_part(batch)
        return batch._replace(
            input_ids=pad(batch.input_ids, (0, behind))[:, begin : begin + length],
            position_ids=pad(batch.position_ids, (0, behind))[:, begin : begin + length],
            keep_K=batch.keep_K[mine_K] - begin,
            target_K=batch.target_K[mine_K],
            weight_K=batch.weight_K[mine_K],
            documents=(*batch.documents, behind) if behind else batch.documents,
            parts=self.size,
        )

    def of_part(self, batch: Batch) -> Tensor:
        """(K,) which of the predictions are this process's."""
        length = math.ceil(batch.input_ids.shape[1] / self.size)
        return torch.div(batch.keep_K, length, rounding_mode="floor") == self.rank

    def heads(self, tensor_1HLD: Tensor, *, of: int) -> Tensor:
        """(1, H, L, D) of this part to (1, H / P, P * L, D). of: the query's heads, which keys and values may share.

        Raises InputError where the heads cannot be divided among the processes.
        """
        if of % self.size:
            raise InputError(
                f"recipe: sequence_parallel {self.size}: {of} attention heads cannot be divided among {self.size} "
                f"processes; use a divisor of {of}"
            )
        shared = tensor_1HLD.shape[1]
        tensor_1HLD = tensor_1HLD.repeat_interleave(math.lcm(shared, self.size) // shared, dim=1)
        _, heads, length, width = tensor_1HLD.shape
        mine = self._exchange(tensor_1HLD.reshape(self.size, heads // self.size, length, width))
        return mine.transpose(0, 1).reshape(1, heads // self.size, self.size * length, width)

    def tokens(self, tensor_1THD: Tensor) -> Tensor:
        """Back again: (1, P * L, H / P, D) to (1, L, H, D)."""
        _, length, heads, width = tensor_1THD.shape
        mine = self._exchange(tensor_1THD.reshape(self.size, length // self.size, heads, width))
        return mine.permute(1, 0, 2, 3).reshape(1, length // self.size, self.size * heads, width)

    def own(self, tensor_H: Tensor) -> Tensor:
        """This process's heads of something that each head has."""
        return tensor_H.chunk(self.size)[self.rank]

    def _exchange(self, tensor_P: Tensor) -> Tensor:
        exchanged: Tensor = _Exchange.apply(tensor_P, self.group)  # type: ignore[no-untyped-call]
        return exchanged


class _Exchange(torch.autograd.Function):
    """The n-th slice goes to the n-th process, whose own comes in its place. Gradients go the same way back."""

    @staticmethod
    def forward(ctx: Any, tensor_P: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return _exchanged(tensor_P, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _exchanged(grads[0], ctx.group), None


def _exchanged(tensor_P: Tensor, group: Any) -> Tensor:
    given = tensor_P.contiguous()
    taken = torch.empty_like(given)
    distributed.all_to_all_single(taken, given, group=group)
    return taken
