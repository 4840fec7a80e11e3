"""The sources of runs: files, folders and datasets on the Hub (`hub.py`). Reads a bit at a time; writes nothing.

    for source in sources("trajectories/"):
        for raw in source.runs(Tally()):
            raw.where, raw.name, raw.content["messages"]

| what | how |
|---|---|
| .jsonl | a run a line |
| .json | one run, or a list of runs |
| .traj, .traj.json | one run |
| .parquet, .arrow | a run a row |
| any text file as .gz or .zst | the same |
| a folder with `state.json` or `dataset_dict.json` | what `datasets` saved there |
| a folder of Harbor trials | a run a trial |
| any other folder | the files of one kind below it: .traj, or shards |

What a run means is for the readers; here it is a JSON object, with lone surrogates replaced so that it can be stored.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from srft.agent.importing.readers import RawRun, Tally, from_json, within
from srft.agent.importing.readers.hub import hub_source
from srft.agent.models.contract import well_formed_within
from srft.env.errors import InputError

_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_KINDS = (
    "a .traj, .json, .jsonl, .parquet or .arrow file (.gz and .zst too), a folder of them, a Harbor job, a dataset "
    "that was saved to disk, or a name on the Hugging Face Hub, OWNER/NAME[@REVISION][:CONFIG][:SPLIT]"
)
_TRAJ = (".traj", ".traj.json")
_SHARDS = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "jsonl", ".json": "json"}
_SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}")
_CHUNK_BYTES = 1 << 20
NO_TRAJECTORY = "Harbor trials without a trajectory"


class Source(NamedTuple):
    """One file, or one dataset."""

    name: str
    """Its path, or its name on the Hub."""
    runs: Callable[[Tally], Iterator[RawRun]]
    """Reads its runs; damage is counted in the tally, and reading continues after it."""
    dataset: str | None = None
    """The dataset's name on the Hub."""


def sources(name: str | Path) -> list[Source]:
    """What a path or a Hub name holds, in order of name. Raises InputError."""
    path = Path(name)
    if path.is_file():
        trial = path.parent.parent if path.name == "trajectory.json" and path.parent.name == "agent" else None
        return [_trial(trial) if trial is not None and (trial / "result.json").is_file() else _file(path)]
    if path.is_dir():
        return _folder(path, None)
    folder, colon, split = str(name).rpartition(":")
    if colon and Path(folder).is_dir():
        return _folder(Path(folder), split)
    if on_hub := hub_source(str(name)):
        return [Source(str(name), *on_hub)]
    raise InputError(f"{name}: no such file; expected {_KINDS}")


def _file(path: Path) -> Source:
    return Source(str(path), lambda tally: raw_runs(path, tally))


def _folder(path: Path, split: str | None) -> list[Source]:
    if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return [_file(file) for file in _saved(path, split)]
    if trials := _trials(path):
        return [_trial(trial) for trial in _of_split(path, trials, split)]
    files = [file for file in path.rglob("*") if file.is_file() and "/." not in f"/{file.relative_to(path)}"]
    if trajs := sorted(file for file in files if _plain(file).endswith(_TRAJ)):
        return [_file(file) for file in _of_split(path, trajs, split)]
    kinds: dict[str, list[Path]] = {}
    for file in files:
        if kind := _SHARDS.get(Path(_plain(file)).suffix):
            kinds.setdefault(kind, []).append(file)
    if len(kinds) > 1:  # metadata may be beside shards as .json
        kinds.pop("json", None)
    if len(kinds) != 1:
        there = " and ".join(f"{len(found)} {kind} files" for kind, found in sorted(kinds.items()))
        told = f"{there}, which may hold the same runs; name the files" if there else f"no run; expected {_KINDS}"
        raise InputError(f"{path}: below this folder are {told}")
    return [_file(file) for file in _of_split(path, sorted(*kinds.values()), split)]


