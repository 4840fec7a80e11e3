"""A rule critic of changes: each is judged by what became of it.

Reads a trajectory and its outcome, gives a `Critique`, writes nothing.

    critique = EditsCritic().judge(trajectory, Evidence(resolved=False))
    [(label.step, label.verdict) for label in critique.labels]          # [(0, 'good'), (1, 'mistake'), (2, 'mistake')]

It costs nothing and knows nothing of code: in an unresolved run, all that went into the patch is suspect. Measured on
real runs it is coarse; where a run makes one change, as short runs do, it is close to the truth.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from srft.agent.records import Step, Trajectory
from srft.critic.labels.labels import Critique, Evidence, Information, Source, StepLabel, Verdict, critique_by
from srft.critic.rules.step_changes import action_text, changed_files, new_lines, origins, taken_back

VERSION = 3
"""Part of the fingerprint: raise it when the rule changes its mind."""


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
            for path in taken_back(step, standing):
                for before in standing.pop(path):
                    told[before] = ("mistake", f"its change of {path} is taken back in step {step.index}")
                told[step.index] = ("recover", f"takes the change of {path} back")
            for path in changed_files(step):
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
    for path, added in new_lines(trajectory.patch or "").items():
        changes = {index: action_text(trajectory.steps[index]) for index in standing.get(path, ())}
        for index in origins(added, changes):
            wrong[index] = ("mistake", f"its change of {path} is in a patch that solves nothing")
    last = trajectory.steps[-1] if trajectory.steps else None
    if last is not None and trajectory.stop_reason == "submitted":
        wrong[last.index] = ("mistake", "hands in what solves nothing")
    return wrong
