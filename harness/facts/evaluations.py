"""A round's evaluations: which models ran on the held-out tasks, and which of them the round is known by.

evaluated = evaluations_of(round_folder, Stages.read(round_folder), run=Path("runs/demo"))
evaluated.known_by, evaluated.episodes["srft"].resolved
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from srft.harness.facts.arms import cell_order
from srft.harness.facts.episodes import Read, read_episodes, summarize_episodes
from srft.harness.facts.records import Episodes, Promotion
from srft.harness.facts.stages import figures_of, places, promotion
from srft.harness.run.index import Index
from srft.harness.run.stages import Stages
from srft.harness.statistics.paired import Verdicts


class Evaluated(NamedTuple):
    """By cell, in the arms' order. known_by: the cell that promote names, else the best, the first of equals."""

    verdicts: dict[str, Verdicts]
    episodes: dict[str, Episodes]
    on_file: dict[str, Index]
    promotion: Promotion | None
    known_by: str | None


def evaluations_of(folder: Path, stages: Stages, *, run: Path, read: Read = read_episodes) -> Evaluated:
    """Raises InputError."""
    verdicts: dict[str, Verdicts] = {}
    episodes: dict[str, Episodes] = {}
    found: dict[str, Index] = {}
    names = [place.name for place in places(folder / "evaluation")]
    for name in sorted(names, key=cell_order):
        on_file = read(folder / "evaluation" / name)
        if on_file is None:
            continue
        found[name] = on_file
        tasks = figures_of(stages, f"evaluate.{name}").get("tasks")
        verdicts[name] = on_file.attempts_by_task()
        episodes[name] = summarize_episodes(on_file, run=run, tasks=tasks if isinstance(tasks, int) else None)
    noted = promotion(stages)
    return Evaluated(verdicts, episodes, found, noted, _known_by(noted, episodes))


def _known_by(noted: Promotion | None, episodes: dict[str, Episodes]) -> str | None:
    if noted is not None and noted.cell in episodes:
        return noted.cell
    return max(episodes, key=lambda name: episodes[name].rate or 0.0, default=None)
