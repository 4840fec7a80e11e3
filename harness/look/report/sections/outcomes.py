"""Sections on what the models can do: resolved tasks, arms, promotions, how episodes end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from srft.harness.facts.episodes import SHOWN_OUTCOMES
from srft.harness.facts.records import Arm, Episodes, Report, Round
from srft.harness.look.format import (
    DASH,
    change_with_interval,
    count,
    decimal,
    dollars,
    p_text,
    percent,
    plain,
    plural,
    share_of,
    share_with_interval,
    words,
)
from srft.harness.look.tables import Cell, Parts, Range, Row, Section, Table
from srft.harness.statistics.paired import SEEDS_ALONE, SEEDS_TO_COMPARE, Comparison

NAMES_SHOWN = 8
"""Tasks that are named in a sentence; report.json has all."""


def resolved_section(report: Report) -> Iterator[Section]:
    """The models on the held-out tasks, and the runs that were collected or imported."""
    tables, text = [], []
    models = [(one, name) for one in report.rounds for name, cell in one.cells.items() if cell.evaluation is not None]
    if models:
        text.append(
            "Each model runs on the same held-out tasks, and the official grader decides. The interval of a share is "
            "Wilson's for one attempt a task, else Korn and Graubard's over tasks. The difference to the base model is "
            "taken task by task: its interval is Bonett and Price's, p is McNemar's exact test for one attempt a task, "
            "else a t-test over tasks. Both are about these models; what is said of a recipe needs seeds."
        )
        tables += [_models(models), *_repositories(report)]
    else:
        text.append("The runs on file and their verdicts. Nothing here was evaluated on held-out tasks.")
    tables += _collected(report)
    if tables:
        yield Section("resolved", "Resolved", text, tables, notes=_changed_tasks(report))


def _models(models: Sequence[tuple[Round, str]]) -> Table:
    evaluations = [one.cells[name].evaluation for one, name in models]
    top = _top(evaluations)
    rows: list[Row] = []
    strong: set[int] = set()
    for (one, name), evaluation in zip(models, evaluations, strict=True):
        assert evaluation is not None
        if name == one.evaluation_of and len(one.cells) > 1:
            strong.add(len(rows))
        model = Cell(plain(name), folder=evaluation.folder)
        change = _change(one.cells[name].against_base)
        rows.append([str(one.round), model, *_score(evaluation, top), *change, _fate(one, name)])
    columns = ["round", "model", ">resolved", ">share (95 %)", ">points against base (95 %)", ">p", "decision"]
    return Table("Models on the held-out tasks", columns, rows, frozenset(strong))


def _collected(report: Report) -> Iterator[Table]:
    found = [(one.round, one.collection) for one in report.rounds if one.collection is not None]
    top = _top([collection for _, collection in found])
    rows: list[Row] = [
        [
            Cell(f"round {number}", folder=collection.folder),
            plain(", ".join(collection.models)) or DASH,
            count(collection.predictions),
            count(collection.tasks),
            *_score(collection, top),
            count(collection.steps),
            dollars(collection.spent.cost_usd),
        ]
        for number, collection in found
    ]
    if rows:
        columns = ["runs", "model", ">episodes", ">tasks", ">resolved", ">share (95 %)", ">steps", ">cost"]
        yield Table("Runs collected" if any(one.cells for one in report.rounds) else "Runs on file", columns, rows)


def _top(shares: Iterable[Episodes | Arm | None]) -> float:
    """The end of an axis that has room for all of them."""
    found = [one for one in shares if one is not None]
    rates = [rate for one in found for rate in (one.seed_rates.values() if isinstance(one, Arm) else (one.rate,))]
    return max([0.05, *(rate or 0 for rate in rates), *(one.interval.high for one in found if one.interval)])


def _score(one: Episodes, top: float) -> list[str | Cell]:
    chart = None if one.rate is None else Range(one.rate, one.interval, top)
    return [f"{one.resolved:,} of {one.graded:,}", Cell(share_with_interval(one.rate, one.interval), chart)]


def _change(one: Comparison | None) -> list[str]:
    return [DASH, DASH] if one is None else [change_with_interval(one.difference, one.interval), p_text(one.p_value)]


def _fate(one: Round, cell: str) -> str:
    return one.promotion.decision if one.promotion is not None and cell == one.promotion.cell else ""


def _changed_tasks(report: Report) -> list[str]:
    comparison = report.headline.comparison if report.headline else None
    if comparison is None:
        return []
    sides = (("Gained over the base model", comparison.gained), ("Lost", comparison.lost))
    return [f"{verb}, {plural(len(names), 'task')}: {_named(names)}." for verb, names in sides if names]


def _named(names: list[str]) -> str:
    shown = ", ".join(plain(name) for name in names[:NAMES_SHOWN])
    return (
        f"{shown} and {len(names) - NAMES_SHOWN:,} more, which report.json has" if len(names) > NAMES_SHOWN else shown
    )


def _repositories(report: Report) -> Iterator[Table]:
    """Where there are several; a practice task's repository is its family."""
    headline = report.headline
    if headline is None:
        return
    base, trained = headline.base.by_repository, headline.trained.by_repository
    names = sorted(base.keys() | trained.keys())
    if len(names) > 1:
        rows = [[plain(name), _of(base.get(name)), _of(trained.get(name))] for name in names]
        yield Table("Resolved by repository", ["repository", ">base", f">{plain(headline.cell)}"], rows)


