"""Sections on what was trained on: the funnel, rows and masks, verdicts, and how good the critics are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from srft.harness.facts.critics import QUALITY_FIGURES
from srft.harness.facts.records import FunnelStep, Quality, Report
from srft.harness.look.format import (
    DASH,
    VERDICTS,
    count,
    decimal,
    decimal_with_interval,
    percent,
    plain,
    plural,
    share_of,
    words,
)
from srft.harness.look.tables import Bar, Cell, Parts, Range, Row, Section, Table


def funnel_section(report: Report) -> Iterator[Section]:
    tables = []
    for one in report.rounds:
        if any(step.count for step in one.funnel):
            of_arm = f", arm {one.funnel_arm}" if one.funnel_arm else ""
            columns = ["what is left", "in", ">count", "share", "not in it"]
            tables.append(Table(f"Round {one.round}{of_arm}", columns, list(_narrowings(one.funnel))))
    if tables:
        text = [
            "The way from tasks to the tokens that carry loss. Unresolved runs are not lost: every arm but resolved "
            "trains on them too, as far as its mask goes. Nor are steps without a label: they keep the weight that "
            "the arm's policy gives them. Shares are of the first line in the same unit."
        ]
        yield Section("funnel", "From tasks to trained tokens", text, tables)


def _narrowings(funnel: Sequence[FunnelStep]) -> Iterator[Row]:
    first: dict[str, int | None] = {}
    for step in funnel:
        whole = first.setdefault(step.unit, step.count)
        share = None if step.count is None or not whole else step.count / whole
        cell = Cell(percent(share, digits=0), None if share is None else Bar(share))
        yield [step.name, step.unit, count(step.count), cell, _lost(step.lost)]


def _lost(lost: dict[str, int]) -> str:
    return "; ".join(f"{words(why)}: {number:,}" for why, number in lost.items())


def masks_section(report: Report) -> Iterator[Section]:
    rows: list[Row] = [
        [
            str(one.round),
            Cell(plain(arm.arm), folder=f"round-{one.round:03d}", arm=arm.arm),
            f"{arm.runs_used:,} of {arm.runs:,}",
            count(arm.rows),
            count(arm.tokens),
            count(arm.written_tokens),
            count(arm.trained_tokens),
            Cell(percent(arm.masked_share, digits=2), None if arm.masked_share is None else Bar(arm.masked_share)),
            f"{arm.steps_masked:,} of {arm.steps:,}",
            _lost(arm.left_out | arm.dropped) or DASH,
        ]
        for one in report.rounds
        for arm in one.rows
    ]
    if rows:
        columns = ["round", "arm", ">runs used", ">rows", ">tokens", ">written", ">trained", ">masked", ">steps masked"]
        text = [
            "Written: tokens of the models' own replies, the end of each turn among them. Masked: the share of "
            "those that carries no loss; they stay in the context. Tokens of runs that an arm leaves out altogether "
            "are not in it. Rows may hold runs of earlier rounds."
        ]
        table = Table("Rows by arm", [*columns, "left out"], rows)
        yield Section("masks", "Rows and masks", text, [table], notes=list(_critics_used(report)))


def _critics_used(report: Report) -> Iterator[str]:
    """Whose labels the masks come from."""
    used = sorted({critic for one in report.rounds for rows in one.rows for critic in rows.critics})
    if used:
        yield f"The arms srft, unresolved masked and random take the labels of {', '.join(map(plain, used))}."


def verdicts_section(report: Report) -> Iterator[Section]:
    rows: list[Row] = []
    for one in report.rounds:
        for judgement in one.judgements:
            for outcome, verdicts in judgement.verdicts.items():
                steps = sum(verdicts.values())
                counts = {name: verdicts.get(name, 0) for name in VERDICTS}
                shares = [share_of(number, steps) for number in counts.values()]
                runs = count(judgement.runs.get(outcome, 0))
                by = plain(judgement.critic) + _BY.get(judgement.source, "")
                chart = Cell("", Parts(counts, VERDICTS))
                rows.append([str(one.round), by, words(outcome), runs, count(steps), *shares, chart])
    if rows:
        columns = ["round", "critic", "outcome", ">runs", ">steps", *(f">{name}" for name in VERDICTS), "verdicts"]
        text = [
            "A verdict for each step. Where a critic abstains, the step counts as not labelled; of a person, only the "
            "steps that they labelled are counted. In the masked arms, steps of unresolved runs that are called "
            "mistakes carry no loss."
        ]
        table = Table("Verdicts by outcome of the run", columns, rows, letters=VERDICTS)
        yield Section("verdicts", "What the critics say", text, [table])


_BY = {"human": " (a person)", "oracle": " (true labels)"}


def quality_section(report: Report) -> Iterator[Section]:
    if not report.quality:
        return
    rows: list[Row] = [row for one in report.quality for row in _quality_rows(one)]
    first = report.quality[0]
    rows.append(["every step flagged", "", "", "", *(decimal(first.flag_all[name]) for name in QUALITY_FIGURES)])
    kinds = {"human": "a person's", "oracle": "an oracle's"}
    of = [f"{kinds.get(kind, kind)} labels on {plural(runs, 'run')}" for kind, runs in sorted(first.truth.items())]
    text = [
        f"Measured against {' and '.join(of)}. A step is harmful where its true label is mistake, and flagged where "
        "the critic says so; an abstention is no flag. Precision is the share of the flags that are right, recall the "
        "share of the mistakes that are flagged: those that recall misses are trained on. Intervals are over runs."
    ]
    columns = ["critic", ">steps", ">mistakes", ">flagged", ">precision (95 %)", ">recall (95 %)", ">F1 (95 %)"]
    table = Table("Finding mistakes", columns, rows, frozenset(range(0, 2 * len(report.quality), 2)))
    yield Section("critics", "How good the critics are", text, [table], notes=list(_quality_notes(report)))


def _quality_rows(one: Quality) -> Iterator[Row]:
    yield [
        plain(one.critic),
        count(one.steps),
        count(one.harmful_steps),
        count(one.flagged_steps),
        *(_figure(getattr(one, name), one.intervals[name]) for name in QUALITY_FIGURES),
    ]
    yield ["chance, as often", "", "", "", *(decimal(one.random[name]) for name in QUALITY_FIGURES)]


def _figure(value: float | None, interval: Any) -> Cell:
    return Cell(decimal_with_interval(value, interval), None if value is None else Range(value, interval, top=1.0))


def _quality_notes(report: Report) -> Iterator[str]:
    for one in report.quality:
        critic = plain(one.critic)
        if one.abstained_steps:
            yield f"{critic}: no verdict on {plural(one.abstained_steps, 'step')}, which count as not flagged."
        if one.runs_without_verdicts:
            yield f"{critic}: {plural(one.runs_without_verdicts, 'run')} with true labels not judged, left out."
        if one.runs_without_truth:
            yield f"{critic}: {plural(one.runs_without_truth, 'judged run')} without true labels, left out."
