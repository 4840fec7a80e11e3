"""The pictures of a report: what each shows, its caption, and the files that it is drawn from.

    figures = draw_figures(report)
    figures[0].name, figures[0].caption          # 'resolved', 'Share of ...'

A picture whose facts are not on file is not drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from srft.harness.facts.records import Episodes, FunnelStep, Quality, Report, Round
from srft.harness.facts.verdicts import OUTCOMES
from srft.harness.look.format import count, percent, plain, plural, short_count
from srft.harness.look.report.charts import Bar, Draw, Line, Mark, bars, forest, lines, png_of, stacked, svg_of
from srft.harness.look.report.palette import BLUE, ENDINGS, GREEN, ORANGE, SKY, VERDICTS, arm_colour


class Figure(NamedTuple):
    """A drawn picture. alt: for those who cannot see it. files: what it is drawn from, in the run's folder."""

    name: str
    caption: str
    alt: str
    files: str
    svg_wide: str
    svg_narrow: str
    png: bytes


class _Plan(NamedTuple):
    name: str
    caption: str
    alt: str
    files: str
    draw: Draw


def draw_figures(report: Report) -> list[Figure]:
    """All that there are facts for, in the order of the report."""
    return [_drawn(plan) for plan in _plans(report)]


def _drawn(plan: _Plan) -> Figure:
    wide = plan.draw(narrow=False)
    return Figure(*plan[:4], svg_wide=svg_of(wide), svg_narrow=svg_of(plan.draw(narrow=True)), png=png_of(wide))


def _plans(report: Report) -> Iterator[_Plan]:
    for plan in (_resolved, _funnel, _masks, _verdicts, _quality, _endings, _losses):
        yield from plan(report)


def _resolved(report: Report) -> Iterator[_Plan]:
    marks = [mark for one in report.rounds for mark in _marks_of(one)]
    if not marks:
        return
    seeds = any(arm.seeds > 1 for one in report.rounds for arm in one.arms)
    caption = (
        "Share of the held-out tasks that each model resolves, by the official grader, with its 95 % interval. "
        + ("Small dots are single seeds. " if seeds else "")
        + "Bold: the model that the round is known by."
    )
    alt = "; ".join(f"{mark.label}: {percent(mark.value)}" for mark in marks)
    files = "round-*/evaluation/*/trajectories.jsonl and grades.jsonl"
    yield _Plan("resolved", caption, alt, files, partial(forest, marks))


def _marks_of(one: Round) -> Iterator[Mark]:
    known = one.cells[one.evaluation_of].arm if one.evaluation_of in one.cells else one.evaluation_of
    for arm in one.arms:
        label = "base" if arm.arm == "base" else f"round {one.round} · {arm.arm}"
        yield Mark(
            label,
            arm.rate,
            arm.interval,
            arm_colour(arm.arm, [other.arm for other in one.arms]),
            f"{arm.resolved:,}/{arm.predictions:,}",
            tuple(rate for rate in arm.seed_rates.values() if rate is not None) if arm.seeds > 1 else (),
            heading=arm.arm == known and len(one.arms) > 1,
        )


def _funnel(report: Report) -> Iterator[_Plan]:
    """The newest round that has both runs and rows, else the newest that has runs."""
    with_runs = [one for one in report.rounds if one.collection and one.collection.steps]
    chosen = ([one for one in with_runs if one.rows] or with_runs)[-1:]
    for one in chosen:
        panels = _funnel_panels(one.funnel)
        of_arm = f", rows of the arm {one.funnel_arm}" if one.funnel_arm else ""
        caption = (
            f"Round {one.round}{of_arm}: what is left at each narrowing, in episodes, steps and tokens, each on its "
            "own scale. The table below says what was lost, and why."
        )
        alt = "; ".join(f"{step.name}: {count(step.count)} {step.unit}" for step in one.funnel)
        folder = f"round-{one.round:03d}"
        files = f"{folder}/trajectories.jsonl, grades.jsonl, labels.jsonl, rows/{one.funnel_arm or '*'}/rows.json"
        yield _Plan("funnel", caption, alt, files, partial(bars, panels))


def _funnel_panels(funnel: Sequence[FunnelStep]) -> list[tuple[str, list[Bar]]]:
    colours = {"episodes": SKY, "steps": BLUE, "tokens": GREEN}
    panels = []
    for unit, colour in colours.items():
        found = [step for step in funnel if step.unit == unit and step.count is not None]
        if found:
            panels.append((unit, [Bar(step.name, step.count, colour, _noted(step, found[0])) for step in found]))
    return panels


def _noted(step: FunnelStep, first: FunnelStep) -> str:
    if step is first or not first.count or step.count is None:
        return short_count(step.count or 0)
    return f"{short_count(step.count)} · {percent(step.count / first.count, digits=0)}"


def _masks(report: Report) -> Iterator[_Plan]:
    """The round with the most arms, of equals the last."""
    last = max(report.rounds, key=lambda one: (len(one.rows), one.round))
    known = [rows for rows in last.rows if rows.masked_share is not None]
    arms = [rows.arm for rows in known]
    panel = [
        Bar(rows.arm, rows.masked_share, arm_colour(rows.arm, arms), percent(rows.masked_share, digits=2))
        for rows in known
    ]
    caption = (
        f"Round {last.round}: the share of the tokens that models wrote and that carry no loss, by arm. Those of runs "
        "that an arm leaves out altogether are not in it."
    )
    alt = "; ".join(f"{bar.label}: {bar.note}" for bar in panel)
    if panel:
        files = f"round-{last.round:03d}/rows/*/rows.json"
        yield _Plan("masked", caption, alt, files, partial(bars, [("", panel)], share=True))


