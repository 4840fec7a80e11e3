"""verl's Parquet: read back as pandas' users get it, without nulls where a chat template would write them."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from srft.train.exports.form import with_ids
from srft.train.exports.formats import format_of
from srft.train.exports.verl import READER
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


def masks_of(path):
    """Each row's loss masks, a message each: what verl would read."""
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(columns=["messages"]):
        for row in batch.to_pylist():
            yield [message["loss_mask"] for message in row["messages"]]


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
def test_tools_that_parquet_would_change_are_text(tmp_path, plain, tools, is_kept):  # noqa: F811
    _, rows = written(tmp_path, plain._replace(tools=tools), plain)
    assert isinstance(rows[0]["tools"], list) == is_kept
    assert (rows[0]["tools"] if is_kept else json.loads(rows[0]["tools"])) == list(tools)
    assert rows[1]["tools"] is None


def test_tools_of_several_kinds_are_text_in_all_rows(tmp_path, plain):  # noqa: F811
    runs = [plain._replace(tools=tools) for tools in ((BASH,), (EDIT,), (), (BASH,))]
    _, rows = written(tmp_path, *runs)
    assert [row["tools"] and json.loads(row["tools"]) for row in rows] == [[BASH], [EDIT], None, [BASH]]


class MultiTurnSFTDataset:
    """What of verl's data set its subclass builds on: one message after the other, every reply trained."""

    def __init__(self, rows):
        self._rows = rows
        self._read_files_and_process()

    def _read_files_and_process(self):
        self.tools = [row["tools"] for row in self._rows]

    def _build_messages(self, example):
        return example["messages"]

    def _process_single_message(self, index, message):
        return index, int(message["role"] == "assistant"), message

    def row(self, number):
        messages = self._build_messages(self._rows[number])
        return [self._process_single_message(index=it, message=message) for it, message in enumerate(messages)]


def test_the_printed_class_undoes_what_parquet_needs(tmp_path, native, plain):  # noqa: F811
    _, rows = written(tmp_path, native._replace(tools=(BASH, EDIT)), plain)
    parts = {"MultiTurnSFTDataset": MultiTurnSFTDataset}
    exec("\n".join(line for line in READER.split("\n") if not line.startswith("from verl")), parts)
    read = parts["Masked"](rows)
    assert read.tools == [[BASH, EDIT], None]
    assert [mask for _, mask, _ in read.row(0)] == [0, 0, 0, 0, 1]
    assert [mask for _, mask, _ in read.row(1)] == [0, 0, 1, 0, 0, 0, 1]
    messages = [{key: it[key] for key in it if key != "loss_mask"} for _, _, it in read.row(0)]
    assert messages == native.messages


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
