"""ATIF, Harbor's trajectory format, alone or within a Harbor trial, whose reward is the verdict.

    READER.read(RawRun("t/agent/trajectory.json", "t", None, {"schema_version": "ATIF-v1.4", "steps": [...]}), Tally())

A trial's folder comes as {"trajectory": ..., "result": ..., "config": ..., "reward": ...} (see `source.py`); a reward
of 1 is a resolved task, any smaller one is not. What Harbor's converters write themselves is left out and counted:
`Executed TOOL ID` as the text of a call, the word None as thinking, and the thinking of a reply once more at each of
its calls. Sub-agents' steps are another conversation's.

Each step of the agent is a step here, as the format has it. The converter of Claude Code makes several of one reply:
one of its text, which has the reply's metrics, and one of each call. `--format atif-replies` (`REPLIES`) puts them
together, so that the messages are those that the model was sent: one message a reply, with all of its calls, then their
answers. A reply that broke off and was asked for again (no tokens, and another one at once) is then left out.

| exception of the trial | stop reason |
|---|---|
| none | submitted |
| AgentTimeoutError | wall_limit |
| of the verifier | submitted, with the exception as detail |
| any other | infra_error, with the exception as detail |
"""

from __future__ import annotations

import functools
import re
from typing import Any

from srft.agent.importing.readers import RawRun, Reader, Tally, within
from srft.agent.importing.readers.conversation import (
    NOT_RECORDED,
    Line,
    Recorded,
    line_of,
    optional,
    text_of,
    usage_of,
)
from srft.agent.importing.readers.dialects import objects, tool_descriptions
from srft.agent.importing.readers.endings import Told
from srft.agent.importing.readers.exit_codes import code_of
from srft.env.errors import InputError

_EXIT_CODE = re.compile(r"Exit code (\d{1,10})\b")
CONVERTERS_WORDS = "texts that Harbor's converter wrote for calls"
CONVERTERS_THINKING = "thinking that Harbor's converter repeated, or made of nothing"
SIDECHAINS = "steps of sub-agents, which are another conversation's"
PARTS = "steps that are parts of the reply before them; --format atif-replies puts them together"
BROKEN_OFF = "replies that broke off and were asked for again"


def _marks(run: dict[str, Any]) -> bool:
    inner = run.get("trajectory") if "result" in run else run
    return isinstance(inner, dict) and str(inner.get("schema_version")).startswith("ATIF-") and "steps" in inner


def _read(raw: RawRun, tally: Tally, *, joined: bool) -> Recorded:
    is_trial = "result" in raw.content
    run = raw.content["trajectory"] if is_trial else raw.content
    where = raw.where
    result = optional(raw.content, "result", dict, where) or {} if is_trial else {}
    agent = optional(run, "agent", dict, where) or {}
    names = [optional(agent, key, str, f"{where}: agent") for key in ("name", "version")]
    tools = agent.get("tool_definitions")
    stop_reason, detail = _ending(result, where) if is_trial else Told("submitted", NOT_RECORDED)
    steps = objects(run, "steps", where)
    models = [within(step, "model_name") for step in steps]
    return Recorded(
        task_id=_task(raw, run, result),
        model=optional(agent, "model_name", str, where) or next((m for m in models if isinstance(m, str)), None),
        scaffold="-".join(name for name in names if name) or "ATIF",
        lines=_lines(steps, where, tally, joined=joined),
        tools=tool_descriptions(tools, f"{where}: agent.tool_definitions") if tools is not None else (),
        patch=None,
        stop_reason=stop_reason,
        detail=detail,
        resolved=_resolved(raw.content.get("reward"), where) if is_trial else None,
    )


def _task(raw: RawRun, run: dict[str, Any], result: dict[str, Any]) -> str:
    named = [result.get("task_name"), run.get("instance_id"), run.get("task_id"), within(run, "extra", "instance_id")]
    if raw.line is not None:
        named.append(run.get("session_id"))
    return next((name for name in named if isinstance(name, str) and name), raw.place)


def _ending(result: dict[str, Any], where: str) -> Told:
    error = optional(result, "exception_info", dict, where) or {}
    kind = optional(error, "exception_type", str, where)
    if not kind:
        return Told("submitted")
    if kind == "AgentTimeoutError":
        return Told("wall_limit")
    if kind.startswith(("Verifier", "Reward", "AddTestsDir", "DownloadVerifierDir")):
        return Told("submitted", kind)
    return Told("infra_error", kind)


def _resolved(reward: Any, where: str) -> bool | None:
    if reward is None:
        return None
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not 0 <= reward <= 1:
        raise InputError(f"{where}: the trial's reward: expected a number of 0 to 1, got {reward!r:.80}. Fix it.")
    return reward == 1


