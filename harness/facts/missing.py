"""What a report does not show because the run has no file for it, in words.

missing_parts(report)          # ["No evaluation on held-out tasks: ...", ...]
"""

from __future__ import annotations

from collections.abc import Iterator

from srft.harness.facts.records import Report


def missing_parts(report: Report) -> list[str]:
    return [*_of_evaluations(report), *_of_data(report), *_of_models(report)]


def _of_evaluations(report: Report) -> Iterator[str]:
    rounds = report.rounds
    if not any(one.evaluation for one in rounds):
        yield (
            "No evaluation on held-out tasks: no round has a folder evaluation/. `srft loop` measures its models where "
            "it is given tasks for it (`evaluation`)."
        )
    elif report.headline is None:
        yield "No comparison of a trained model with the base model: only one of them was evaluated."
    for one in rounds:
        for name in one.unfinished:
            yield f"Round {one.round}: {name} is not finished; what it has left so far is in the figures."
        trained = [name for name, cell in one.cells.items() if cell.training and not cell.evaluation]
        if trained and any(other.evaluation for other in rounds):
            yield f"Round {one.round}: {', '.join(trained)} trained and not evaluated yet."
        if one.round and one.evaluation and one.promotion is None:
            yield f"Round {one.round}: nothing is noted of a promotion; its evaluation is that of {one.evaluation_of}."


def _of_data(report: Report) -> Iterator[str]:
    collections = [one.collection for one in report.rounds if one.collection]
    if not any(collection.models for collection in collections):
        yield "No trajectories: patches were graded here without the runs they come from."
    if collections and not any(collection.graded for collection in collections):
        yield "No verdicts: none of the collected runs is graded, and none came with a verdict. `srft evaluate --run`."
    if not any(one.judgements for one in report.rounds):
        yield "No labels: no critic has judged these runs (no labels.jsonl). `srft critique --run`."
    elif not report.quality:
        yield (
            "No measure of the critic: no run has both its verdicts and true labels (of a person or an oracle). "
            "`srft critique --critic file:FILE`, or `oracle:FILE`, adds some."
        )
    if not any(one.rows for one in report.rounds):
        yield "No token rows: no rows/<arm>/rows.json. `srft rows --run`."


def _of_models(report: Report) -> Iterator[str]:
    cells = [cell for one in report.rounds for cell in one.cells.values()]
    if not any(cell.training for cell in cells):
        yield "No training: no model/<arm>/training.json. `srft train --run`."
    evaluated = [name for one in report.rounds for name, cell in one.cells.items() if cell.evaluation]
    unprobed = [cell for cell in cells if cell.evaluation and not cell.serving]
    if evaluated and unprobed:
        yield f"No weight probe for {len(unprobed)} of {len(evaluated)} evaluated models: stages.json has none."
    if not any(cost.wall_s is not None for cost in report.costs):
        yield "No times by the clock: the run has no stages.json, or it is empty. Sums over episodes stand in."
    if not any(cost.cost_usd is not None for cost in report.costs):
        yield "No money: no server or price setting named a cost."
