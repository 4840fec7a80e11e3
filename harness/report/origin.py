"""What a run was made with: the command, the settings and the versions, as far as its files tell.

origin_of(Path("runs/demo"), rounds, {"torch": "2.13.0"}).command
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srft.harness.report.files import read_yaml
from srft.harness.report.records import Origin, Round

_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def origin_of(run: Path, rounds: Sequence[Round], versions: Mapping[str, str]) -> Origin:
    """versions: of training, by package. Raises InputError."""
    name = next((name for name in _COMMANDS if (run / name).exists()), None)
    content = _without_users(read_yaml(run / name) or {}) if name else {}
    command = _COMMANDS[name](content, run) if name else _line("srft import FILE...", [("--run", run)])
    runs = [one.collection for one in rounds] + [cell.evaluation for one in rounds for cell in one.cells.values()]
    software = {key: str(content[key]) for key in ("srft", "git", "python") if content.get(key)}
    return Origin(
        command=command,
        settings_file=name,
        settings=content,
        versions={**software, **_texts(content.get("versions")), **dict(sorted(versions.items()))},
        graders=sorted({grader for one in runs if one is not None for grader in one.graders}),
    )


def _texts(content: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def _without_users(content: Any) -> Any:
    """The same without the user and password of URLs: a report is passed on."""
    if isinstance(content, dict):
        return {key: _without_users(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_users(value) for value in content]
    return _USER_IN_URL.sub("", content) if isinstance(content, str) else content


def _loop_command(content: Mapping[str, Any], run: Path) -> str:
    loop = content.get("loop") or {}
    options = [("--preset", loop.get("preset")), ("--arms", loop.get("arms")), ("--run", run)]
    return _line("srft loop", options)


def _collect_command(content: Mapping[str, Any], run: Path) -> str:
    collect = content.get("collect") or {}
    options = [
        ("--tasks", collect.get("tasks")),
        ("--model", collect.get("model")),
        ("--attempts", collect.get("attempts")),
        ("--run", run),
    ]
    return _line("srft collect", options)


def _line(program: str, options: Sequence[tuple[str, Any]]) -> str:
    words = [program]
    for option, value in options:
        if value:
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            words.append(f"{option} {shlex.quote(text)}")
    return " ".join(words)


_COMMANDS = {"loop.yaml": _loop_command, "run.yaml": _collect_command}
"""By the file of settings, the first that is there."""
