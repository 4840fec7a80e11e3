"""The funnel of a round, from tasks to trained tokens, and the list of all that was left out on the way.

    funnel(collection, labelled=(812, {"run not judged": 30}), rows=arm_rows)[3].lost
    drops(report_rounds, practice)

Reads the records of `facts.py`, writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from srft.harness.facts.records import ArmRows, Drop, Episodes, FunnelStep, Judgement, Practice, Round
from srft.harness.run.entries import UNFINISHED


def funnel(
    collection: Episodes | None, labelled: tuple[int, dict[str, int]] | None, rows: ArmRows | None
) -> list[FunnelStep]:
    """From the widest to the narrowest; a step whose file is not there has the count `None`."""
    return [*_of_episodes(collection), *_of_steps(collection, labelled, rows), *_of_tokens(rows)]


def _of_episodes(collection: Episodes | None) -> Iterator[FunnelStep]:
    if collection is None:
        return
    unfinished = {name: count for name, count in collection.not_graded.items() if name in UNFINISHED.values()}
    no_verdict = {name: count for name, count in collection.not_graded.items() if name not in unfinished}
    graded = collection.predictions - collection.missing - sum(collection.not_graded.values())
    unresolved = {name: getattr(collection, name) for name in ("unresolved", "empty", "not_applied")}
    yield _step("tasks", "tasks", collection.tasks - collection.missing)
    yield _step("episodes", "episodes", collection.predictions - collection.missing)
    yield _step("finished", "episodes", collection.finished, unfinished)
    yield _step("graded", "episodes", graded, no_verdict)
    yield _step("resolved", "episodes", collection.resolved, unresolved)


def _of_steps(
    collection: Episodes | None, labelled: tuple[int, dict[str, int]] | None, rows: ArmRows | None
) -> Iterator[FunnelStep]:
    if collection is not None:
        unfinished = collection.steps - collection.finished_steps
        yield _step("steps", "steps", collection.finished_steps, {"of episodes that were not finished": unfinished})
        yield _step("labelled", "steps", None if labelled is None else labelled[0], labelled[1] if labelled else {})
    yield _step("in rows", "steps", rows.steps if rows else None, _steps_not_in_rows(collection, rows))
    masked = {"weight 0": rows.steps_masked} if rows else {}
    yield _step("trained", "steps", rows.steps - rows.steps_masked if rows else None, masked)


def _steps_not_in_rows(collection: Episodes | None, rows: ArmRows | None) -> dict[str, int]:
    """Where rows hold earlier rounds' runs too, the difference to this round's steps says nothing."""
    if rows is None:
        return {}
    cut = rows.remarks.get("steps_cut", 0)
    if collection is None or rows.runs > collection.predictions:
        return {"behind the cut of a long row": cut}
    left_out = max(0, collection.finished_steps - rows.steps - cut)
    return {"behind the cut of a long row": cut, "of runs and rows left out": left_out}


def _of_tokens(rows: ArmRows | None) -> Iterator[FunnelStep]:
    if rows is None:
        for name, unit in (("used", "runs"), ("rows", "rows"), ("in rows", "tokens"), ("trained", "tokens")):
            yield _step(name, unit, None)
        return
    context, masked = rows.tokens - rows.written_tokens, rows.written_tokens - rows.trained_tokens
    yield _step("given to the arm", "runs", rows.runs)
    yield _step("used", "runs", rows.runs_used, {**rows.left_out, **_no_row_left(rows)})
    yield _step("rows", "rows", rows.rows, rows.dropped)
    yield _step("in rows", "tokens", rows.tokens)
    yield _step("written by the model", "tokens", rows.written_tokens, {"context: shown, not written": context})
    yield _step("trained", "tokens", rows.trained_tokens, {"masked": masked})


def _no_row_left(rows: ArmRows) -> dict[str, int]:
    return {"no row left": rows.runs - rows.runs_used - sum(rows.left_out.values())}


def _step(name: str, unit: str, count: int | None, lost: Mapping[str, int] | None = None) -> FunnelStep:
    return FunnelStep(name=name, unit=unit, count=count, lost={why: n for why, n in (lost or {}).items() if n})


def drops(rounds: Sequence[Round], practice: Practice | None) -> list[Drop]:
    """Everything that was left out, cut or done again, with its reason, in the order of the stages."""
    found = [*_of_practice(practice)]
    for one in rounds:
        if one.collection is not None:
            found += _of_runs(one.round, "collect", one.collection)
        found += [drop for judgement in one.judgements for drop in _of_judgement(one.round, judgement)]
        found += [drop for rows in one.rows for drop in _of_rows(one.round, rows)]
        evaluations = {name: cell.evaluation for name, cell in one.cells.items()}
        for name, evaluation in evaluations.items():
            if evaluation is not None:
                found += _of_runs(one.round, f"evaluate.{name}", evaluation)
        reason = "set aside: made from other inputs than there are now"
        found.append(Drop(round=one.round, stage="all", what="folders", reason=reason, count=len(one.set_aside)))
        found += [drop for name, cell in one.cells.items() for drop in _unpaired(one.round, name, cell.against_base)]
    return [drop for drop in found if drop.count]


def _of_practice(practice: Practice | None) -> Iterator[Drop]:
    if practice is None:
        return
    mutants: Counter[str] = Counter()
    for source in practice.sources.values():
        mutants["in a function that no test calls: not tried"] += source.not_called
        mutants.update(source.dropped)
    for reason, count in mutants.items():
        yield Drop(round=None, stage="practice", what="mutants", reason=reason, count=count)
    tests = sum(source.unreliable_tests for source in practice.sources.values())
    yield Drop(round=None, stage="practice", what="tests", reason="do not end the same each time", count=tests)
    yield Drop(round=None, stage="practice", what="tasks", reason="asked for and not found", count=practice.missing)


def _of_runs(round_: int, stage: str, runs: Episodes) -> Iterator[Drop]:
    def drop(what: str, reason: str, count: int) -> Drop:
        return Drop(round=round_, stage=stage, what=what, reason=reason, count=count)

    for reason, count in runs.not_graded.items():
        yield drop("episodes", f"not graded: {reason}", count)
    yield drop("episodes", "missing: counted by the stage, not on file; not resolved", runs.missing)
    yield drop("episodes", "done again: an earlier line stands in the file too", runs.done_again)
    for name, count in runs.unreadable.items():
        yield drop("lines", f"of {name}: cannot be read, left out", count)
    for name, count in runs.partial.items():
        yield drop("replies", f"without usable {name}, which other replies of the run have", count)
    yield drop("patches", "do not apply; not resolved", runs.not_applied)
    yield drop("patches", "empty; not resolved", runs.empty)
    yield drop("patches", "tests ran into the grader's time limit", runs.timed_out)
    yield drop("steps", "format error: no action could be read", runs.format_errors)
    yield drop("steps", "command ran into its time limit", runs.timed_out_steps)
    yield drop("observations", "cut in the middle: longer than the model is shown", runs.cut_observations)
    yield drop("replies", "token counts not known", runs.spent.unknown)


def _of_judgement(round_: int, one: Judgement) -> Iterator[Drop]:
    stage = f"critique by {one.critic}"
    yield Drop(round=round_, stage=stage, what="runs", reason="not judged", count=one.not_judged)
    abstained = sum(verdicts.get("abstained", 0) for verdicts in one.verdicts.values())
    yield Drop(round=round_, stage=stage, what="steps", reason="abstained", count=abstained)
    reason = "of episodes that no longer stand"
    yield Drop(round=round_, stage=stage, what="critiques", reason=reason, count=one.of_runs_done_again)
    yield from _each(round_, stage, "remark", one.remarks.items())


def _of_rows(round_: int, rows: ArmRows) -> Iterator[Drop]:
    stage = f"rows.{rows.arm}"
    yield from _each(round_, stage, "runs", {**rows.left_out, **_no_row_left(rows)}.items())
    yield from _each(round_, stage, "rows", rows.dropped.items())
    yield from _each(round_, stage, "remark", rows.remarks.items())
    yield Drop(round=round_, stage=stage, what="steps", reason="in the rows with weight 0", count=rows.steps_masked)


def _each(round_: int, stage: str, what: str, counts: Iterable[tuple[str, int]]) -> Iterator[Drop]:
    for reason, count in counts:
        yield Drop(round=round_, stage=stage, what=what, reason=reason.replace("_", " "), count=count)


def _unpaired(round_: int, cell: str, comparison: Any) -> Iterator[Drop]:
    if comparison is not None:
        reason = f"not compared with {comparison.first}: a verdict on one side alone"
        yield Drop(round=round_, stage=f"evaluate.{cell}", what="tasks", reason=reason, count=comparison.unpaired)
