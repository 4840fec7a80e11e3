"""The forms in which a server can be made to keep to the answer, from the strictest on.

    answer_format("positional", range(3), config)       # the `response_format` of a request about steps 0 to 2

positional: an entry for each step in its place, its number fixed (vLLM, SGLang, llama.cpp, Ollama). strict: what
OpenAI's strict schemas know, no more: the entries' form, not their number (OpenAI, Azure, Gemini). json_object: some
JSON (DeepSeek). A server that refuses one is asked with the next, in the end with none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from srft.critic.judge.answers import WORDS
from srft.critic.judge.config import JudgeConfig

Form = Literal["positional", "strict", "json_object", "none"]
FORMS: tuple[Form, ...] = ("positional", "strict", "json_object", "none")
SCHEMAS = frozenset({"positional", "strict"})
"""Those that a JSON schema makes."""


def answer_format(form: Form, steps: Sequence[int], config: JudgeConfig) -> dict[str, Any] | None:
    """The `response_format` of a request; `None` for `none`."""
    if form == "none":
        return None
    if form == "json_object":
        return {"type": "json_object"}
    schema = _schema(steps, config, is_positional=form == "positional")
    return {"type": "json_schema", "json_schema": {"name": "verdicts", "strict": True, "schema": schema}}


def is_kept(form: Form, text: str, steps: Sequence[int]) -> bool:
    """Whether an answer is what its schema asks for: servers ignore schemas without a word."""
    if form not in SCHEMAS:
        return True
    try:
        decoded = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError):
        return False
    entries = decoded.get("steps") if isinstance(decoded, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return False
    return form == "strict" or [entry.get("step") for entry in entries] == list(steps)


def _schema(steps: Sequence[int], config: JudgeConfig, *, is_positional: bool) -> dict[str, Any]:
    """`items` says what `prefixItems` says but the order, for servers that do not know the latter. Confidences are an
    enumeration: a number's digits need not end."""
    entry = _object(
        {
            "step": {"type": "integer"},
            **({"command": _text(config.command_chars + 8, is_positional)} if config.command_chars else {}),
            "reason": _text(config.reason_chars, is_positional),
            "verdict": {"type": "string", "enum": list(WORDS)},
            "confidence": {"type": "number", "enum": [tenth / 10 for tenth in range(11)]},
        }
    )
    entries: dict[str, Any] = {"type": "array", "items": entry}
    if is_positional:
        numbered = [_object({**entry["properties"], "step": {"type": "integer", "enum": [step]}}) for step in steps]
        entries = {**entries, "prefixItems": numbered, "minItems": len(steps), "maxItems": len(steps)}
    analysis = {"analysis": _text(config.analysis_chars, is_positional)} if config.analysis_chars else {}
    return _object({**analysis, "steps": entries})


def _text(limit_chars: int, is_limited: bool) -> dict[str, Any]:
    return {"type": "string", **({"maxLength": limit_chars} if is_limited else {})}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
