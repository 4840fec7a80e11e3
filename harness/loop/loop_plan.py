"""The plan of a loop, before anything is started: episodes, runs, containers, tokens, money, GPU hours, disk.

Reads a LoopConfig, tasks and runs where they lie on this machine, and what its recipe's plan says; writes nothing and
asks no server.

    planned = plan_loop(read_loop_config("paper"))
    planned.total.gpu_hours, planned.total.disk_gib

Everything is arithmetic over the assumptions in the configuration's `plan`, which are printed with it. Replace them by
what a first, small round measured.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from srft.agent.importing.columns import named
from srft.agent.importing.importers import read_runs
from srft.agent.importing.readers import Tally
from srft.agent.importing.readers.source import sources
from srft.env.tasks.task import load_tasks
from srft.harness.config.config import EpisodesConfig
from srft.harness.loop.choice import most_episodes
from srft.harness.loop.loop_config import LoopAssumptions, LoopConfig, RunsConfig
from srft.train.fit.recipe import Recipe
from srft.train.plan.plan import Plan
from srft.train.plan.plan import plan as plan_training
from srft.train.plan.storage import GPUS_A_NODE

TOKEN_BYTES_ON_DISK = 12
"""Of a run: its text, about four bytes a token, and the token ids and log-probabilities that a server gives."""

TEXT_BYTES_ON_DISK = 4
"""Of an imported run, which has no token ids."""

COUNTED_BYTES = 256 << 20
"""Larger files of runs are not read for a plan."""

GIB = 1 << 30


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One stage, of all rounds and cells together. `None`: it has nothing of the kind, or it is not known yet.

    prompt_tokens: all that requests carry; cached_tokens: those of them that a prefix cache saves. container_hours: a
    container being open; wall_hours: at the configured number of workers and GPUs. disk_gib, host_gib: of the disk and
    of one machine's memory, the most at a time. cost_usd: of tokens that have a price.
    """

    stage: str
    count: int | None
    of: str
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    reply_tokens: int | None = None
    containers: int | None = None
    container_hours: float | None = None
    gpu_hours: float | None = None
    wall_hours: float | None = None
    disk_gib: float | None = None
    host_gib: float | None = None
    cost_usd: float | None = None


_SUMMED = tuple(name for name in StagePlan.__struct_fields__ if name not in ("stage", "of", "count", "host_gib"))


class LoopPlan(msgspec.Struct, frozen=True, kw_only=True):
    """stages, their sums, the training of one cell, and what all of it rests on."""

    stages: list[StagePlan]
    total: StagePlan
    training: Plan
    assumptions: list[str]


class RunsPlan(msgspec.Struct, frozen=True):
    """The runs that a loop imports. count: `None` where it is not known before the import; origin: where it is from, in
    words; steps: of a run, where they were read."""

    count: int | None
    origin: str
    steps: float | None = None


def plan_loop(config: LoopConfig) -> LoopPlan:
    """Raises InputError."""
    runs = None if config.runs is None else plan_runs(config.runs, config.plan)
    if runs is not None and runs.steps is not None:
        config = msgspec.structs.replace(config, plan=msgspec.structs.replace(config.plan, steps=runs.steps))
    tasks, held_out, tasks_from = _counts(config)
    cells, rounds = len(config.cells()), config.rounds
    collected = most_episodes(config, tasks)
    measured = held_out * config.evaluate.attempts * (1 + cells * rounds)
    judged = [runs.count if runs is not None else collected[0], *collected[1:]]
    is_known = None not in judged
    training = plan_training(_recipe(config, judged, tasks), model=config.model, table=None)
    stages = [
        *([_images(config, tasks + held_out)] if tasks + held_out else []),
        *([] if runs is None else [_import(config, runs)]),
        *([] if runs is not None and rounds == 1 else [_collect(config, collected, training)]),
        _critique(config, sum(it or 0 for it in judged) if is_known else None),
        _train(config, training, models=cells * rounds, is_known=is_known),
        *([_evaluate(config, measured, training)] if held_out else []),
    ]
    return LoopPlan(
        stages=stages,
        total=_total(stages),
        training=training,
        assumptions=[
            *_assumptions(config, stages, runs=runs, tasks_from=tasks_from, is_known=is_known),
            *training.assumptions,
            *_storage_assumptions(config, stages, training),
        ],
    )


