"""A session's records as texts for a terminal: steps, diffs, verdicts, facts. What an agent printed is made inert.

step_text(step, label=None, told=None).plain
facts_text(facts_of(session))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from rich.text import Text

from srft.agent.models.human import action_text
from srft.agent.records import Step, Usage
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.grading.grade import Grade
from srft.harness.debug.facts import Facts
from srft.harness.debug.failures import why
from srft.harness.debug.lines import Fork
from srft.harness.debug.screens import COLOURS
from srft.harness.debug.session import Proposal, Session
from srft.harness.run.evidence import between_markers
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


def conversation_texts(session: Session, told: Mapping[int, StepLabel]) -> list[Text]:
    """The opening messages, the steps of this line, and the reply that is proposed.

    told: the critic's word on steps, by the number of the point behind the step.
    """
    points, labels = session.lines.here.points, session.labels()
    texts = [message_text(str(message["role"]), str(message["content"])) for message in points[0].messages]
    for step in session.episode.steps:
        of_critic = told.get(points[step.index + 1].number) if step.index + 1 < len(points) else None
        texts.append(step_text(step, label=labels.get(step.index), told=of_critic))
    if session.proposal is not None:
        reply = session.proposal.reply
        said = "\n".join(filter(None, (reply.reasoning, reply.content)))
        texts.append(proposal_text(session.step, said, session.proposal.problem))
    return texts


def facts_text(facts: Facts) -> Text:
    rows: list[tuple[str, str]] = [
        ("task", facts.task),
        ("model", facts.model),
        ("step", f"{facts.step}{f' of fork {facts.fork} ({facts.forks} forks)' if facts.forks > 1 else ''}"),
    ]
    if facts.prompt_tokens is not None:
        rows.append(("prompt", f"{facts.prompt_tokens:,} tokens"))
    rows += [(name, _spent(usage)) for name, usage in (("this run", facts.line), ("session", facts.session)) if usage]
    rows += [
        ("by you", f"{counted(facts.human_steps, 'step')}, {counted(facts.labels, 'label')}"),
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


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _spent(usage: Usage) -> str:
    parts = [f"{count:,} {way}" for count, way in _tokens(usage) if count is not None]
    return ", ".join([*parts, *([] if usage.cost_usd is None else [f"${usage.cost_usd:.4f}"])]) or "not told"


def _tokens(usage: Usage) -> tuple[tuple[int | None, str], ...]:
    return (usage.prompt_tokens, "in"), (usage.completion_tokens, "out")


def diff_text(diff: str | None) -> Text:
    if not diff:
        return Text("no patch could be taken" if diff is None else "nothing is changed")
    styles = {"+": "green", "-": "red", "@": "cyan", "d": "bold"}
    return Text("\n").join(Text(inert(line), styles.get(line[:1], "")) for line in diff.split("\n"))


def grade_text(grade: Grade, *, log: str | None) -> Text:
    """The verdict, each test that failed with its assertion, and the end of what the tests printed."""
    text = Text.assemble((grade.outcome, OUTCOMES.get(grade.outcome, "bold yellow")), f"  {grade.wall_s:.1f} s\n")
    if grade.detail:
        text.append(f"{inert(grade.detail)}\n")
    output = between_markers(log).strip("\n") if log is not None else None
    lists = [("FAIL_TO_PASS", grade.fail_to_pass), ("PASS_TO_PASS", grade.pass_to_pass)]
    for test in [test for _, tests in lists if tests is not None for test in tests.failed]:
        text.append(f"failed: {inert(test)}\n", "red")
        text.append("".join(f"    {inert(line)}\n" for line in why(test, output or "")))
    for name, tests in lists:
        if tests is not None:
            text.append(f"{name}: {len(tests.passed)} passed, {len(tests.failed)} failed\n", "bold")
    if output is None:
        return text
    end = output[-LOG_CHARS:]
    return Text.assemble(text, ("\nthe end of the tests' output\n", "bold"), (inert(end), "dim"))


def action_title(proposal: Proposal | None, *, writing: Literal["edit", "own"] | None, is_over: bool) -> str:
    """The line above the action: what it is, and the keys that continue from there."""
    kind = " (edit tool, JSON)" if proposal and proposal.action and proposal.action.tool == "edit" else ""
    if writing == "own":
        return "your own action: F2 does it, escape leaves"
    if writing == "edit":
        return f"edit the action{kind}: F2 does it, escape leaves"
    if is_over:
        return "the episode is over: r rewinds, s saves"
    return f"action{kind}: a takes it" if proposal else "action: n asks the model, t is your own"


def log_of(grade: Grade) -> str | None:
    """What the script of the tests printed; `None` where none were run."""
    return None if grade.log_path is None else Path(grade.log_path).read_bytes().decode(errors="replace")


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
        f"{'*' if fork.is_here else ' '} fork {fork.fork}: {counted(fork.steps, 'step')}"
        + (f", leaves fork {fork.parent} before step {fork.begun_at}" if fork.parent is not None else "")
        + (f", {fork.stop_reason}" if fork.stop_reason else "")
        for fork in forks
    ]
