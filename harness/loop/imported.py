"""The runs that a loop begins with: what they are told by, and their import into a round.

Reads files of runs; appends to the round's trajectories.jsonl.

    runs_id(config.runs)                             # 'a 16-digit hash': equal files give the same, wherever they lie
    import_into(config.runs, run, round_)            # {"read": 60, "added": 60, "resolved": 12, ...}
"""

import threading
from pathlib import Path
from typing import Any

from srft.agent.importing.columns import KNOWN_TOOLS, known_tools
from srft.agent.importing.readers.dialects import tool_descriptions
from srft.agent.importing.readers.source import sources
from srft.env.errors import InputError
from srft.env.identity import identity, key
from srft.harness.loop.loop_config import RunsConfig
from srft.harness.run.store import Round, Run
from srft.harness.stages.import_runs import Choice, import_runs


def check_sources(config: RunsConfig) -> None:
    """Raises InputError for a name behind which there are no runs, and for tools that are none. Asks no Hub."""
    for source in config.sources:
        sources(source)
    _tools(config.tools)


def runs_id(config: RunsConfig) -> str:
    """A hash of the files' names and contents, and of how they are read. Raises InputError.

    What is no file or folder is a dataset, told by its name.
    """
    return key("runs", identity(config, base=Path()))


def import_into(config: RunsConfig, run: Run, round_: Round, *, stop: threading.Event) -> dict[str, Any]:
    """Add the runs to the round; what the import came to. Raises InputError, also where it gave no run at all."""
    choice = Choice(config.format, tools=_tools(config.tools), outcome=config.outcome, limit=config.limit)
    imported = import_runs(config.sources, run, choice=choice, report=config.report, stop=stop, into=round_)
    if not imported.stopped and not imported.added + imported.on_file:
        dropped = ", ".join(f"{count} {what}" for what, count in imported.dropped.items())
        raise InputError(f"runs.from {', '.join(config.sources)}: no run in them ({dropped}); name other files")
    return {**imported._asdict(), "damaged": imported.damaged[:20]}


def _tools(source: str | None) -> tuple[dict[str, Any], ...]:
    """Those of a file, or of a scaffold that is known."""
    if source is None:
        return ()
    if source in KNOWN_TOOLS:
        return known_tools(source)
    try:
        return tool_descriptions(Path(source).read_text(), source)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"runs.tools: {source}: cannot be read ({error}); expected JSON, or one of {', '.join(KNOWN_TOOLS)}"
        ) from None
