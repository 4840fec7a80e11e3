"""What a run cost, stage by stage: seconds, tokens, and money where a server named it.

    costs_of(rounds, stages)[0].wall_s

The clock's seconds are those of stages.json. Without that file, what ran side by side is summed, which is more than a
clock would have shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from srft.harness.facts.records import Cost, Episodes, Judgement, Round, Training
from srft.harness.facts.stages import clock_of
from srft.harness.run.entries import total
from srft.harness.run.stages import Stages

ORDER = ("collect", "critique", "rows", "train", "serve", "evaluate", "promote")


def costs_of(rounds: Sequence[Round], stages: Sequence[tuple[int, Stages]]) -> list[Cost]:
    """Every stage that left something, in the order of a round."""
    noted = dict(stages)
    found = [cost for one in rounds for cost in _of_round(one, noted[one.round])]
    found.sort(key=lambda cost: (cost.round, ORDER.index(cost.stage.partition(".")[0].partition(" ")[0])))
    return [cost for cost in found if any(getattr(cost, name) is not None for name in Cost.__struct_fields__[2:])]


def _of_round(one: Round, stages: Stages) -> Iterator[Cost]:
    told = set()
    for cost in _of_files(one, stages):
        told.add(cost.stage)
        yield cost
    for name, stage in stages.items():
        if name not in told and name.partition(".")[0] in ("rows", "serve", "promote"):
            yield _cost(one.round, name, wall_s=stage.wall_s)


def _of_files(one: Round, stages: Stages) -> Iterator[Cost]:
    if one.collection is not None and one.collection.models:
        yield _of_episodes(one.round, "collect", one.collection, clock_of(stages, "collect"))
    judged = [judgement for judgement in one.judgements if judgement.source in ("model", "rule", "oracle")]
    for judgement in judged:
        clock_s = clock_of(stages, "critique") if len(judged) == 1 else None
        yield _of_judgement(one.round, judgement, clock_s)
    if len(judged) > 1 and "critique" in stages:
        yield _cost(one.round, "critique", wall_s=clock_of(stages, "critique"))
    for name, cell in one.cells.items():
        if cell.training is not None:
            yield _of_training(one.round, name, cell.training)
        if cell.evaluation is not None:
            stage = f"evaluate.{name}"
            yield _of_episodes(one.round, stage, cell.evaluation, clock_of(stages, stage))


def _of_episodes(round_: int, stage: str, runs: Episodes, clock_s: float | None) -> Cost:
    return _cost(
        round_,
        stage,
        wall_s=clock_s,
        summed_s=runs.wall_s,
        prompt_tokens=runs.spent.prompt_tokens,
        completion_tokens=runs.spent.completion_tokens,
        cost_usd=runs.spent.cost_usd,
    )


def _of_judgement(round_: int, one: Judgement, clock_s: float | None) -> Cost:
    return _cost(
        round_,
        f"critique by {one.critic}",
        wall_s=clock_s,
        summed_s=one.wall_s,
        prompt_tokens=one.spent.prompt_tokens,
        completion_tokens=one.spent.completion_tokens,
        cost_usd=one.spent.cost_usd,
    )


def _of_training(round_: int, cell: str, one: Training) -> Cost:
    tokens = one.figures.get("tokens")
    return _cost(round_, f"train.{cell}", wall_s=one.wall_s, trained_on_tokens=None if tokens is None else int(tokens))


def _cost(
    round_: int,
    stage: str,
    *,
    wall_s: float | None = None,
    summed_s: float | None = None,
    prompt_tokens: int | None = None,
    completion_tokens: int | None = None,
    trained_on_tokens: int | None = None,
    cost_usd: float | None = None,
) -> Cost:
    return Cost(
        round=round_,
        stage=stage,
        wall_s=wall_s,
        summed_s=summed_s,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        trained_on_tokens=trained_on_tokens,
        cost_usd=cost_usd,
    )


def costs_by_kind(costs: Sequence[Cost]) -> Iterator[tuple[Cost, int]]:
    """(sum, how many): of each round's stages of one kind together, as the trainings of all its arms."""
    for (round_, kind), group in groupby(costs, key=lambda one: (one.round, one.stage.partition(".")[0])):
        of_kind = list(group)
        yield _sum(of_kind, round_, kind), len(of_kind)


def cost_of_all(costs: Sequence[Cost]) -> Cost:
    """Without serving, which is part of the clock of evaluate."""
    return _sum([cost for cost in costs if cost.stage.partition(".")[0] != "serve"], -1, "all")


def _sum(costs: Sequence[Cost], round_: int, stage: str) -> Cost:
    names = [name for name in Cost.__struct_fields__ if name not in ("round", "stage")]
    return Cost(round=round_, stage=stage, **{name: total(getattr(one, name) for one in costs) for name in names})
