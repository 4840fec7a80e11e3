"""A rule critic of changes: each is judged by what became of it.

Reads a trajectory and its outcome, gives a `Critique`, writes nothing.

    critique = EditsCritic().judge(trajectory, Evidence(resolved=False))
    [(label.step, label.verdict) for label in critique.labels]          # [(0, 'good'), (1, 'mistake'), (2, 'mistake')]

It costs nothing and knows nothing of code: in an unresolved run, all that went into the patch is suspect. Measured on
real runs it is coarse; where a run makes one change, as short runs do, it is close to the truth.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from srft.agent.records import Step, Trajectory
from srft.critic.labels.labels import Critique, Evidence, Information, Source, StepLabel, Verdict, critique_by
from srft.critic.rules.shell_text import Command, commands
from srft.critic.rules.tampering import changes_of, changes_of_edit, normal_path

VERSION = 2
"""Part of the fingerprint: raise it when the rule changes its mind."""

_PATCHED = re.compile(r'^diff --git "?a/(.+?)"? "?b/', re.MULTILINE)
_ADDED = re.compile(r"^\+(?!\+\+ )(.*)$", re.MULTILINE)
_WHOLE = frozenset((".", "./", ":/"))


class EditsCritic:
    """Verdicts from changes of files and the outcome. Needs the outcome; a run without one is not judged.

    mistake: a change that git takes back later; in an unresolved run, a change whose lines are in the patch, and the
    submission. recover: the taking back. All other steps are good: of a change that was written over before the end,
    an unresolved run says nothing.
    """

    name = "edits"
    source: Source = "rule"
    information: Information = "outcome"

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        content = msgspec.json.encode((self.name, VERSION))
        self.fingerprint = hashlib.sha256(content).hexdigest()[:16]

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique | None:
        """A verdict for every step, `None` for a run whose outcome is not known. `remarks` counts what was found."""
        if evidence.resolved is None:
            return None
        told: dict[int, tuple[Verdict, str]] = {}
        standing: dict[str, list[int]] = {}
        for step in trajectory.steps:
            for path in _taken_back(step, standing):
                for before in standing.pop(path):
                    told[before] = ("mistake", f"its change of {path} is taken back in step {step.index}")
                told[step.index] = ("recover", f"takes the change of {path} back")
            for path in _changed(step):
                standing.setdefault(path, []).append(step.index)
        if not evidence.resolved:
            told |= _wrong(trajectory, standing)
        labels = [_label(step, told) for step in trajectory.steps]
        remarks = {"taken_back": sum(verdict == "recover" for verdict, _ in told.values())}
        return critique_by(self, trajectory, labels=labels, remarks=remarks, information=self.information)


def _label(step: Step, told: dict[int, tuple[Verdict, str]]) -> StepLabel:
    if step.index not in told:
        return StepLabel(step=step.index, verdict="good")
    verdict, reason = told[step.index]
    return StepLabel(step=step.index, verdict=verdict, reason=reason)


def _wrong(trajectory: Trajectory, standing: dict[str, list[int]]) -> dict[int, tuple[Verdict, str]]:
    """What an unresolved run's patch came from, and its submission."""
    wrong: dict[int, tuple[Verdict, str]] = {}
    for path, added in _new_lines(trajectory.patch or "").items():
        changes = {index: _text(trajectory.steps[index]) for index in standing.get(path, ())}
        for index in _origins(added, changes):
            wrong[index] = ("mistake", f"its change of {path} is in a patch that solves nothing")
    last = trajectory.steps[-1] if trajectory.steps else None
    if last is not None and trajectory.stop_reason == "submitted":
        wrong[last.index] = ("mistake", "hands in what solves nothing")
    return wrong


def _new_lines(patch: str) -> dict[str, list[str]]:
    """The lines that a patch adds, by file, without those that are too short to be told from others."""
    parts = _PATCHED.split(patch)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {
        path: [text for line in _ADDED.findall(part) if len(text := line.strip()) > 1] for path, part in found.items()
    }


def _origins(added: list[str], changes: dict[int, str]) -> set[int]:
    """The changes that the patch's lines stand in; all of them where a line stands in none, as its origin is unknown.

    added: a file's new lines. changes: the texts of the changes made to it, by step.
    """
    origins = {index for index, text in changes.items() if any(line in text for line in added)}
    is_known = added and all(any(line in text for text in changes.values()) for line in added)
    return origins if is_known else set(changes)


def _text(step: Step) -> str:
    """What a step's action says."""
    return "\n".join(map(str, step.action.arguments.values())) if step.action else ""


def _commands(step: Step) -> list[Command]:
    if step.action is None or step.action.tool != "bash":
        return []
    text = step.action.arguments.get("command")
    return commands(text) if isinstance(text, str) else []


def _changed(step: Step) -> list[str]:
    """The files that a step changes, by their paths in the repository."""
    if step.action is not None and step.action.tool == "edit":
        changes = changes_of_edit(step.action.arguments)
    else:
        changes = [change for command in _commands(step) for change in changes_of(command)]
    return list(dict.fromkeys(normal_path(change.path) for change in changes))


def _taken_back(step: Step, standing: dict[str, list[int]]) -> Iterator[str]:
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
