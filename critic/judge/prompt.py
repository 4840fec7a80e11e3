"""The judge's prompts: how a run and the question about it read to the judge.

Reads `prompts/<name>.yaml` or a file of the user's (see `agent/prompts/template_file.py`), checked when loaded.

    prompt = JudgePrompt.load("propagating")
    prompt.fingerprint                             # changes with every word that the judge sees
    prompt.render("repair", problems=["no entry for step 3"], steps=[3], truncated=False)

Keys: system; reading (what counts as a mistake, with examples: a part of system); step (one step of the run); run (what
all questions about it share: task, end, evidence); window (the steps that are asked about); repair; optionally about.
A file with `like: default` takes the keys that it does not have from that prompt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import msgspec

from srft.agent.prompts.template_file import TemplateFile
from srft.env.errors import InputError

PROMPTS = Path(__file__).parent / "prompts"

# What each template may use. The judge gives exactly these.
VARIABLES: dict[str, frozenset[str]] = {
    "system": frozenset({"information", "reason_chars", "analysis_chars", "command_chars", "reading"}),
    "reading": frozenset({"command_chars", "analysis_chars"}),
    "step": frozenset({"nonce", "index", "reasoning", "content", "call", "observation"})
    | {"exit_code", "timed_out", "error", "submitted"},
    "run": frozenset({"nonce", "task", "total", "stop_reason", "patch", "resolved", "test_log", "gold_patch"})
    | {"information"},
    "window": frozenset({"nonce", "total", "first", "last", "so_far", "before", "before_left_out", "after"})
    | {"after_left_out", "steps"},
    "repair": frozenset({"problems", "steps", "truncated"}),
}


class JudgePromptText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of a prompt file."""

    system: str = ""
    """What the judge is told once: the verdicts, the rules, the form of the answer."""
    reading: str = ""
    """What counts as a mistake, with examples; `system` has it as `reading`."""
    step: str = ""
    """One step of the run."""
    run: str = ""
    """What every question about a run begins with."""
    window: str = ""
    """The steps that a question is about, and the question."""
    repair: str = ""
    """What an answer that cannot be used as it is gets."""
    about: str = ""
    """What the prompt is for; the judge does not see it."""
    like: str = ""
    """The prompt whose texts stand for those that are not given."""


class JudgePrompt(TemplateFile[JudgePromptText]):
    """A loaded prompt file. fingerprint: a hash of what the judge may see of it; comments and `about` do not count."""

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """A prompt of ours by name, or a file by its path. Raises InputError."""
        given = cls.read(name, JudgePromptText, folder=PROMPTS, variables=VARIABLES, noun="judge prompt")
        absent = [key for key in VARIABLES if not getattr(given.text, key)]
        if not absent:
            return given
        if not given.text.like:
            raise InputError(
                f"judge prompt {name}: no {', '.join(absent)}; give each, or take the rest by like: default"
            )
        base = cls.load(given.text.like)
        text = msgspec.structs.replace(given.text, **{key: getattr(base.text, key) for key in absent})
        return cls(given.name, text, {**given.templates, **{key: base.templates[key] for key in absent}})

    @property
    def fingerprint(self) -> str:
        return self.fingerprint_without(about="", like="")

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
