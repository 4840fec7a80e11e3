"""A run's files read into one `Report`.

    report = read_report(Path("runs/demo"))
    report.headline.trained.resolved, report.rounds[1].evaluation.interval

Reads only; nothing is locked, so it may look at a run while it is under way. The same files give the same report.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from srft.harness.facts.arms import arm_comparisons, arms_of, cell_order
from srft.harness.facts.costs import costs_of
from srft.harness.facts.critics import quality
from srft.harness.facts.episodes import Read, read_episodes, relative, summarize_episodes
from srft.harness.facts.evaluations import Evaluated, evaluations_of
from srft.harness.facts.funnel import drops, funnel
from srft.harness.facts.missing import missing_parts
from srft.harness.facts.origin import origin_of, practice_of
from srft.harness.facts.records import ArmRows, Cell, Headline, Report, Round
from srft.harness.facts.stages import (
    arm_and_seed,
    clock_of,
    figures_of,
    rows_of_arms,
    set_aside,
    training,
    training_files,
    unfinished,
)
from srft.harness.facts.verdicts import Labels, judgements, labelled_steps, read_labels
from srft.harness.run.evidence import episodes_not_run
from srft.harness.run.find import find_run, round_folders
from srft.harness.run.index import Index
from srft.harness.run.stages import Stages
from srft.harness.run.store import Round as RoundFiles
from srft.harness.statistics.paired import Comparison, Verdicts, compare_models

BASE = "base"


@dataclass(kw_only=True)
class Reading:
    """What is read of a run, round by round, besides the records: what later rounds and the whole need of it."""

    run: Path
    read: Read
    base: Verdicts | None = None
    versions: dict[str, str] = field(default_factory=dict)
    indexes: list[Index] = field(default_factory=list)
    stages: list[tuple[int, Stages]] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)


def read_report(run: Path, *, read: Read = read_episodes) -> Report:
    """Raises InputError for what is no run, and for a file that cannot be read."""
    folders = list(round_folders(find_run(run)))
    reading = Reading(run=run, read=read)
    rounds = [_round(number, folder, reading) for number, folder in folders]
    practice = practice_of(run)
    report = Report(
        run=run.resolve().name,
        kind=_kind(run, rounds),
        headline=_headline(rounds),
        rounds=rounds,
        quality=quality(reading.indexes),
        practice=practice,
        drops=drops(rounds, practice),
        costs=costs_of(rounds, reading.stages),
        origin=origin_of(run, rounds, reading.versions),
        missing=[],
    )
    return msgspec.structs.replace(report, missing=[*reading.not_run, *missing_parts(report)])


def _kind(run: Path, rounds: list[Round]) -> str:
    if (run / "loop.yaml").exists() or any(one.cells for one in rounds if one.evaluation):
        return "loop"
    if (run / "run.yaml").exists() and any(one.collection and one.collection.models for one in rounds):
        return "collection"
    return "import" if any(one.collection and one.collection.models for one in rounds) else "grading"


def _round(number: int, folder: Path, reading: Reading) -> Round:
    stages = Stages.read(folder)
    reading.stages.append((number, stages))
    on_file = reading.read(folder)
    labels = read_labels(on_file)
    collection = summarize_episodes(on_file, run=reading.run) if on_file else None
    if on_file is not None:
        reading.indexes.append(on_file)
        reading.not_run += _not_run(f"Round {number}", on_file, stages, "collect", run=reading.run)
    rows = rows_of_arms(RoundFiles(folder), reading.run)
    evaluated = evaluations_of(folder, stages, run=reading.run, read=reading.read)
    for name, evaluation in evaluated.on_file.items():
        where, stage = f"Round {number}, evaluation of {name}", f"evaluate.{name}"
        reading.not_run += _not_run(where, evaluation, stages, stage, run=reading.run)
    if reading.base is None:
        reading.base = evaluated.verdicts.get(BASE)
    funnel_arm = _funnel_arm(evaluated.known_by, rows)
    return Round(
        round=number,
        evaluation=evaluated.episodes.get(evaluated.known_by or ""),
        evaluation_of=evaluated.known_by,
        cells=_cells(folder, stages, reading, evaluated),
        arms=arms_of(evaluated.verdicts, reading.base),
        arm_comparisons=arm_comparisons(evaluated.verdicts),
        collection=collection,
        judgements=judgements(labels, on_file),
        rows=[rows[arm] for arm in sorted(rows, key=cell_order)],
        funnel=funnel(collection, _labelled(labels, on_file, rows.get(funnel_arm or "")), rows.get(funnel_arm or "")),
        funnel_arm=funnel_arm,
        promotion=evaluated.promotion,
        unfinished=unfinished(folder, stages),
        set_aside=set_aside(folder, reading.run),
    )


def _not_run(where: str, on_file: Index, stages: Stages, stage: str, *, run: Path) -> list[str]:
    """The sentence on episodes that a collection has not come to; none of a stage that is finished with all of them."""
    if figures_of(stages, stage).get("episodes") == len(on_file.episodes):
        return []
    count = episodes_not_run(run, on_file)
    if not count:
        return []
    return [
        f"{where}: {count} of {count + len(on_file.episodes)} episodes that were asked for are not run, and are in no "
        "figure. The command that collects runs them when it is given again."
    ]


def _cells(folder: Path, stages: Stages, reading: Reading, evaluated: Evaluated) -> dict[str, Cell]:
    trained = training_files(folder)
    for file in trained.values():
        reading.versions |= file.versions
    served = [name.removeprefix("serve.") for name, _ in stages.items() if name.startswith("serve.")]
    cells = {}
    for name in sorted({*trained, *evaluated.episodes, *served}, key=cell_order):
        arm, seed = arm_and_seed(name)
        path = relative(folder / "model" / name / "training.json", reading.run)
        clock_s = clock_of(stages, f"train.{name}")
        cells[name] = Cell(
            arm=arm,
            seed=seed,
            training=training(trained[name], path, clock_s=clock_s) if name in trained else None,
            serving=figures_of(stages, f"serve.{name}") or None,
            evaluation=evaluated.episodes.get(name),
            against_base=_against_base(reading.base, name, evaluated.verdicts.get(name)),
        )
    return cells


def _against_base(base: Verdicts | None, name: str, verdicts: Verdicts | None) -> Comparison | None:
    if base is None or verdicts is None or name == BASE:
        return None
    return compare_models(base, verdicts, names=(BASE, name))


def _funnel_arm(known_by: str | None, rows: dict[str, ArmRows]) -> str | None:
    arm = arm_and_seed(known_by)[0] if known_by else None
    return arm if arm in rows else "srft" if "srft" in rows else next(iter(rows), None)


def _labelled(labels: Labels, on_file: Index | None, rows: ArmRows | None) -> tuple[int, dict[str, int]] | None:
    """By the critics that the rows used, else by all but the true labels."""
    if on_file is None or not labels:
        return None
    named = list(rows.critics) if rows and rows.critics else []
    automatic = [name for name, critic in labels.items() if critic.source in ("model", "rule")]
    return labelled_steps(labels, on_file, named or automatic or list(labels))


def _headline(rounds: list[Round]) -> Headline | None:
    """The base model against the last one that was promoted; where none was, against the last one that was measured."""
    base = next((one.evaluation for one in rounds if one.evaluation_of == BASE), None)
    measured = [one for one in rounds if one.evaluation is not None and one.evaluation_of != BASE]
    if base is None or not measured:
        return None
    promoted = [one for one in measured if one.promotion and one.promotion.decision == "promoted"]
    last = (promoted or measured)[-1]
    assert last.evaluation is not None
    assert last.evaluation_of is not None
    return Headline(
        base=base,
        trained=last.evaluation,
        cell=last.evaluation_of,
        round=last.round,
        promoted=None if last.promotion is None else bool(promoted),
        chosen_among=1 if last.promotion else sum(cell.evaluation is not None for cell in last.cells.values()),
        comparison=last.cells[last.evaluation_of].against_base,
    )
