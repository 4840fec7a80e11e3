"""A rule critic that knows the reference fix: what each step brought towards it.

Reads a trajectory and its task's gold patch, gives a `Critique`; writes nothing, asks no model.

    critique = MilestonesCritic().judge(trajectory, Evidence(gold_patch=task.patch))
    critique.labels[3].reason                       # 'reads the lines of limits.py that are to be changed'
    critique.remarks["reached"] / critique.remarks["milestones"]        # how far the run came, from 0 to 1

Milestones, after the process graph of P2T (arXiv 2605.21996), without its model. Of each file that the fix touches: it
is found (its path is seen). Of each place in it: its lines are read; it is changed; it is changed as the fix does.
Then: a check behind the last of these changes.

The fix is privileged: the agent did not have it. These verdicts are for choosing what is trained; a figure of a model
must never rest on them. The outcome is not looked at, so that it can be compared with them. Another fix may be as good
as the reference, so a change at the right place that reads otherwise is a mistake with a confidence of one half, and
what a run learned elsewhere is held to be good.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import unidiff

from srft.agent.records import Step, Trajectory
from srft.critic.labels.labels import Critique, Evidence, Information, Source, StepLabel, Verdict, critique_by
from srft.critic.rules.step_changes import action_text, changed_files, command_text, is_check, taken_back
from srft.critic.rules.tampering import is_test_path

VERSION = 1
"""Part of the fingerprint: raise it when the rule changes its mind."""

NEAR_LINES = 5
"""A change this close to a place of the fix is at that place: a line may be added above or below it."""

READ_SHARE = 0.5
"""Of a place's lines, what an observation must show for the place to be read."""

LIKE_SHARE = 0.6
"""Of the tokens that the fix or a change brings to a place, what both must bring for the change to be as the fix."""

_LINE_CHARS = 4
_TOKEN = re.compile(r"\w+|[^\w\s]")


class Place(NamedTuple):
    """Lines that belong together in a patch. first, last: their numbers in the old file; of an insertion, the lines
    around it. old: the lines that stand there, with those around. tokens: those that the change brings, beyond what it
    removes; of one that only removes, those."""

    path: str
    first: int
    last: int
    old: tuple[str, ...]
    added: tuple[str, ...]
    tokens: Counter[str]

    def is_near(self, other: Place) -> bool:
        return self.first <= other.last + NEAR_LINES and other.first <= self.last + NEAR_LINES


class _Told(NamedTuple):
    verdict: Verdict | None
    confidence: float
    reason: str


_PLAIN = _Told("good", 0.5, "nothing in the reference fix speaks against it")


class MilestonesCritic:
    """Verdicts from the reference fix. A run on a task without one, or with one that is no diff, is not judged.

    good: a step that reaches a milestone, and any that is none of the following. mistake: a change that ends up in the
    patch where the fix changes nothing, or otherwise than the fix (confidence 0.5); one that git takes back later; the
    submission of such changes, or of none. recover: the taking back. unnecessary: the same command with the
    same answer once more, and a change of one of the fix's files that did not last. Not judged (`None`): changes of
    tests in the patch, as fixes leave tests out, and the submission of a part of the fix.
    """

    name = "milestones"
    source: Source = "rule"
    information: Information = "fix_alone"

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {"near": NEAR_LINES, "read": READ_SHARE, "like": LIKE_SHARE}
        content = msgspec.json.encode((self.name, VERSION, self.settings), order="sorted")
        self.fingerprint = hashlib.sha256(content).hexdigest()[:16]

    def judge(self, trajectory: Trajectory, evidence: Evidence) -> Critique | None:
        """A verdict for every step. `remarks` counts the milestones and those that were reached."""
        fix = [place for place in places(evidence.gold_patch or "") if not is_test_path(place.path)]
        if not fix:
            return None
        course = _Course(trajectory, fix)
        labels = [
            StepLabel(step=index, verdict=told.verdict, confidence=told.confidence, reason=told.reason)
            for index, told in enumerate(course.told())
        ]
        remarks = {"milestones": course.milestones, "reached": len(course.reached)}
        return critique_by(self, trajectory, labels=labels, remarks=remarks, information=self.information)


def places(patch: str) -> list[Place]:
    """The places that a patch changes; none where it is no diff, as a run's may be."""
    try:
        files = list(unidiff.PatchSet(patch))
    except unidiff.UnidiffParseError:
        return []
    return [place for file in files for hunk in file for place in _places_of(file.path, hunk)]