def _of(pair: tuple[int, int] | None) -> str:
    return DASH if pair is None else f"{pair[1]:,} of {pair[0]:,}"


def arms_sections(report: Report) -> Iterator[Section]:
    """A section a round that has several arms or seeds."""
    for one in report.rounds:
        trained = [arm for arm in one.arms if arm.arm != "base"]
        if len(trained) > 1 or any(arm.seeds > 1 for arm in trained):
            yield _arms_section(one)


def _arms_section(one: Round) -> Section:
    columns = ["arm", ">seeds", ">resolved", ">share (95 %)", ">seeds range", ">points against base (95 %)", ">p"]
    columns += [">trained tokens", ">masked"]
    rows_by_arm = {rows.arm: rows for rows in one.rows}
    rows: list[Row] = []
    top = _top(one.arms)
    for arm in one.arms:
        of_arm = rows_by_arm.get(arm.arm)
        trained = [count(of_arm.trained_tokens if of_arm else None), percent(of_arm.masked_share if of_arm else None)]
        rows.append([*_arm_score(arm, top), *_change(arm.against_base), *trained])
    tables = [Table(f"Arms of round {one.round}", columns, rows)]
    if one.arm_comparisons:
        tables.append(_pairs(one))
    text = [
        "The arms are trained on the same runs; they differ only in what carries loss. A share is the mean over an "
        "arm's seeds, the small marks beside it. A training's seed moves its results on all tasks at once, so arms "
        f"are compared over seeds and tasks together; that takes {SEEDS_TO_COMPARE} seeds of each arm, {SEEDS_ALONE} "
        "for an arm by itself or against the base model. Where there are fewer, neither interval nor p is given."
    ]
    against = [arm.against_base for arm in one.arms]
    notes = [comparison.shows for comparison in (*against, *one.arm_comparisons) if comparison is not None]
    return Section(f"arms-{one.round}", f"Arms, round {one.round}", text, tables, notes=notes)


def _arm_score(arm: Arm, top: float) -> list[str | Cell]:
    rates = [rate for rate in arm.seed_rates.values() if rate is not None]
    spread = DASH if len(rates) < 2 else f"{percent(min(rates))} to {percent(max(rates))}"
    resolved = f"{arm.resolved:,} of {arm.predictions:,}"
    interval = arm.interval if arm.seeds > 1 or arm.arm == "base" else None  # of one seed it is the model's alone
    chart = None if arm.rate is None else Range(arm.rate, interval, top, rates if arm.seeds > 1 else ())
    return [arm.arm, str(arm.seeds), resolved, Cell(share_with_interval(arm.rate, interval), chart), spread]


