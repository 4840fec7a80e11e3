"""Tasks: SWE-bench rows, from wherever they lie.

Reads a Hugging Face dataset name (with an optional `:split`), a local .jsonl / .json / .parquet file, or a swebench-5
task repo (a folder with `tasks/<id>/task.yaml`). Writes nothing.

    tasks = load_tasks("SWE-bench/SWE-bench_Verified", only=["sympy__sympy-20590"])
    tasks[0].view.problem_statement     # all that the agent may know

Rows of swebench 5 carry everything (`image`, `eval_script`, `log_parser`, `eval_type`). Rows of SWE-rebench, SWE-smith
and SWE-Gym are turned into such rows (`adapters/schema.py`). Other older rows get what follows from a published rule
(the image from the instance id, the parser and the evaluation type from the repository); what does not follow is an
error that names the columns.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger

from srft.env.errors import InputError
from srft.env.tasks.dialects.schema import NATIVE_COLUMNS, adapt
from srft.env.tasks.dialects.unsupported import UnsupportedRow

REQUIRED_COLUMNS = (
    "instance_id",
    "repo",
    "problem_statement",
    "patch",
    "test_patch",
    "FAIL_TO_PASS",
    "PASS_TO_PASS",
)


EVAL_TYPES = ("pass_and_fail", "fail_only")
"""swebench's EvalType, whose import takes a second; a test compares the two."""


WORKDIR = "/testbed"


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent may see of a task: no patch, no tests, no hints."""

    instance_id: str
    repo: str
    problem_statement: str
    workdir: str = WORKDIR


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One SWE-bench row, and how its image becomes the task's state.

    image_assets: the binary files that a multimodal test patch cannot carry.
    agent_setup: bash that runs in the image before the agent begins, as root: for images whose HEAD is not the task's.
    grading_setup: the same in the grader's fresh container, before the patch is applied. Both are empty for SWE-bench.
    workdir: the repository's folder in the image, absolute. /testbed in SWE-bench's own images; others have it at /app
        or /home/<name>, and their rows say so.
    """

    instance_id: str
    repo: str
    base_commit: str
    problem_statement: str
    patch: str
    test_patch: str
    FAIL_TO_PASS: tuple[str, ...]
    PASS_TO_PASS: tuple[str, ...]
    image: str
    eval_script: str
    log_parser: str
    eval_type: str
    version: str = ""
    hints_text: str = ""
    created_at: str = ""
    image_assets: dict[str, Any] = {}
    agent_setup: str = ""
    grading_setup: str = ""
    workdir: str = WORKDIR
    source: str | None = None
    """The task's folder in a task repo: the build context of its Dockerfile. `None` for dataset rows."""

    @property
    def view(self) -> TaskView:
        return TaskView(
            instance_id=self.instance_id,
            repo=self.repo,
            problem_statement=self.problem_statement,
            workdir=self.workdir,
        )

    @property
    def dockerfile(self) -> Path | None:
        """The Dockerfile of a task repo's task."""
        return Path(self.source, "Dockerfile") if self.source else None

    @property
    def fingerprint(self) -> str:
        """A hash of everything that a verdict depends on, the patch under test apart."""
        graded_by: tuple[object, ...] = (
            self.instance_id,
            self.image,
            self.eval_script,
            self.log_parser,
            self.eval_type,
            self.FAIL_TO_PASS,
            self.PASS_TO_PASS,
            self.image_assets,
        )
        if self.grading_setup:  # grades of tasks without one keep their keys
            graded_by += (self.grading_setup,)
        if self.workdir != WORKDIR:
            graded_by += ("in", self.workdir)
        if self.dockerfile is not None and self.dockerfile.is_file():
            from srft.env.docker.build import build_id

            graded_by += ("built from", build_id(self.dockerfile))
        return hashlib.sha256(msgspec.json.encode(graded_by)).hexdigest()[:16]


def load_tasks(name: str, *, only: Iterable[str] | None = None) -> list[Task]:
    """The tasks of a dataset name, a file or a task repo, in their order there.

    Rows of SWE-rebench, SWE-smith and SWE-Gym that cannot be graded here (`UnsupportedRow`) are left out, and counted
    by reason in a warning; one that `only` names is an error, and so is a source with no others. Raises InputError:
    nothing there, a row that cannot be read, a column that is missing, an id in `only` that no row has, an id that two
    rows have.
    """
    wanted = None if only is None else list(only)
    tasks: dict[str, Task] = {}
    there: list[str] = []
    unsupported: list[UnsupportedRow] = []
    for where, row in _rows(name):
        there.append(str(row.get("instance_id")))
        if wanted is not None and row.get("instance_id") not in wanted:
            continue
        try:
            task = _task(row, where)
        except UnsupportedRow as error:
            if wanted is not None:
                raise
            unsupported.append(error)
            continue
        if task.instance_id in tasks:
            raise InputError(f"{where}: instance_id {task.instance_id!r} is there twice; keep one row of it")
        tasks[task.instance_id] = task
    if unknown := sorted(set(wanted or ()) - set(tasks)):
        raise InputError(f"{name}: no task {', '.join(unknown)}; {_nearest(unknown, there)}")
    if unsupported:
        _tell_left_out(name, unsupported, kept=len(tasks))
    if not tasks:
        raise InputError(f"{name}: no tasks in it")
    return list(tasks.values()) if wanted is None else [tasks[id_] for id_ in dict.fromkeys(wanted)]


def _nearest(unknown: list[str], there: list[str]) -> str:
    """What may have been meant by the first id that is not there."""
    near = difflib.get_close_matches(unknown[0], there, n=3, cutoff=0.6)
    near = near or [one for one in there if unknown[0] in one][:3]
    if near:
        return f"did you mean {' or '.join(near)}?"
    some = ", ".join(there[:5]) + (", ..." if len(there) > 5 else "")
    return f"its {len(there)} tasks are {some}" if there else "it has none"


