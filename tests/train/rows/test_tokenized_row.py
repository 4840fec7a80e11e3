"""A row by hand: each token has its step and its part."""

from srft.train.rows.mask import Part
from srft.train.rows.tokenized_row import RowBuilder


def test_each_token_has_its_step_and_its_part():
    builder = RowBuilder()
    builder.add_context([1, 2, 3])
    builder.add_reply(0, [4, 5, 6, 7], slice(1, 3))
    builder.add_end(0, [8])
    builder.add_context([9])
    builder.add_reply(1, [10], slice(0, 0))
    assert len(builder) == 10
    row = builder.tokenized("rendered")
    assert row.input_ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert row.step_index.tolist() == [-1, -1, -1, 0, 0, 0, 0, 0, -1, 1]
    context, thought, action, end = Part.CONTEXT, Part.THOUGHT, Part.ACTION, Part.END
    assert row.part.tolist() == [context] * 3 + [thought, action, action, thought, end, context, thought]
    assert (row.input_ids.dtype, row.step_index.dtype, row.part.dtype) == ("int32", "int32", "uint8")
    assert row.mask_source == "rendered"
