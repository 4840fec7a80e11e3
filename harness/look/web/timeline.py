"""One trajectory, ready to be shown: its steps with verdicts, masks and folded texts, its patch, its tests.

page = make_timeline(place, arms, query, entry, person=Person("human"), book=TaskBook(None))
page.steps[3].code, page.steps[3].mask.words, page.steps[3].given
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from srft.agent.records import Step, Trajectory
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.grading.grade import Grade
from srft.harness.look.show import Given, given_labels
from srft.harness.look.web.arms import Arms, Mask, MaskView
from srft.harness.look.web.evidence import Fix, TaskBook
from srft.harness.look.web.folding import Diff, Folded, diff, folded, parts
from srft.harness.look.web.people import Agreement, Person, agreement
from srft.harness.look.web.places import Place
from srft.harness.look.web.reading import PaintedLine, Prose, code, issue_of, output, painted, prose, text_of
from srft.harness.look.web.table import Query
from srft.harness.run.entries import CODES, RunEntry
from srft.harness.run.evidence import log_of
from srft.harness.run.labels import labels_by
from srft.harness.run.run_mask import StepMask
from srft.train.rows.mask import Arm

LOG_HEAD_LINES, LOG_TAIL_LINES = 4, 30
LOG_BYTES = 1 << 20
"""Of a test log so many bytes at its end are looked at."""


class Said(NamedTuple):
    """A piece of a reply: prose, or code in its language. is_run: whether it is what was carried out."""

    prose: Prose | None
    code: Folded | None = None
    language: str | None = None
    is_run: bool = False


class StepView(NamedTuple):
    """One step.

    code: the letter of the verdict that counts. plain: the critics who gave that verdict and no more; spoken: what the
    others said, people last. own: this person's label. disagreed: whether critics or people gave it different verdicts.
    mask: what an arm trains of it, `None` without an arm or where the run is left out. thinking_note: why its thinking
    is not trained, where the rest may be. notes: what the scaffold put around what was printed.
    share: of the run's longest command time.
    """

    step: Step
    code: str
    verdict: str
    plain: list[str]
    spoken: list[Given]
    own: StepLabel | None
    disagreed: bool
    mask: StepMask | None
    thinking_note: str | None
    reasoning: Prose | None
    said: list[Said]
    calls: list[Said]
    observation: Folded | None
    notes: tuple[str, ...]
    share: float


class Tests(NamedTuple):
    """grade: `None` where the patch was not graded here. log: the end of what the tests printed."""

    grade: Grade | None
    log: Folded | None
    log_bytes: int


class Timeline(NamedTuple):
    """All that a page shows of a run. issue: what was asked. prompt: the messages before the first step, (role, text).

    patch_lines, fix_lines: in colours. same: whether patch and fix are equal. command_s: the time in commands; `None`
    where no step says.
    """

    entry: RunEntry
    run: Trajectory
    outcome: bool | None
    arm: Arm | None
    masked: MaskView
    judges: tuple[str, ...]
    steps: list[StepView]
    issue: Prose | None
    prompt: list[tuple[str, Folded]]
    patch: Diff | None
    patch_lines: list[PaintedLine]
    fix: Diff | None
    fix_lines: list[PaintedLine]
    fix_problem: str | None
    same: bool
    tests: Tests
    critics: dict[str, dict[str, int]]
    agreement: list[Agreement]
    command_s: float | None
    others: list[RunEntry]


def make_timeline(
    place: Place, arms: Arms, query: Query, entry: RunEntry, *, person: Person, book: TaskBook
) -> Timeline:
    """Raises InputError."""
    run = place.index.trajectory(entry)
    critiques = place.index.critiques_of(entry.id)
    arm = arms.chosen(query.arm or None)
    judges = arms.judges(arm, query.critics)
    masked = arms.view(arm, query.critics, entry)
    fix: Fix = book.fix(place, entry.task_id)
    walls = [step.wall_s for step in run.steps if step.wall_s is not None]
    asked, prompt = issue_of(_prompt(run)), _prompt(run)
    patch, fix_diff = diff(run.patch) if run.patch else None, diff(fix.patch) if fix.patch else None
    return Timeline(
        entry=entry,
        run=run,
        outcome=place.outcome(entry),
        arm=arm,
        masked=masked,
        judges=judges,
        steps=list(_steps(run, critiques, judges, masked.mask, person, longest_s=max(walls, default=0.0))),
        issue=prose(asked, lines=14) if asked else None,
        prompt=[(str(message.get("role")), folded(text_of(message), head=10, tail=3)) for message in prompt],
        patch=patch,
        patch_lines=painted(patch) if patch else [],
        fix=fix_diff,
        fix_lines=painted(fix_diff) if fix_diff else [],
        fix_problem=fix.problem,
        same=bool(run.patch) and run.patch == fix.patch,
        tests=_tests(place, entry),
        critics=_counts(critiques),
        agreement=agreement(place, person.name, run_id=entry.id),
        command_s=sum(walls) if walls else None,
        others=[other for other in place.standing if other.task_id == entry.task_id and other.id != entry.id],
    )


def _steps(
    run: Trajectory,
    critiques: list[Critique],
    judges: tuple[str, ...],
    mask: Mask | None,
    person: Person,
    *,
    longest_s: float,
) -> Iterator[StepView]:
    effective = labels_by(critiques, critics=judges)
    given = given_labels(critiques)
    own = [one for one in critiques if one.source == "human" and one.critic == person.name]
    own_labels = {label.step: label for label in own[-1].labels} if own else {}
    for step in run.steps:
        label = effective.get(step.index)
        verdict = label.verdict if label else None
        said = [one for one in given.get(step.index, []) if one.label.verdict is not None or one.label.reason]
        plain = [one for one in said if verdict is not None and _is_plain(one, verdict)]
        shown, notes = (None, ()) if step.observation is None else output(step.observation, _command(step))
        of_step = mask.step(step.index) if mask else None
        yield StepView(
            step=step,
            code=CODES[verdict],
            verdict=verdict or "unlabelled",
            plain=[one.critic for one in plain],
            spoken=[one for one in said if one not in plain],
            own=own_labels.get(step.index),
            disagreed=len({one.label.verdict for one in said if one.label.verdict is not None}) > 1,
            mask=of_step,
            thinking_note=_thinking_note(mask, of_step) if _has_thinking(step) else None,
            reasoning=prose(step.reasoning) if step.reasoning else None,
            said=list(_said(step)) if step.content else [],
            calls=[_call(name, text) for name, text in _calls(step)],
            observation=shown,
            notes=tuple(note for note in notes if note != f"exit code {step.exit_code}"),
            share=(step.wall_s or 0.0) / longest_s if longest_s else 0.0,
        )


def _has_thinking(step: Step) -> bool:
    return bool(step.reasoning) or step.content.lstrip().startswith("<think>")


def _thinking_note(mask: Mask | None, of_step: StepMask | None) -> str | None:
    """Why the thinking of a step is not trained, where the step is."""
    if mask is None or of_step is None or not of_step.is_trained:
        return None
    return {"left_out": "thinking not trained: it is in no row", "masked": "thinking not trained"}.get(
        mask.thinking or ""
    )


def _is_plain(given: Given, verdict: str) -> bool:
    """Whether it says the verdict that counts anyway, and nothing else."""
    label = given.label
    bare = label.reason is None and label.confidence is None and not label.votes
    return bare and label.verdict == verdict and given.source != "human"


def _command(step: Step) -> str:
    """What was carried out, "" where that is no command."""
    command = step.action.arguments.get("command") if step.action else None
    return command if isinstance(command, str) else ""


def _said(step: Step) -> Iterator[Said]:
    command = _command(step).strip()
    for part in parts(step.content):
        if part.language is None:
            yield Said(prose(part.text), None)
        else:
            is_run = bool(command) and part.text.strip() == command
            language = "bash" if is_run else part.language
            yield Said(None, code(folded(part.text, head=30, tail=8), language), language, is_run)


def _call(name: str, text: str) -> Said:
    language = "json" if text.startswith("{") else "bash"
    return Said(None, code(folded(text, head=30, tail=6), language), name, is_run=True)


def _calls(step: Step) -> Iterator[tuple[str, str]]:
    """(function, arguments) of native calls; a lone command is shown as it would be typed."""
    for call in step.tool_calls:
        function = call.get("function") or {}
        yield str(function.get("name")), _arguments(function.get("arguments"))


def _arguments(arguments: Any) -> str:
    try:
        content = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:  # as the model wrote it
        return str(arguments)
    if isinstance(content, dict) and list(content) == ["command"]:
        return str(content["command"])
    return json.dumps(content, ensure_ascii=False, indent=1)


def _prompt(run: Trajectory) -> list[dict[str, Any]]:
    """The messages before the first step."""
    for place, message in enumerate(run.messages):
        if message.get("role") == "assistant" and place >= run.demo_messages:
            return list(run.messages[:place])
    return list(run.messages)


def _tests(place: Place, entry: RunEntry) -> Tests:
    grade = place.index.grade(entry)
    path = None if grade is None else log_of(place.round, grade)
    if path is None:
        return Tests(grade, None, 0)
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - LOG_BYTES))
        text = file.read().decode(errors="replace")
    return Tests(grade, folded(text, head=LOG_HEAD_LINES, tail=LOG_TAIL_LINES), size)


def _counts(critiques: list[Critique]) -> dict[str, dict[str, int]]:
    """Critic -> verdict -> steps, of each one's last word."""
    last = {critique.critic: critique for critique in critiques}
    counts: dict[str, dict[str, int]] = {}
    for name, critique in sorted(last.items()):
        verdicts = [label.verdict for label in critique.labels]
        counts[name] = {verdict: verdicts.count(verdict) for verdict in CODES if verdict in verdicts and verdict}
    return counts


