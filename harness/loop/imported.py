"""The runs that a loop begins with: what they are told by, and their import into a round.

Reads files of runs; appends to the round's trajectories.jsonl.

    runs_id(config.runs)                             # 'a 16-digit hash': equal files give the same, wherever they lie
    import_into(config.runs, run, round_)            # {"read": 60, "added": 60, "resolved": 12, ...}
"""

import hashlib
from pathlib import Path
from typing import Any

from srft.agent.importing.readers.source import run_files
from srft.env.errors import InputError
from srft.harness.config.config import without_defaults
from srft.harness.loop.loop_config import RunsConfig
from srft.harness.loop.stage_keys import stage_key
from srft.harness.loop.weights import content_parts
from srft.harness.run.store import Round, Run
from srft.harness.stages.import_runs import import_runs

WHOLE_BYTES = 256 << 20
"""A larger file is told by its size and by samples: a loop looks at its files each time that it is started."""


def check_sources(config: RunsConfig) -> None:
    """Raises InputError for a name behind which there are no runs."""
    for source in config.sources:
        run_files(Path(source))


def runs_id(config: RunsConfig) -> str:
    """A hash of the files' names and contents, and of how they are read. Raises InputError.

    What is no file or folder is a dataset, told by its name.
    """
    settings = without_defaults(config)
    files = [_source_id(source) for source in settings.pop("sources")]
    besides = {name: _source_id(settings.pop(name)) for name in ("report", "tools") if name in settings}
    return stage_key("runs", files, besides, settings)


def _source_id(source: str) -> list[str]:
    path, split = Path(source), ""
    if not path.exists():
        folder, _, split = source.rpartition(":")
        if not folder or not Path(folder).is_dir():
            return [f"dataset {source}"]
        path = Path(folder)
    if path.is_file():
        return [f"{path.name} {_file_id(path)}"]
    below = sorted(file for file in path.rglob("*") if file.is_file())
    return [split, *(f"{file.relative_to(path)} {_file_id(file)}" for file in below)]


def _file_id(path: Path) -> str:
    try:
        digest = hashlib.sha256(str(path.stat().st_size).encode())
        for part in content_parts(path, whole_bytes=WHOLE_BYTES):
            digest.update(part)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); mend its rights, or leave it out") from None
    return digest.hexdigest()


def import_into(config: RunsConfig, run: Run, round_: Round) -> dict[str, Any]:
    """Add the runs to the round; what the import came to. Raises InputError, also where it gave no run at all."""
    unknown = {"limit": config.limit, "tools": config.tools, "outcome": config.outcome.replace("all", "")}
    if given := [name for name, value in unknown.items() if value]:
        raise InputError(f"runs.{given[0]}: the import does not know it yet; leave it out")
    imported = import_runs(config.sources, run, format=config.format, report=config.report, into=round_)
    damaged = imported.damaged
    figures = {**imported._asdict(), "damaged": damaged[:20], "damaged_runs": len(damaged)}
    if not imported.read:
        raise InputError(f"runs.from {', '.join(config.sources)}: no run in them; name other files")
    return figures
