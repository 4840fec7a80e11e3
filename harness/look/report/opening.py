"""The top of a report: what the run came to, in a few figures and sentences.

cards(report)[0].value            # '34.2 %'
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from srft.harness.facts.records import Episodes, Headline, Report
from srft.harness.look.format import count, interval_text, p_equals, percent, plain, plural, points
from srft.harness.statistics.paired import Comparison

KINDS = {
    "loop": "Rounds of Step Rejection Fine-Tuning",
    "collection": "Collected episodes",
    "import": "Runs recorded elsewhere",
    "grading": "Graded patches",
}


class Card(NamedTuple):
    """A figure that stands out. tone: "base", "trained" or "plain"."""

    label: str
    value: str
    detail: str
    tone: str = "plain"


def kind_sentence(report: Report) -> str:
    """What kind of run it is, in one line."""
    trained = len({cell.arm for one in report.rounds for cell in one.cells.values() if cell.training})
    parts = [KINDS[report.kind], plural(len(report.rounds), "round")]
    if trained:
        parts.append(f"{plural(trained, 'arm')} trained")
    if report.headline:
        parts.append(plural(report.headline.base.tasks, "held-out task"))
    return " · ".join(parts)


def cards(report: Report) -> list[Card]:
    if report.headline is not None:
        return list(_of_headline(report.headline))
    return list(_of_runs(report))


def _of_headline(headline: Headline) -> Iterator[Card]:
    yield Card("Base model", percent(headline.base.rate), _detail(headline.base), "base")
    name = f"Trained: {plain(headline.cell, most=24)}, round {headline.round}"
    yield Card(name, percent(headline.trained.rate), _detail(headline.trained), "trained")
    if headline.comparison is not None:
        one = headline.comparison
        yield Card(
            "Difference, task by task",
            points(one.difference),
            f"95 % interval {interval_text(one.interval, signed=True)}; {one.test} {p_equals(one.p_value)}; "
            f"{plural(one.only_second, 'task')} gained, {one.only_first:,} lost",
        )


def _detail(one: Episodes) -> str:
    tasks = "tasks" if one.predictions == one.tasks else f"attempts at {one.tasks:,} tasks"
    return f"{one.resolved:,} of {one.graded:,} {tasks} resolved; 95 % interval {interval_text(one.interval)}"


def _of_runs(report: Report) -> Iterator[Card]:
    found = [one.collection for one in report.rounds if one.collection is not None]
    if not found:
        return
    last = found[-1]
    what = "Patches" if report.kind == "grading" else "Episodes"
    steps = sum(one.steps for one in found)
    yield Card(what, count(sum(one.predictions for one in found)), f"on {plural(last.tasks, 'task')}")
    yield Card("Resolved", percent(last.rate), _detail(last) if last.graded else "no verdicts on file", "trained")
    if steps:
        yield Card("Steps", count(steps), f"{steps / max(1, sum(one.predictions for one in found)):.1f} an episode")


def verdict_sentences(report: Report) -> list[str]:
    """What the figures mean, and what to be careful about."""
    headline = report.headline
    if headline is None:
        return []
    sentences = [_meaning(headline.comparison), headline.comparison.shows] if headline.comparison else []
    if headline.promoted is False:
        sentences.append(
            "No round was promoted: the base model stays in use, and the trained one shown was rolled back."
        )
    unfinished = [f"{name} of round {one.round}" for one in report.rounds for name in one.unfinished]
    if unfinished:
        sentences.append(f"Not finished yet, and in the figures as far as it is: {', '.join(map(plain, unfinished))}.")
    if headline.chosen_among > 1:
        sentences.append(
            f"The trained model shown is the best of {headline.chosen_among} by this very evaluation, so its figure "
            "leans to the high side. The arms' means do not."
        )
    return sentences


def _meaning(one: Comparison) -> str:
    where = f"On the {plural(one.tasks, 'task')} that both have a verdict for, the trained model"
    if one.interval is not None and one.interval.low > 0:
        return f"{where} resolves more: the interval of the difference lies above 0."
    if one.interval is not None and one.interval.high < 0:
        return f"{where} resolves less: the interval of the difference lies below 0."
    return f"{where} cannot be told from the base model: the interval of the difference has 0 in it."
