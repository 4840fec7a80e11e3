"""The rows stage: a round's runs, labels and outcomes to token rows, an arm each.

Reads trajectories.jsonl, labels.jsonl and grades.jsonl; writes `rows/<arm>/` in the round's folder.

    with Run("runs/first") as run:
        manifests = make_rows(RowsConfig(tokenizer="models/base", arms=("srft", "all")), run.round(0))

An arm whose inputs and configuration are those of the rows on file is not made again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from srft.agent.records import Trajectory
from srft.critic.labels.labels import Critique, Evidence, StepLabel, effective_labels
from srft.critic.rules.rules import ToolErrorCritic
from srft.env.errors import InputError
from srft.env.tasks.task import load_tasks
from srft.harness.run.store import JsonLines, Round, resolved
from srft.train.rows.contamination import By, refuse_contamination
from srft.train.rows.mask import Arm, MaskPolicy, RunFacts, label_source
from srft.train.rows.render import Renderer, Thinking
from srft.train.rows.rows import Manifest, RowSettings, RowTable, RunToRender, write_rows


class RowsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `srft rows` does.

    tokenizer: a folder or a hub name; it must be that of the model to be trained. template: further variables of its
    chat template, the same as when serving. thinking: recorded, empty or without, see
    `srft.train.rows.render`; a template that begins replies inside their thinking wants a choice.
    arms: see `srft.train.rows.mask`. critics: whose labels the arms srft and random use; where none is named, the one
    that has labelled the run. policy: weights and the rest; its arm is set by `arms`. evaluation: tasks that the
    trained model will be measured on, which must not be trained on; contamination: whether they are compared by
    repository or by instance alone.
    """

    tokenizer: str
    arms: Annotated[tuple[Arm, ...], msgspec.Meta(min_length=1)] = ("srft",)
    critics: tuple[str, ...] = ()
    template: dict[str, Any] = {}
    thinking: Thinking | None = None
    policy: MaskPolicy = MaskPolicy()
    rows: RowSettings = RowSettings()
    evaluation: tuple[str, ...] = ()
    contamination: By = "repository"


class Rows(NamedTuple):
    """One arm's rows. `is_new`: whether this command made them."""

    folder: Path
    manifest: Manifest
    is_new: bool


def make_rows(config: RowsConfig, round_: Round, *, earlier: Sequence[Round] = ()) -> dict[str, Rows]:
    """Make the rows that are missing. earlier: rounds whose runs go in too. Raises InputError, StorageError."""
    if not round_.trajectories.path.exists():
        raise InputError(f"{round_.trajectories.path}: no runs; collect or import some first")
    renderer = Renderer.load(
        config.tokenizer,
        options=config.template,
        thinking=config.thinking,
        calls=config.rows.calls,
        tools=config.rows.tools,
        append=config.rows.rewritten == "append",
    )
    rounds = [*earlier, round_]
    critiques = {run_id: told for one in rounds for run_id, told in critiques_by_run(one).items()}
    critics = critics_used(config.arms, config.critics, critiques, round_)
    for one in rounds:
        refuse_evaluated(one, config.evaluation, by=config.contamination)
    policies: dict[str, MaskPolicy] = {
        arm: msgspec.structs.replace(config.policy, arm=arm) for arm in dict.fromkeys(config.arms)
    }
    digest = "".join(_digest(one) for one in rounds)
    fingerprints: dict[str, str] = {
        arm: _hash(digest, renderer.fingerprint, policy, config.rows, critics) for arm, policy in policies.items()
    }
    folder = round_.path / "rows"
    kept = {arm: table for arm in policies if (table := _kept(folder / arm, fingerprints[arm]))}
    missing = {arm: policy for arm, policy in policies.items() if arm not in kept}
    made: dict[str, Manifest] = {}
    if missing:
        arms = [arm for arm in config.arms if arm in missing]
        runs = chain.from_iterable(runs_with_facts(one, critiques, critics, arms) for one in rounds)
        made = write_rows(folder, runs, renderer, missing, config.rows, fingerprints=fingerprints, critics=critics)
    return {arm: Rows(folder / arm, made[arm] if arm in made else kept[arm], is_new=arm in made) for arm in policies}


def _kept(folder: Path, fingerprint: str) -> Manifest | None:
    """The manifest of rows that were made of the same; `None` where there are none."""
    if not (folder / "rows.json").exists():
        return None
    try:
        manifest = RowTable.open(folder).manifest
    except InputError:  # of another version, or damaged: they are made again
        return None
    return manifest if manifest.fingerprint == fingerprint else None


