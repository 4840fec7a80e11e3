"""Prompts: what the model is told, and how an action's outcome reads to it.

Reads `prompts/<name>.yaml` or a file of the user's (see `template_file.py`), which is checked when it is loaded.

    prompt = Prompt.load("default")
    prompt.instance(view, workdir="/testbed", mode="stateless", instructions=FORMATS["xml"].instructions)

Keys: system, instance, observation, timeout, format_error (templates), output_limit_chars, head_chars, tail_chars, and
optionally formats (the action formats the words are meant for) and about.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from srft.agent.prompts.template_file import TemplateFile
from srft.env.sandbox.contract import CommandResult
from srft.env.tasks.task import TaskView

PROMPTS = Path(__file__).parent

# What each template may use. The loop gives exactly these.
_OPENING = frozenset({"instance_id", "repo", "problem_statement", "workdir", "mode", "instructions"})
_OUTPUT = frozenset({"output", "head", "tail", "elided_chars", "exit_code", "wall_s", "shell_restarted"})
VARIABLES: dict[str, frozenset[str]] = {
    "system": _OPENING,
    "instance": _OPENING,
    "observation": _OUTPUT,
    "timeout": _OUTPUT | {"command", "timeout_s"},
    "format_error": frozenset({"error", "finish_reason", "instructions"}),
}


class PromptText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contents of a prompt file. An output above `output_limit_chars` keeps its head and its tail."""

    system: str
    instance: str
    observation: str
    timeout: str
    format_error: str
    output_limit_chars: int
    head_chars: int
    tail_chars: int
    formats: tuple[str, ...] = ("backtick", "xml", "json", "native")
    about: str = ""

    def __post_init__(self) -> None:
        if min(self.head_chars, self.tail_chars) < 0 or self.head_chars + self.tail_chars > self.output_limit_chars:
            raise ValueError(
                f"head_chars {self.head_chars} and tail_chars {self.tail_chars} must be 0 or more and together at most "
                f"output_limit_chars {self.output_limit_chars}"
            )


class Observation(NamedTuple):
    """What the model sees of an action, and how many characters of the output it does not see.

    What the sandbox had to drop is known in bytes only; each of them is counted as a character.
    """

    text: str
    elided_chars: int


class Prompt(TemplateFile[PromptText]):
    """A loaded prompt file.

    fingerprint: a hash of everything the model may see of it; comments in the file do not count.
    """

    @classmethod
    def load(cls, name: str | Path) -> Prompt:
        """A prompt of ours by name, or a file by its path. Raises InputError."""
        return cls.read(name, PromptText, folder=PROMPTS, variables=VARIABLES, noun="prompt")

    @property
    def fingerprint(self) -> str:
        return self.fingerprint_without(about="", formats=())

    def system(self, view: TaskView, *, workdir: str, mode: str, instructions: str) -> str:
        return self._opening("system", view, workdir=workdir, mode=mode, instructions=instructions)

    def instance(self, view: TaskView, *, workdir: str, mode: str, instructions: str) -> str:
        return self._opening("instance", view, workdir=workdir, mode=mode, instructions=instructions)

    def _opening(self, key: str, view: TaskView, **variables: str) -> str:
        return self.templates[key].render(
            instance_id=view.instance_id, repo=view.repo, problem_statement=view.problem_statement, **variables
        )

    def observation(self, result: CommandResult, *, command: str, timeout_s: float) -> Observation:
        """A command's output as the model sees it: the template `timeout` where it was killed."""
        head, tail, elided_chars = self._elide(result)
        variables: dict[str, Any] = {
            "output": head + tail,
            "head": head,
            "tail": tail,
            "elided_chars": elided_chars,
            "exit_code": result.exit_code,
            "wall_s": result.wall_s,
            "shell_restarted": result.shell_restarted,
        }
        if result.timed_out:
            text = self.templates["timeout"].render(command=command, timeout_s=timeout_s, **variables)
        else:
            text = self.templates["observation"].render(variables)
        return Observation(text, elided_chars)

    def _elide(self, result: CommandResult) -> tuple[str, str, int]:
        """Head, tail, and how much is missing between them; everything is in the head where nothing is missing."""
        output = result.output
        if len(output) <= self.text.output_limit_chars:
            if not result.elided_bytes:
                return output, "", 0
            return output[: result.elided_at], output[result.elided_at :], result.elided_bytes
        # Where the sandbox dropped the middle, head and tail must not reach across its gap.
        split = result.elided_at if result.elided_bytes else len(output)
        head = output[: min(self.text.head_chars, split)]
        rest = output[split:] if result.elided_bytes else output[len(head) :]
        tail = rest[max(0, len(rest) - self.text.tail_chars) :]
        return head, tail, len(output) - len(head) - len(tail) + result.elided_bytes

    def format_error(self, error: str, *, finish_reason: str | None, instructions: str) -> str:
        """The answer to a reply without a readable action."""
        return self.templates["format_error"].render(
            error=error, finish_reason=finish_reason, instructions=instructions
        )
