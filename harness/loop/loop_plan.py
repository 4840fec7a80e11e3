"""What a loop will take, said before anything is begun: episodes, containers, tokens, GPU hours, disk.

Reads a LoopConfig, the tasks where they lie on this machine, and what its recipe's plan says; writes nothing.

    planned = plan_loop(read_loop_config("paper"))
    planned.total.gpu_hours, planned.total.disk_gib

Everything is arithmetic over the assumptions in the configuration's `plan`, which are printed with it. Replace them by
what a first, small round measured.
"""

from pathlib import Path
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from srft.env.tasks.task import load_tasks
from srft.harness.loop.loop_config import LoopConfig
from srft.train.fit.recipe import Recipe
from srft.train.plan.plan import Plan
from srft.train.plan.plan import plan as plan_training

TOKEN_BYTES_ON_DISK = 12
"""Of a run: its text, about four bytes a token, and the token ids and log-probabilities that a server gives."""

GIB = 1 << 30


class StagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One stage, of all rounds and cells together. `None`: it has nothing of the kind.

    prompt_tokens: all that requests carry; cached_tokens: those of them that a prefix cache saves. container_hours: a
    container being open; wall_hours: at the configured number of workers and GPUs.
    """

    stage: str
    count: int
    of: str
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    reply_tokens: int | None = None
    containers: int | None = None
    container_hours: float | None = None
    gpu_hours: float | None = None
    wall_hours: float | None = None
    disk_gib: float | None = None


_SUMMED = tuple(name for name in StagePlan.__struct_fields__ if name not in ("stage", "of", "count"))


class LoopPlan(msgspec.Struct, frozen=True, kw_only=True):
    """stages, their sums, the training of one cell, and what all of it rests on."""

    stages: list[StagePlan]
    total: StagePlan
    training: Plan
    assumptions: list[str]


def plan_loop(config: LoopConfig) -> LoopPlan:
    """Raises InputError."""
    tasks, held_out, known = _counts(config)
    cells, rounds = len(config.cells()), config.rounds
    episodes = tasks * config.collect.attempts * rounds
    measured = held_out * config.evaluate.attempts * (1 + cells * rounds)
    training = plan_training(_recipe(config, rows=tasks * config.collect.attempts), model=config.model, table=None)
    stages = [
        _images(config, tasks + held_out),
        _collect(config, tasks * config.collect.attempts),
        _critique(config, episodes),
        _train(config, training, models=cells * rounds),
        _episodes(config, "evaluate", measured, workers=config.evaluate.workers, served=True),
    ]
    return LoopPlan(
        stages=stages,
        total=_total(stages),
        training=training,
        assumptions=[*_assumptions(config, known=known), *training.assumptions],
    )


def _counts(config: LoopConfig) -> tuple[int, int, bool]:
    """(tasks trained on, tasks held out, whether they were counted or assumed)."""
    if config.practice is not None:
        return config.practice.train, config.practice.test, True
    sources = [str(config.tasks), str(config.evaluation)]
    if all(Path(source).exists() for source in sources):
        return len(load_tasks(sources[0])), len(load_tasks(sources[1])), True
    return config.plan.tasks, config.plan.held_out, False


def _recipe(config: LoopConfig, *, rows: int) -> Recipe:
    """The recipe of one cell, with as many rows as a round of all earlier ones carries in the end."""
    recipe = config.recipe_of(config.seeds[0])
    carried = {"all": config.rounds, "new": 1}.get(str(config.carry)) or min(int(config.carry), config.rounds)
    assumed = msgspec.structs.replace(recipe.plan, rows=max(1, rows * carried))
    return msgspec.structs.replace(recipe, plan=assumed)


def _bytes_of(recipe: Recipe) -> int:
    return 2 if recipe.weights == "bfloat16" else 4


def _images(config: LoopConfig, tasks: int) -> StagePlan:
    return StagePlan(stage="images", count=tasks, of="images", disk_gib=tasks * config.plan.image_gib)


def _collect(config: LoopConfig, episodes: int) -> StagePlan:
    """episodes: of one round. Each round's teacher takes its own."""
    teachers = [config.teacher(number) for number in range(1, config.rounds + 1)]
    workers = config.collect.workers
    rounds = [
        _episodes(config, "collect", episodes, workers=workers, served=it == "student", asked=it != "demonstrator")
        for it in teachers
    ]
    return _sum(rounds, stage="collect", count=episodes * config.rounds, of="episodes")


