"""Rows that do not fit."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.train.rows.mask import Part
from srft.train.rows.overlong import fit
from srft.train.rows.tokenized_row import TokenizedRow


def row_of(*sizes):
    """A row of steps with (context, reply) tokens each; token n of the row is the number n."""
    steps, parts = [], []
    for step, (context, reply) in enumerate(sizes):
        steps += [-1] * context + [step] * reply
        parts += [Part.CONTEXT] * context + [Part.ACTION] * reply
    ids = numpy.arange(len(steps), dtype=numpy.int32)
    return TokenizedRow(ids, numpy.array(steps, numpy.int32), numpy.array(parts, numpy.uint8), "rendered")


FOUR = row_of((3, 2), (2, 2), (2, 2), (2, 2))  # steps end at 5, 9, 13, 17


def tokens(fitted):
    return [row.input_ids.tolist() for row in fitted.rows]


@pytest.mark.parametrize("how", ["cut", "drop", "slide"])
def test_what_fits_is_left_alone(how):
    assert fit(FOUR, max_tokens=17, how=how).rows == [FOUR]


def test_drop():
    assert fit(FOUR, max_tokens=16, how="drop")[0::1] == ([], {"overlong": 1}, {})


@pytest.mark.parametrize(("max_tokens", "kept", "cut"), [(16, 13, 1), (13, 13, 1), (12, 9, 2), (5, 5, 3)])
def test_cut_keeps_whole_steps(max_tokens, kept, cut):
    fitted = fit(FOUR, max_tokens=max_tokens, how="cut")
    assert (tokens(fitted), fitted.remarks) == ([list(range(kept))], {"steps_cut": cut})


@pytest.mark.parametrize("how", ["cut", "slide"])
def test_a_first_step_that_does_not_fit(how):
    fitted = fit(FOUR, max_tokens=4, how=how)
    assert (fitted.rows, fitted.dropped, fitted.remarks) == ([], {"first_step_too_long": 1}, {"steps_cut": 4})


def test_slide_goes_on_behind_a_gap():
    fitted = fit(FOUR, max_tokens=13, how="slide")
    # The second row: the opening, then step 2 again as context, as half of the room (8) holds it, and step 3.
    assert tokens(fitted) == [list(range(13)), [*range(5), *range(9, 17)]]
    assert [sorted(set(row.step_index.tolist())) for row in fitted.rows] == [[-1, 0, 1, 2], [-1, 3]]
    assert not fitted.remarks


def test_slide_gives_a_large_step_all_of_the_room():
    row = row_of((3, 2), (1, 1), (1, 6), (1, 1))
    fitted = fit(row, max_tokens=12, how="slide")
    assert tokens(fitted) == [list(range(7)), [*range(5), *range(7, 14)], [*range(5), *range(14, 16)]]


def test_slide_gives_up_the_smallest_step_before_one_that_needs_all_of_the_room():
    fitted = fit(row_of((3, 2), (0, 1), (1, 6)), max_tokens=12, how="slide")
    assert tokens(fitted) == [list(range(6)), [*range(5), *range(6, 13)]]
    assert not fitted.remarks


@pytest.mark.parametrize("how", ["cut", "slide"])
def test_context_behind_the_last_step_is_no_step_that_is_lost(how):
    row = row_of((3, 2), (6, 0))
    fitted = fit(row, max_tokens=8, how=how)
    assert (tokens(fitted), fitted.dropped, fitted.remarks) == ([list(range(5))], {}, {})


def test_pieces_keep_where_the_row_came_from():
    sampled = FOUR._replace(mask_source="sampled")
    assert [row.mask_source for row in fit(sampled, max_tokens=13, how="slide").rows] == ["sampled", "sampled"]


def test_slide_counts_a_step_that_never_fits():
    fitted = fit(row_of((3, 2), (1, 9), (1, 1)), max_tokens=8, how="slide")
    assert [sorted(set(row.step_index.tolist())) for row in fitted.rows] == [[-1, 0], [-1, 2]]
    assert fitted.remarks == {"steps_cut": 1}


@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12),
    max_tokens=st.integers(8, 40),
    how=st.sampled_from(["cut", "slide"]),
)
def test_rows_fit_and_train_each_step_once(sizes, max_tokens, how):
    row = row_of(*sizes)
    fitted = fit(row, max_tokens=max_tokens, how=how)
    trained = []
    for piece in fitted.rows:
        assert len(piece.input_ids) <= max_tokens
        assert ((piece.part != Part.CONTEXT) == (piece.step_index >= 0)).all()
        for step in sorted({int(step) for step in piece.step_index} - {-1}):
            mine = piece.input_ids[piece.step_index == step]
            assert mine.tolist() == row.input_ids[row.step_index == step].tolist()
            trained.append(step)
    assert trained == sorted(set(trained))
    assert len(trained) + fitted.remarks["steps_cut"] == len(sizes)
    if how == "slide" and fitted.rows:
        room = max_tokens - sum(sizes[0])
        assert set(range(1, len(sizes))) - set(trained) == {n for n, size in enumerate(sizes) if n and sum(size) > room}
