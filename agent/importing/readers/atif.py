"""ATIF, Harbor's trajectory format, alone or within a Harbor trial, whose reward is the verdict.

    READER.read(RawRun("t/agent/trajectory.json", "t", None, {"schema_version": "ATIF-v1.4", "steps": [...]}), Tally())

A trial's folder comes as {"trajectory": ..., "result": ..., "config": ..., "reward": ...} (see `source.py`); a reward
of 1 is a resolved task, any smaller one is not. Each step of the agent is a step here, as the format has it. What its
converters write themselves is left out and counted: `Executed TOOL ID` as the text of a call, the word None as
thinking, and the thinking of a reply once more at each of its calls. Sub-agents' steps are another conversation's.

| exception of the trial | stop reason |
|---|---|
| none | submitted |
| AgentTimeoutError | wall_limit |
| of the verifier | submitted, with the exception as detail |
| any other | infra_error, with the exception as detail |
"""

from __future__ import annotations

import re
from typing import Any

from srft.agent.importing.readers import RawRun, Reader, Tally
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
from srft.agent.records import StopReason
from srft.env.errors import InputError

_EXIT_CODE = re.compile(r"Exit code (\d+)\b")
CONVERTERS_WORDS = "texts that Harbor's converter wrote for calls"
CONVERTERS_THINKING = "thinking that Harbor's converter repeated, or made of nothing"
SIDECHAINS = "steps of sub-agents, which are another conversation's"


def _marks(run: dict[str, Any]) -> bool:
    inner = run.get("trajectory") if "result" in run else run
    return isinstance(inner, dict) and str(inner.get("schema_version", "")).startswith("ATIF-") and "steps" in inner


def _read(raw: RawRun, tally: Tally) -> Recorded:
    is_trial = "result" in raw.content
    run = raw.content["trajectory"] if is_trial else raw.content
    where = raw.where
    result = optional(raw.content, "result", dict, where) or {} if is_trial else {}
    agent = optional(run, "agent", dict, where) or {}
    names = [optional(agent, key, str, f"{where}: agent") for key in ("name", "version")]
    tools = agent.get("tool_definitions")
    stop_reason, detail = _ending(result, where) if is_trial else ("submitted", NOT_RECORDED)
    return Recorded(
        task_id=_task(raw, run, result),
        model=optional(agent, "model_name", str, where) or _model_of_steps(run),
        scaffold="-".join(name for name in names if name) or "ATIF",
        lines=_lines(run, where, tally),
        tools=tool_descriptions(tools, f"{where}: agent.tool_definitions") if tools is not None else (),
        patch=None,
        stop_reason=stop_reason,
        detail=detail,
        resolved=_resolved(raw.content.get("reward"), where) if is_trial else None,
    )


def _task(raw: RawRun, run: dict[str, Any], result: dict[str, Any]) -> str:
    extra = run.get("extra") if isinstance(run.get("extra"), dict) else {}
    for holder, key in ((result, "task_name"), (run, "instance_id"), (run, "task_id"), (extra, "instance_id")):
        if isinstance(name := (holder or {}).get(key), str) and name:
            return name
    if raw.line is not None:
        return optional(run, "session_id", str, raw.where) or f"{raw.name}-{raw.line}"
    return raw.name


def _model_of_steps(run: dict[str, Any]) -> str | None:
    steps = run.get("steps")
    names = [step.get("model_name") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    return next((name for name in names if isinstance(name, str)), None)


def _ending(result: dict[str, Any], where: str) -> tuple[StopReason, str | None]:
    error = optional(result, "exception_info", dict, where) or {}
    kind = optional(error, "exception_type", str, where)
    if not kind:
        return "submitted", None
    if kind == "AgentTimeoutError":
        return "wall_limit", None
    if kind.startswith(("Verifier", "Reward", "AddTestsDir", "DownloadVerifierDir")):
        return "submitted", kind
    return "infra_error", kind


def _resolved(reward: Any, where: str) -> bool | None:
    if reward is None:
        return None
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not 0 <= reward <= 1:
        raise InputError(f"{where}: the trial's reward: expected a number of 0 to 1, got {reward!r:.80}")
    return reward == 1


def _lines(run: dict[str, Any], where: str, tally: Tally) -> list[Line]:
    lines: list[Line] = []
    thought: str | None = None
    for place, step in enumerate(objects(run, "steps", where)):
        spot = f"{where}: steps[{place}]"
        if not isinstance(step, dict):
            raise InputError(f"{spot}: expected an object, got {type(step).__name__}")
        if _extra(step).get("is_sidechain") is True:
            tally.left_out[SIDECHAINS] += 1
            continue
        source = optional(step, "source", str, spot)
        text = _text(step.get("message"), f"{spot}.message")
        if source == "agent":
            reply, thought = _reply(step, text, thought, spot, tally)
            lines.append(reply)
        elif source in ("user", "system"):
            # What a user says next is no observation: those stand in the step that they answer.
            lines.append(line_of({"role": source, "content": text}, spot, answers=False))
        else:
            raise InputError(f"{spot}.source: expected user, system or agent, got {source!r}")
        answers = _answers(step, spot)
        lines += answers
        thought = None if answers or source != "agent" else thought
    return lines


def _reply(step: dict[str, Any], text: str, thought: str | None, where: str, tally: Tally) -> tuple[Line, str | None]:
    """A step of the agent, and its thinking; thought: that of the step before, where nothing came between."""
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
    line = line_of(message, where, step={"usage": usage_of(usage, cost_usd=metrics.get("cost_usd"))})
    return line, reasoning


def _answers(step: dict[str, Any], where: str) -> list[Line]:
    observation = optional(step, "observation", dict, where) or {}
    extra, calls = _extra(step), step.get("tool_calls")
    lines = []
    for place, result in enumerate(optional(observation, "results", list, where) or []):
        if not isinstance(result, dict):
            raise InputError(f"{where}.observation.results[{place}]: expected an object")
        message = {"role": "user", "content": _text(result.get("content"), f"{where}.observation.results[{place}]")}
        if (identity := result.get("source_call_id")) is not None:
            message |= {"role": "tool", "tool_call_id": identity}
        elif isinstance(calls, list) and len(calls) == 1:
            message |= {"role": "tool", "tool_call_id": calls[0].get("tool_call_id")}
        code = _claude_codes(extra, message["content"]) if isinstance(calls, list) and len(calls) == 1 else None
        lines.append(line_of(message, where, exit_code=code))
    return lines


def _claude_codes(extra: dict[str, Any], text: str) -> int | None:
    """Claude Code words the exit code of a command that failed, and says that one did not fail."""
    failed = extra.get("tool_result_is_error")
    if extra.get("tool_use_name") != "Bash" or not isinstance(failed, bool):
        return None
    if failed:
        return int(found[1]) if (found := _EXIT_CODE.match(text)) else None
    metadata = extra.get("tool_result_metadata")
    result = metadata.get("tool_use_result") if isinstance(metadata, dict) else None
    if not isinstance(result, dict) or "stdout" not in result:
        return None
    return None if result.get("backgroundTaskId") or result.get("interrupted") else 0


def _extra(step: dict[str, Any]) -> dict[str, Any]:
    extra = step.get("extra")
    return extra if isinstance(extra, dict) else {}


def _text(content: Any, where: str) -> str:
    return "" if content is None else text_of(content, where, joint="\n")


READER = Reader("atif", _marks, _read)
