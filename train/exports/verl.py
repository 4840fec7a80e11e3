"""verl's form: Parquet, with a `loss_mask` of 0 or 1 at each message.

    form = verl_format()                        # one a file: its runs share the type of a column
    form.line(conversation)["messages"][2]["loss_mask"]
    form.finish(Path("lines.jsonl"), Path("data.parquet"))

Parquet gives every message the keys of all, null where it has none, and would do so within arguments and tools. So
arguments are JSON text, and tools too unless Parquet gives those of all runs back as they were. `READER`, a class for
verl that the settings print, undoes all of it before the chat template sees a message.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet

from srft.train.exports.conversation import Conversation
from srft.train.exports.form import Line, MessageFormat, json_text, origin, pairs, with_ids, with_text_arguments

BATCH_ROWS = 64
_CALLS = pyarrow.list_(
    pyarrow.struct(
        {
            "id": pyarrow.string(),
            "type": pyarrow.string(),
            "function": pyarrow.struct({"name": pyarrow.string(), "arguments": pyarrow.string()}),
        }
    )
)
_FIELDS = {
    "role": pyarrow.string(),
    "content": pyarrow.string(),
    "loss_mask": pyarrow.int64(),
    "reasoning_content": pyarrow.string(),
    "tool_calls": _CALLS,
    "tool_call_id": pyarrow.string(),
    "name": pyarrow.string(),
}


class _Verl:
    """The runs of one file, and whether Parquet would change their tools."""

    def __init__(self) -> None:
        self._tools: pyarrow.DataType | None = None
        self._are_kept = True
        self._keys: set[str] = set()

    def line(self, conversation: Conversation) -> Line:
        tools = list(conversation.tools)
        self._are_kept = self._are_kept and (not tools or self._is_kept(tools))
        numbered = with_ids(conversation.messages)
        messages = [
            {**with_text_arguments(message), "loss_mask": int(bool(weight))}
            for message, (_, weight) in zip(numbered, pairs(conversation), strict=True)
        ]
        self._keys |= {key for message in messages for key in message}
        return {"messages": messages, **({"tools": tools} if tools else {}), **origin(conversation)}

    def _is_kept(self, tools: list[Line]) -> bool:
        try:
            self._tools = self._tools or _storable(pyarrow.array([tools]).type)
            is_kept: bool = pyarrow.array([tools], type=self._tools).to_pylist() == [tools]
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError):
            return False  # values of several types in one place, or a group without keys
        return is_kept

    def finish(self, lines: Path, out: Path) -> None:
        message = {key: kind for key, kind in _FIELDS.items() if key in self._keys}
        columns: dict[str, pyarrow.DataType] = {"messages": pyarrow.list_(pyarrow.struct(message))}
        if self._tools is not None or not self._are_kept:
            columns["tools"] = self._tools if self._are_kept else pyarrow.string()
        schema = pyarrow.schema({**columns, "run_id": pyarrow.string(), "task_id": pyarrow.string()})
        with lines.open("rb") as file, pyarrow.parquet.ParquetWriter(out, schema) as writer:
            rows = (self._row(json.loads(line)) for line in file)
            while batch := list(islice(rows, BATCH_ROWS)):
                writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))

    def _row(self, line: Line) -> Line:
        return line if self._are_kept or "tools" not in line else {**line, "tools": json_text(line["tools"])}


def _storable(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type itself. Raises ArrowNotImplementedError for one that Arrow has and Parquet has not."""
    pyarrow.parquet.ParquetWriter(pyarrow.BufferOutputStream(), pyarrow.schema({"tools": kind})).close()
    return kind


READER = """\
import json
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

class Masked(MultiTurnSFTDataset):
    def _read_files_and_process(self):
        super()._read_files_and_process()
        if self.tools is not None:
            self.tools = [json.loads(tools) if isinstance(tools, str) else tools for tools in self.tools]

    def _build_messages(self, example):
        return [self._message(message) for message in super()._build_messages(example)]

    def _message(self, message):
        message = {key: value for key, value in message.items() if value is not None}
        if "tool_calls" in message:
            message["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
                for call in message["tool_calls"]
            ]
        return message

    def _process_single_message(self, *args, **kwargs):
        ids, mask, *rest = super()._process_single_message(*args, **kwargs)
        return (ids, mask * kwargs["message"]["loss_mask"], *rest)
"""
"""A data set class for verl as it is: its own does not read `loss_mask` (pull request 5472), and gives a chat template
whatever Parquet holds."""


def _settings(out: Path, fractional: bool) -> str:
    return f"""\
data.train_files={out} data.messages_key=messages data.tools_key=tools data.max_length=32768
data.custom_cls.path=masked.py data.custom_cls.name=Masked

# masked.py: without it verl trains every reply, and gives the chat template arguments as text and keys with nulls
{READER}"""


def verl_format() -> MessageFormat:
    """The form of one file."""
    made = _Verl()
    return MessageFormat(False, made.line, _settings, endings=(".parquet",), finish=made.finish)
