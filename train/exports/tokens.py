"""Token rows for other trainers: exactly our tokens and our mask, whatever their chat templates do.

Reads a `RowTable`; writes a file of pre-tokenised rows for TRL, or a folder of Hugging Face `datasets`.

    counts = write_trl(RowTable.open("rows/srft"), Path("rows.parquet"), binary=False)
    counts = write_dataset(RowTable.open("rows/srft"), Path("rows-srft"))

TRL's rows hold `input_ids`, `labels` (-100 where no loss falls) and `completion_mask` (1 where it falls). TRL 1.16
takes labels as they are; versions without that build them from `completion_mask`, if `completion_only_loss=True`. What
stands behind a row's last trained token is left out. The dataset's rows are whole, with float weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from srft.env.errors import InputError
from srft.train.exports.conversation import ROUND_UP_FROM
from srft.train.rows.mask import Part
from srft.train.rows.rows import Manifest, Row, RowTable

IGNORED = -100
BATCH_ROWS = 64
TRL_SCHEMA = pyarrow.schema(
    {
        "input_ids": pyarrow.list_(pyarrow.int32()),
        "labels": pyarrow.list_(pyarrow.int64()),
        "completion_mask": pyarrow.list_(pyarrow.int8()),
    }
)


class TokenCounts(msgspec.Struct, kw_only=True):
    """What was written. trained, masked: tokens that a model wrote, with loss and without; cut: behind the last trained
    one of a row. rounded: tokens whose weight became 0 or 1. untrained_rows: rows that rounding left without any loss.
    """

    rows: int = 0
    tokens: int = 0
    trained: int = 0
    masked: int = 0
    cut: int = 0
    rounded: int = 0
    untrained_rows: int = 0


def write_trl(table: RowTable, out: Path, *, binary: bool) -> TokenCounts:
    """Write `out`, a .parquet or .jsonl file. Raises InputError where a weight is neither 0 nor 1, unless `binary`."""
    counts = TokenCounts()
    with out.open("wb") as file:
        write = _write_parquet if out.suffix == ".parquet" else _write_lines
        write(_trl_rows(table, counts, binary=binary), file)
    return counts


def _trl_rows(table: RowTable, counts: TokenCounts, *, binary: bool) -> Iterator[dict[str, NDArray[numpy.generic]]]:
    for row in table:
        weight_T = _binary(row, counts) if binary else row.weights
        if not numpy.isin(weight_T, (0, 1)).all():
            odd = row.weights[~numpy.isin(row.weights, (0, 1))][0]
            raise InputError(
                f"{table.folder}: run {row.run_id}: a token has the weight {odd}, and TRL knows trained or not; round "
                "with --binary, or write the format hf"
            )
        trained = numpy.flatnonzero(weight_T[1:]) + 1  # the first token is nobody's prediction
        if not len(trained):
            counts.untrained_rows += 1
            continue
        end = int(trained[-1]) + 1
        kept_T = weight_T[:end] > 0
        counts.rows += 1
        counts.tokens += end
        counts.cut += len(row.input_ids) - end
        counts.trained += int(kept_T.sum())
        counts.masked += int((row.part[:end] != Part.CONTEXT).sum() - kept_T.sum())
        yield {
            "input_ids": row.input_ids[:end],
            "labels": numpy.where(kept_T, row.input_ids[:end], IGNORED).astype(numpy.int64),
            "completion_mask": kept_T.astype(numpy.int8),
        }


def _binary(row: Row, counts: TokenCounts) -> NDArray[numpy.float32]:
    weight_T = (row.weights >= ROUND_UP_FROM).astype(numpy.float32)
    counts.rounded += int((weight_T != row.weights).sum())
    return weight_T


def _write_parquet(rows: Iterator[dict[str, NDArray[numpy.generic]]], file: BinaryIO) -> None:
    with pyarrow.parquet.ParquetWriter(file, TRL_SCHEMA) as writer:
        batch: list[dict[str, NDArray[numpy.generic]]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH_ROWS:
                writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=TRL_SCHEMA))
                batch = []
        writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=TRL_SCHEMA))


def _write_lines(rows: Iterator[dict[str, NDArray[numpy.generic]]], file: BinaryIO) -> None:
    for row in rows:
        file.write(msgspec.json.encode({name: values.tolist() for name, values in row.items()}) + b"\n")


def trl_settings(out: Path, longest: int) -> str:
    """The lines of Python that train on the file. TRL's own `max_length` of 1024 would cut nearly every row."""
    kind = "parquet" if out.suffix == ".parquet" else "json"
    return f"""\
rows = load_dataset("{kind}", data_files="{out}", split="train")
args = SFTConfig(completion_only_loss=True, max_length=None, packing=False)     # the longest row: {longest:,} tokens
SFTTrainer(model, args=args, train_dataset=rows)"""


def write_dataset(table: RowTable, out: Path) -> TokenCounts:
    """Write the folder `out`: the rows as `datasets` saves them, the manifest, and a card, README.md."""
    from datasets import Dataset

    dataset = Dataset.from_file(str(table.folder / "rows.arrow"))
    dataset.save_to_disk(str(out))
    shutil.copyfile(table.folder / "rows.json", out / "rows.json")
    (out / "README.md").write_text(_card(table.manifest), encoding="utf-8")
    manifest = table.manifest
    return TokenCounts(
        rows=manifest.rows,
        tokens=manifest.tokens,
        trained=manifest.trained_tokens,
        masked=manifest.written_tokens - manifest.trained_tokens,
    )


def dataset_settings(out: Path) -> str:
    """The lines of Python that read the folder, and what the loss must be."""
    return f"""\
rows = datasets.load_from_disk("{out}")
# the loss of a batch: the sum of weights[t] * -log p(input_ids[t] | input_ids[:t]), over the sum of its weights"""


def _card(manifest: Manifest) -> str:
    policy = msgspec.to_builtins(manifest.policy)
    lines = [
        "---",
        "task_categories:\n- text-generation",
        "tags:\n- srft\n- step-rejection-fine-tuning\n- software-engineering",
        "---",
        f"# Token rows of the arm `{manifest.arm}`",
        "",
        "Runs of a software-engineering agent as token ids, with a weight for each token's loss, made by `srft rows` "
        "and written by `srft export`. `load_from_disk` of the library `datasets` reads the folder.",
        "",
        "| column | meaning |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in _COLUMNS.items()),
        "",
        f"Tokenizer: `{manifest.tokenizer}` (hash of its vocabulary: {manifest.vocabulary}).",
        "",
        "| count | |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {getattr(manifest, name):,} |" for name in _COUNTS),
        *(f"| left out: {reason} | {count:,} |" for reason, count in manifest.left_out.items()),
        *(f"| dropped: {reason} | {count:,} |" for reason, count in manifest.dropped.items()),
        "",
        "| mask policy | |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {value} |" for name, value in policy.items()),
        "",
    ]
    return "\n".join(lines)


_COLUMNS = {
    "run_id": "the run, by the hash of its messages",
    "task_id": "its task",
    "repo": "the task's repository",
    "input_ids": "T token ids",
    "weights": "T weights of the tokens' loss; 0 is context or masked",
    "step_index": "T: the step that a token belongs to, -1 outside steps",
    "part": "T: 0 context, 1 thought, 2 action, 3 end of turn",
    "mask_source": "`sampled` token ids, or `rendered` by the chat template",
    "trained_tokens": "tokens with a weight above 0",
    "used_tokens": "tokens up to and with the last of those",
}
_COUNTS = ("runs", "runs_used", "rows", "tokens", "written_tokens", "trained_tokens", "steps", "steps_masked")
