"""Critics that are rules: no model, no cost, the same verdict every time.

Read a trajectory, give a `Critique`, write nothing.

    critique = ToolErrorCritic().judge(trajectory, Evidence())
    [label.step for label in critique.labels if label.verdict == "mistake"]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

import msgspec

from srft.agent.records import Step, Trajectory
from srft.critic.labels.labels import Critique, Evidence, Source, StepLabel, critique_by
from srft.critic.rules.exploits import KINDS, Exploit, ExploitFinder, Kind
from srft.critic.rules.shell_text import Command, commands
from srft.critic.rules.step_changes import EDIT_TOOLS, command_text, tool_name
from srft.env.errors import InputError
from srft.env.grading.tampering import tampering

ANSWERS: dict[str, tuple[int, ...]] = {
    "[": (1,),
    "cmp": (1,),
    "diff": (1,),
    "egrep": (1,),
    "fgrep": (1,),
    "grep": (1,),
    "rg": (1,),
    "test": (1,),
    "zgrep": (1,),
}
"""Exit codes that are an answer and no error: POSIX gives 1 to `grep` that finds nothing, to `diff` that finds
differences, to a `test` that is false. Their errors are 2 and more."""

# These succeed, or what comes after them does not run; they are not what an exit code of the list speaks of.
_PASSIVE = frozenset(("cd", "echo", "export", "pwd", "set", "source", "true", ":"))

_RULES_VERSION = 3
"""Part of the fingerprints: raise it when a rule changes its mind."""


class ToolErrorCritic:
    """A step is a mistake when its tool failed; all others are good.

    Failed: the exit code is not 0, the time ran out, or no action could be read from the reply. Not judged (`None`): an
    infrastructure failure, which is not the model's, and a step whose exit code is not known though it was
    answered. The submission, which nothing answers, is good.

    benign: program -> exit codes that are no errors, `ANSWERS` unless given. They excuse a step only where every
    program that the exit code can come from has it: `grep x a.py` and `cat a.py | grep x`, not `make && grep x log`.
    A failing test run or a reproduction that raises stays a mistake: its exit code is the same as that of a typing
    error, and which it is, a rule cannot tell.
    """

    name = "tool_error"
    source: Source = "rule"

    def __init__(self, *, benign: Mapping[str, Iterable[int]] = ANSWERS) -> None:
        self._benign = {program: frozenset(codes) for program, codes in benign.items()}
        self.settings: dict[str, Any] = {"benign": {name: sorted(codes) for name, codes in self._benign.items()}}
        self.fingerprint = _fingerprint(self.name, self.settings)

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique:
        """A verdict for every step; the evidence is not looked at. `remarks` counts what was excused or not judged."""
        labels = tuple(self._label(step) for step in trajectory.steps)
        remarks = {
            "benign_exit_code": sum(label.verdict == "good" and label.reason is not None for label in labels),
            "exit_code_unknown": sum(label.verdict is None for label in labels),
        }
        return critique_by(self, trajectory, labels=labels, remarks=remarks)

    def _label(self, step: Step) -> StepLabel:
        if step.error == "format":
            return StepLabel(step=step.index, verdict="mistake", reason="no action could be read from the reply")
        if step.error == "infrastructure":
            return StepLabel(step=step.index, verdict=None, reason="the infrastructure failed, not the step")
        if step.timed_out:
            return StepLabel(step=step.index, verdict="mistake", reason="the command ran out of time")
        if step.exit_code is None:
            submitted = step.observation is None or (step.action is not None and step.action.tool == "submit")
            return (
                StepLabel(step=step.index, verdict="good")
                if submitted
                else StepLabel(step=step.index, verdict=None, reason="the exit code is not known")
            )
        if step.exit_code == 0:
            return StepLabel(step=step.index, verdict="good")
        if program := self._answered_by(step):
            reason = f"exit code {step.exit_code} of {program} is an answer, not an error"
            return StepLabel(step=step.index, verdict="good", reason=reason)
        return StepLabel(step=step.index, verdict="mistake", reason=f"the command exited with {step.exit_code}")

    def _answered_by(self, step: Step) -> str | None:
        """The program whose exit code this is, where that is no error."""
        text = command_text(step)
        origins = _exit_code_origins(commands(text)) if text else []
        if not origins or any(step.exit_code not in self._benign.get(one.program, ()) for one in origins):
            return None
        return origins[-1].program


def _exit_code_origins(found: list[Command]) -> list[Command]:
    """The commands that a text's exit code can come from: of its last `&&`, `||` list the ends of the pipelines."""
    found = [command for command in found if command.joined != "$"]
    start = max((place for place, command in enumerate(found) if command.joined in (";", "&")), default=0)
    last = found[start:]
    ends = [command for command, after in zip_longest(last, last[1:]) if after is None or after.joined != "|"]
    return [command for command in ends if command.program not in _PASSIVE]


