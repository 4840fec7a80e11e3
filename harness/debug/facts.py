"""The state of a session in figures: what the facts pane and the script's `facts` show.

facts = facts_of(session)
facts.step, facts.prompt_tokens, facts.line.cost_usd
"""

from __future__ import annotations

from typing import NamedTuple

from srft.agent.records import Usage
from srft.critic.judge.judge import add_usage
from srft.harness.debug.session import Session


class Facts(NamedTuple):
    """step: the one to come. stop_reason: `None` while the episode runs. prompt_tokens: of the last request.

    line: what the steps of this fork took. session: all that was asked for, discarded replies, other forks and critics
    included. `None`: no server said a figure. outcome: the tests' verdict on just this place.
    """

    task: str
    model: str
    fork: int
    forks: int
    step: int
    stop_reason: str | None
    detail: str | None
    prompt_tokens: int | None
    line: Usage | None
    session: Usage | None
    human_steps: int
    labels: int
    outcome: str | None


def facts_of(session: Session) -> Facts:
    steps, tip, here = session.episode.steps, session.lines.tip, session.lines.here
    usages = [step.usage for step in steps if step.usage]
    line: Usage | None = None
    for usage in usages:
        line = add_usage(line, usage)
    asked = session.proposal.reply.usage if session.proposal else None
    last = asked or (usages[-1] if usages else None)
    verdict = session.verdict()
    return Facts(
        task=session.task.instance_id,
        model=session.episode.model.name,
        fork=here.number,
        forks=len(session.lines.listed()),
        step=session.step,
        stop_reason=tip.finished.stop_reason if tip.finished else None,
        detail=tip.finished.detail if tip.finished else None,
        prompt_tokens=last.prompt_tokens if last else None,
        line=line,
        session=session.spent,
        human_steps=sum(step.author != "model" for step in steps),
        labels=len(session.labels()),
        outcome=verdict.outcome if verdict else None,
    )
