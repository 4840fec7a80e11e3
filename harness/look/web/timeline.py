"""One trajectory, ready to be shown: its steps with verdicts, weights and folded texts, its patch, its tests.

page = make_timeline(place, arms, query, entry, person=Person("human"), book=TaskBook(None))
page.steps[3].code, page.steps[3].weight, page.steps[3].given
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from srft.agent.records import Step, Trajectory
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.errors import InputError
from srft.env.grading.grade import Grade
from srft.harness.look.show import Given
from srft.harness.look.web.arms import Arms, Mask
from srft.harness.look.web.evidence import Fix, TaskBook
from srft.harness.look.web.folding import Diff, Folded, diff, folded, parts
from srft.harness.look.web.people import Agreement, Person, agreement
from srft.harness.look.web.places import Place
from srft.harness.look.web.table import Query
from srft.harness.run.evidence import log_of
from srft.harness.run.index import CODES, RunEntry
from srft.harness.run.labels import labels_by
from srft.train.rows.mask import Arm

LOG_HEAD_LINES, LOG_TAIL_LINES = 4, 30
LOG_BYTES = 1 << 20
"""Of a test log so many bytes at its end are looked at."""


class Said(NamedTuple):
    """A piece of a reply. language: of a fenced block, `None` for prose. is_run: whether it is what was carried out."""

    text: Folded
    language: str | None
    is_run: bool = False


class StepView(NamedTuple):
    """One step.

    code: the letter of the verdict that counts. plain: the critics who gave that verdict and no more; spoken: what the
    others said, people last. own: this person's label.
    weight: the arm's, `None` without an arm or where it leaves the run out. share: of the run's longest command time.
    """

    step: Step
    code: str
    verdict: str
    plain: list[str]
    spoken: list[Given]
    own: StepLabel | None
    weight: float | None
    reasoning: Folded | None
    said: list[Said]
    calls: list[Said]
    observation: Folded | None
    share: float


class Tests(NamedTuple):
    """grade: `None` where the patch was not graded here. log: the end of what the tests printed."""

    grade: Grade | None
    log: Folded | None
    log_bytes: int


class Timeline(NamedTuple):
    """All that a page shows of a run. prompt: the messages before the first step, (role, text).

    same: whether patch and fix are equal. command_s: the time in commands; `None` where no step says.
    """

    entry: RunEntry
    run: Trajectory
    outcome: bool | None
    arm: Arm | None
    mask: Mask | None
    remark: str | None
    judges: tuple[str, ...]
    steps: list[StepView]
    prompt: list[tuple[str, Folded]]
    patch: Diff | None
    fix: Diff | None
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
    mask, remark = _mask(arms, arm, query, entry)
    fix: Fix = book.fix(place, entry.task_id)
    walls = [step.wall_s for step in run.steps if step.wall_s is not None]
    return Timeline(
        entry=entry,
        run=run,
        outcome=place.outcome(entry),
        arm=arm,
        mask=mask,
        remark=remark,
        judges=judges,
        steps=list(_steps(run, critiques, judges, mask, person, longest_s=max(walls, default=0.0))),
        prompt=[(str(message.get("role")), folded(_text(message), head=10, tail=3)) for message in _prompt(run)],
        patch=diff(run.patch) if run.patch else None,
        fix=diff(fix.patch) if fix.patch else None,
        fix_problem=fix.problem,
        same=bool(run.patch) and run.patch == fix.patch,
        tests=_tests(place, entry),
        critics=_counts(critiques),
        agreement=agreement(place, person.name, run_id=entry.id),
        command_s=sum(walls) if walls else None,
        others=[other for other in place.standing if other.task_id == entry.task_id and other.id != entry.id],
    )


def _mask(arms: Arms, arm: Arm | None, query: Query, entry: RunEntry) -> tuple[Mask | None, str | None]:
    if arm is None:
        return None, None
    try:
        return arms.masks(arm, query.critics).of(entry), None
    except InputError as error:
        return None, str(error)


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
    weight_S = None if mask is None else mask.weight_S
    for step in run.steps:
        label = effective.get(step.index)
        verdict = label.verdict if label else None
        said = given.get(step.index, [])
        plain = [one for one in said if verdict is not None and _is_plain(one, verdict)]
        yield StepView(
            step=step,
            code=CODES[verdict],
            verdict=verdict or "unlabelled",
            plain=[one.critic for one in plain],
            spoken=[one for one in said if one not in plain],
            own=own_labels.get(step.index),
            weight=None if weight_S is None else float(weight_S[step.index]),
            reasoning=folded(step.reasoning) if step.reasoning else None,
            said=list(_said(step)) if step.content else [],
            calls=[Said(folded(text, head=30, tail=6), name, is_run=True) for name, text in _calls(step)],
            observation=None if step.observation is None else folded(step.observation, head=8, tail=5),
            share=(step.wall_s or 0.0) / longest_s if longest_s else 0.0,
        )


def _is_plain(given: Given, verdict: str) -> bool:
    """Whether it says the verdict that counts anyway, and nothing else."""
    label = given.label
    bare = label.reason is None and label.confidence is None and not label.votes
    return bare and label.verdict == verdict and given.source != "human"


def _said(step: Step) -> Iterator[Said]:
    command = step.action.arguments.get("command") if step.action else None
    for part in parts(step.content):
        if part.language is None:
            yield Said(folded(part.text), None)
        else:
            is_run = isinstance(command, str) and part.text.strip() == command.strip()
            yield Said(folded(part.text, head=30, tail=8), part.language, is_run)


def given_labels(critiques: list[Critique]) -> dict[int, list[Given]]:
    """Step -> every critic's last label that says something, people's last."""
    last = {critique.critic: critique for critique in critiques}
    given: dict[int, list[Given]] = {}
    for critique in sorted(last.values(), key=lambda one: (one.source == "human", one.critic)):
        for label in critique.labels:
            if label.verdict is not None or label.reason:
                given.setdefault(label.step, []).append(Given(critique.critic, critique.source, label))
    return given


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


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", part)) if isinstance(part, dict) else str(part) for part in content)
    return "" if content is None else json.dumps(content, ensure_ascii=False)


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


def whole_text(page: Trajectory, part: str, step: int | None) -> str | None:
    """A text that a page folds, whole. part: content, reasoning, observation or calls of a step; patch; prompt."""
    if part == "patch":
        return page.patch
    if part == "prompt":
        return "\n\n".join(f"[{message.get('role')}]\n{_text(message)}" for message in _prompt(page))
    if step is None or not 0 <= step < len(page.steps):
        return None
    one = page.steps[step]
    if part == "calls":
        return "\n\n".join(f"{name}\n{text}" for name, text in _calls(one))
    texts = {"content": one.content, "reasoning": one.reasoning, "observation": one.observation}
    return texts.get(part)