def _places_of(path: str, hunk: unidiff.Hunk) -> Iterator[Place]:
    """A hunk's blocks of changed lines; lines that stand between belong to what is to be read of each."""
    old = tuple(text for line in hunk if not line.is_added and len(text := line.value.strip()) >= _LINE_CHARS)
    before = hunk.source_start - 1 if hunk.source_length else 0
    block: list[Any] = []
    for line in (*hunk, None):
        if line is not None and (line.is_added or line.is_removed):
            block.append(line)
            continue
        if block:
            removed = [one.source_line_no for one in block if one.is_removed]
            first, last = (min(removed), max(removed)) if removed else (before, before + 1)
            added = tuple(one.value.strip() for one in block if one.is_added)
            yield Place(path, first, last, old, added, _tokens(block))
            before, block = last if removed else before, []
        if line is not None and line.source_line_no is not None:
            before = line.source_line_no


def _tokens(block: Iterable[Any]) -> Counter[str]:
    added, removed = (
        Counter(f"{kind}{token}" for line in block if line.line_type == kind for token in _TOKEN.findall(line.value))
        for kind in "+-"
    )
    brought = Counter({token: count - removed[f"-{token[1:]}"] for token, count in added.items()})
    return +brought or added or removed


def likeness(place: Place, made: Iterable[Place]) -> float:
    """What a place and the changes near it bring both, as a share of what either brings."""
    near: Counter[str] = sum((one.tokens for one in made), Counter())
    return (place.tokens & near).total() / max((place.tokens | near).total(), 1)