def plan_runs(config: RunsConfig, assumed: LoopAssumptions) -> RunsPlan:
    """How many runs an import will give: counted in files of this machine, else what is known of a dataset, else as
    assumed. Raises InputError."""
    found = [it for source in config.sources for it in sources(source)]
    size = sum(Path(it.name).stat().st_size for it in found if it.dataset is None and Path(it.name).exists())
    if all(it.dataset is None for it in found):
        if size <= COUNTED_BYTES:
            return _counted_runs(config)
        count, origin = assumed.runs, f"plan.runs: the files have {size / GIB:.1f} GiB, which a plan does not read"
    elif (count := _described_runs(config)) is not None:
        origin = "what srft knows of the dataset (srft import --list)"
    else:
        count, origin = assumed.runs, "plan.runs: the dataset is not on this machine"
        if config.outcome != "all" and count is not None:
            origin += f"; how many of them are {config.outcome} is not known, so all are counted"
    if config.limit is not None and (count is None or config.limit < count):
        count, origin = config.limit, "runs.limit: at most so many"
    return RunsPlan(count, origin if count is not None else "not known before the import; set plan.runs, or runs.limit")


def _counted_runs(config: RunsConfig) -> RunsPlan:
    tally = Tally()
    runs = (it for source in config.sources for it in read_runs(source, format=config.format, tally=tally))
    taken = (len(it.steps) for it in runs if config.outcome in ("all", _OUTCOMES[it.recorded_resolved]))
    steps = list(islice(taken, config.limit))
    return RunsPlan(len(steps), "counted in the files, as their steps are", sum(steps) / len(steps) if steps else None)


def _described_runs(config: RunsConfig) -> int | None:
    """How many runs of that outcome the descriptions of all these datasets promise."""
    counts = [_rows_of(source, config.outcome) for source in config.sources]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _rows_of(source: str, outcome: str) -> int | None:
    """Of a dataset as a whole: what a split of it has is not described, nor what another dataset alike has."""
    dataset = named(source)
    if dataset is None or dataset.name.lower() != source.lower():
        return None
    told = re.match(r"([\d,]+)(?: \((all|[\d,]+) resolved\))?(?= \(| in |$)", dataset.rows)
    if told is None:
        return None
    rows = int(told[1].replace(",", ""))
    if outcome == "all":
        return rows
    if told[2] is None:
        return None
    resolved = rows if told[2] == "all" else int(told[2].replace(",", ""))
    return resolved if outcome == "resolved" else rows - resolved


_OUTCOMES: dict[bool | None, str] = {True: "resolved", False: "unresolved", None: "unknown"}


def _counts(config: LoopConfig) -> tuple[int, int, str]:
    """(tasks trained on, tasks held out, where the figures are from)."""
    if config.practice is not None:
        return config.practice.train, config.practice.test, "counted"
    counts, assumed = [], []
    for source, name in ((config.tasks, "tasks"), (config.evaluation, "held_out")):
        is_here = source is not None and Path(source).exists()
        counts.append(0 if source is None else len(load_tasks(source)) if is_here else getattr(config.plan, name))
        assumed += [] if source is None or is_here else [f"plan.{name}"]
    where = f"{' and '.join(assumed)}: the tasks are not on this machine" if assumed else "counted"
    return counts[0], counts[1], where


def _recipe(config: LoopConfig, runs: Sequence[int | None], tasks: int) -> Recipe:
    """The recipe of one cell, with as many rows as a round of all earlier ones carries in the end. runs: of each
    round. tasks: that it collects on."""
    recipe = config.recipe_of(config.seeds[0])
    carried = {"all": config.rounds, "new": 1}.get(str(config.carry)) or min(int(config.carry), config.rounds)
    rows = sum(it or 0 for it in runs[-carried:])
    if config.rows.per_task is not None and config.runs is None:
        rows = min(rows, tasks * len((True, False)) * config.rows.per_task)  # of each outcome
    assumed = msgspec.structs.replace(recipe.plan, rows=max(1, rows))
    return msgspec.structs.replace(recipe, plan=assumed)