def _pairs(one: Round) -> Table:
    columns = ["from", "to", ">seeds", ">tasks", ">points (95 %)", ">p", ">tasks better", ">worse"]
    rows = []
    for pair in one.arm_comparisons:
        seeds = " and ".join(map(str, pair.seeds))
        better = [count(pair.only_second), count(pair.only_first)]
        rows.append([pair.first, pair.second, seeds, count(pair.tasks), *_change(pair), *better])
    return Table("Arms against each other", columns, rows)


def promotions_section(report: Report) -> Iterator[Section]:
    rows = [
        [
            str(one.round),
            one.promotion.decision,
            plain(one.promotion.cell or DASH),
            percent(one.promotion.before),
            percent(one.promotion.after),
            DASH
            if one.promotion.difference is None
            else change_with_interval(one.promotion.difference, one.promotion.interval),
            plain(one.promotion.rule or DASH, most=200),
            plain(one.promotion.reason or DASH, most=200),
        ]
        for one in report.rounds
        if one.promotion is not None
    ]
    if rows:
        text = [
            "After a round the new model takes the old one's place, or the old one stays: the round is rolled back."
        ]
        columns = ["round", "decision", "model", ">before", ">after", ">points (95 %)", "rule", "reason"]
        yield Section("promotions", "Promoted or rolled back", text, [Table("Decisions", columns, rows)])


def endings_section(report: Report) -> Iterator[Section]:
    places = list(_by_place(report))
    totals: Counter[str] = Counter()
    for _, all_ in places:
        for reasons_of_one in (reasons for one in all_ for reasons in one.stop_reasons.values()):
            totals.update(reasons_of_one)
    if not totals:
        return
    reasons = [reason for reason, _ in totals.most_common()]
    letters = {words(reason): chr(ord("A") + place) for place, reason in enumerate(reasons)}
    rows: list[Row] = []
    for label, all_ in places:
        for outcome in SHOWN_OUTCOMES:
            of_outcome = [one.stop_reasons.get(outcome, {}) for one in all_]
            if any(of_outcome):
                counts = {words(reason): sum(one.get(reason, 0) for one in of_outcome) for reason in reasons}
                chart = Cell("", Parts(counts, letters))
                rows.append([label, words(outcome), *map(count, counts.values()), chart])
    columns = ["episodes", "outcome", *(f">{name}" for name in letters), "endings"]
    steps_columns = ["episodes", ">steps", ">an episode", ">failed", ">format errors", ">timed out", ">outputs cut"]
    tables = [
        Table("Endings by outcome", columns, rows, letters=letters),
        Table("Steps of finished episodes", steps_columns, [[label, *_steps(all_)] for label, all_ in places]),
    ]
    text = ["A failed step is a command that does not exit with 0 or runs out of time, or a reply without an action."]
    yield Section("endings", "How episodes end", text, tables)


def _by_place(report: Report) -> Iterator[tuple[str, list[Episodes]]]:
    """(label, episodes): of each collection and of each arm's evaluations, its seeds together."""
    for one in report.rounds:
        if one.collection is not None and one.collection.stop_reasons:
            yield f"round {one.round}, collected", [one.collection]
        arms: dict[str, list[Episodes]] = {}
        for cell in one.cells.values():
            if cell.evaluation is not None and cell.evaluation.stop_reasons:
                arms.setdefault(cell.arm, []).append(cell.evaluation)
        for arm, evaluations in arms.items():
            yield ("base" if arm == "base" else f"round {one.round}, {plain(arm)}"), evaluations


def _steps(all_: list[Episodes]) -> list[str]:
    steps, finished = sum(one.finished_steps for one in all_), sum(one.finished for one in all_)
    failed = sum(one.commands.get("failed", 0) for one in all_)
    mean = decimal(steps / finished, 1) if finished else DASH
    shares = [share_of(failed, steps), share_of(sum(one.format_errors for one in all_), steps)]
    cut = [sum(one.timed_out_steps for one in all_), sum(one.cut_observations for one in all_)]
    return [count(steps), mean, *shares, *map(count, cut)]