def _of_split(folder: Path, files: list[Path], split: str | None) -> list[Path]:
    """The shards of one split: splits of one dataset may hold the same runs."""
    named = [(found[1] if (found := _SPLIT.fullmatch(_stem(file))) else "", file) for file in files]
    splits = sorted({name for name, _ in named if name})
    if split is not None:
        chosen = [file for name, file in named if name == split or split in file.relative_to(folder).parts[:-1]]
        if not chosen:
            raise InputError(f"{folder}:{split}: no such split; there are {', '.join(splits) or 'none'}")
        return chosen
    if len(splits) > 1:
        raise InputError(
            f"{folder}: the splits {', '.join(splits)}, which may hold the same runs; name them, as in "
            f"{folder}:{splits[0]}"
        )
    return files


def _saved(path: Path, split: str | None) -> list[Path]:
    """The files of what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote. Raises InputError."""
    try:
        if (path / "dataset_dict.json").is_file():
            splits = json.loads((path / "dataset_dict.json").read_bytes())["splits"]
            if split not in splits and (split is not None or len(splits) != 1):
                raise InputError(
                    f"{path}: a dataset with the splits {', '.join(splits)}; name one, as in {path}:{splits[0]}"
                )
            path = path / (split or splits[0])
        files = [path / entry["filename"] for entry in json.loads((path / "state.json").read_bytes())["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read as a dataset that was saved to disk ({type(error).__name__}: {error}). Save it "
            "anew."
        ) from None
    return files


def _trials(path: Path) -> list[Path]:
    """The Harbor trials in a folder: itself, or folders below it with a result and a place for their agent."""
    found = [file.parent for file in path.rglob("result.json")]
    # A job has a result.json too; a trial's is beside its agent's and its verifier's folders.
    return sorted(trial for trial in found if (trial / "agent").is_dir() or (trial / "verifier").is_dir())


def _trial(trial: Path) -> Source:
    where = trial / "agent" / "trajectory.json"

    def runs(tally: Tally) -> Iterator[RawRun]:
        try:
            result = _object(trial / "result.json")
            if not where.is_file():
                kind = within(result, "exception_info", "exception_type")
                tally.dropped[f"{NO_TRAJECTORY} ({kind})" if kind else NO_TRAJECTORY] += 1
                return
            content = {"trajectory": _object(where), "result": result, "reward": _reward(trial, result)}
        except InputError as error:
            tally.damage(error)
            return
        yield RawRun(str(where), trial.name, None, content)

    return Source(str(where), runs)


def _object(path: Path) -> dict[str, Any]:
    try:
        content = from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Fix or remove the trial.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(content).__name__}. Fix or remove the trial.")
    return content


