"""Sections on what was trained on: the funnel, rows and masks, verdicts, and how good the critics are."""

from __future__ import annotations

from collections.abc import Iterator

from srft.harness.facts.critics import QUALITY_FIGURES
from srft.harness.facts.records import Quality, Report
from srft.harness.look.format import count, decimal, decimal_with_interval, percent, plain, plural, share_of
from srft.harness.look.report.sections.section import Section, Table

VERDICTS = ("good", "recover", "unnecessary", "mistake", "abstained")


def funnel_section(report: Report) -> Iterator[Section]:
    tables = []
    for one in report.rounds:
        if any(step.count for step in one.funnel):
            rows = [[step.name, step.unit, count(step.count), _lost(step.lost)] for step in one.funnel]
            of_arm = f", arm {one.funnel_arm}" if one.funnel_arm else ""
            tables.append(Table(f"Round {one.round}{of_arm}", ["what is left", "in", ">count", "not in it"], rows))
    if tables:
        text = [
            "The way from tasks to the tokens that carry loss. Unresolved runs are not lost: every arm but resolved "
            "trains on them too, as far as its mask goes. Nor are steps without a label: they keep the weight that "
            "the arm's policy gives them."
        ]
        yield Section("funnel", "From tasks to trained tokens", text, ["funnel"], tables)


def _lost(lost: dict[str, int]) -> str:
    return "; ".join(f"{number:,} {why.replace('_', ' ')}" for why, number in lost.items())


def masks_section(report: Report) -> Iterator[Section]:
    rows = [
        [
            str(one.round),
            plain(arm.arm),
            f"{arm.runs_used:,} of {arm.runs:,}",
            count(arm.rows),
            count(arm.tokens),
            count(arm.written_tokens),
            count(arm.trained_tokens),
            percent(arm.masked_share, digits=2),
            f"{arm.steps_masked:,} of {arm.steps:,}",
        ]
        for one in report.rounds
        for arm in one.rows
    ]
    if rows:
        columns = ["round", "arm", ">runs used", ">rows", ">tokens", ">written", ">trained", ">masked", ">steps masked"]
        text = [
            "Written: tokens of the models' own replies, the end of each turn among them. Masked: the share of "
            "those that carries no loss; they stay in the context. Rows may hold runs of earlier rounds."
        ]
        table = Table("Rows by arm", columns, rows)
        yield Section("masks", "Rows and masks", text, ["masked"], [table], list(_critics_used(report)))


def _critics_used(report: Report) -> Iterator[str]:
    """Whose labels the masks come from."""
    used = sorted({critic for one in report.rounds for rows in one.rows for critic in rows.critics})
    if used:
        yield f"The arms srft, unresolved masked and random take the labels of {', '.join(map(plain, used))}."


def verdicts_section(report: Report) -> Iterator[Section]:
    rows = []
    for one in report.rounds:
        for judgement in one.judgements:
            for outcome, verdicts in judgement.verdicts.items():
                steps = sum(verdicts.values())
                shares = [share_of(verdicts.get(name, 0), steps) for name in VERDICTS]
                runs = count(judgement.runs.get(outcome, 0))
                rows.append([str(one.round), plain(judgement.critic), outcome, runs, count(steps), *shares])
    if rows:
        columns = ["round", "critic", "runs", ">runs", ">steps", *(f">{name}" for name in VERDICTS)]
        text = ["A verdict for each step. Where a critic abstains, the step counts as not labelled."]
        table = Table("Verdicts by outcome of the run", columns, rows)
        yield Section("verdicts", "What the critics say", text, ["verdicts"], [table])


def quality_section(report: Report) -> Iterator[Section]:
    if not report.quality:
        return
    rows = [row for one in report.quality for row in _quality_rows(one)]
    first = report.quality[0]
    rows.append(["every step flagged", "", "", "", *(decimal(first.flag_all[name]) for name in QUALITY_FIGURES)])
    truth = " and ".join(f"{kind} labels on {plural(runs, 'run')}" for kind, runs in sorted(first.truth.items()))
    text = [
        f"Measured against {truth}. A step is harmful where its true label is mistake, and flagged where the critic "
        "says so; an abstention is no flag. The mistakes that recall misses are trained on."
    ]
    columns = ["critic", ">steps", ">mistakes", ">flagged", ">precision (95 %)", ">recall (95 %)", ">F1 (95 %)"]
    table = Table("Finding mistakes", columns, rows, frozenset(range(0, 2 * len(report.quality), 2)))
    yield Section("critics", "How good the critics are", text, ["critics"], [table], list(_quality_notes(report)))


def _quality_rows(one: Quality) -> Iterator[list[str]]:
    figures = [decimal_with_interval(getattr(one, name), one.intervals[name]) for name in QUALITY_FIGURES]
    yield [plain(one.critic), count(one.steps), count(one.harmful_steps), count(one.flagged_steps), *figures]
    yield ["chance, as often", "", "", "", *(decimal(one.random[name]) for name in QUALITY_FIGURES)]


def _quality_notes(report: Report) -> Iterator[str]:
    for one in report.quality:
        critic = plain(one.critic)
        if one.abstained_steps:
            yield f"{critic}: no verdict on {plural(one.abstained_steps, 'step')}, which count as not flagged."
        if one.runs_without_verdicts:
            yield f"{critic}: {plural(one.runs_without_verdicts, 'run')} with true labels not judged, left out."
        if one.runs_without_truth:
            yield f"{critic}: {plural(one.runs_without_truth, 'judged run')} without true labels, left out."
