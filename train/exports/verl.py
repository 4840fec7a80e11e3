"""verl's form: Parquet, with a `loss_mask` of 0 or 1 at each message.

    form = verl_format()                        # one a file: its runs share the type of the column `tools`
    form.line(conversation)["messages"][2]["loss_mask"]
    form.finish(Path("lines.jsonl"), Path("data.parquet"))

Parquet gives every message the keys of all, null where it has none, as the OpenAI client does. verl hands messages and
tools to the chat template as they are, so nothing else may get nulls: arguments are JSON text, and a run whose tools
Parquet cannot give back as they were is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from srft.train.exports.conversation import Conversation
from srft.train.exports.form import Line, MessageFormat, origin, pairs, with_ids, with_text_arguments

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
    """The runs of one file. The first one's tools give the type of the column."""

    def __init__(self) -> None:
        self._tools: pyarrow.DataType | None = None
        self._keys: set[str] = set()

    def line(self, conversation: Conversation) -> Line | str:
        tools = list(conversation.tools)
        if tools and not self._is_kept(tools):
            return "tools_that_parquet_would_change"
        numbered = with_ids(conversation.messages)
        messages = [
            {**with_text_arguments(message), "loss_mask": int(bool(weight))}
            for message, (_, weight) in zip(numbered, pairs(conversation), strict=True)
        ]
        self._keys |= {key for message in messages for key in message}
        return {"messages": messages, **({"tools": tools} if tools else {}), **origin(conversation)}

    def _is_kept(self, tools: list[Line]) -> bool:
        try:
            kind = self._tools or _storable(pyarrow.array([tools]).type)
            is_kept: bool = pyarrow.array([tools], type=kind).to_pylist() == [tools]
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError):
            return False  # values of several types in one place, or a group without keys
        self._tools = kind if is_kept else self._tools
        return is_kept

    def finish(self, lines: Path, out: Path) -> None:
        message = {key: kind for key, kind in _FIELDS.items() if key in self._keys}
        columns: dict[str, pyarrow.DataType] = {"messages": pyarrow.list_(pyarrow.struct(message))}
        columns |= {} if self._tools is None else {"tools": self._tools}
        schema = pyarrow.schema({**columns, "run_id": pyarrow.string(), "task_id": pyarrow.string()})
        with lines.open("rb") as file, pyarrow.parquet.ParquetWriter(out, schema) as writer:
            rows = (json.loads(line) for line in file)
            while batch := list(islice(rows, BATCH_ROWS)):
                writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))


def _storable(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type itself. Raises ArrowNotImplementedError for one that Arrow has and Parquet has not."""
    pyarrow.parquet.ParquetWriter(pyarrow.BufferOutputStream(), pyarrow.schema({"tools": kind})).close()
    return kind


def masks_of(path: Path) -> Iterator[list[Any]]:
    """Each row's loss masks, a message each: what verl would read."""
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(columns=["messages"]):
        for row in batch.to_pylist():
            yield [message["loss_mask"] for message in row["messages"]]


def _settings(out: Path, fractional: bool) -> str:
    return f"""\
data.train_files={out} data.messages_key=messages data.tools_key=tools data.max_length=32768
# A verl whose MultiTurnSFTDataset does not read loss_mask (pull request 5472) trains every reply. Save as masked.py
#   from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
#   class Masked(MultiTurnSFTDataset):
#       def _process_single_message(self, *args, **kwargs):
#           ids, mask, *rest = super()._process_single_message(*args, **kwargs)
#           return ids, mask * kwargs["message"]["loss_mask"], *rest
# and say (with one that reads it, this does no harm)
data.custom_cls.path=masked.py data.custom_cls.name=Masked
# Arguments of tool calls are JSON text. A chat template that writes them with `tojson` (Qwen2.5's) would quote them
# twice: for such a model take --format trl, whose tokens are made here."""


def verl_format() -> MessageFormat:
    """The form of one file."""
    made = _Verl()
    return MessageFormat(False, made.line, _settings, endings=(".parquet",), finish=made.finish)