def _images(config: LoopConfig, tasks: int) -> StagePlan:
    return StagePlan(stage="images", count=tasks, of="images", disk_gib=tasks * config.plan.image_gib)


def _import(config: LoopConfig, runs: RunsPlan) -> StagePlan:
    size = None if runs.count is None else runs.count * config.plan.context_tokens * 2 * TEXT_BYTES_ON_DISK / GIB
    return StagePlan(stage="import", count=runs.count, of="runs", disk_gib=size)


def _collect(config: LoopConfig, episodes: Sequence[int], training: Plan) -> StagePlan:
    """episodes: of each round at most. Each round's teacher takes its own."""
    teachers = [config.teacher(number) for number in range(1, config.rounds + 1)]
    workers = config.collect.workers
    rounds = [
        _episodes(config, "collect", count, workers=workers, served=it == "student", asked=it != "demonstrator")
        for it, count in zip(teachers, episodes, strict=True)
        if it is not None
    ]
    stage = _sum(rounds, stage="collect", count=sum(episodes), of="episodes")
    host = _containers_gib(config.collect) + (_probe_bytes(training) / GIB if "student" in teachers else 0.0)
    return msgspec.structs.replace(stage, host_gib=host)


def _evaluate(config: LoopConfig, episodes: int, training: Plan) -> StagePlan:
    stage = _episodes(config, "evaluate", episodes, workers=config.evaluate.workers, served=True)
    host = _containers_gib(config.evaluate) + _probe_bytes(training) / GIB
    return msgspec.structs.replace(stage, host_gib=host)


def _containers_gib(episodes: EpisodesConfig) -> float:
    """The limits of all containers that are open at a time."""
    return episodes.workers * (episodes.sandbox.memory_gib or 0.0)


def _probe_bytes(training: Plan) -> int:
    """What the weight probe's direct forward holds in the host's memory: the saved model, or an adapter merged into its
    base in float32."""
    if training.trained_parameters < training.parameters:
        return 4 * training.parameters
    return training.storage.model_bytes


def _train(config: LoopConfig, training: Plan, *, models: int, is_known: bool) -> StagePlan:
    """is_known: whether it is known on how many runs."""
    hours = models * training.time_s / 3600 if is_known else None
    return StagePlan(
        stage="train",
        count=models,
        of="models",
        gpu_hours=None if hours is None or training.machine.name.startswith("CPU") else hours * training.gpus,
        wall_hours=hours,
        disk_gib=((models - 1) * training.storage.model_bytes + training.storage.disk_bytes) / GIB,
        host_gib=training.storage.host_bytes / GIB,
    )


def _episodes(
    config: LoopConfig, stage: str, episodes: int, *, workers: int, served: bool, asked: bool = True
) -> StagePlan:
    """served: by this machine; asked: a model at all, which the demonstrator is not: it writes its replies at once."""
    assumed = config.plan
    requests = round(episodes * assumed.steps)
    prompts = requests * assumed.context_tokens
    replies = requests * assumed.reply_tokens
    reply_s = assumed.reply_tokens / assumed.reply_tokens_per_s if asked else 0.0
    open_s = episodes * (assumed.steps * (assumed.command_s + reply_s) + assumed.start_s)
    grading_s = episodes * assumed.grading_s
    at_once = min(workers, max(1, episodes))
    wall_s = open_s / at_once + grading_s / (at_once * 2)
    return StagePlan(
        stage=stage,
        count=episodes,
        of="episodes",
        prompt_tokens=prompts if asked else None,
        cached_tokens=round(prompts * assumed.cached_share) if asked else None,
        reply_tokens=replies if asked else None,
        containers=2 * episodes,
        container_hours=(open_s + grading_s) / 3600,
        gpu_hours=open_s / at_once * assumed.gpus / 3600 if served else None,
        wall_hours=wall_s / 3600,
        disk_gib=episodes * (assumed.context_tokens * 2 + replies / max(1, episodes)) * TOKEN_BYTES_ON_DISK / GIB,
    )


