"""Rows for a critic of one's own: a round's runs and their labels as questions and replies.

Reads trajectories.jsonl, labels.jsonl and grades.jsonl; writes `rows/critic/` in the round's folder, which `srft train`
trains on as on any other rows.

    with Run("runs/first") as run:
        made = make_critic_rows(CriticRowsConfig(tokenizer="models/base", labels=("oracle",)), run.round(0))
        made.manifest.rows, made.manifest.left_out

Labels of people, of an oracle, or of a judge, which a small critic is to replace. A row's task is its run's, so the
recipe's `held_out` keeps whole tasks aside, and a critic is told by its folder which tasks it has seen.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from srft.agent.records import Trajectory
from srft.critic.distil import VERSION, FormConfig, lessons
from srft.critic.labels.labels import Critique, StepLabel, effective_labels, is_by
from srft.env.errors import InputError
from srft.env.identity import ADDS, adds_by, decides_by, identity, key, tokenizer_id
from srft.harness.config.identity import tasks_ids
from srft.harness.run.store import Round
from srft.harness.run.trained import CRITIC_ROWS, rows_folder
from srft.harness.stages.rows import Rows, critiques_by_run, kept_rows, refuse_evaluated
from srft.train.rows.contamination import By
from srft.train.rows.mask import MaskPolicy, RunFacts
from srft.train.rows.render import Renderer
from srft.train.rows.rows import ROWS_VERSION, RowSettings, RunToRender, write_rows

KINDS = ("human", "oracle")
"""Sources that may be named in the place of a critic: whoever it was."""


class CriticRowsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `srft rows --for critic` does."""

    tokenizer: Annotated[str, decides_by(tokenizer_id)]
    """A folder or a hub name; it must be that of the model to be trained."""
    labels: tuple[str, ...] = ()
    """Whose labels are learned: `human`, `oracle`, or critics' names (`judge`, `judge@FINGERPRINT`). People's labels
    win over the others'. Where nobody is named: people's, else the oracle's, else the only critic's."""
    form: FormConfig = FormConfig()
    """How runs are shown and what is replied; the model's folder keeps it."""
    template: dict[str, Any] = {}
    """Further variables of the tokenizer's chat template."""
    rows: RowSettings = RowSettings()
    """How rows are made. A row is one step, the reply, and steps are never cut: a row that is too long is dropped."""
    only: Annotated[tuple[str, ...], ADDS] = ()
    """The runs on these tasks; all where none is named."""
    evaluation: Annotated[tuple[str, ...], adds_by(tasks_ids)] = ()
    """Tasks that the critic or a model behind it will be measured on: runs on them are refused."""
    contamination: By = "repository"
    """Whether those are compared by repository or by instance alone."""


def make_critic_rows(config: CriticRowsConfig, round_: Round) -> Rows:
    """Make the rows, or find that they are as they would be. Raises InputError, StorageError."""
    if not round_.trajectories.path.exists():
        raise InputError(f"{round_.trajectories.path}: no runs; collect or import some first")
    refuse_evaluated(round_, config.evaluation, by=config.contamination)
    critiques = critiques_by_run(round_)
    named = _labels_used(config.labels, critiques, round_)
    renderer = Renderer.load(config.tokenizer, options=config.template)
    left_out: Counter[str] = Counter()
    made = list(_lessons(round_, config, critiques, named, left_out))
    if not made:
        raise InputError(
            f"{round_.critiques.path}: no run has labels of {', '.join(named)} to learn from "
            f"(left out: {', '.join(f'{count} {reason}' for reason, count in sorted(left_out.items())) or 'none'}); "
            "label some, or name others with --critic"
        )
    content = [(one.task_id, one.messages) for one in made]
    settings = (identity(config.rows, base=Path()), msgspec.to_builtins(config.form), sorted(left_out.items()))
    fingerprint = key("critic rows", VERSION, ROWS_VERSION, renderer.fingerprint, named, settings, content)
    folder = rows_folder(round_, CRITIC_ROWS)
    if kept := kept_rows(folder, fingerprint):
        return Rows(folder, kept, is_new=False)
    policy = MaskPolicy(arm="all")
    manifest = write_rows(
        folder.parent,
        (RunToRender(one, {CRITIC_ROWS: RunFacts(one.id, 1, None, {})}) for one in made),
        renderer,
        {CRITIC_ROWS: policy},
        config.rows,
        fingerprints={CRITIC_ROWS: fingerprint},
        critics=named,
        form=config.form,
        left_out=left_out,
    )[CRITIC_ROWS]
    return Rows(folder, manifest, is_new=True)


def _labels_used(asked: tuple[str, ...], critiques: Mapping[str, list[Critique]], round_: Round) -> tuple[str, ...]:
    """Whose labels are learned. Raises InputError for somebody who said nothing, and where it cannot be told."""
    told = [one for of_run in critiques.values() for one in of_run]
    sources = {one.source for one in told}
    critics = sorted({one.critic for one in told if one.source in ("model", "rule")})
    there = [*(kind for kind in KINDS if kind in sources), *critics]
    if unknown := [name for name in asked if name not in there and not any(is_by(one, name) for one in told)]:
        raise InputError(
            f"{round_.critiques.path}: no labels by {', '.join(unknown)}; there are some by "
            f"{', '.join(there) or 'nobody'}"
        )
    if asked:
        return asked
    if there and (there[0] in KINDS or len(there) == 1):
        return (there[0],)
    found = f"labels by {', '.join(there)}" if there else "no labels"
    raise InputError(f"{round_.critiques.path}: {found}; say with --critic whose labels are learned")


def _lessons(
    round_: Round,
    config: CriticRowsConfig,
    critiques: Mapping[str, list[Critique]],
    named: tuple[str, ...],
    left_out: Counter[str],
) -> Iterator[Trajectory]:
    """The questions and replies of every run that has labels, by task and attempt."""
    index = round_.index()
    for run in round_.finished(in_order=True):
        if config.only and run.task_id not in config.only:
            continue
        labels = _labels(critiques.get(run.id, []), named)
        outcome = index.outcome(index.by_id[run.id]).resolved
        if not labels:
            left_out["unlabelled"] += 1
        elif config.form.information == "outcome" and outcome is None:
            left_out["outcome_unknown"] += 1
        else:
            yield from lessons(run, labels, config.form, resolved=outcome)


def _labels(told: list[Critique], named: tuple[str, ...]) -> dict[int, StepLabel]:
    """The labels that are learned; a person's count only where people are named."""
    chosen = [one for one in told if one.source in named or any(is_by(one, name) for name in named)]
    return effective_labels(chosen, critics=[one.critic for one in chosen])