def _tell_left_out(name: str, unsupported: list[UnsupportedRow], *, kept: int) -> None:
    if not kept:
        raise InputError(f"{name}: none of its {len(unsupported)} rows can be graded here; the first: {unsupported[0]}")
    total = kept + len(unsupported)
    reasons = Counter(error.reason for error in unsupported).most_common()
    counted = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    logger.warning("{}: {} of its {} rows left out: {}", name, len(unsupported), total, counted)


def _rows(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) for every row of a source."""
    path = Path(name)
    if (path / "tasks").is_dir():
        yield from _task_repo_rows(path)
    elif path.is_dir():
        raise InputError(f"{name}: a folder, but not a swebench-5 task repo (it has no tasks/ in it)")
    elif path.suffix in {".jsonl", ".json", ".parquet"}:
        if not path.is_file():
            raise InputError(f"{name}: no such file")
        yield from {".jsonl": _jsonl_rows, ".json": _json_rows, ".parquet": _parquet_rows}[path.suffix](path)
    else:
        yield from _hub_rows(name)


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # Bytes split on "\n" only: text mode's splitlines would break a row at U+2028 and U+0085.
    for number, line in enumerate(_bytes(path).split(b"\n"), 1):
        if line.strip():
            yield f"{path}:{number}", _object(line, f"{path}:{number}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: not a JSON object ({error}); expected one SWE-bench row a line") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = json.loads(_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a JSON list of rows, got {type(rows).__name__}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{path}[{number}]: expected a JSON object, got {type(row).__name__}")
        yield f"{path}[{number}]", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not a readable parquet file ({error})") from None
    for number, row in enumerate(rows):
        yield f"{path}[{number}]", row


def _hub_rows(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset

    dataset, _, split = name.partition(":")
    try:
        rows = load_dataset(dataset, split=split or "test")
    except Exception as error:  # the hub client raises a zoo of types; each is a name we cannot load
        raise InputError(
            f"{name}: neither a file, nor a task repo, nor a dataset that the Hugging Face hub gives "
            f"({type(error).__name__}: {error}); expected OWNER/NAME or OWNER/NAME:SPLIT"
        ) from error
    for number, row in enumerate(rows):
        yield f"{name}[{number}]", row


def _task_repo_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from swebench.task.repo import load_task, task_dirs

    for folder in task_dirs(path):
        try:
            row = load_task(folder)
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{folder}: not a readable swebench-5 task ({error})") from None
        yield str(folder), {"instance_id": folder.name, **row, "source": str(folder.resolve())}


def _task(row: dict[str, Any], where: str) -> Task:
    """A validated Task from a row; columns that srft does not use are left."""
    row = adapt({column: value for column, value in row.items() if value is not None}, where)
    if missing := [column for column in REQUIRED_COLUMNS if column not in row]:
        raise InputError(f"{where}: missing column {', '.join(missing)}; expected a SWE-bench row")
    for column in ("instance_id", "repo"):
        if not isinstance(row[column], str):
            raise InputError(f"{where}: {column} must be text, got {type(row[column]).__name__}")
    row = _derive_native_columns(row, where)
    for column in ("FAIL_TO_PASS", "PASS_TO_PASS", "image_assets"):
        if isinstance(row.get(column), str):
            row[column] = _json_column(row[column] or "{}", f"{where}: {column}")
    known = {field.name for field in msgspec.structs.fields(Task)}
    try:
        task = msgspec.convert(
            {"base_commit": "", **{column: value for column, value in row.items() if column in known}},
            Task,
            strict=False,
        )
        msgspec.json.encode(task)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}") from None
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: half a surrogate pair, which is no character ({error}); fix the text") from None
    if not task.workdir.startswith("/"):
        raise InputError(
            f"{where}: workdir: expected the repository's folder in the image as an absolute path, say /app, got "
            f"{task.workdir!r}; fix it, or leave the column out: it is then {WORKDIR}"
        )
    if task.eval_type not in EVAL_TYPES:
        raise InputError(
            f"{where}: eval_type: expected one of {', '.join(EVAL_TYPES)}, got {task.eval_type!r}; fix it, or leave "
            "the column out: it then follows from the repository"
        )
    return task


def _json_column(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: expected JSON, got {text[:60]!r} ({error})") from None


def _derive_native_columns(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Fill in what swebench 5 expects and older rows lack, as far as a published rule gives it."""
    missing = [column for column in NATIVE_COLUMNS if not row.get(column)]
    if not missing:
        return row
    from swebench.harness.constants import FAIL_ONLY_REPOS
    from swebench.harness.log_parsers.python import MAP_REPO_TO_PARSER_PY

    rules = {
        # Docker Hub forbids double underscores; the official images carry _1776_ in their place.
        "image": f"swebench/sweb.eval.x86_64.{row['instance_id'].lower().replace('__', '_1776_')}:latest",
        "eval_type": "fail_only" if row["repo"] in FAIL_ONLY_REPOS else "pass_and_fail",
    }
    if parser := MAP_REPO_TO_PARSER_PY.get(row["repo"]):
        rules["log_parser"] = parser.__name__
    if underivable := [column for column in missing if column not in rules]:
        raise InputError(
            f"{where}: a row of an older schema, and {', '.join(underivable)} does not follow from its other columns; "
            "take the dataset's swebench-5 release (the official SWE-bench datasets on the hub have these columns), "
            "or add the columns: eval_script is the bash that runs the tests, log_parser a name in swebench's "
            "PARSER_REGISTRY"
        )
    return {**row, **{column: rules[column] for column in missing}}