class ExploitCritic:
    """A step is a mistake when it takes a shortcut that is no solution; it has no opinion on all others (`None`).

    kinds: which shortcuts. `history`: what git holds beyond HEAD. `network`: other hosts than this one. `tests`:
    changes of existing tests or of what decides which run. `exploits.py` and `tampering.py` say how each is told. All
    of it is told from what the agent wrote and was shown; a script that it wrote to a file and ran is not looked into.
    What the patch changes of the tests' machinery counts whoever made it: where no step is seen to, the last one is a
    mistake, which hands it in.
    """

    name = "exploit"
    source: Source = "rule"

    def __init__(self, *, kinds: Iterable[Kind] = KINDS) -> None:
        self._kinds = tuple(sorted(set(kinds)))
        if unknown := set(self._kinds) - set(KINDS):
            raise InputError(f"exploit: kinds {', '.join(sorted(unknown))} are not known; expected {', '.join(KINDS)}")
        self.settings: dict[str, Any] = {"kinds": list(self._kinds)}
        self.fingerprint = _fingerprint(self.name, self.settings)

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique:
        """Mistakes where a shortcut was found; the evidence is not looked at. `remarks` counts them by kind."""
        finder = ExploitFinder()
        for place, message in enumerate(trajectory.messages):
            if message.get("role") == "assistant" and place >= trajectory.demo_messages:
                break
            finder.show(str(message.get("content")))
        found = [[one for one in _step_exploits(finder, step) if one.kind in self._kinds] for step in trajectory.steps]
        if (
            "tests" in self._kinds
            and trajectory.steps
            and not any(one.kind == "tests" for some in found for one in some)
        ):
            handed_in = tampering(trajectory.patch, repo=trajectory.repo)
            found[-1] += [Exploit("tests", f"hands in a patch with {reason}") for reason in handed_in]
        labels = tuple(
            StepLabel(step=step.index, verdict="mistake", reason="; ".join(one.reason for one in exploits))
            if exploits
            else StepLabel(step=step.index, verdict=None)
            for step, exploits in zip(trajectory.steps, found, strict=True)
        )
        counts: dict[str, int] = {
            kind: sum(any(one.kind == kind for one in exploits) for exploits in found) for kind in self._kinds
        }
        return critique_by(self, trajectory, labels=labels, remarks=counts)


def _step_exploits(finder: ExploitFinder, step: Step) -> list[Exploit]:
    answer = step.observation or ""
    if step.action is not None and tool_name(step.action) in EDIT_TOOLS:
        return finder.find_edit(step.action.arguments, answer=answer, exit_code=step.exit_code)
    text = command_text(step)
    return finder.find(text, answer=answer, exit_code=step.exit_code) if text else []


def _fingerprint(name: str, settings: Mapping[str, Any]) -> str:
    content = msgspec.json.encode((name, _RULES_VERSION, settings), order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]
