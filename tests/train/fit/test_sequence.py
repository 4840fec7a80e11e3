"""Parts of a sequence: each token and each prediction is one process's, and the documents stay whole."""

import pytest
import torch

from srft.env.errors import InputError
from srft.train.fit.pack import Batch
from srft.train.fit.sequence import SequenceGroup


def batch() -> Batch:
    """Two documents of three and four tokens; the predictions at 0, 2, 3, 5 and 6 are trained."""
    return Batch(
        input_ids=torch.tensor([[10, 11, 12, 20, 21, 22, 23]]),
        position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3]]),
        keep_K=torch.tensor([0, 2, 3, 5, 6]),
        target_K=torch.tensor([11, 13, 21, 23, 24]),
        weight_K=torch.tensor([1.0, 0.5, 1.0, 2.0, 1.0]),
        documents=(3, 4),
        rows=("one", "two"),
    )


def parts(size: int) -> list[Batch]:
    return [SequenceGroup(size, rank, None).part(batch()) for rank in range(size)]


def test_two_halves() -> None:
    left, right = parts(2)
    assert (left.input_ids.tolist(), left.position_ids.tolist()) == ([[10, 11, 12, 20]], [[0, 1, 2, 0]])
    assert (right.input_ids.tolist(), right.position_ids.tolist()) == ([[21, 22, 23, 0]], [[1, 2, 3, 0]])
    assert (left.keep_K.tolist(), left.target_K.tolist()) == ([0, 2, 3], [11, 13, 21])
    assert (right.keep_K.tolist(), right.target_K.tolist()) == ([1, 2], [23, 24])
    assert (left.weight_K.tolist(), right.weight_K.tolist()) == ([1.0, 0.5, 1.0], [2.0, 1.0])
    assert left.documents == right.documents == (3, 4, 1)  # the last is what fills up the second half
    assert (left.parts, right.parts) == (2, 2)


def test_a_sequence_that_divides_needs_no_filling() -> None:
    assert [part.documents for part in parts(7)] == [(3, 4)] * 7
    assert [part.keep_K.tolist() for part in parts(7)] == [[0], [], [0], [0], [], [0], [0]]


def test_more_processes_than_tokens() -> None:
    assert [part.input_ids.tolist() for part in parts(9)][6:] == [[[23]], [[0]], [[0]]]
    assert sum(len(part.target_K) for part in parts(9)) == 5


def test_each_prediction_is_one_processs() -> None:
    of_parts = torch.stack([SequenceGroup(3, rank, None).of_part(batch()) for rank in range(3)])
    assert of_parts.sum(0).tolist() == [1] * 5


def test_heads_that_cannot_be_divided() -> None:
    with pytest.raises(InputError, match="sequence_parallel 2: 9 attention heads cannot be divided among 2 processes"):
        SequenceGroup(2, 0, None).heads(torch.zeros(1, 3, 4, 8), of=9)


def test_own_heads_of_sinks() -> None:
    assert SequenceGroup(2, 1, None).own(torch.arange(4)).tolist() == [2, 3]
