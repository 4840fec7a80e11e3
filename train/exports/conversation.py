"""A run as messages with a weight each: what trainers that mask by message need.

Reads a trajectory, its facts and a policy; writes nothing. The weights are those of `mask.py`.

    made = conversation(trajectory, facts, MaskPolicy(arm="srft"), binary=False)
    made.messages[3], made.weights[3]           # the second reply and its weight; `None` for what is no step

Messages are as they were recorded, ids of calls included, but for nulls: what has no value has no key. Only arguments
that came as JSON text keep theirs, as a model wrote them.

The conversation ends with its last trained reply: what follows carries no loss, and some trainers would train the token
that ends the last turn whatever its mask says.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy

from srft.agent.records import Trajectory
from srft.env.errors import InputError
from srft.train.rows.mask import MaskPolicy, RunFacts, left_out, step_weights

ROUND_UP_FROM = 0.5
"""The weight from which a step counts as trained where a trainer knows 0 and 1 alone."""

_KEYS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")


class Conversation(NamedTuple):
    """One run as messages. Arguments of tool calls are objects in it.

    weights: of each message; `None` where it is no step (what is asked, observations, a shown example's replies).
    rounded: steps whose weight became 0 or 1. cut: messages behind the last trained reply. cut_off: trained replies
    that met their length limit; a trainer that renders messages trains an end of turn that the model did not write.
    nulls: keys without a value that were left out. lost: trained replies that a form cannot say. resolved: the outcome.
    run: the record itself.
    """

    run_id: str
    task_id: str
    messages: list[dict[str, Any]]
    weights: list[float | None]
    tools: tuple[dict[str, Any], ...]
    rounded: int = 0
    cut: int = 0
    cut_off: int = 0
    nulls: int = 0
    lost: int = 0
    resolved: bool | None = None
    run: Trajectory | None = None

    @property
    def trained(self) -> int:
        """How many messages carry loss."""
        return sum(bool(weight) for weight in self.weights)

    @property
    def masked(self) -> int:
        """How many steps carry none."""
        return sum(weight == 0 for weight in self.weights)


def conversation(
    trajectory: Trajectory, facts: RunFacts, policy: MaskPolicy, *, binary: bool = False
) -> Conversation | str:
    """The run's messages and weights, or the reason why it is left out."""
    if reason := left_out(facts, policy):
        return reason
    try:
        messages, places, nulls = shaped(trajectory)
    except InputError as error:
        return f"not readable: {error}"
    if not all(isinstance(message["content"], str) for message in messages):
        return "content_is_not_text"
    weight_S = step_weights(facts, policy)
    weights: list[float | None] = [None] * len(messages)
    rounded = 0
    for place, weight in zip(places, weight_S, strict=True):
        weights[place] = float(weight >= ROUND_UP_FROM) if binary else _shortest(weight)
        rounded += weights[place] != weight
    trained = [place for place, weight in enumerate(weights) if weight]
    if not trained:
        return "nothing_trained"
    end = trained[-1] + 1
    tools, more_nulls = _without_nulls(list(trajectory.tools))
    return Conversation(
        run_id=trajectory.id,
        task_id=trajectory.task_id,
        messages=messages[:end],
        weights=weights[:end],
        tools=tuple(tools),
        rounded=rounded if binary else 0,
        cut=len(messages) - end,
        cut_off=sum(
            step.finish_reason == "length" and bool(weights[place])
            for step, place in zip(trajectory.steps, places, strict=True)
        ),
        nulls=nulls + more_nulls,
        resolved=facts.resolved,
        run=trajectory,
    )


def shaped(trajectory: Trajectory) -> tuple[list[dict[str, Any]], list[int], int]:
    """The messages with their calls' arguments as objects, the place of each step's reply among them, and how many keys
    without a value were left out. Raises InputError where steps and replies do not go together."""
    messages, nulls = [], 0
    for recorded in trajectory.messages:
        message, count = _shaped(recorded)
        messages.append(message)
        nulls += count
    places = [
        place
        for place, message in enumerate(messages)
        if message["role"] == "assistant" and place >= trajectory.demo_messages
    ]
    if len(places) != len(trajectory.steps):
        raise InputError(
            f"{trajectory.id}: {len(places)} assistant messages and {len(trajectory.steps)} steps; expected one a step"
        )
    for place, step in zip(places, trajectory.steps, strict=True):
        if step.reasoning:
            messages[place]["reasoning_content"] = step.reasoning
    return messages, places, nulls


def _shaped(recorded: dict[str, Any]) -> tuple[dict[str, Any], int]:
    message = {key: recorded[key] for key in _KEYS if recorded.get(key) is not None}
    message["content"] = message.get("content") or ""
    calls, nulls = _without_nulls(message.pop("tool_calls", None) or [])
    for call in calls:
        function = call.setdefault("function", {})
        if not isinstance(function.get("name"), str):
            raise InputError("a call names no function")
        if isinstance(function.get("arguments", ""), str):
            try:
                function["arguments"] = json.loads(function.get("arguments") or "{}")
            except ValueError as error:
                raise InputError(f"the arguments of a {function.get('name')} call are not JSON ({error})") from None
    return ({**message, "tool_calls": calls} if calls else message), nulls


def _without_nulls(value: Any) -> tuple[Any, int]:
    """The value without keys that have none, which Arrow gives to objects of different keys; how many there were."""
    if isinstance(value, list | tuple):
        made = [_without_nulls(it) for it in value]
        return [it for it, _ in made], sum(count for _, count in made)
    if not isinstance(value, dict):
        return value, 0
    kept = {key: _without_nulls(it) for key, it in value.items() if it is not None}
    nulls = len(value) - len(kept) + sum(count for _, count in kept.values())
    return {key: it for key, (it, _) in kept.items()}, nulls


def _shortest(weight: numpy.float32) -> float:
    """The shortest decimal number that is this weight: 0.3, not 0.30000001192092896."""
    return float(str(weight))
