"""verl's Parquet: read back as pandas' users get it, without nulls where a chat template would write them."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from srft.train.exports.form import with_ids
from srft.train.exports.formats import format_of
from srft.train.exports.verl import masks_of
from tests.train.conftest import make_run
from tests.train.exports.test_export import ACT, native, plain, talk  # noqa: F401

EDIT = {
    "type": "function",
    "function": {"name": "edit", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}},
}
BASH = {
    "type": "function",
    "function": {"name": "bash", "parameters": {"type": "object", "properties": {"command": {"type": "string"}}}},
}


def written(tmp_path, *conversations):
    form = format_of("verl")
    lines = [form.line(one) for one in conversations]
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines if not isinstance(line, str)))
    form.finish(path, tmp_path / "data.parquet")
    return lines, pyarrow.parquet.read_table(tmp_path / "data.parquet").to_pylist()


def test_a_mask_at_each_message(tmp_path, plain):  # noqa: F811
    _, rows = written(tmp_path, plain)
    assert [list(message) for message in rows[0]["messages"]] == [["role", "content", "loss_mask"]] * 7
    assert list(masks_of(tmp_path / "data.parquet")) == [[0, 0, 1, 0, 0, 0, 1]]
    assert [message["content"] for message in rows[0]["messages"]] == [it["content"] for it in plain.messages]
    assert (rows[0]["run_id"], rows[0]["task_id"], "tools" in rows[0]) == ("r", "a__b-1", False)


def test_arguments_are_text_and_a_message_has_the_keys_of_all(tmp_path, native, plain):  # noqa: F811
    _, rows = written(tmp_path, native, plain)
    reply, answer = rows[0]["messages"][2:4]
    assert reply["tool_calls"] == [
        {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    ]
    assert (reply["reasoning_content"], reply["tool_call_id"]) == ("Hm.", None)
    assert (answer["tool_call_id"], answer["tool_calls"]) == ("1", None)
    assert rows[0]["tools"] == list(native.tools)
    assert rows[1]["tools"] is None
    assert list(masks_of(tmp_path / "data.parquet")) == [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("tools", "is_kept"),
    [
        ((BASH,), True),
        ((BASH, BASH), True),
        ((BASH, EDIT), False),  # each would have the other's properties
        (({**BASH, "strict": {}},), False),
        (({"type": "function", "function": {"name": "a", "parameters": {"enum": [1, "b"]}}},), False),
    ],
)
def test_tools_that_parquet_would_change_leave_the_run_out(tmp_path, plain, tools, is_kept):  # noqa: F811
    (line, _), rows = written(tmp_path, plain._replace(tools=tools), plain)
    assert (line != "tools_that_parquet_would_change", len(rows)) == (is_kept, 1 + is_kept)
    if is_kept:
        assert rows[0]["tools"] == list(tools)


def test_the_first_tools_are_those_of_the_file(tmp_path, plain):  # noqa: F811
    runs = [plain._replace(tools=tools) for tools in ((BASH,), (EDIT,), (BASH,))]
    lines, rows = written(tmp_path, *runs)
    assert [isinstance(line, str) for line in lines] == [False, True, False]
    assert [row["tools"] for row in rows] == [[BASH], [BASH]]


def test_calls_without_ids_get_some_and_answers_theirs():
    calls = [{"function": {"name": "a", "arguments": {}}}, {"id": "x", "function": {"name": "b", "arguments": {}}}]
    said = with_ids(
        [
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "content": "of a"},
            {"role": "tool", "content": "of b", "tool_call_id": "x"},
            {"role": "assistant", "content": "", "tool_calls": calls[:1]},
            {"role": "tool", "content": "of a"},
        ]
    )
    assert [call["id"] for message in said for call in message.get("tool_calls", ())] == ["call_0", "x", "call_2"]
    assert [message["tool_call_id"] for message in said if message["role"] == "tool"] == ["call_0", "x", "call_2"]


def test_weights_between_are_not_for_it():
    assert format_of("verl").fractional is False
    rounded = talk(make_run([ACT, "Done."]), ["recover", "good"], recover=0.3, binary=True)
    assert [message["loss_mask"] for message in format_of("verl").line(rounded)["messages"]] == [0, 0, 0, 0, 1]
