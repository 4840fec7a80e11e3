"""The rows stage: a round's runs, labels and outcomes to token rows, an arm each.

Reads trajectories.jsonl, labels.jsonl and grades.jsonl; writes `rows/<arm>/` in the round's folder.

    with Run("runs/first") as run:
        manifests = make_rows(RowsConfig(tokenizer="models/base", arms=("srft", "all")), run.round(0))

An arm whose inputs and configuration are those of the rows on file is not made again. Labels and outcomes count by what
they come to in the arm: a label changes no arm that does not use it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from srft.agent.records import Step, Trajectory
from srft.critic.labels.labels import Critique, is_by
from srft.env.errors import InputError
from srft.env.identity import ADDS, adds_by, decides_by, identity, key, tokenizer_id
from srft.env.tasks.task import load_tasks
from srft.harness.config.identity import tasks_ids
from srft.harness.run.entries import tool_error_codes
from srft.harness.run.labels import Told, labels_of_arm
from srft.harness.run.store import Round
from srft.train.rows.contamination import By, refuse_contamination
from srft.train.rows.mask import Arm, MaskPolicy, RunFacts, label_source, left_out, step_weights
from srft.train.rows.render import Renderer, Thinking
from srft.train.rows.rows import ROWS_VERSION, Manifest, RowSettings, RowTable, RunToRender, write_rows


class RowsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `srft rows` does."""

    tokenizer: Annotated[str, decides_by(tokenizer_id)]
    """The tokenizer: a folder or a hub name; it must be that of the model to be trained."""
    arms: Annotated[tuple[Arm, ...], msgspec.Meta(min_length=1), ADDS] = ("srft",)
    """The arms to make rows of, see `srft.train.rows.mask`."""
    critics: tuple[str, ...] = ()
    """Whose labels the arms srft and random use; by default the only critic that has labelled the run."""
    template: dict[str, Any] = {}
    """Further variables of the chat template, the same as when serving."""
    thinking: Thinking | None = None
    """What becomes of thinking: recorded, empty or without, see `srft.train.rows.render`; a template that begins
    replies inside their thinking needs a choice."""
    policy: MaskPolicy = MaskPolicy()
    """Weights of steps; its arm is set by `arms`."""
    rows: RowSettings = RowSettings()
    evaluation: Annotated[tuple[str, ...], adds_by(tasks_ids)] = ()
    """Tasks that the trained model will be measured on, which must not be trained on."""
    contamination: By = "repository"
    """How these tasks are compared with the runs: by repository or by instance."""


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
    told = [one for of_round in rounds for one in of_round.index().critiques]
    critics = critics_used(config.arms, config.critics, told, round_)
    for one in rounds:
        refuse_evaluated(one, config.evaluation, by=config.contamination)
    policies: dict[str, MaskPolicy] = {
        arm: msgspec.structs.replace(config.policy, arm=arm) for arm in dict.fromkeys(config.arms)
    }
    chosen = chosen_runs(rounds, config.rows.per_task)
    made_of = _made_of(rounds, critiques, critics, policies, chosen)
    settings = identity(config.rows, base=Path())
    fingerprints: dict[str, str] = {
        arm: key("rows", made_of[arm], renderer.fingerprint, ROWS_VERSION, settings) for arm in policies
    }
    folder = round_.path / "rows"
    kept = {arm: table for arm in policies if (table := kept_rows(folder / arm, fingerprints[arm]))}
    missing = {arm: policy for arm, policy in policies.items() if arm not in kept}
    made: dict[str, Manifest] = {}
    if missing:
        arms = [arm for arm in config.arms if arm in missing]
        runs = chain.from_iterable(runs_with_facts(one, critiques, critics, arms, chosen) for one in rounds)
        made = write_rows(folder, runs, renderer, missing, config.rows, fingerprints=fingerprints, critics=critics)
    return {arm: Rows(folder / arm, made[arm] if arm in made else kept[arm], is_new=arm in made) for arm in policies}


def kept_rows(folder: Path, fingerprint: str) -> Manifest | None:
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


def critics_used(arms: Iterable[Arm], named: Sequence[str], told: Sequence[Told], round_: Round) -> tuple[str, ...]:
    """Whose labels the arms srft and random use: the named ones, else the only one. told: all that was said of the
    runs. Raises InputError."""
    if all(label_source(arm) != "critic" for arm in arms):
        return ()
    critics = {one.critic: one.source for one in told}
    known = sorted(name for name, source in critics.items() if source in ("model", "rule"))
    if unknown := [name for name in named if not any(is_by(one, name) for one in told)]:
        raise InputError(
            f"{round_.critiques.path}: no labels by {', '.join(unknown)}; there are some by "
            f"{', '.join(sorted(critics)) or 'nobody'}: name one of these, or run `srft critique` first"
        )
    if named:
        return tuple(named)
    if len(known) != 1:
        found = f"labels by {', '.join(known)}" if known else "no labels"
        raise InputError(f"{round_.critiques.path}: {found}; say with --critic whose labels the arm uses")
    return (known[0],)


