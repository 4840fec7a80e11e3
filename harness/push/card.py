"""The cards (README.md) of what `srft push` sends: what it is, how it was made, what came of it.

    card.rows(asked, manifest), card.model(asked, training, cell="srft", is_adapter=False)
    card.trajectories(asked, ["trajectories.jsonl"])

Every figure is one on file: rows.json, training.json, the labels, and the verdicts as `srft runs` shows them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import srft
from srft.harness.run.find import TRAJECTORIES

if TYPE_CHECKING:
    from srft.harness.push.folder import Asked

TAGS = ["srft", "step-rejection-fine-tuning", "software-engineering"]
PAPER = "[Step Rejection Fine-Tuning](https://arxiv.org/abs/2605.10674)"
COUNTS = ("runs", "runs_used", "rows", "tokens", "written_tokens", "trained_tokens", "steps", "steps_masked")
COLUMNS = {
    "run_id": "the run, by the hash of its messages",
    "task_id, repo": "its task and the task's repository",
    "input_ids": "T token ids",
    "weights": "T weights of the tokens' loss; 0 is context or masked",
    "step_index": "T: the step that a token belongs to, -1 outside steps",
    "part": "T: 0 context, 1 thought, 2 action, 3 end of turn",
    "mask_source": "`sampled` token ids, or `rendered` by the chat template",
    "trained_tokens, used_tokens": "tokens with a weight above 0; tokens up to and with the last of those",
}
FILES = {
    TRAJECTORIES: "one finished episode a line: the messages as sent, each step with its reply, action and observation",
    "labels.jsonl": "one critic's verdicts on the steps of one episode a line",
    "grades.jsonl": "one verdict of the official grader a line",
    "predictions.jsonl": "the patches in the official format",
}


def rows(asked: Asked, manifest: Mapping[str, Any]) -> str:
    """Of token rows. manifest: rows.json."""
    arm = manifest["arm"]
    meta = {"configs": [{"config_name": "default", "data_files": "data/*.parquet"}], "tags": TAGS}
    counts = {name.replace("_", " "): f"{manifest[name]:,}" for name in COUNTS if name in manifest}
    counts |= {f"left out: {reason.replace('_', ' ')}": f"{n:,}" for reason, n in manifest["left_out"].items()}
    counts |= {f"dropped: {reason.replace('_', ' ')}": f"{n:,}" for reason, n in manifest["dropped"].items()}
    critics = ", ".join(manifest.get("critics") or ()) or "none: the arm masks by outcome or rule"
    return _page(
        asked,
        meta,
        title=f"Token rows, arm `{arm}`",
        about=f"Runs of a software-engineering agent as token ids, with a weight for each token's loss ({PAPER}). "
        "The loss of a batch is the sum of `weights[t] * -log p(input_ids[t] | input_ids[:t])`, divided by the sum of "
        "its weights.",
        made={
            "tokenizer": f"`{manifest['tokenizer']}` (hash of its vocabulary: {manifest['vocabulary']})",
            "arm": f"`{arm}`",
            "critic": critics,
        },
        sections=[_table("Counts", counts), _table("Columns", COLUMNS)],
        commands=[*_collected(asked), *_judged(asked), _rows_command(asked, arm, manifest["tokenizer"])],
    )


def model(asked: Asked, training: Mapping[str, Any], *, cell: str, is_adapter: bool) -> str:
    """Of a trained model. training: training.json. cell: the name of its folder, an arm or an arm and a seed."""
    base, recipe = training["model"], training["recipe"]
    meta = {
        **({"base_model": base} if asked.base or re.fullmatch(r"[\w.-]+/[\w.-]+", base) else {}),
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": TAGS,
    }
    figures = {name.replace("_", " "): _figure(value) for name, value in training["figures"].items()}
    kept = ("learning_rate", "epochs", "pack_tokens", "lora")
    return _page(
        asked,
        meta,
        title=f"{base.rpartition('/')[2]}, trained by srft (`{cell}`)",
        about=f"{'A LoRA adapter for' if is_adapter else 'Fine-tuned from'} `{base}` on runs of a software-engineering "
        f"agent: steps that a critic calls mistakes stay in the context and carry no loss ({PAPER}).",
        made={
            "base model": f"`{base}`",
            "arm": f"`{training['arm']}`",
            "critic": ", ".join(f"`{name}`" for name in _critics(asked)) or "none",
            "tasks trained on": f"{len(training['task_ids']):,}",
            **{name.replace("_", " "): f"{recipe[name]}" for name in kept if recipe.get(name) is not None},
        },
        sections=[
            _scores(asked, cell),
            _table("Figures of the training", figures),
            _table("Versions", training["versions"]),
        ],
        commands=[
            *_collected(asked),
            *_judged(asked),
            _rows_command(asked, training["arm"], base),
            f"srft train --run {_run(asked)} --arm {training['arm']} --model {base}",
        ],
    )


def trajectories(asked: Asked, files: Iterable[str]) -> str:
    """Of a round's trajectories, labels and grades."""
    index, there = asked.folder.index(), [name for name in FILES if name in files]
    meta = {
        "configs": [{"config_name": name.removesuffix(".jsonl"), "data_files": name} for name in there],
        "tags": [*TAGS, "agent-traces"],
    }
    outcomes = Counter(index.outcome(run).name.replace("_", " ") for run in index.standing)
    judged = Counter(name for run in index.standing for name in {told.critic for told in index.told(run.id)})
    counts = {
        "episodes": f"{len(index.standing):,}",
        "tasks": f"{len({run.task_id for run in index.standing}):,}",
        "steps": f"{sum(run.steps for run in index.standing):,}",
        **{name: f"{count:,}" for name, count in sorted(outcomes.items())},
        **{f"judged by {name}": f"{count:,}" for name, count in sorted(judged.items())},
    }
    models = Counter(run.model for run in index.standing)
    return _page(
        asked,
        meta,
        title="Runs of a software-engineering agent, judged step by step",
        about=f"Episodes on SWE-bench-style tasks, resolved and not, with verdicts on their steps ({PAPER}).",
        made={"models": ", ".join(f"`{name}` ({count:,})" for name, count in models.most_common())},
        sections=[
            _table("Files", {f"`{name}`": FILES[name] for name in there}),
            _table("Counts", counts),
            _scores(asked),
        ],
        commands=[*_collected(asked), *_judged(asked)],
    )