def _reward(trial: Path, result: dict[str, Any]) -> Any:
    """What the verifier gave: a number in reward.txt, `reward` in reward.json, or in the result."""
    if (file := trial / "verifier" / "reward.txt").is_file():
        try:
            return float(file.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: expected a number ({error}). Fix or remove the trial.") from None
    if (file := trial / "verifier" / "reward.json").is_file():
        return _object(file).get("reward")
    return within(result, "verifier_result", "rewards", "reward")


def raw_runs(path: Path, tally: Tally) -> Iterator[RawRun]:
    """The runs of a file, one at a time. What cannot be read is counted in the tally and skipped."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if magic == _PARQUET:
                yield from _rows(path, _parquet, tally)
            elif path.suffix == ".arrow":
                yield from _rows(path, _arrow, tally)
            else:
                file.seek(0)
                with _unpacked(file, magic) as unpacked:
                    yield from _documents(unpacked, path, tally)
    except OSError as error:
        tally.damage(InputError(f"{path}: cannot be read ({error.strerror or error}); expected {_KINDS}"))


@contextlib.contextmanager
def _unpacked(file: BinaryIO, magic: bytes) -> Iterator[Any]:
    if magic.startswith(_GZIP):
        with gzip.open(file) as unpacked:
            yield unpacked
    elif magic == _ZSTD:
        import io

        import pyarrow

        with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd") as stream:
            yield io.BufferedReader(stream)
    else:
        yield file


def _documents(file: Any, path: Path, tally: Tally) -> Iterator[RawRun]:
    name, plain, number = _stem(path), _plain(path), 0
    try:
        if plain.endswith(".json") and not plain.endswith(_TRAJ) and _opens_list(file):
            for number, element in enumerate(_elements(file), 1):
                yield from _run(well_formed_within(element), f"{path}: run {number}", name, number, tally)
            return
        if not plain.endswith(".jsonl"):
            yield from _decoded(file.read(), str(path), name, None, tally)
            return
        # Binary files split on b"\n" alone; str.splitlines would break a line at U+2028.
        for number, line in enumerate(file, 1):
            if line.strip():
                yield from _decoded(line, f"{path}:{number}", name, number, tally)
    except (gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
        kind = "zst" if path.suffix == ".zst" else "gzip"
        tally.damage(InputError(f"{path}:{number + 1}: the {kind} file is damaged here ({error}). Fetch it again."))
    except (ValueError, RecursionError) as error:
        tally.damage(InputError(f"{path}: run {number + 1}: not JSON from here on ({error}). Fix or remove it."))


def _opens_list(file: Any) -> bool:
    """Whether the file is a JSON list; it is then read as far as behind the bracket."""
    head = file.peek(4096)
    if not head.lstrip().startswith(b"["):
        return False
    file.read(head.index(b"[") + 1)
    return True


def _elements(file: Any) -> Iterator[Any]:
    """The elements of a JSON list, a few in memory at a time. Raises ValueError."""
    utf8, decoder = codecs.getincrementaldecoder("utf-8")(), json.JSONDecoder()
    text, size, is_end = "", _CHUNK_BYTES, False
    while True:
        text = text.lstrip()
        if text.startswith("]"):
            return
        try:
            element, end = decoder.raw_decode(text) if text else (None, 0)
        except ValueError:
            if is_end:
                raise
            end = 0
        rest = text[end:].lstrip()
        if end and rest[:1] in (",", "]"):
            yield element
            text, size = rest.removeprefix(","), _CHUNK_BYTES
            continue
        if is_end:
            raise ValueError("the list has no end")
        block = file.read(size)
        is_end, size = not block, size * 2  # so an element longer than a chunk is not decoded once a chunk
        text += utf8.decode(block, final=is_end)


def _decoded(text: bytes, where: str, name: str, line: int | None, tally: Tally) -> Iterator[RawRun]:
    try:
        content = from_json(text)
    except ValueError as error:
        tally.damage(InputError(f"{where}: not JSON ({error}); expected one run, a JSON object. Fix or remove it."))
        return
    yield from _run(content, where, name, line, tally)


def _run(content: Any, where: str, name: str, line: int | None, tally: Tally) -> Iterator[RawRun]:
    if isinstance(content, dict):
        yield RawRun(where, name, line, content)
    else:
        tally.damage(
            InputError(f"{where}: expected one run, a JSON object, got {type(content).__name__}. Fix or remove it.")
        )


def _rows(path: Path, batches: Callable[[Path], Iterator[Any]], tally: Tally) -> Iterator[RawRun]:
    import pyarrow

    number = 0
    try:
        for batch in batches(path):
            for place in range(batch.num_rows):
                number += 1
                where = f"{path}: row {number}"
                try:
                    (row,) = batch.slice(place, 1).to_pylist()
                except (ValueError, OverflowError) as error:  # text that is no UTF-8, a date beyond Python's
                    tally.damage(InputError(f"{where}: cannot be read ({error}). Fix or remove it."))
                    continue
                yield from _run(well_formed_within(row), where, _stem(path), number, tally)
    except pyarrow.ArrowException as error:
        kind = path.suffix.removeprefix(".") or "parquet"
        tally.damage(InputError(f"{path}: not a readable {kind} file after row {number} ({error}). Fetch it again."))


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as rows:
        yield from rows.iter_batches(batch_size=16)


def _arrow(path: Path) -> Iterator[Any]:
    """`datasets` writes streams; others write files."""
    import pyarrow

    with pyarrow.memory_map(str(path)) as file:
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        if is_file:
            reader = pyarrow.ipc.open_file(file)
            batches = (reader.get_batch(place) for place in range(reader.num_record_batches))
        else:
            batches = iter(pyarrow.ipc.open_stream(file))
        yield from batches


def _plain(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".zst")


def _stem(path: Path) -> str:
    name = _plain(path)
    for ending in (".json", ".jsonl", ".parquet", ".arrow", ".traj"):
        name = name.removesuffix(ending)
    return name
