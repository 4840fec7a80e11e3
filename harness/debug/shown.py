"""A session's records as texts for a terminal: steps, diffs, verdicts, facts. What an agent printed is made inert.

step_text(step, label=None, told=None).plain
facts_text(facts_of(session))
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from rich.text import Text

from srft.agent.models.human import action_text
from srft.agent.records import Step, Usage
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.grading.grade import Grade
from srft.harness.debug.facts import Facts
from srft.harness.debug.lines import Fork
from srft.harness.debug.screens import COLOURS
from srft.harness.debug.session import Proposal
from srft.train.rows.show import inert

HEAD_LINES, TAIL_LINES = 10, 6
LOG_CHARS = 4000
AUTHORS = {"model": "model", "edited": "model, edited", "human": "you"}
OUTCOMES = {"resolved": "bold green", "unresolved": "bold red"}


def folded(text: str) -> str:
    """The head and the tail of a long text, with what is between them counted."""
    lines = text.split("\n")
    between = len(lines) - HEAD_LINES - TAIL_LINES
    if between <= 1:
        return text
    return "\n".join([*lines[:HEAD_LINES], f"... {between} lines, o opens them ...", *lines[-TAIL_LINES:]])


def message_text(role: str, content: str, *, whole: bool = False) -> Text:
    """One of the opening messages."""
    return Text.assemble((f"{role}\n", "bold"), (inert(content if whole else folded(content)).strip("\n"), "dim"))


def step_text(step: Step, *, label: StepLabel | None, told: StepLabel | None, whole: bool = False) -> Text:
    """A step: who wrote it, what came of it, your word and the critic's. whole: nothing is folded."""
    fold = str if whole else folded
    head = Text.assemble((f"step {step.index} ", "bold"), (AUTHORS[step.author], "magenta"), _outcome(step))
    parts = [head]
    for who, one in (("you", label), ("critic", told)):
        if one is not None and one.verdict is not None:
            reason = f" ({one.reason})" if one.reason else ""
            parts.append(Text.assemble(f"{who}: ", (f"{one.verdict}{inert(reason)}", COLOURS[one.verdict])))
    if step.reasoning:
        parts.append(Text(inert(fold(step.reasoning)), "dim italic"))
    if step.content:
        parts.append(Text(inert(fold(step.content))))
    if step.action is not None and step.tool_calls:
        parts.append(Text(inert(f"{step.action.tool}: {fold(action_text(step.action))}"), "cyan"))
    if step.observation is not None:
        parts.append(Text(inert(fold(step.observation)).rstrip(), "dim"))
    return Text("\n").join(parts)


def _outcome(step: Step) -> Text:
    if step.error is not None:
        return Text(f" {step.error} error", "red")
    if step.timed_out:
        return Text(" timed out", "red")
    return Text("") if step.exit_code is None else Text(f" exit {step.exit_code}", "red" if step.exit_code else "green")


def proposal_text(step: int, content: str, problem: str | None) -> Text:
    """The model's next reply, as far as it has come."""
    text = Text.assemble((f"step {step} proposed\n", "bold yellow"), inert(content))
    return text if problem is None else Text.assemble(text, (f"\nno action: {inert(problem)}", "red"))


def facts_text(facts: Facts) -> Text:
    rows: list[tuple[str, str]] = [
        ("task", facts.task),
        ("model", facts.model),
        ("step", f"{facts.step}, fork {facts.fork} ({facts.forks} in all)"),
        ("prompt", f"{_count(facts.prompt_tokens)} tokens"),
        ("this run", _spent(facts.line)),
        ("session", _spent(facts.session)),
        ("by you", f"steps {facts.human_steps}, labels {facts.labels}"),
        ("tests", facts.outcome or "not run here"),
    ]
    if facts.stop_reason:
        rows.append(("ended", facts.stop_reason))
    if facts.detail:
        rows.append(("", facts.detail[:300]))
    text = Text()
    for name, value in rows:
        style = OUTCOMES.get(value, "yellow" if name == "ended" else "")
        text.append_text(Text.assemble((f"{name}\n" if name else "", "bold"), (f" {inert(value)}\n", style)))
    return text


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _spent(usage: Usage | None) -> str:
    if usage is None:
        return "not known"
    cost = "" if usage.cost_usd is None else f", ${usage.cost_usd:.4f}"
    return f"{_count(usage.prompt_tokens)} in, {_count(usage.completion_tokens)} out{cost}"


def diff_text(diff: str | None) -> Text:
    if not diff:
        return Text("no patch could be taken" if diff is None else "nothing is changed")
    styles = {"+": "green", "-": "red", "@": "cyan", "d": "bold"}
    return Text("\n").join(Text(inert(line), styles.get(line[:1], "")) for line in diff.split("\n"))


def grade_text(grade: Grade, *, log: str | None) -> Text:
    """The verdict, each test that failed, and the end of the log."""
    text = Text.assemble((grade.outcome, OUTCOMES.get(grade.outcome, "bold yellow")), f"  {grade.wall_s:.1f} s\n")
    if grade.detail:
        text.append(f"{inert(grade.detail)}\n")
    for name, tests in (("FAIL_TO_PASS", grade.fail_to_pass), ("PASS_TO_PASS", grade.pass_to_pass)):
        if tests is not None:
            text.append(f"{name}: {len(tests.passed)} passed, {len(tests.failed)} failed\n", "bold")
            text.append("".join(f"  failed: {inert(test)}\n" for test in tests.failed), "red")
    return text if log is None else Text.assemble(text, ("\nthe end of the log\n", "bold"), (inert(log), "dim"))


def action_title(proposal: Proposal | None, *, writing: Literal["edit", "own"] | None, is_over: bool) -> str:
    """What stands above the action: what it is, and the keys that go on from there."""
    kind = " (edit tool, JSON)" if proposal and proposal.action and proposal.action.tool == "edit" else ""
    if writing == "own":
        return "your own action: F2 does it, escape leaves"
    if writing == "edit":
        return f"edit the action{kind}: F2 does it, escape leaves"
    if is_over:
        return "the episode is over: r rewinds, s saves"
    return f"action{kind}: a takes it" if proposal else "action: n asks the model, t is your own"


def log_end(grade: Grade) -> str | None:
    """The end of what the tests printed; `None` where none were run."""
    if grade.log_path is None:
        return None
    return Path(grade.log_path).read_bytes().decode(errors="replace")[-LOG_CHARS:]


def critique_text(told: Critique, *, step: int) -> Text:
    """The critic's word on this step, then on the whole run. step: -1 where it is about none."""
    text = Text.assemble((f"{inert(told.critic)}\n", "bold"))
    if 0 <= step < len(told.labels):
        text.append_text(_said(told.labels[step]))
        text.append("\nthe whole run\n", "bold")
    for label in told.labels:
        text.append_text(_said(label))
    return text


def _said(label: StepLabel) -> Text:
    verdict = label.verdict or "no opinion"
    return Text.assemble(
        f"step {label.step}  ", (verdict, COLOURS.get(verdict, "dim")), f"  {inert(label.reason or '')}\n"
    )


def fork_lines(forks: Iterable[Fork]) -> list[str]:
    return [
        f"{'*' if fork.is_here else ' '} fork {fork.fork}: {fork.steps} steps"
        + (f", leaves fork {fork.parent} before step {fork.begun_at}" if fork.parent is not None else "")
        + (f", {fork.stop_reason}" if fork.stop_reason else "")
        for fork in forks
    ]
