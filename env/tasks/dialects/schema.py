"""Recognises a row's dataset by its columns, and makes it a swebench-5 row.

    row = adapt({"instance_id": ..., "install_config": {...}, "docker_image": ..., ...}, "rows.jsonl:1")
    row["image"], row["eval_script"], row["log_parser"], row["eval_type"]

| dataset | known by | adapter |
|---|---|---|
| SWE-bench 5, any task repo | image, eval_script, log_parser and eval_type are there | none: the row is left as it is |
| SWE-bench/SWE-smith, SWE-smith-py | repo `swesmith/...`, or an image_name with `swesmith.` | swe_smith.py |
| nebius/SWE-rebench, -leaderboard | install_config | swe_rebench.py |
| nebius/SWE-rebench-V2 | install_config with base_image_name, or an image of swerebenchv2/ | swe_rebench.py |
| SWE-Gym/SWE-Gym, -Lite | repo is one of SWE-Gym's eleven, which SWE-bench has not | swe_gym.py |
| SWE-Gym/SWE-Gym-Raw | no FAIL_TO_PASS | none: InputError, there is nothing to grade with |

In every one of them FAIL_TO_PASS and PASS_TO_PASS may be lists or JSON text, install_config an object or JSON text,
created_at text, a time or milliseconds, and a column that is null counts as one that is not there.
"""

import datetime
import json
from typing import Any

from srft.env.errors import InputError
from srft.env.tasks.dialects import swe_gym, swe_rebench, swe_smith

NATIVE_COLUMNS = ("image", "eval_script", "log_parser", "eval_type")


def adapt(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The row with swebench 5's columns where an adapter knows it; else the row as it is.

    Raises InputError: a column that an adapter needs is not there or not of its type. UnsupportedRow: a sound row that
    cannot be graded here.
    """
    if isinstance(row.get("created_at"), (int, float, datetime.date)):
        row = {**row, "created_at": _time_text(row["created_at"], where)}
    if all(row.get(column) for column in NATIVE_COLUMNS):
        return row
    for adapter in (swe_smith, swe_rebench, swe_gym):
        if adapter.recognises(row):
            _check_text(row, adapter.TEXT_COLUMNS, where)
            return adapter.adapt(_with_lists(row, where), where)
    if "FAIL_TO_PASS" not in row and {"base_commit", "test_patch", "patch"} <= row.keys():
        raise InputError(
            f"{where}: no FAIL_TO_PASS, so there is nothing to grade with; SWE-Gym-Raw is published without images and "
            "without test results: take SWE-Gym/SWE-Gym, or build images, run the tests and add the columns"
        )
    return row


def _check_text(row: dict[str, Any], columns: tuple[str, ...], where: str) -> None:
    """Raises InputError where a column is missing, is no text or is blank."""
    if missing := [column for column in columns if row.get(column) is None]:
        raise InputError(
            f"{where}: missing column {', '.join(missing)}; expected a row with {', '.join(columns)}, as its dataset "
            "publishes it: add what is missing, or leave the row out"
        )
    for column in columns:
        if not isinstance(row[column], str) or not row[column].strip():
            raise InputError(f"{where}: {column}: expected text, got {row[column]!r:.60}; fix it, or leave the row out")


def _with_lists(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The row with its two test lists as lists of text. Raises InputError for anything else."""
    lists = {}
    for column in ("FAIL_TO_PASS", "PASS_TO_PASS"):
        value = row.get(column)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise InputError(f"{where}: {column}: expected a JSON list, got {value[:60]!r} ({error})") from None
        if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
            raise InputError(f"{where}: {column}: expected a list of test names, got {value!r:.60}")
        lists[column] = list(value)
    return {**row, **lists}


def _time_text(time: float | datetime.date, where: str) -> str:
    """ISO 8601; numbers are milliseconds since 1970, as Parquet's timestamps come out in JSON."""
    if isinstance(time, datetime.date):
        return time.isoformat()
    try:
        return datetime.datetime.fromtimestamp(time / 1000, tz=datetime.UTC).isoformat()
    except (OSError, OverflowError, ValueError) as error:
        raise InputError(
            f"{where}: created_at: expected text or milliseconds since 1970, got {time!r:.60} ({error}); "
            "fix it, or leave the column out"
        ) from None
