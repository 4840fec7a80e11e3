"""The files that a step changes or restores, and the steps that a patch's lines came from.

Reads steps and patches, writes nothing; runs nothing, so a script that a run wrote and ran is not looked into.

    changed_files(step)                                         # ['limits.py'] for sed -i '3c\\    return x' limits.py
    origins(new_lines(patch)["limits.py"], {1: "...", 4: "..."})        # {4}
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from srft.agent.records import Action, Step
from srft.critic.rules.shell_text import SHELLS, Command, commands
from srft.critic.rules.tampering import changes_of, changes_of_edit, normal_path

_PATCHED = re.compile(r'^diff --git "?a/(.+?)"? "?b/', re.MULTILINE)
_ADDED = re.compile(r"^\+(?!\+\+ )(.*)$", re.MULTILINE)
_WHOLE = frozenset((".", "./", ":/"))

_SHELL_TOOLS = frozenset(
    (
        *("bash", "execute_bash", "run_bash", "bash_command"),
        *("shell", "local_shell", "run_shell_command", "execute_shell", "terminal", "run_in_terminal"),
        *("execute_command", "exec_command", "run_command", "exec", "execute", "cmd"),
    )
)
"""What scaffolds call the tool that runs a shell command, in lower case, without the name of its server."""

_COMMAND_ARGUMENTS = ("command", "cmd", "command_line", "script")

EDIT_TOOLS = frozenset(("edit", "str_replace_editor", "str_replace_based_edit_tool", "file_editor"))
"""What scaffolds call a tool that changes a file by `command` and `path`, told as the shell's."""


def tool_name(action: Action) -> str:
    """A tool's name in lower case, without the name of its server."""
    return re.split(r"[.:/]|__", action.tool.lower())[-1]


def command_text(step: Step) -> str | None:
    """The shell text of a step, whatever its scaffold calls the shell; `None` where it has none."""
    if step.action is None or tool_name(step.action) not in _SHELL_TOOLS:
        return None
    given = (step.action.arguments.get(name) for name in _COMMAND_ARGUMENTS)
    command = next((value for value in given if value is not None), None)
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        is_script = len(command) == 3 and command[0].rpartition("/")[2] in SHELLS and command[1].endswith("c")
        return command[2] if is_script else shlex.join(command)
    return command if isinstance(command, str) else None


def new_lines(patch: str) -> dict[str, list[str]]:
    """The lines that a patch adds, by file, without those that are too short to be told from others."""
    parts = _PATCHED.split(patch)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {
        path: [text for line in _ADDED.findall(part) if len(text := line.strip()) > 1] for path, part in found.items()
    }


def origins(added: list[str], changes: dict[int, str]) -> set[int]:
    """The changes that hold the patch's lines; all of them where a line is in none, as its origin is unknown.

    added: a file's new lines. changes: the texts of the changes made to it, by step.
    """
    origins = {index for index, text in changes.items() if any(line in text for line in added)}
    is_known = added and all(any(line in text for text in changes.values()) for line in added)
    return origins if is_known else set(changes)


def action_text(step: Step) -> str:
    """What a step's action says."""
    return "\n".join(map(str, step.action.arguments.values())) if step.action else ""


def _commands(step: Step) -> list[Command]:
    text = command_text(step)
    return commands(text) if text else []


def changed_files(step: Step) -> list[str]:
    """The files that a step changes, by their paths in the repository."""
    if step.action is not None and tool_name(step.action) in EDIT_TOOLS:
        changes = changes_of_edit(step.action.arguments)
    else:
        changes = [change for command in _commands(step) for change in changes_of(command)]
    return list(dict.fromkeys(normal_path(change.path) for change in changes))


def taken_back(step: Step, standing: dict[str, list[int]]) -> Iterator[str]:
    """The changed files that git restores in a step."""
    for command in _commands(step):
        if command.program != "git" or len(command.words) < 2:
            continue
        verb, words = command.words[1], command.words[2:]
        named = {normal_path(word) for word in words} if verb in ("checkout", "restore") else set()
        whole = (
            (verb in ("checkout", "restore") and not _WHOLE.isdisjoint(words))
            or (verb == "reset" and "--hard" in words)
            or (verb == "stash" and words[:1] in ((), ("push",), ("save",)))
        )
        yield from [path for path in standing if whole or path in named]


_RUNS_CODE = re.compile(
    r"(?:python|pypy)[\d.]*|pytest|py\.test|tox|nox|nosetests|unittest|make|npm|cargo|go|runtests\.py"
)


def is_check(text: str | None) -> bool:
    """Whether a shell text runs code: tests, a script, a line of Python."""
    return any(_RUNS_CODE.fullmatch(command.program) for command in commands(text or ""))