def _lines(steps: list[Any], where: str, tally: Tally, *, joined: bool) -> list[Line]:
    lines: list[Line] = []
    reply: int | None = None  # the place of the reply under way: nobody but the agent and its tools spoke since
    thought: str | None = None
    for place, step in enumerate(steps):
        spot = f"{where}: steps[{place}]"
        if not isinstance(step, dict):
            raise InputError(f"{spot}: expected an object, got {type(step).__name__}")
        if within(step, "extra", "is_sidechain") is True:
            tally.left_out[SIDECHAINS] += 1
            continue
        source = optional(step, "source", str, spot)
        text = _text(step.get("message"), f"{spot}.message")
        answers = _answers(step, spot)
        if source in ("user", "system"):
            # What a user says next is no observation: those are in the step that they answer.
            lines += [line_of({"role": source, "content": text}, spot, answers=False), *answers]
            reply, thought = None, None
            continue
        if source != "agent":
            raise InputError(f"{spot}.source: expected user, system or agent, got {source!r}")
        part = _reply(step, text, thought, spot, tally)
        thought = None if answers and not joined else step.get("reasoning_content")
        if reply is not None and step.get("metrics") is None and lines[reply].step.get("usage"):
            if joined:
                lines[reply] = _together(lines[reply], part, spot)
                lines += answers
            else:
                tally.left_out[PARTS] += 1
                lines += [part, *answers]
            continue
        if joined and reply is not None and _broke_off(lines[reply:]):
            tally.left_out[BROKEN_OFF] += 1
            lines.pop()
        reply = len(lines)
        lines += [part, *answers]
    return lines


def _reply(step: dict[str, Any], text: str, thought: str | None, where: str, tally: Tally) -> Line:
    """A step of the agent. thought: of the step before, where nothing came between."""
    calls: list[dict[str, Any]] = []
    for call in optional(step, "tool_calls", list, where) or []:
        if not isinstance(call, dict):
            raise InputError(f"{where}.tool_calls: expected objects, got {type(call).__name__}")
        function = {"name": call.get("function_name"), "arguments": call.get("arguments")}
        calls.append({"id": call.get("tool_call_id"), "function": function})
    if len(calls) == 1 and text == f"Executed {calls[0]['function']['name']} {calls[0]['id']}":
        tally.left_out[CONVERTERS_WORDS] += 1
        text = ""
    reasoning = optional(step, "reasoning_content", str, where)
    kept = None if reasoning == "None" or (reasoning and reasoning == thought) else reasoning
    if reasoning and kept is None:
        tally.left_out[CONVERTERS_THINKING] += 1
    metrics = optional(step, "metrics", dict, where) or {}
    usage = {"prompt_tokens_details": {"cached_tokens": metrics.get("cached_tokens")}, **metrics}
    message = {"role": "assistant", "content": text, "tool_calls": calls or None, "reasoning_content": kept}
    return line_of(message, where, step={"usage": usage_of(usage, cost_usd=metrics.get("cost_usd"))})


def _together(reply: Line, part: Line, where: str) -> Line:
    """A reply with a further part of it."""
    texts = [line.sent["content"] for line in (reply, part) if line.sent["content"]]
    calls = [*reply.step["tool_calls"], *part.step["tool_calls"]]
    thinking = reply.step["reasoning"] or part.step["reasoning"]
    message = {"role": "assistant", "content": "\n".join(texts), "tool_calls": calls, "reasoning_content": thinking}
    return line_of(message, where, step={"usage": reply.step["usage"]})


def _broke_off(lines: list[Line]) -> bool:
    """Whether this is a reply alone, without a call or a token."""
    usage = lines[0].step.get("usage")
    return len(lines) == 1 and not lines[0].step["tool_calls"] and usage is not None and usage.completion_tokens == 0


def _answers(step: dict[str, Any], where: str) -> list[Line]:
    observation = optional(step, "observation", dict, where) or {}
    calls = step.get("tool_calls")
    only = calls[0] if isinstance(calls, list) and len(calls) == 1 else None
    lines = []
    for place, result in enumerate(optional(observation, "results", list, where) or []):
        if not isinstance(result, dict):
            raise InputError(f"{where}.observation.results[{place}]: expected an object")
        text = _text(result.get("content"), f"{where}.observation.results[{place}]")
        message = {"role": "user", "content": text}
        if (identity := result.get("source_call_id")) is not None or only is not None:
            identity = within(only, "tool_call_id") if identity is None else identity
            message |= {"role": "tool", "tool_call_id": identity}
        lines.append(line_of(message, where, exit_code=_claude_code(step.get("extra"), text) if only else None))
    return lines


def _claude_code(extra: Any, text: str) -> int | None:
    """The exit code of a command of Claude Code, which words it where it failed, and says where it did not."""
    failed = within(extra, "tool_result_is_error")
    if within(extra, "tool_use_name") != "Bash" or not isinstance(failed, bool):
        return None
    if failed:
        return code_of(found[1]) if (found := _EXIT_CODE.match(text)) else None
    result = within(extra, "tool_result_metadata", "tool_use_result")
    if within(result, "stdout") is None or result.get("backgroundTaskId") or result.get("interrupted"):
        return None
    return 0


def _text(content: Any, where: str) -> str:
    return "" if content is None else text_of(content, where, joint="\n")


READER = Reader("atif", _marks, functools.partial(_read, joined=False))
REPLIES = Reader("atif-replies", lambda run: False, functools.partial(_read, joined=True))
"""The same with one step a reply; nothing in a file tells it from the other, so it is read under its name."""
