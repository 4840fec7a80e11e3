"""ATIF, the trajectory format of Harbor, version 1.7: whole runs, with the weight of each step beside it.

    atif(conversation)["steps"][2]["extra"]          # {"loss_weight": 1.0, "exit_code": 0}

A reply is a step of the agent, and what it saw is the observation in it. Nothing in the format says what is trained, so
`extra.loss_weight` does, and a reader that does not know it trains every reply. A shown example is marked as copied.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srft.agent.records import Step, Trajectory
from srft.train.exports.conversation import Conversation, shaped
from srft.train.exports.form import Line, MessageFormat, with_ids

SCHEMA_VERSION = "ATIF-v1.7"


def _whole(conversation: Conversation) -> Conversation:
    """With what stands behind the last trained reply: this is a record, and nothing trains on its end."""
    run = conversation.run
    assert run is not None
    messages, places, _ = shaped(run)
    rest = range(len(conversation.messages), len(messages))
    weights = [*conversation.weights, *(0.0 if place in places else None for place in rest)]
    return conversation._replace(messages=messages, weights=weights, cut=0)


def atif(conversation: Conversation) -> Line | str:
    """The run as one document, or the reason why it cannot be said."""
    run = conversation.run
    assert run is not None
    messages = with_ids(conversation.messages)
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    if not all(isinstance(call["function"].get("arguments"), dict) for call in calls):
        return "arguments_are_no_object"
    agent: Line = {"name": run.scaffold or "unknown", "version": "unknown"}
    agent |= {"model_name": run.model} if run.model else {}
    agent |= {"tool_definitions": list(conversation.tools)} if conversation.tools else {}
    steps = _steps(run, messages, conversation.weights)
    return {
        "schema_version": SCHEMA_VERSION,
        "session_id": run.id,
        "trajectory_id": run.id,
        "agent": agent,
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, 1)],
        "final_metrics": {**_totals(run), "total_steps": len(steps)},
        "extra": _known(
            instance_id=run.task_id,
            repo=run.repo or None,
            attempt=run.attempt,
            resolved=conversation.resolved,
            stop_reason=run.stop_reason,
            patch=run.patch,
        ),
    }


def _steps(run: Trajectory, messages: list[Line], weights: list[float | None]) -> list[Line]:
    """The document's steps, without their numbers: those of the agent have the answers in them."""
    steps: list[Line] = []
    replies = iter(run.steps)
    step: Step | None = None
    answered = False
    for place, (message, weight) in enumerate(zip(messages, weights, strict=True)):
        role, text = message["role"], message["content"]
        if role == "assistant":
            step, answered = (next(replies), False) if place >= run.demo_messages else (None, False)
            steps.append(_agent_step(message, step, weight))
        elif steps and steps[-1]["source"] == "agent" and (role == "tool" or _is_observation(text, step, answered)):
            answered = True
            steps[-1].setdefault("observation", {"results": []})["results"].append(_result(message, steps[-1]))
        else:
            steps.append({"source": "system" if role == "system" else "user", "message": text})
    _add_unsent(steps, step, answered=answered)
    return steps


def _is_observation(text: str, step: Step | None, answered: bool) -> bool:
    return step is not None and not answered and step.observation == text


def _result(message: Line, step: Line) -> Line:
    """An answer may name a call of its own step alone."""
    ids = {call["tool_call_id"] for call in step.get("tool_calls", ())}
    named = message.get("tool_call_id") in ids
    return ({"source_call_id": message["tool_call_id"]} if named else {}) | {"content": message["content"]}


def _add_unsent(steps: list[Line], step: Step | None, *, answered: bool) -> None:
    """What the last step saw was not sent any more; it belongs to the record."""
    if step is not None and not answered and step.observation is not None and steps[-1]["source"] == "agent":
        steps[-1]["observation"] = {"results": [{"content": step.observation}]}


def _agent_step(message: Line, step: Step | None, weight: float | None) -> Line:
    """step: `None` of an example that the model was shown."""
    said: Line = {"source": "agent", "message": message["content"]}
    if message.get("reasoning_content"):
        said["reasoning_content"] = message["reasoning_content"]
    if message.get("tool_calls"):
        said["tool_calls"] = [
            {
                "tool_call_id": call["id"],
                "function_name": call["function"]["name"],
                "arguments": call["function"]["arguments"],
            }
            for call in message["tool_calls"]
        ]
    if step is None:
        return {**said, "is_copied_context": True, "extra": {"loss_weight": 0.0}}
    metrics = _metrics(step)
    extra = _known(loss_weight=weight or 0.0, exit_code=step.exit_code, timed_out=step.timed_out or None)
    return {**said, **({"metrics": metrics} if metrics else {}), "llm_call_count": 1, "extra": extra}


def _metrics(step: Step) -> Line:
    usage = step.usage
    return _known(
        prompt_tokens=usage and usage.prompt_tokens,
        completion_tokens=usage and usage.completion_tokens,
        cached_tokens=usage and usage.cached_tokens,
        cost_usd=usage and usage.cost_usd,
        completion_token_ids=step.token_ids and list(step.token_ids),
        logprobs=step.logprobs and list(step.logprobs),
    )


def _totals(run: Trajectory) -> Line:
    """Sums of what every step has a figure for."""
    totals: Line = {}
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd"):
        values = [step.usage and getattr(step.usage, name) for step in run.steps]
        if values and None not in values:
            totals[f"total_{name}"] = sum(values)
    return totals


def _known(**values: Any) -> Line:
    return {name: value for name, value in values.items() if value is not None}


def _split(lines: Path, out: Path) -> None:
    """A document a run, where the output is a folder."""
    if out.suffix == ".jsonl":
        lines.replace(out)
        return
    out.mkdir()
    with lines.open("rb") as file:
        for line in file:
            (out / f"{json.loads(line)['trajectory_id']}.json").write_bytes(line)


def _settings(out: Path, fractional: bool) -> str:
    each = "a line" if out.suffix == ".jsonl" else "a file"
    return f"""\
{SCHEMA_VERSION}, a run {each}. steps[].extra.loss_weight is the weight of the agent's steps in this arm. The format
itself has no mask, so a reader that does not know this key trains every reply."""


FORMAT = MessageFormat(True, atif, _settings, prepare=_whole, endings=(".jsonl", ""), finish=_split)
