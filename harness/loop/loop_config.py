"""What `srft loop` does: a preset of ours or a YAML file, with `--set key=value` over it.

    config = read_loop_config("demo", sets=["rounds=2"])
    config.arms, config.collect.attempts

See `presets/*.yaml` for whole ones.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from srft.critic.judge.config import JudgeConfig
from srft.env.errors import InputError
from srft.env.identity import ADDS, MAY_CHANGE, adds_by, decides_by, identity
from srft.env.practice import PracticeConfig
from srft.harness.config.config import MORE_THAN_0, EpisodesConfig, read_config
from srft.harness.config.identity import (
    base_model_id,
    critic_id,
    model_ids,
    report_id,
    runs_ids,
    tasks_id,
    tools_id,
)
from srft.harness.loop.choice import Choice
from srft.harness.loop.promotion import Promotion
from srft.harness.serve.server import ServeConfig
from srft.harness.stages.hooks import HooksConfig
from srft.train.fit.recipe import Recipe, recipe_file
from srft.train.rows.contamination import By
from srft.train.rows.mask import Arm, MaskPolicy
from srft.train.rows.rows import RowSettings

PRESETS = Path(__file__).parents[1] / "presets"

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a loop stops by itself; `null` is no limit. What is on file stays, and a larger budget resumes it."""

    usd: Annotated[float, MORE_THAN_0] | None = None
    """US dollars for teacher, critic and evaluated models, as their servers say or by the prices in `collect.openai`
    and `judge.openai`; models without either count nothing."""
    tokens: Annotated[int, MORE_THAN_0] | None = None
    """Prompt and reply tokens of teacher, critic and evaluated models, as counted by their servers."""
    wall_s: Annotated[float, MORE_THAN_0] | None = None
    """Seconds of one command."""
    disk_gib: Annotated[float, MORE_THAN_0] | None = None
    """Disk of the run's folder."""


class RunsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Runs of other programs that a loop begins with, as `srft import` takes them."""

    sources: Annotated[tuple[str, ...], msgspec.Meta(min_length=1), decides_by(runs_ids)] = msgspec.field(name="from")
    """The runs: files, folders or datasets."""
    format: str = "auto"
    """The format they are read as."""
    report: Annotated[str | None, decides_by(report_id)] = None
    """An official report with their verdicts."""
    limit: Annotated[int, MORE_THAN_0] | None = None
    """The most runs to import."""
    outcome: Literal["all", "resolved", "unresolved"] = "all"
    """Import only runs with this recorded outcome."""
    tools: Annotated[str | None, decides_by(tools_id)] = None
    """For runs without descriptions of their tools: a file of the tools that were offered, or the name of a known
    scaffold."""


class LoopAssumptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `--plan` cannot read off the configuration."""

    tasks: int = 1000
    """The number of tasks to collect on, where they are not on this machine."""
    held_out: int = 500
    """The number of evaluation tasks, where they are not on this machine."""
    runs: Annotated[int, MORE_THAN_0] | None = None
    """The number of runs to import, where they are not on this machine."""
    steps: float = 42.0
    """Steps of an episode (here and in the next three: means of 246 recorded runs of a strong model on SWE-bench
    Verified)."""
    context_tokens: int = 17000
    """Prompt tokens of one request, on average."""
    reply_tokens: int = 276
    """Reply tokens of one request, on average."""
    cached_share: Share = 0.84
    """The share of prompt tokens in the prefix cache."""
    reply_tokens_per_s: Annotated[float, MORE_THAN_0] = 30.0
    """Reply tokens a second for each of the episodes under way."""
    command_s: float = 1.0
    """Seconds of one command."""
    start_s: float = 5.0
    """Seconds to open a container."""
    grading_s: float = 60.0
    """Seconds to grade a patch."""
    image_gib: float = 1.0
    """Disk that one task's image adds."""
    gpus: int = 8
    """GPUs that serve the model."""
    unresolved_share: Share = 0.61
    """The share of runs that are unresolved, which a judge reads (0.61 in the SRFT paper)."""
    judge_usd_per_million_prompt: float | None = None
    """US dollars for a million prompt tokens of the judge, where `judge.openai` names no price."""
    judge_usd_per_million_completion: float | None = None
    """US dollars for a million reply tokens of the judge, where `judge.openai` names no price."""