def _train(config: LoopConfig, training: Plan, *, models: int) -> StagePlan:
    hours = models * training.time_s / 3600
    return StagePlan(
        stage="train",
        count=models,
        of="models",
        gpu_hours=None if training.machine.name.startswith("CPU") else hours * training.gpus,
        wall_hours=hours,
        disk_gib=models * training.parameters * _bytes_of(config.recipe_of(config.seeds[0])) / GIB,
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


def _critique(config: LoopConfig, episodes: int) -> StagePlan:
    """A judge reads every run once a vote: its last context and a little more. A rule reads no tokens."""
    assumed = config.plan
    if not config.critic.startswith(("http", "judge")):
        return StagePlan(stage="critique", count=episodes, of="runs")
    readings = episodes * config.judge.votes
    return StagePlan(
        stage="critique",
        count=episodes,
        of="runs",
        prompt_tokens=readings * 2 * assumed.context_tokens,
        reply_tokens=round(readings * assumed.steps * 40),
    )


def _total(stages: list[StagePlan]) -> StagePlan:
    total = _sum(stages, stage="total", count=len(stages), of="stages")
    sums = {name: getattr(total, name) or 0 for name in _SUMMED}
    return msgspec.structs.replace(total, **sums)


def _sum(stages: list[StagePlan], *, stage: str, count: int, of: str) -> StagePlan:
    """What none of them has, the sum has not."""
    sums: dict[str, Any] = {}
    for name in _SUMMED:
        values = [value for it in stages if (value := getattr(it, name)) is not None]
        sums[name] = sum(values) if values else None
    return StagePlan(stage=stage, count=count, of=of, **sums)


def _assumptions(config: LoopConfig, *, known: bool) -> list[str]:
    assumed = config.plan
    where = "counted" if known else "plan.tasks and plan.held_out: the tasks are not on this machine"
    return [
        f"tasks: {where}",
        f"an episode: {assumed.steps:g} steps, {assumed.context_tokens:,} tokens of prompt and "
        f"{assumed.reply_tokens:,} of reply a step, {assumed.cached_share:.0%} of the prompt in the prefix cache "
        "(plan.steps, ...)",
        f"a step: {assumed.reply_tokens_per_s:g} reply tokens a second for each of the episodes at a time, and "
        f"{assumed.command_s:g} s of command; {assumed.start_s:g} s to open and {assumed.grading_s:g} s to grade",
        f"{assumed.gpus} GPUs serve while a model of ours is asked; a teacher behind an endpoint and the demonstrator "
        "take none of them",
        f"{assumed.image_gib:g} GiB of disk for what a task's image has of its own",
    ]


def plan_table(plan: LoopPlan) -> Group:
    """For a person: a table that fits a terminal, and what it rests on."""
    heads = ("stage", "count", "prompt", "cached", "reply", "containers", "GPU-h", "wall-h", "GiB")
    # One space between columns, or the largest figures do not fit 80 of them.
    table = Table(*heads, title="Plan", box=SIMPLE_HEAD, padding=0, show_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in plan.stages:
        table.add_row(stage.stage, *_cells(stage, count=_short(stage.count)))
    table.add_section()
    table.add_row("total", *_cells(plan.total, count=""))
    fits = "fits" if plan.training.fits else "DOES NOT FIT"
    machine = f"{plan.training.gpus} x {plan.training.machine.name}"
    peak = f"{plan.training.memory.peak_bytes / GIB:.1f} GiB"
    lines = [f"training: {machine}, {peak} a process at its peak: {fits}"]
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
