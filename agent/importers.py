"""Runs of other systems, read into records of ours.

Reads mini-swe-agent's runs: one `.traj.json`, or `.jsonl` / `.jsonl.gz` with one run a line. Writes nothing.

    for run in read_mini_runs("runs.jsonl.gz"):
        run.instance_id, len(run.replies), run.exit_codes[:3]
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from srft.env.errors import InputError

_RETURNCODE = re.compile(r"<returncode>(-?\d+)</returncode>")


class RecordedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run as another system recorded it.

    replies: the assistant messages. exit_codes: one a reply, as its observation says; `None` where it says none
    (format errors, timeouts, the submission). resolved: the recorded verdict, where there is one.
    """

    instance_id: str
    messages: tuple[dict[str, Any], ...]
    replies: tuple[str, ...]
    exit_codes: tuple[int | None, ...]
    submission: str | None
    exit_status: str | None
    resolved: bool | None


def read_mini_runs(path: str | Path) -> Iterator[RecordedRun]:
    """The runs of a file, one at a time. Raises InputError, which names file and line."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected mini-swe-agent runs (.traj.json, .jsonl or .jsonl.gz)")
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _jsonl_runs(path)
    else:
        yield _run(path.read_bytes(), str(path), path.name.removesuffix(".json").removesuffix(".traj"))


def _jsonl_runs(path: Path) -> Iterator[RecordedRun]:
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        # Binary files split on b"\n" alone; str.splitlines would break a line at U+2028.
        with opened(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _run(line, f"{path}:{number}", None)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}:{number + 1}: the gzip file is damaged here ({error}); fetch it again") from None


def _run(text: bytes, where: str, instance_id: str | None) -> RecordedRun:
    try:
        run = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); expected one mini-swe-agent run") from None
    if not isinstance(run, dict) or not isinstance(run.get("messages"), list):
        raise InputError(f"{where}: expected an object with messages, as mini-swe-agent writes it")
    kind = run.get("trajectory_format", "mini-swe-agent-1")
    if not str(kind).startswith("mini-swe-agent-1"):
        raise InputError(f"{where}: trajectory_format is {kind!r}; expected mini-swe-agent-1")
    instance_id = run.get("instance_id") or instance_id
    if not isinstance(instance_id, str):
        raise InputError(f"{where}: no instance_id; expected the task's id next to messages")
    replies, exit_codes = _replies(run["messages"], where)
    outcome = run.get("info") or {}
    return RecordedRun(
        instance_id=instance_id,
        messages=tuple(run["messages"]),
        replies=replies,
        exit_codes=exit_codes,
        submission=outcome.get("submission"),
        exit_status=outcome.get("exit_status"),
        resolved=run.get("resolved"),
    )


def _replies(messages: list[Any], where: str) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """Each assistant message and the exit code that the message after it gives."""
    replies: list[str] = []
    exit_codes: list[int | None] = []
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise InputError(f"{where}: messages[{place}] has no text as its content; expected role and content")
        if message.get("role") == "assistant":
            replies.append(message["content"])
            after = messages[place + 1] if place + 1 < len(messages) else {}
            said = _RETURNCODE.match(str(after.get("content", ""))) if isinstance(after, dict) else None
            exit_codes.append(int(said[1]) if said else None)
    return tuple(replies), tuple(exit_codes)
