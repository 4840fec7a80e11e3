"""Predictions: one patch a task, in swebench's formats.

Reads a .jsonl file (one object a line), a .json file (a list, or a dict keyed by instance id), or the word `gold`: the
tasks' own patches. Writes a round's predictions.jsonl: the patches of its runs, or those that were graded without runs.

    predictions = read_predictions("predictions.jsonl", tasks)
    predictions["pallets__flask-5014"].model_patch      # the text to the character, or None
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from srft.env.errors import InputError
from srft.env.tasks.task import Task
from srft.harness.run.store import Round, write_atomic

GOLD = "gold"


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One patch. `model_patch` is `None` where the run ended without one; `""` is an empty one."""

    instance_id: str
    model_patch: str | None
    model_name_or_path: str | None = None


def read_predictions(source: str | Path, tasks: Sequence[Task], *, subset: bool = False) -> dict[str, Prediction]:
    """The predictions by instance id, in the order of the file.

    subset: the tasks are a part of their data set (`--only`), and predictions for other instances are left out.
    Raises InputError: no such file, a line that is no prediction, an instance that no task has or that stands twice.
    """
    if str(source) == GOLD:
        return {task.instance_id: gold_prediction(task) for task in tasks}
    path = Path(source)
    known = {task.instance_id for task in tasks}
    seen: dict[str, str] = {}
    predictions: dict[str, Prediction] = {}
    for where, fields in _entries(path):
        prediction = _prediction(fields, where)
        id_ = prediction.instance_id
        if id_ in seen:
            raise InputError(f"{where}: instance_id {id_!r} is at {seen[id_]} already; keep one patch a task")
        seen[id_] = where
        if id_ in known:
            predictions[id_] = prediction
        elif not subset:
            raise InputError(
                f"{where}: instance_id {id_!r} is in none of the {len(tasks)} tasks; "
                "take the tasks that these predictions were made for, or remove the entry"
            )
    return predictions


def predictions_on_file(path: Path) -> dict[str, Prediction]:
    """A predictions.jsonl of a run, by instance id, in the order of the file. Raises InputError."""
    return {one.instance_id: one for one in (_prediction(fields, where) for where, fields in _entries(path))}


def gold_prediction(task: Task) -> Prediction:
    """The task's own fix as a prediction."""
    return Prediction(instance_id=task.instance_id, model_patch=task.patch, model_name_or_path=GOLD)


def write_predictions(round_: Round) -> None:
    """The patches of a round's runs. The format has one a task: further attempts go to predictions-1.jsonl and so on.

    Raises StorageError."""
    index = round_.index()
    by_attempt: dict[int, list[bytes]] = {}
    for run in index.episodes.values():
        if run.stop_reason != "infra_error":
            prediction = Prediction(instance_id=run.task_id, model_name_or_path=run.model, model_patch=index.patch(run))
            by_attempt.setdefault(run.attempt, []).append(prediction_line(prediction))
    for attempt, lines in by_attempt.items():
        name = "predictions.jsonl" if attempt == 0 else f"predictions-{attempt}.jsonl"
        write_atomic(round_.path / name, b"".join(lines))


def keep_predictions(round_: Round, predictions: Mapping[str, Prediction], *, asked: Iterable[str]) -> None:
    """Note which patches a round without runs consists of: what was graded before and is not among them is superseded.

    asked: the tasks that they are all that there is for; what is on file of others stays. Raises StorageError."""
    if round_.trajectories.path.exists():
        return
    path = round_.predictions
    kept = predictions_on_file(path) if path.exists() else {}
    for task_id in asked:
        kept.pop(task_id, None)
    lines = [prediction_line(one) for one in (kept | dict(predictions)).values()]
    write_atomic(path, b"".join(lines))


def prediction_line(prediction: Prediction) -> bytes:
    r"""The line of predictions.jsonl.

    Plain ASCII: a patch may hold lone surrogates, which UTF-8 cannot, and U+2028, at which other readers break lines.

    >>> prediction_line(Prediction(instance_id="a__a-1", model_patch="+\u2028\n", model_name_or_path="m"))
    b'{"instance_id": "a__a-1", "model_name_or_path": "m", "model_patch": "+\\u2028\\n"}\n'
    """
    fields = {
        "instance_id": prediction.instance_id,
        "model_name_or_path": prediction.model_name_or_path,
        "model_patch": prediction.model_patch,
    }
    return json.dumps(fields, ensure_ascii=True).encode() + b"\n"


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, entry) for every entry of a file."""
    if path.suffix not in {".json", ".jsonl"}:
        raise InputError(f"{path}: expected a .jsonl or .json file of predictions, or the word {GOLD!r}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file of predictions") from None
    yield from _jsonl_entries(content, path) if path.suffix == ".jsonl" else _json_entries(content, path)


def _jsonl_entries(content: bytes, path: Path) -> Iterator[tuple[str, Any]]:
    # Bytes at b"\n" only: splitlines would break an entry at U+2028 and U+0085.
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield f"{path}:{number}", _load(line, f"{path}:{number}", "write one JSON object a line")


def _json_entries(content: bytes, path: Path) -> Iterator[tuple[str, Any]]:
    loaded = _load(content, str(path), "where it holds one object a line, name it .jsonl")
    if isinstance(loaded, list):
        yield from ((f"{path}[{number}]", entry) for number, entry in enumerate(loaded))
    elif isinstance(loaded, dict):
        for id_, entry in loaded.items():
            where = f"{path}[{id_!r}]"
            if isinstance(entry, dict) and entry.setdefault("instance_id", id_) != id_:
                raise InputError(f"{where}: its instance_id is {entry['instance_id']!r}; make key and field the same")
            yield where, entry
    else:
        raise InputError(f"{path}: expected a JSON list or object of predictions, got {_json_type(loaded)}")


def _load(text: bytes, where: str, remedy: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except ValueError as error:  # not JSON, not UTF-8, or a key that stands twice
        raise InputError(f"{where}: not readable JSON ({error}); {remedy}") from None


def _unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """json keeps the last of two equal keys, which would drop a prediction without a word."""
    keyed: dict[str, Any] = {}
    for key, value in pairs:
        if key in keyed:
            raise ValueError(f"the key {key!r} is there twice")
        keyed[key] = value
    return keyed


def _prediction(fields: Any, where: str) -> Prediction:
    """A validated Prediction; other keys, which runners add freely, are left."""
    if not isinstance(fields, dict):
        raise InputError(
            f"{where}: expected a JSON object, got {_json_type(fields)}; write instance_id and model_patch"
        )
    for field in ("instance_id", "model_patch"):
        if field not in fields:
            raise InputError(f"{where}: missing {field}; give {_EXPECTED[field]}")
    for field, expected in _EXPECTED.items():
        value = fields.get(field)
        if not isinstance(value, str) and (value is not None or field == "instance_id"):
            raise InputError(f"{where}: {field} is {_json_type(value)}; give {expected}")
    return Prediction(
        instance_id=fields["instance_id"],
        model_patch=fields["model_patch"],
        model_name_or_path=fields.get("model_name_or_path"),
    )


_EXPECTED = {
    "instance_id": "the text that names the task",
    "model_patch": "the diff as text, or null where there is none",
    "model_name_or_path": "text or null",
}
_JSON_TYPES = {dict: "an object", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}


def _json_type(value: Any) -> str:
    return _JSON_TYPES.get(type(value), "null")