def critiques_by_run(round_: Round) -> dict[str, list[Critique]]:
    """By trajectory, in the order of the file."""
    critiques: dict[str, list[Critique]] = {}
    for critique in round_.critiques.read():
        critiques.setdefault(critique.trajectory_id, []).append(critique)
    return critiques


def critics_used(
    arms: Iterable[Arm], named: Sequence[str], critiques: Mapping[str, list[Critique]], round_: Round
) -> tuple[str, ...]:
    """Whose labels the arms srft and random use: the named ones, else the only one. Raises InputError."""
    if all(label_source(arm) != "critic" for arm in arms):
        return ()
    counts = {c.critic: c.source for all_of_run in critiques.values() for c in all_of_run}
    known = sorted(name for name, source in counts.items() if source in ("model", "rule"))
    if unknown := [name for name in named if name not in counts]:
        raise InputError(
            f"{round_.critiques.path}: no labels by {', '.join(unknown)}; there are some by "
            f"{', '.join(sorted(counts)) or 'nobody'}: name one of these, or run `srft critique` first"
        )
    if named:
        return tuple(named)
    if len(known) != 1:
        found = f"labels by {', '.join(known)}" if known else "no labels"
        raise InputError(f"{round_.critiques.path}: {found}; say with --critic whose labels the arm uses")
    return (known[0],)


def runs_with_facts(
    round_: Round, critiques: Mapping[str, list[Critique]], critics: Sequence[str], arms: Sequence[Arm]
) -> Iterator[RunToRender]:
    """The round's finished runs by task and attempt, each with what its mask depends on, by arm."""
    grades = round_.grades_by_patch()
    for trajectory in round_.finished(in_order=True):
        of_run, outcome = critiques.get(trajectory.id, []), resolved(trajectory, grades)
        yield RunToRender(trajectory, {arm: run_facts(trajectory, outcome, of_run, critics, arm) for arm in arms})


def run_facts(
    trajectory: Trajectory, outcome: bool | None, critiques: Sequence[Critique], critics: Sequence[str], arm: Arm
) -> RunFacts:
    """What a run's mask depends on in an arm. critiques: all of the run; critics: those that srft and random use."""
    labels = _labels(label_source(arm), trajectory, critiques, critics)
    return RunFacts(trajectory.id, len(trajectory.steps), outcome, labels, trajectory.stop_reason)


def _labels(
    source: str | None, trajectory: Trajectory, critiques: Sequence[Critique], critics: Sequence[str]
) -> dict[int, StepLabel]:
    """A run's labels from one kind of source."""
    if source is None:
        return {}
    if source == "tool_error":
        critique = ToolErrorCritic().judge(trajectory, Evidence())
        return effective_labels([critique] if critique else [], critics=["tool_error"])
    if source == "human":
        return effective_labels(critiques, critics=[])
    if source == "oracle":
        oracles = [critique for critique in critiques if critique.source == "oracle"]
        return effective_labels(oracles, critics=[critique.critic for critique in oracles])
    return effective_labels(critiques, critics=critics)


def refuse_evaluated(round_: Round, evaluation: Sequence[str], *, by: By) -> None:
    """Raises InputError where a run of the round is on a task, or by repository, that a model is evaluated on."""
    if not evaluation:
        return
    runs = list(round_.origins.read())
    for name in evaluation:
        refuse_contamination(
            {run.task_id for run in runs}, {run.repo for run in runs}, evaluation=load_tasks(name), by=by
        )


class _TrainedStep(msgspec.Struct):
    """Of a step, what its tokens and its weight depend on besides the messages, which the run's id stands for."""

    reasoning: str | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    exit_code: int | None = None
    timed_out: bool = False
    error: str | None = None


class _TrainedRun(msgspec.Struct):
    """Of a trajectory, the same."""

    task_id: str
    attempt: int
    id: str
    patch: str | None
    stop_reason: str
    recorded_resolved: bool | None = None
    steps: tuple[_TrainedStep, ...] = ()


def _digest(round_: Round) -> str:
    """A hash of all that rows are made of. Times and the order in which threads were ready do not count."""
    lines = JsonLines(round_.trajectories.path, _TrainedRun, whole=Trajectory)
    runs = {(run.task_id, run.attempt): _hash(run) for run in lines.read()}
    labels = [
        (told.trajectory_id, told.critic, told.source, told.fingerprint, told.labels)
        for told in sorted(round_.critiques.read(), key=lambda told: (told.trajectory_id, told.source, told.critic))
    ]
    grades = {key: grade.resolved for key, grade in round_.grades_by_patch().items()}
    return _hash(sorted(runs.items()), labels, sorted(grades.items()))


def _hash(*parts: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