def named(place: str) -> str:
    """A model, tokenizer or folder of tasks by its name, without where it lies.

    >>> named("/home/me/models/base"), named("models/base"), named("Qwen/Qwen3-8B")
    ('base', 'base', 'Qwen/Qwen3-8B')
    """
    is_name = place.count("/") < 2 and not place.startswith(("/", ".", "~"))
    return place if is_name and not Path(place).exists() and not place.startswith("models/") else Path(place).name


# ---- parts ----


def _page(
    asked: Asked,
    meta: Mapping[str, Any],
    *,
    title: str,
    about: str,
    made: Mapping[str, str],
    sections: Iterable[str],
    commands: Iterable[str],
) -> str:
    licensed = {"license": asked.license} if asked.license else {}
    head = yaml.safe_dump({**licensed, **meta}, sort_keys=False, allow_unicode=True).rstrip("\n")
    versions = {**made, "srft": srft.__version__}
    shown = "\n".join(f"    {command}" for command in commands)
    parts = [
        f"---\n{head}\n---\n\n# {title}",
        about,
        _table("How it was made", versions),
        *filter(None, sections),
        f"## Commands\n\n{shown}" if shown else "",
    ]
    if not asked.license:
        parts.append(
            "No licence is stated. Those of the base model, of the models that wrote the runs, and of the tasks apply."
        )
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(title: str, lines: Mapping[str, Any]) -> str:
    if not lines:
        return ""
    rows_ = "\n".join(f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in lines.items())
    return f"## {title}\n\n| | |\n|---|---|\n{rows_}"


def _figure(value: Any) -> str:
    return "-" if value is None else f"{value:,.4f}" if isinstance(value, float) else str(value)


def _scores(asked: Asked, cell: str | None = None) -> str:
    """Where the run measured something: of a model, itself and the base model; else the round's own episodes."""
    from srft.harness.look.runs import run_line

    round_ = asked.folder.path.name
    wanted = {round_} if cell is None else {f"{round_}/evaluation/{cell}", "round-000/evaluation/base"}
    found = [place for place in run_line(asked.run).places if place.folder in wanted]
    scores = {}
    for place in found:
        name = "these runs" if cell is None else "base model" if place.folder.endswith("/base") else "this model"
        if place.rate is not None and place.interval is not None:
            low, high = place.interval
            scores[name] = (
                f"{100 * place.rate:.1f} % resolved of {_counted(place.tasks, 'task')} (95 % interval {100 * low:.1f} "
                f"to {100 * high:.1f}; {_counted(place.episodes, 'episode')}, official grader)"
            )
    return _table("Scores", scores)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _critics(asked: Asked) -> list[str]:
    index = asked.folder.index()
    return sorted({told.critic for run in index.standing for told in index.told(run.id)})


def _run(asked: Asked) -> str:
    return f"runs/{asked.run.resolve().name}"


def _collected(asked: Asked) -> Iterator[str]:
    """What made the trajectories, as far as the run says."""
    from srft.harness.run.run_yaml import config_folder, kept_config

    if (asked.run / "loop.yaml").exists():
        yield f"srft loop --config loop.yaml --run {_run(asked)}"
        return
    config = kept_config(config_folder(asked.folder))
    if config is None:
        yield f"srft import FILE --run {_run(asked)}"
        return
    kind, _, where = config.model.partition(":")
    model = f"openai:{where.partition('#')[2] or config.openai.name}" if kind in ("http", "https") else config.model
    model = f"{kind}:{named(where)}" if kind in ("local", "replay", "script") else model
    attempts = f" --attempts {config.attempts}" if config.attempts != 1 else ""
    yield f"srft collect --tasks {named(config.tasks)} --model {model}{attempts} --run {_run(asked)}"


def _judged(asked: Asked) -> Iterator[str]:
    if (asked.run / "loop.yaml").exists():
        return
    people = {told.critic for told in _human(asked)}
    for name in _critics(asked):
        yield f"srft critique --run {_run(asked)} --critic {name}" if name not in people else f"srft view {_run(asked)}"


def _human(asked: Asked) -> Iterator[Any]:
    index = asked.folder.index()
    yield from (told for run in index.standing for told in index.told(run.id) if told.source == "human")


def _rows_command(asked: Asked, arm: str, tokenizer: str) -> str:
    return f"srft rows --run {_run(asked)} --tokenizer {tokenizer} --arm {arm}"