class _Course:
    """A run beside the fix. reached: milestone -> the step that reached it first."""

    def __init__(self, run: Trajectory, fix: Sequence[Place]) -> None:
        self.run, self.fix = run, fix
        self.made = places(run.patch or "")
        self.paths = list(dict.fromkeys(place.path for place in fix))
        to_read = [place for place in fix if place.old]
        self.milestones = len(self.paths) + len(to_read) + 2 * len(fix) + 1
        self.reached: dict[tuple[str, Any], int] = {}
        self._told: dict[int, _Told] = {}
        self._changes()
        for step in run.steps:
            self._finds(step)
        self._checks()

    def told(self) -> list[_Told]:
        return [self._told.get(step.index, _PLAIN) for step in self.run.steps]

    def _reach(self, milestone: tuple[str, Any], step: int, reason: str) -> None:
        if milestone not in self.reached:
            self.reached[milestone] = step
            if reason:
                self._told.setdefault(step, _Told("good", 1.0, reason))

    def _finds(self, step: Step) -> None:
        """What a step shows of the fix's files, and whether it only shows once more what was shown."""
        seen = f"{action_text(step)}\n{step.observation or ''}"
        for path in self.paths:
            if path in seen:
                self._reach(("found", path), step.index, f"finds {path}")
        shown = {line.strip() for line in _unnumbered(step.observation or "")}
        for number, place in enumerate(self.fix):
            if place.old and sum(line in shown for line in place.old) >= READ_SHARE * len(place.old):
                self._reach(("found", place.path), step.index, f"finds {place.path}")
                self._reach(("read", number), step.index, f"reads the lines of {place.path} that are to be changed")
        if step.index not in self._told and self._is_repeated(step):
            self._told[step.index] = _Told("unnecessary", 0.8, "the same command with the same answer once more")

    def _is_repeated(self, step: Step) -> bool:
        if step.action is None or not action_text(step):
            return False
        return any(
            before.action == step.action and before.observation == step.observation
            for before in self.run.steps[: step.index]
        )

    def _changes(self) -> None:
        """The steps that changed files, by what became of their changes."""
        standing = self._taken_back()
        lasting = self._lasting(standing)
        for index, places_made in lasting.items():
            self._told[index] = self._worth(places_made)
        for path, steps in standing.items():
            for index in steps:
                if index not in self._told:
                    self._told[index] = self._not_lasting(path)
        last = max(len(self.run.steps) - 1, 0)
        for number, place in enumerate(self.fix):
            near = [one for one in self.made if self._at(place, one)]
            if near:
                # Where nobody's words hold the lines, say of a script that was run, it is there at the end.
                first = min((index for index, made in lasting.items() if _shares(made, near)), default=last)
                self._reach(("changed", number), first, "")
                if likeness(place, near) >= LIKE_SHARE:
                    self._reach(("as the fix", number), first, "")
        self._submission()

    def _taken_back(self) -> dict[str, list[int]]:
        """File -> the steps that changed it and were not taken back by git, which are judged here."""
        standing: dict[str, list[int]] = {}
        for step in self.run.steps:
            for path in taken_back(step, standing):
                for before in standing.pop(path):
                    self._told[before] = _Told("mistake", 0.9, f"its change of {path} is taken back later")
                self._told[step.index] = _Told("recover", 0.9, f"takes the change of {path} back")
            for path in changed_files(step):
                standing.setdefault(path, []).append(step.index)
        return standing

    def _lasting(self, standing: dict[str, list[int]]) -> dict[int, list[Place]]:
        """Step -> the places of the run's patch that its change led to. Where no step's words hold a place's lines, the
        last one that changed the file has it."""
        texts = {step.index: action_text(step) for step in self.run.steps}
        found: dict[int, list[Place]] = {}
        for place in self.made:
            lines = [line for line in place.added if len(line) >= _LINE_CHARS]
            name = re.compile(rf"(?<![\w-]){re.escape(place.path.rpartition('/')[2])}")
            by_words = [
                index
                for index, text in texts.items()
                if (index in standing.get(place.path, ()) or name.search(text)) and any(line in text for line in lines)
            ]
            for index in by_words[-1:] or standing.get(place.path, [])[-1:]:
                found.setdefault(index, []).append(place)
        return found

    def _at(self, place: Place, made: Place) -> bool:
        return place.path == made.path and place.is_near(made)

    def _worth(self, made: Sequence[Place]) -> _Told:
        """What a change is worth that is in the patch."""
        if all(is_test_path(place.path) for place in made):
            return _Told(None, 0.0, "changes tests, of which the fix says nothing")
        code = [place for place in made if not is_test_path(place.path)]
        right = [(place, one) for place in self.fix for one in code if self._at(place, one)]
        if not right:
            return _Told("mistake", 0.8, f"changes {code[0].path} where nothing is to be changed")
        nearest = max(likeness(place, [one for other, one in right if other is place]) for place, _ in right)
        if nearest >= LIKE_SHARE:
            return _Told("good", 0.9, f"changes {right[0][0].path} where it is to be changed")
        return _Told("mistake", 0.5, f"changes {right[0][0].path} at the right place, otherwise than expected")

    def _not_lasting(self, path: str) -> _Told:
        if path in self.paths:
            return _Told("unnecessary", 0.6, f"its change of {path} did not last")
        return _Told("good", 0.5, f"tries something out in {path}")

    def _submission(self) -> None:
        steps = self.run.steps
        if not steps or self.run.stop_reason != "submitted":
            return
        changed, alike = (
            sum((kind, number) in self.reached for number in range(len(self.fix))) for kind in ("changed", "as the fix")
        )
        last = steps[-1].index
        if alike == len(self.fix):
            self._told[last] = _Told("good", 0.9, "hands in changes as the fix makes them")
        elif changed == 0:
            self._told[last] = _Told("mistake", 0.9, "hands in a patch without one of the changes that are needed")
        elif changed == len(self.fix):
            self._told[last] = _Told("mistake", 0.5, "hands in changes at the right places, otherwise than expected")
        else:
            self._told[last] = _Told(None, 0.0, "hands in changes at some of the places")

    def _checks(self) -> None:
        """Whether something was run behind the last change at a place of the fix."""
        changed = [step for (kind, _), step in self.reached.items() if kind == "changed"]
        for step in self.run.steps[max(changed) + 1 :] if changed else ():
            if is_check(command_text(step)):
                self._reach(("checked", None), step.index, "checks the change")
                return


def _shares(made: Sequence[Place], near: Sequence[Place]) -> bool:
    return any(one is other for one in made for other in near)


_NUMBER = re.compile(r"^\s*(?:[\w./-]+[:-])?\d+[\t:\- |]+")


def _unnumbered(text: str) -> Iterator[str]:
    """The lines of an observation, each as it is and without the number and path that cat, grep and viewers add."""
    for line in text.split("\n"):
        yield line
        if numbered := _NUMBER.match(line):
            yield line[numbered.end() :]