def _recipe_id(name: str, *, base: Path, record: Any) -> dict[str, Any]:
    """The recipe with the loop's `training` over it, whatever its name; the seeds add cells of their own."""
    return {name: value for name, value in identity(record.recipe_of(0), base=base).items() if name != "seed"}


class LoopConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rounds of collect, critique, rows, train, serve, evaluate, promote."""

    KEPT_AS: ClassVar[str] = "loop"
    """The key under which loop.yaml keeps it."""

    preset: Annotated[str, MAY_CHANGE] = ""
    """The preset that it was read from."""
    runs: Annotated[RunsConfig | None, ADDS] = None
    """Runs that round 1 imports instead of collecting. Then there need be no tasks, and without `evaluation` the new
    models are neither measured nor promoted. Further rounds collect, so they need teachers and tasks."""
    practice: PracticeConfig | None = None
    """Tasks that the loop makes itself, instead of `tasks` and `evaluation`."""
    tasks: Annotated[str | None, adds_by(tasks_id)] = None
    """The tasks to collect on: a dataset, a file or a task repo."""
    evaluation: Annotated[str | None, adds_by(tasks_id)] = None
    """The held-out tasks: a dataset, a file or a task repo."""
    contamination: By = "repository"
    """Whether `tasks` and `evaluation` must differ by repository or by instance."""
    model: Annotated[str, decides_by(base_model_id)]
    """The base model."""
    rounds: Annotated[int, MORE_THAN_0, ADDS] = 1
    """The number of rounds."""
    teachers: Annotated[tuple[str, ...], adds_by(model_ids)] = ()
    """Who is collected from, one for each round, the last one for all further rounds too: an endpoint's URL,
    `demonstrator` (the default), or `student`: the current model. With `runs` the first teacher is that of
    round 2."""
    start: Literal["base", "promoted"] = "base"
    """Which model a round trains: the base model or the promoted one."""
    carry: Literal["all", "new"] | Annotated[int, MORE_THAN_0] = "all"
    """Which rounds' runs a round trains on: `all` so far, only its own (`new`), or those of the last n."""
    collect: EpisodesConfig = EpisodesConfig()
    choose: Choice = Choice()
    """Which tasks a round collects on, and how often."""
    critic: Annotated[str, decides_by(critic_id)] = "tool_error"
    """The critic, as for `srft critique`."""
    judge: JudgeConfig = JudgeConfig()
    """The judge's settings, as for `srft critique`."""
    arms: Annotated[tuple[Arm, ...], msgspec.Meta(min_length=1), ADDS] = ("srft",)
    """The arms to train (`srft.train.rows.mask`), each with every seed."""
    seeds: Annotated[tuple[int, ...], msgspec.Meta(min_length=1), ADDS] = (0,)
    """The seeds to train each arm with."""
    mask: MaskPolicy = MaskPolicy()
    rows: RowSettings = RowSettings()
    recipe: Annotated[str, decides_by(_recipe_id)]
    """The training recipe: a name of ours or a YAML file."""
    training: Annotated[dict[str, Any], MAY_CHANGE] = {}
    """Settings of the recipe that differ; they count with it."""
    processes: Annotated[int, MORE_THAN_0, MAY_CHANGE] = 1
    """Training processes, one for each GPU."""
    serve: ServeConfig = ServeConfig()
    evaluate: EpisodesConfig = EpisodesConfig()
    promote: Promotion = Promotion()
    may_fail: Annotated[Share, MAY_CHANGE] = 0.0
    """The share of episodes that infrastructure may end or leave ungraded without stopping the loop."""
    budget: Annotated[Budget, MAY_CHANGE] = Budget()
    hooks: Annotated[HooksConfig, MAY_CHANGE] = HooksConfig()
    """A command or a webhook to tell at the end of each stage and at a failure."""
    plan: Annotated[LoopAssumptions, MAY_CHANGE] = LoopAssumptions()

    @property
    def promoted_arm(self) -> Arm:
        return self.promote.arm or self.arms[0]

    def teacher(self, number: int) -> str | None:
        """Who is collected from in round 1, 2, ...; `None` of the round that imports its runs."""
        place = number if self.runs is None else number - 1
        return self.teachers[min(place, len(self.teachers)) - 1] if place else None

    def formats_served(self) -> set[str]:
        """The action formats in which models that the loop serves itself are asked."""
        is_measured = self.evaluation is not None or self.practice is not None
        asked = [self.evaluate.format] if is_measured else []
        return {*asked, *([self.collect.format] if "student" in self.teachers else [])}

    def cells(self) -> list[tuple[str, Arm, int]]:
        """(name, arm, seed) of each model that a round trains. The first seed's bears the arm's name alone."""
        first = self.seeds[0]
        return [(arm if seed == first else f"{arm}.{seed}", arm, seed) for arm in self.arms for seed in self.seeds]

    def recipe_of(self, seed: int) -> Recipe:
        """The recipe that a cell is trained by. Raises InputError."""
        try:
            return read_config(Recipe, file=str(recipe_file(self.recipe)), sets=self.recipe_sets(seed))
        except InputError as error:
            raise InputError(f"recipe {self.recipe} with the loop's `training`: {error}") from None

    def recipe_sets(self, seed: int) -> list[str]:
        """What a cell's recipe has in the place of the named one's, as `--set` takes it."""
        return [f"{key}={json.dumps(value)}" for key, value in {**self.training, "seed": seed}.items()]


