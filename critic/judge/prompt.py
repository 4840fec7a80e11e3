"""The judge's prompts: how a run and the question about it read to the judge.

Reads `prompts/<name>.yaml` or a file of the user's (see `agent/prompts/template_file.py`), checked when loaded.

    prompt = JudgePrompt.load("default")
    prompt.fingerprint                             # changes with every word that the judge sees
    prompt.render("system", information="none", reason_chars=300)

Keys: system; step (one step of the run); run (the question: task, steps, end, evidence); repair; optionally about.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from srft.agent.prompts.template_file import TemplateFile

PROMPTS = Path(__file__).parent / "prompts"

# What each template may use. The judge gives exactly these.
VARIABLES: dict[str, frozenset[str]] = {
    "system": frozenset({"information", "reason_chars"}),
    "step": frozenset({"index", "reasoning", "content", "call", "observation", "exit_code"}),
    "run": frozenset(
        {"task", "total", "first", "last", "lines", "left_out", "steps", "stop_reason", "patch"}
        | {"resolved", "test_log", "gold_patch", "information"}
    ),
    "repair": frozenset({"problems", "steps", "truncated"}),
}


class JudgePromptText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What stands in a prompt file."""

    system: str
    step: str
    run: str
    repair: str
    about: str = ""


class JudgePrompt(TemplateFile[JudgePromptText]):
    """A loaded prompt file. fingerprint: a hash of what the judge may see of it; comments and `about` do not count."""

    @classmethod
    def load(cls, name: str | Path) -> JudgePrompt:
        """A prompt of ours by name, or a file by its path. Raises InputError."""
        return cls.read(name, JudgePromptText, folder=PROMPTS, variables=VARIABLES, noun="judge prompt")

    @property
    def fingerprint(self) -> str:
        return self.fingerprint_without(about="")

    def render(self, key: str, **variables: Any) -> str:
        """One of the templates, filled in with all of its `VARIABLES`."""
        assert variables.keys() == VARIABLES[key], f"{key} is rendered with {sorted(variables)}"
        return self.templates[key].render(variables)


def elide(text: str, limit_chars: int) -> str:
    """The text, cut in its middle to `limit_chars` characters where it is longer; the cut says how many are gone.

    >>> elide("abcdefghij", 4)
    'ab\\n[... 6 characters left out ...]\\nij'
    """
    if len(text) <= limit_chars:
        return text
    head, tail = (limit_chars + 1) // 2, limit_chars // 2
    gap = f"\n[... {len(text) - limit_chars} characters left out ...]\n"
    return text[:head] + gap + text[len(text) - tail :]
