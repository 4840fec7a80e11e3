"""Files of runs: a JSON document, JSON lines, gzip of either, parquet, or a folder of .traj files. Writes nothing.

    for file in run_files(Path("trajectories/")):
        for raw in raw_runs(file, Tally()):
            raw.where, raw.name, raw.content["messages"]

What a run means is for the readers; here it is a JSON object, with lone surrogates replaced so that it can be stored.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from srft.agent.importing.readers.tally import Tally
from srft.agent.models.contract import well_formed_within
from srft.env.errors import InputError

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_KINDS = "a .traj, .traj.json, .json, .jsonl or .parquet file, gzip or not, or a folder of .traj files"


class RawRun(NamedTuple):
    """One run as its file has it.

    where: file and line, for messages. name: the file's name without endings; line: the line or row, `None` where the
    file is one run.
    """

    where: str
    name: str
    line: int | None
    content: dict[str, Any]


def run_files(path: Path) -> list[Path]:
    """The files of runs that a path names: itself, or every .traj and .traj.json below a folder, in order of name."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file; expected {_KINDS}")
    files = sorted(file for ending in ("*.traj", "*.traj.json") for file in path.rglob(ending) if file.is_file())
    if not files:
        raise InputError(f"{path}: no .traj or .traj.json file below this folder; expected {_KINDS}")
    return files


def raw_runs(path: Path, tally: Tally) -> Iterator[RawRun]:
    """The runs of a file, one at a time. What cannot be read is entered in the tally, and reading goes on after it."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if magic == _PARQUET:
                yield from _rows(path, tally)
            elif magic.startswith(_GZIP):
                with gzip.open(file) as unpacked:
                    yield from _documents(unpacked, path, tally)
            else:
                yield from _documents(file, path, tally)
    except OSError as error:
        tally.damage(InputError(f"{path}: cannot be read ({error.strerror or error}); expected {_KINDS}"))


def _documents(file: BinaryIO | gzip.GzipFile, path: Path, tally: Tally) -> Iterator[RawRun]:
    name = _stem(path)
    number = 0
    try:
        if not path.name.removesuffix(".gz").endswith(".jsonl"):
            yield from _decoded(file.read(), str(path), name, None, tally)
            return
        # Binary files split on b"\n" alone; str.splitlines would break a line at U+2028.
        for number, line in enumerate(file, 1):
            if line.strip():
                yield from _decoded(line, f"{path}:{number}", name, number, tally)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        where = f"{path}:{number + 1}"
        tally.damage(InputError(f"{where}: the gzip file is damaged here ({error}); fetch it again"))


def _decoded(text: bytes, where: str, name: str, line: int | None, tally: Tally) -> Iterator[RawRun]:
    try:
        content = well_formed_within(json.loads(text))
    except (ValueError, RecursionError) as error:  # RecursionError: a thousand open brackets
        tally.damage(InputError(f"{where}: not JSON ({error}); expected one run, a JSON object; mend or remove it"))
        return
    yield from _run(content, where, name, line, tally)


def _run(content: Any, where: str, name: str, line: int | None, tally: Tally) -> Iterator[RawRun]:
    if isinstance(content, dict):
        yield RawRun(where, name, line, content)
    else:
        tally.damage(
            InputError(f"{where}: expected one run, a JSON object, got {type(content).__name__}; mend or remove it")
        )


def _rows(path: Path, tally: Tally) -> Iterator[RawRun]:
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as rows:
            for batch in rows.iter_batches(batch_size=16):
                for row in batch.to_pylist():
                    number += 1
                    yield from _run(well_formed_within(row), f"{path}: row {number}", _stem(path), number, tally)
    except pyarrow.ArrowException as error:
        tally.damage(InputError(f"{path}: not a readable parquet file after row {number} ({error}); fetch it again"))


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    for ending in (".json", ".jsonl", ".parquet", ".traj"):
        name = name.removesuffix(ending)
    return name