def read_loop_config(
    preset: str | None, *, file: str | None = None, sets: Iterable[str] = (), **options: Any
) -> LoopConfig:
    """A preset's or a file's, with `sets` and `options` (`None`: not given) over it. Raises InputError.

    file: one of `LoopConfig`'s keys, or the loop.yaml of a run, which makes the same loop again.
    """
    if (preset is None) == (file is None):
        raise InputError(f"give either --preset ({', '.join(presets())}) or --config FILE")
    source = file or str(preset_file(str(preset)))
    config = read_config(LoopConfig, file=source, sets=sets, preset=preset, **options)
    if config.runs is None and not config.teachers:
        config = msgspec.structs.replace(config, teachers=("demonstrator",))
    _check(config, source)
    return config


def presets() -> list[str]:
    """The names of ours."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_file(name: str) -> Path:
    """Raises InputError."""
    if name not in presets():
        raise InputError(f"--preset {name}: no such preset; expected one of {', '.join(presets())}, or --config FILE")
    return PRESETS / f"{name}.yaml"


def _check(config: LoopConfig, source: str) -> None:
    """Raises InputError for what only shows in keys taken together."""
    if config.runs is not None:
        _check_runs(config, source)
    elif (config.practice is None) != (config.tasks is not None and config.evaluation is not None):
        raise InputError(f"{source}: expected either practice, or both tasks and evaluation")
    if config.promoted_arm not in config.arms:
        raise InputError(f"{source}: promote.arm {config.promoted_arm} is none of the arms {', '.join(config.arms)}")
    for name, values in (("arms", config.arms), ("seeds", config.seeds)):
        if len(set(values)) != len(values):
            raise InputError(f"{source}: {name}: {', '.join(map(str, values))}: each may be given once")
    for seed in config.seeds:
        config.recipe_of(seed)


def _check_runs(config: LoopConfig, source: str) -> None:
    """Raises InputError for what a loop that begins with runs does not go together with."""
    if config.practice is not None:
        raise InputError(f"{source}: practice makes tasks to collect on, and runs are imported; give one of the two")
    if config.rounds > 1:
        given = {"teachers": config.teachers, "tasks": config.tasks, "evaluation": config.evaluation}
        if missing := [name for name, value in given.items() if not value]:
            raise InputError(
                f"{source}: rounds {config.rounds}: round 1 imports runs, and each further one collects its own, which "
                f"needs {', '.join(missing)}; give them, or say rounds: 1"
            )
    elif config.teachers:
        raise InputError(
            f"{source}: teachers {', '.join(config.teachers)}: the only round imports its runs and asks nobody; leave "
            "them out, or say rounds: 2"
        )
    if config.critic == "oracle":
        raise InputError(f"{source}: critic: oracle knows the demonstrator's runs alone; name another, say tool_error")