def _verdicts(report: Report) -> Iterator[_Plan]:
    """Verdicts of all rounds together: a critic's shares seldom depend on the round."""
    summed: dict[tuple[str, str], Counter[str]] = {}
    for one in report.rounds:
        for judgement in one.judgements:
            for outcome, verdicts in judgement.verdicts.items():
                summed.setdefault((judgement.critic, outcome), Counter()).update(verdicts)
    rows = [(f"{critic}, {outcome}", counts) for (critic, outcome), counts in sorted(summed.items(), key=_by_critic)]
    if rows:
        caption = (
            "What the critics call the steps of resolved and of unresolved runs, in shares of all steps they "
            "judged. In the masked arms, steps of unresolved runs that are called mistakes carry no loss."
        )
        alt = "; ".join(
            f"{label}: "
            + ", ".join(f"{name} {percent(value / sum(counts.values()))}" for name, value in counts.items())
            for label, counts in rows
        )
        yield _Plan("verdicts", caption, alt, "round-*/labels.jsonl", partial(stacked, rows, VERDICTS))


def _by_critic(one: tuple[tuple[str, str], Counter[str]]) -> tuple[str, int]:
    (critic, outcome), _ = one
    return critic, OUTCOMES.index(outcome)


def _quality(report: Report) -> Iterator[_Plan]:
    if not report.quality:
        return
    marks = [mark for one in report.quality for mark in _quality_marks(one)]
    runs = max(one.runs for one in report.quality)
    caption = (
        f"How well each critic finds the steps that the true labels call mistakes, on {plural(runs, 'run')}: "
        "precision is the share of its flags that are right, recall the share of the mistakes that it flags. 95 % "
        "intervals over runs."
    )
    alt = "; ".join(f"{mark.label}: {mark.note}" for mark in marks)
    yield _Plan(
        "critics",
        caption,
        alt,
        "round-*/labels.jsonl",
        partial(forest, marks, share=False, whole=True),
    )


def _quality_marks(one: Quality) -> Iterator[Mark]:
    figures = (("precision", one.precision, ORANGE), ("recall", one.recall, BLUE), ("f1", one.f1, GREEN))
    for name, value, colour in figures:
        shown = "F1" if name == "f1" else name
        yield Mark(
            f"{plain(one.critic, most=18)} {shown}",
            value,
            one.intervals[name],
            colour,
            "–" if value is None else f"{value:.3f}",
        )


def _endings(report: Report) -> Iterator[_Plan]:
    summed: dict[str, Counter[str]] = {}
    for one in report.rounds:
        if one.collection is not None and one.collection.stop_reasons:
            summed[f"round {one.round} · collected"] = _stop_reasons(one.collection)
        for name, cell in one.cells.items():
            if cell.evaluation is not None and cell.evaluation.stop_reasons:
                label = "base" if name == "base" else f"round {one.round} · {cell.arm}"
                summed.setdefault(label, Counter()).update(_stop_reasons(cell.evaluation))
    rows = list(summed.items())
    if rows:
        evaluated = (
            ", and each arm's runs on the held-out tasks, its seeds together"
            if any(one.evaluation for one in report.rounds)
            else ""
        )
        caption = f"Why episodes ended: the runs that were collected or imported{evaluated}."
        alt = "; ".join(
            f"{label}: " + ", ".join(f"{why.replace('_', ' ')} {number}" for why, number in counts.items())
            for label, counts in rows
        )
        files = "round-*/trajectories.jsonl, round-*/evaluation/*/trajectories.jsonl"
        yield _Plan("endings", caption, alt, files, partial(stacked, rows, ENDINGS))


def _stop_reasons(episodes: Episodes) -> Counter[str]:
    return sum((Counter(reasons) for reasons in episodes.stop_reasons.values()), Counter())


def _losses(report: Report) -> Iterator[_Plan]:
    for one in report.rounds:
        trained = {name: cell for name, cell in one.cells.items() if cell.training and cell.training.losses}
        if not trained:
            continue
        arms = list(dict.fromkeys(cell.arm for cell in trained.values()))
        panels: list[tuple[str, list[Line]]] = [("trained tokens", []), ("held-out tasks", [])]
        for cell in trained.values():
            assert cell.training is not None
            colour = arm_colour(cell.arm, arms)
            for (_, panel), curve in zip(panels, (cell.training.losses, cell.training.held_out_losses), strict=True):
                if curve:
                    panel.append(Line(cell.arm, colour, curve))
        shown = [panel for panel in panels if panel[1]]
        several = ", a line a seed" if any(cell.seed is not None for cell in trained.values()) else ""
        aside = "" if panels[1][1] else " No tasks were held out of the training, so there is no held-out loss."
        caption = f"Round {one.round}: the loss in training, by arm{several}.{aside}"
        alt = "; ".join(
            f"{name}: from {cell.training.losses[0][1]:.2f} to {cell.training.losses[-1][1]:.2f}"
            for name, cell in trained.items()
            if cell.training
        )
        yield _Plan(
            f"losses-{one.round:03d}",
            caption,
            alt,
            f"round-{one.round:03d}/model/*/training.json",
            partial(lines, shown, x_label="optimizer step", y_label="negative log-likelihood a token"),
        )
