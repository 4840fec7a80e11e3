"""Sections on the making of the models: training, the probe of the served weights, cost, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from srft.harness.facts.costs import cost_of_all, costs_by_kind
from srft.harness.facts.records import Cost, Report, Round, Training
from srft.harness.look.format import DASH, count, decimal, dollars, plain, seconds_text, words
from srft.harness.look.tables import Curve, Curves, Section, Table


def training_section(report: Report) -> Iterator[Section]:
    rows = [
        [str(one.round), plain(name), *_trained(cell.training)]
        for one in report.rounds
        for name, cell in one.cells.items()
        if cell.training is not None
    ]
    if rows:
        columns = [
            "round",
            "model",
            "from",
            ">tasks",
            ">steps",
            ">tokens",
            ">first loss",
            ">last",
            ">held out",
            ">rate",
        ]
        text = [
            "Losses are the mean negative log-likelihood of the tokens that carry loss. Arms differ in which those "
            "are, so a lower loss does not make an arm the better one. First and last: means over a tenth of the "
            "logged steps."
        ]
        tables = [Table("Trainings", [*columns, ">time"], rows)]
        if by_verdict := list(_by_verdict(report)):
            text.append(
                "By verdict: the loss of the steps of held-out runs, whatever weight they had. Where mistakes are "
                "masked, theirs must not fall as it does where all steps are trained."
            )
            columns = ["round", "model", "verdict", ">tokens", ">loss before", ">after"]
            tables.append(Table("Losses by verdict", columns, by_verdict))
        curves = [curve for one in report.rounds for curve in _losses(one)]
        yield Section("training", "Training", text, tables, curves)


def _losses(one: Round) -> Iterator[Curves]:
    """The curves of a round's trainings: of what they trained on, and of the tasks held out of it."""
    trained = [(name, cell.training) for name, cell in one.cells.items() if cell.training is not None]
    titles = {"losses": "Loss in training", "held_out_losses": "Loss on held-out tasks"}
    for key, title in titles.items():
        curves = [Curve(name, getattr(training, key)) for name, training in trained if getattr(training, key)]
        if curves:
            yield Curves(f"{title}, round {one.round}", curves, "optimizer step", "negative log-likelihood a token")


def _by_verdict(report: Report) -> Iterator[list[str]]:
    for one in report.rounds:
        for name, cell in one.cells.items():
            found = cell.training.figures if cell.training is not None else {}
            for verdict in [key.removesuffix("_loss_after") for key in found if key.endswith("_loss_after")]:
                losses = [decimal(found.get(f"{verdict}_loss_{when}"), 3) for when in ("before", "after")]
                yield [str(one.round), plain(name), verdict, count(found.get(f"{verdict}_tokens")), *losses]


def _trained(one: Training) -> list[str]:
    losses = [decimal(one.figures.get(name), 3) for name in ("first_loss", "last_loss", "held_out_loss")]
    sizes = [count(one.tasks), count(one.figures.get("steps")), count(one.figures.get("tokens"))]
    rate = DASH if one.learning_rate is None else f"{one.learning_rate:g}"
    return [plain(one.model, most=32), *sizes, *losses, rate, seconds_text(one.wall_s)]


def serving_section(report: Report) -> Iterator[Section]:
    rows = [
        [str(one.round), plain(name), _noted(cell.serving)]
        for one in report.rounds
        for name, cell in one.cells.items()
        if cell.serving
    ]
    if rows:
        text = [
            "Before a model is evaluated, the log-probabilities that its server gives to a fixed text are compared "
            "with those of the weights on disk: a server that still holds older weights is found out."
        ]
        table = Table("Weight probe", ["round", "model", "what was noted"], rows)
        yield Section("serving", "Served weights", text, [table])


def _noted(figures: Mapping[str, Any]) -> str:
    return "; ".join(f"{words(name)}: {plain(value, most=80)}" for name, value in _flat(figures))


def _flat(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name} ")
        else:
            yield f"{above}{name}", f"{value:.3g}" if isinstance(value, float) else value


def cost_section(report: Report) -> Iterator[Section]:
    if not report.costs:
        return
    rows = [
        [str(kind.round), plain(kind.stage) + ("" if times == 1 else f", {times} times"), *_spent(kind)]
        for kind, times in costs_by_kind(report.costs)
    ]
    rows.append(["", "all", *_spent(cost_of_all(report.costs))])
    columns = ["round", "stage", ">clock", ">summed", ">prompt tokens", ">reply tokens", ">trained on", ">cost"]
    text = [
        "Clock: of the commands that finished the stages. Summed: over episodes or critiques, which run side by "
        "side. Serving is part of the clock of evaluate, so the last line leaves it out. A dash is a figure that no "
        "file tells, not a zero; sums are of what is known."
    ]
    last = frozenset({len(rows) - 1})
    yield Section("cost", "Cost", text, [Table("Cost by stage", columns, rows, last, breaks=last)])


def _spent(cost: Cost) -> list[str]:
    tokens = (cost.prompt_tokens, cost.completion_tokens, cost.trained_on_tokens)
    return [seconds_text(cost.wall_s), seconds_text(cost.summed_s), *map(count, tokens), dollars(cost.cost_usd)]


def drops_section(report: Report) -> Iterator[Section]:
    rows = [
        [
            DASH if one.round is None else str(one.round),
            plain(one.stage),
            one.what,
            plain(one.reason, most=110),
            count(one.count),
        ]
        for one in report.drops
    ]
    text = ["Everything that was left out, cut short or done again on the way, counted."]
    columns = ["round", "stage", "what", "why", ">count"]
    tables = [Table("Left out, cut, done again", columns, rows)] if rows else []
    yield Section("drops", "What was left out", text, tables, notes=[] if rows else ["Nothing was."])


def practice_section(report: Report) -> Iterator[Section]:
    practice = report.practice
    if practice is None or not practice.tasks:
        return
    parts = list(practice.tasks)
    kinds = sorted({kind for of_part in practice.tasks.values() for kind in of_part})
    by_kind = [[words(kind), *(count(practice.tasks[part].get(kind, 0)) for part in parts)] for kind in kinds]
    by_kind.append(["all", *(count(sum(practice.tasks[part].values())) for part in parts)])
    sources = [
        [plain(name), count(one.mutants), count(one.tried), count(one.kept)] for name, one in practice.sources.items()
    ]
    text = [
        "Bugs that were put into working packages, one a task, each tried in a container: the tests that fail with "
        "it are the task's. What was not kept is among what was left out."
    ]
    tables = [
        Table(
            "Tasks by kind of bug", ["kind", *(f">{plain(part)}" for part in parts)], by_kind, frozenset({len(kinds)})
        ),
        Table("Where they come from", ["family or package", ">mutants", ">tried", ">kept"], sources),
    ]
    yield Section("practice", "Practice tasks", text, tables)