def _critique(config: LoopConfig, runs: int | None) -> StagePlan:
    """A judge reads every run that is not resolved once a vote: its last context and a little more. A rule reads no
    tokens, and all runs."""
    assumed = config.plan
    if not _is_judge(config) or runs is None:
        return StagePlan(stage="critique", count=runs, of="runs")
    runs = round(runs * _read_share(config))
    readings = runs * config.judge.votes
    prompts, replies = readings * 2 * assumed.context_tokens, round(readings * (assumed.steps * 90 + 250))
    prices, _ = _judge_prices(config)
    return StagePlan(
        stage="critique",
        count=runs,
        of="runs",
        prompt_tokens=prompts,
        reply_tokens=replies,
        cost_usd=None if prices is None else (prompts * prices[0] + replies * prices[1]) / 1e6,
    )


def _read_share(config: LoopConfig) -> float:
    """Which share of the runs a judge reads."""
    only = config.runs.outcome if config.runs is not None and config.rounds == 1 else "all"
    if config.mask.mask_resolved or only == "unresolved":
        return 1.0
    return 0.0 if only == "resolved" else config.plan.unresolved_share


def _is_judge(config: LoopConfig) -> bool:
    return config.critic.startswith(("http", "judge"))


def _judge_prices(config: LoopConfig) -> tuple[tuple[float, float] | None, str]:
    """What a million prompt tokens and a million reply tokens cost, and where the price is from."""
    openai, assumed = config.judge.openai, config.plan
    for prompt, completion, where in (
        (openai.usd_per_million_prompt, openai.usd_per_million_completion, "judge.openai.usd_per_million_*"),
        (
            assumed.judge_usd_per_million_prompt,
            assumed.judge_usd_per_million_completion,
            "plan.judge_usd_per_million_*, an assumed price",
        ),
    ):
        if prompt is not None and completion is not None:
            return (prompt, completion), f"${prompt:g} and ${completion:g} a million: {where}"
    return None, "no price is known: set judge.openai.usd_per_million_prompt and _completion"


def _total(stages: list[StagePlan]) -> StagePlan:
    total = _sum(stages, stage="total", count=len(stages), of="stages")
    sums = {name: getattr(total, name) or 0 for name in _SUMMED if name != "cost_usd"}
    host = max((it.host_gib for it in stages if it.host_gib is not None), default=None)
    return msgspec.structs.replace(total, **sums, host_gib=host)


def _sum(stages: list[StagePlan], *, stage: str, count: int, of: str) -> StagePlan:
    """What none of them has, the sum has not."""
    sums: dict[str, Any] = {}
    for name in _SUMMED:
        values = [value for it in stages if (value := getattr(it, name)) is not None]
        sums[name] = sum(values) if values else None
    return StagePlan(stage=stage, count=count, of=of, **sums)


def _assumptions(
    config: LoopConfig, stages: Iterable[StagePlan], *, runs: RunsPlan | None, tasks_from: str, is_known: bool
) -> list[str]:
    assumed = config.plan
    said = []
    if runs is not None:
        said.append(f"runs: {'unknown' if runs.count is None else f'{runs.count:,}'} ({runs.origin})")
    if _is_judge(config):
        judged = next(it for it in stages if it.stage == "critique")
        _, price = _judge_prices(config)
        cost = "unknown" if judged.cost_usd is None else f"${judged.cost_usd:,.0f}"
        said.append(f"judge: {config.judge.votes} reading of a run, cost {cost} ({price})")
    if not is_known:
        said.append("judge tokens, training hours and the disk for runs: unknown, as the number of runs is")
    if config.tasks is not None or config.evaluation is not None or config.practice is not None:
        said.append(f"tasks: {tasks_from}")
    if config.rounds > 1 and "student" in config.teachers:
        said.append(
            "rounds of the student: as if it never solved a task always; those that it does are left out (choose)"
        )
    return [
        *said,
        f"an episode: {assumed.steps:g} steps, {assumed.context_tokens:,} tokens of prompt and "
        f"{assumed.reply_tokens:,} of reply a step, {assumed.cached_share:.0%} of the prompt in the prefix cache "
        "(plan.steps, ...)",
        f"a step: {assumed.reply_tokens_per_s:g} reply tokens a second for each of the episodes at a time, and "
        f"{assumed.command_s:g} s of command; {assumed.start_s:g} s to open and {assumed.grading_s:g} s to grade",
        f"{assumed.gpus} GPUs serve while a model of ours is asked; a teacher behind an endpoint and the demonstrator "
        "take none of them",
        f"{assumed.image_gib:g} GiB of disk for what a task's image has of its own",
    ]