def cut_texts(page: Timeline) -> Iterator[tuple[str, int | None]]:
    """(part, step) of the texts that a page does not hold whole, see `whole_text`."""
    told = [text for _, text in page.prompt]
    if any(not text.is_whole for text in (*told, page.issue) if text):
        yield "prompt", None
    for part, shown in (("log", page.tests.log), ("patch", page.patch), ("fix", page.fix)):
        if shown and not shown.is_whole:
            yield part, None
    for view in page.steps:
        texts: dict[str, list[Prose | Folded | None]] = {
            "content": [piece.prose or piece.code for piece in view.said],
            "calls": [piece.code for piece in view.calls],
            "reasoning": [view.reasoning],
            "observation": [view.observation],
        }
        for part, found in texts.items():
            if any(text is not None and not text.is_whole for text in found):
                yield part, view.step.index


def whole_text(page: Trajectory, part: str, step: int | None) -> str | None:
    """A text that a page folds, whole. part: content, reasoning, observation or calls of a step; patch; prompt."""
    if part == "patch":
        return page.patch
    if part == "prompt":
        return "\n\n".join(f"[{message.get('role')}]\n{text_of(message)}" for message in _prompt(page))
    if step is None or not 0 <= step < len(page.steps):
        return None
    one = page.steps[step]
    if part == "calls":
        return "\n\n".join(f"{name}\n{text}" for name, text in _calls(one))
    texts = {"content": one.content, "reasoning": one.reasoning, "observation": one.observation}
    return texts.get(part)
