"""The practice tasks of a run, where it has made its own: practice/practice.json.

practice_of(Path("runs/demo")).tasks["train"]          # {"comparison": 12, ...}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import msgspec

from srft.harness.look.report.records import Practice, PracticeSource
from srft.harness.run.files import PracticeFile, read_json


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