def _storage_assumptions(config: LoopConfig, stages: Iterable[StagePlan], training: Plan) -> list[str]:
    """Where the figures of disk and memory are from, those of the training apart."""
    cells, model = len(config.cells()), training.storage.model_bytes / GIB
    said = [
        f"disk: a round's {cells} saved {'model is' if cells == 1 else 'models are'} kept; each time that rows or "
        f"settings change, those before are set aside beside them, {cells * model:,.1f} GiB more, until you remove them"
    ]
    for stage in stages:
        if stage.host_gib is None or stage.stage == "train":
            continue
        episodes = config.collect if stage.stage == "collect" else config.evaluate
        limit, probe = episodes.sandbox.memory_gib, stage.host_gib - _containers_gib(episodes)
        origin = f"{episodes.workers} containers of at most {limit:g} GiB ({stage.stage}.sandbox.memory_gib)"
        if limit is None:
            origin = f"containers have no limit ({stage.stage}.sandbox.memory_gib)"
        if probe:
            origin += f", and {probe:,.1f} GiB while served weights are probed; the server apart"
        said.append(f"host memory: {stage.stage}: {stage.host_gib:,.1f} GiB: {origin}")
    if config.processes > GPUS_A_NODE:
        said.append(
            f"processes {config.processes}: a loop starts them all on one machine; on more than one, train by hand "
            "(see nodes)"
        )
    return said


def plan_table(plan: LoopPlan) -> Group:
    """For a person: a table that fits a terminal, and what it rests on."""
    heads = ("stage", "count", "prompt", "cached", "reply", "containers", "GPU-h", "wall-h", "GiB")
    # One space between columns, or the largest figures do not fit 80 of them.
    table = Table(*heads, title="Plan", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in plan.stages:
        table.add_row(stage.stage, *_cells(stage, count=_short(stage.count) or "?"))
    table.add_section()
    table.add_row("total", *_cells(plan.total, count=""))
    fits = "fits" if plan.training.fits else "DOES NOT FIT"
    machine = f"{plan.training.gpus} x {plan.training.machine.name}"
    peak = f"{plan.training.memory.peak_bytes / GIB:.1f} GiB"
    lines = [f"training: {machine}, {peak} a process at its peak: {fits}"]
    if plan.total.host_gib is not None:
        needs = ", ".join(f"{it.stage} {it.host_gib:,.1f}" for it in plan.stages if it.host_gib is not None)
        lines.append(f"memory of a machine beside its GPUs: {plan.total.host_gib:,.1f} GiB ({needs})")
    storage = plan.training.storage
    lines.append(
        f"disk while training: a checkpoint {storage.checkpoint_bytes / GIB:,.1f} GiB, {storage.checkpoints} at a "
        f"time; a model {storage.model_bytes / GIB:,.1f} GiB"
    )
    if plan.total.cost_usd is not None:
        lines.append(f"cost of the tokens that have a price: ${plan.total.cost_usd:,.0f}")
    lines += [f"assumed: {line}" for line in plan.assumptions]
    return Group(table, *(Text(line) for line in lines))


def _cells(stage: StagePlan, *, count: str) -> list[str]:
    counts = (stage.prompt_tokens, stage.cached_tokens, stage.reply_tokens, stage.containers)
    hours = (stage.gpu_hours, stage.wall_hours, stage.disk_gib)
    return [count, *(_short(value) for value in counts), *("" if it is None else f"{it:,.1f}" for it in hours)]


def _short(count: int | None) -> str:
    """
    >>> _short(1_234_567_890), _short(12_300), _short(880), _short(None)
    ('1.23 G', '12.3 k', '880', '')
    """
    if count is None:
        return ""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