def chosen_runs(rounds: Sequence[Round], per_task: int | None) -> frozenset[str] | None:
    """The ids of the runs that are trained on; `None` for all of them. Of a task at most `per_task` of each outcome:
    the newest round's first, in a round the first attempts. What a task failed and what it solved stay together."""
    if per_task is None:
        return None
    taken: Counter[tuple[str, bool | None]] = Counter()
    chosen = set()
    for round_ in reversed(rounds):
        index = round_.index()
        for _, run in sorted(index.episodes.items()):
            kind = (run.task_id, index.outcome(run).resolved)
            if not run.unfinished and taken[kind] < per_task:
                taken[kind] += 1
                chosen.add(run.id)
    return frozenset(chosen)


def runs_with_facts(
    round_: Round,
    critiques: Mapping[str, list[Critique]],
    critics: Sequence[str],
    arms: Sequence[Arm],
    chosen: frozenset[str] | None = None,
) -> Iterator[RunToRender]:
    """The round's finished runs by task and attempt, each with what its mask depends on, by arm. chosen: see
    `chosen_runs`."""
    index = round_.index()
    for trajectory in round_.finished(in_order=True):
        entry = index.by_id[trajectory.id]
        of_run, outcome = critiques.get(trajectory.id, []), index.outcome(entry).resolved
        facts = {arm: run_facts(trajectory, outcome, of_run, critics, arm) for arm in arms}
        is_chosen, tampering = chosen is None or trajectory.id in chosen, index.tampers(entry)
        whole: dict[str, RunFacts] = {
            arm: one._replace(is_chosen=is_chosen, tampering=tampering) for arm, one in facts.items()
        }
        yield RunToRender(trajectory, whole)


def run_facts(
    trajectory: Trajectory, outcome: bool | None, critiques: Sequence[Critique], critics: Sequence[str], arm: Arm
) -> RunFacts:
    """What a run's mask depends on in an arm. critiques: all of the run; critics: those that srft and random use."""
    rule = tool_error_codes(trajectory) if label_source(arm) == "tool_error" else ""
    labels = labels_of_arm(arm, critiques, critics=critics, tool_error=rule)
    return RunFacts(trajectory.id, len(trajectory.steps), outcome, labels, trajectory.stop_reason)


def refuse_evaluated(round_: Round, evaluation: Sequence[str], *, by: By) -> None:
    """Raises InputError where a run of the round is on a task, or by repository, that a model is evaluated on."""
    if not evaluation:
        return
    runs = round_.index().runs
    for name in evaluation:
        refuse_contamination(
            {run.task_id for run in runs}, {run.repo for run in runs}, evaluation=load_tasks(name), by=by
        )


def _made_of(
    rounds: Iterable[Round],
    critiques: Mapping[str, list[Critique]],
    critics: Sequence[str],
    policies: Mapping[str, MaskPolicy],
    chosen: frozenset[str] | None,
) -> dict[str, str]:
    """Arm -> a hash of all that its rows are made of: the runs, and what the mask makes of each. Where the runs were
    made, when, and in which order the threads were ready, does not count."""
    digests = {arm: hashlib.sha256() for arm in policies}
    arms: Sequence[Any] = list(policies)
    for run in chain.from_iterable(runs_with_facts(one, critiques, critics, arms, chosen) for one in rounds):
        rendered = _rendered_of(run.trajectory)
        for arm, policy in policies.items():
            digests[arm].update(msgspec.json.encode((rendered, _masked(run.facts[arm], policy))))
    settings = {arm: identity(policy, base=Path()) for arm, policy in policies.items()}
    used = {arm: critics if label_source(policy.arm) == "critic" else () for arm, policy in policies.items()}
    return {arm: key(arm, used[arm], settings[arm], digest.hexdigest()) for arm, digest in digests.items()}


def _masked(facts: RunFacts, policy: MaskPolicy) -> tuple[bool | None, str | list[float]]:
    """What an arm does with a run: by which outcome, and why it leaves the run out or the weight of each step."""
    outcome = None if policy.arm == "all" else facts.resolved
    return outcome, left_out(facts, policy) or step_weights(facts, policy).tolist()


_NOT_RENDERED = (
    "sampling",
    "scaffold",
    "prompt",
    "seed",
    "detail",
    "failure",
    "started_at",
    "wall_s",
    "recorded_resolved",
)
_NOT_RENDERED_OF_STEP = ("wall_s", "elided_chars", "logprobs", "usage")


def _rendered_of(trajectory: Trajectory) -> str:
    """A hash of all of a run that its tokens may depend on; a field that is new counts until it is named above."""
    content = {name: value for name, value in msgspec.structs.asdict(trajectory).items() if name not in _NOT_RENDERED}
    content["steps"] = [_rendered_of_step(step) for step in trajectory.steps]
    return key(content)


def _rendered_of_step(step: Step) -> dict[str, Any]:
    content = {name: value for name, value in msgspec.structs.asdict(step).items() if name not in _NOT_RENDERED_OF_STEP}
    counted = step.usage and (step.usage.prompt_tokens, step.usage.completion_tokens)  # as sampled; the rest is cost
    return content | {"usage": counted}
