"""What a run was made with: the command, the settings, the versions and its own practice tasks, as its files tell.

origin_of(Path("runs/demo"), rounds, {"torch": "2.13.0"}).command
# 'srft loop --config runs/demo/loop.yaml --run runs/demo-again'
practice_of(Path("runs/demo")).tasks["train"]          # {"comparison": 12, ...}
"""

from __future__ import annotations

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from srft.harness.facts.records import Origin, Practice, PracticeSource, Round
from srft.harness.run.files import PracticeFile, read_json, read_yaml

_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")

_PROGRAMS = {"loop.yaml": "srft loop", "run.yaml": "srft collect"}
"""What takes a file of settings, by its name; a run's is the first that is there."""


def origin_of(run: Path, rounds: Sequence[Round], versions: Mapping[str, str]) -> Origin:
    """versions: of training, by package. Raises InputError."""
    name = next((name for name in _PROGRAMS if (run / name).exists()), None)
    content = _without_users(read_yaml(run / name) or {}) if name else {}
    runs = [one.collection for one in rounds] + [cell.evaluation for one in rounds for cell in one.cells.values()]
    software = {key: str(content[key]) for key in ("srft", "git", "python") if content.get(key)}
    return Origin(
        command=_command(run, name),
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


def _command(run: Path, settings_file: str | None) -> str:
    """The settings hold every `--set` that was given; runs that were imported have none."""
    place = shlex.quote(str(run))
    if settings_file is None:
        return f"srft import FILE... --run {place}"
    settings, again = shlex.quote(str(run / settings_file)), shlex.quote(f"{run}-again")
    return f"{_PROGRAMS[settings_file]} --config {settings} --run {again}"


def practice_of(run: Path) -> Practice | None:
    """`None` where the run made none. Raises InputError."""
    file = read_json(run / "practice" / "practice.json", PracticeFile)
    if file is None:
        return None
    tasks: dict[str, Counter[str]] = defaultdict(Counter)
    for task in file.tasks:
        tasks[task.part][task.kind] += 1
    return Practice(
        settings=file.settings,
        missing=file.missing,
        # train before test
        tasks={part: dict(sorted(kinds.items())) for part, kinds in sorted(tasks.items(), reverse=True)},
        sources={name: PracticeSource(**msgspec.structs.asdict(one)) for name, one in sorted(file.sources.items())},
    )
