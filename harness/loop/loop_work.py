"""What the stages of a loop share: doing one unless it is finished, leaving where it was not asked for, and the model.

Reads and writes stages.json of a round, the link `model` of the run, and what a stage itself makes. `rounds.py` has the
stages in their order.

    work = LoopWork(config, run, stop, Displays(), known_stages(None))
    work.stage(stages, "train.srft", key, train, stage="train")     # its figures; not done twice
    work.promote(model, figures, folder)
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
from loguru import logger

from srft.agent.models.contract import Model
from srft.env.errors import InputError, SrftError
from srft.env.identity import additions, identity, key
from srft.harness.config.config import CollectConfig, EpisodesConfig
from srft.harness.look.report.write import write_report
from srft.harness.loop.loop_config import LoopConfig
from srft.harness.loop.round_log import RoundLog
from srft.harness.loop.served import ServedModels
from srft.harness.loop.sources import Sources
from srft.harness.run.live import Counts
from srft.harness.run.stages import Stages, joint_key
from srft.harness.run.store import Round, Run
from srft.harness.stages.collect import Episodes, collect
from srft.harness.stages.critique import Runs
from srft.harness.stages.evaluate import as_json
from srft.harness.stages.hooks import Hooks
from srft.harness.stages.practice import Making
from srft.train.fit.weights import weights_id

StageName = str
STAGES = ("practice", "import", "collect", "critique", "rows", "train", "evaluate", "promote", "report")
"""Serving belongs to what needs the model: `evaluate`, and `collect` from the student."""


class Displays(NamedTuple):
    """How progress is shown: each is entered while its stage runs."""

    practice: Callable[[Making], AbstractContextManager[object]] = nullcontext
    episodes: Callable[[Episodes], AbstractContextManager[object]] = nullcontext
    runs: Callable[[Runs], AbstractContextManager[object]] = nullcontext


class Incomplete(SrftError):
    """A stage did not get to its end; the same command resumes it."""


class Stopped(Exception):
    """Somebody asked to stop, or a budget is spent."""


class Left(Exception):
    """The stages that were asked for are done."""


def known_stages(only: Iterable[StageName] | None) -> frozenset[StageName]:
    """Raises InputError."""
    stages = frozenset(STAGES if only is None else only)
    if not stages or stages - set(STAGES):
        raise InputError(f"--stages {', '.join(sorted(stages))}: expected some of {', '.join(STAGES)}")
    return stages


def made_by(name: str, folder: Path) -> list[Path]:
    """What a stage leaves in its round's folder that is of no use for other inputs, the thing itself first. Labels and
    grades stay: each line of theirs says of which run and patch it is."""
    stage, _, cell = name.partition(".")
    if stage in ("collect", "import"):
        names = {path.name for path in folder.glob("predictions*.jsonl")}
        names |= {path.stem.removeprefix(".") for path in folder.glob(".predictions*.jsonl.*")}  # set aside
        return [folder / name for name in ("trajectories.jsonl", "run.yaml", "identity.json", *sorted(names))]
    places = {"train": folder / "model" / cell, "evaluate": folder / "evaluation" / cell}
    return [places[stage]] if stage in places else []


class LoopWork:
    """One command of a loop. `model` is the promoted one, `standing` the evaluation that a new one is held against (its
    figures and its folder), `unmeasured` the folders of trained models where there are no tasks to measure them on,
    `is_left` whether a round ended before its end, as no more of it was asked for."""

    def __init__(
        self, config: LoopConfig, run: Run, stop: threading.Event, displays: Displays, only: frozenset[StageName]
    ) -> None:
        self.config, self.run, self.stop, self.displays, self.only = config, run, stop, displays, only
        self.model = str(config.model)
        self.standing: tuple[dict[str, Any], Path] | None = None
        self.unmeasured: list[str] = []
        self.is_left = False
        workers = max(config.collect.workers, config.evaluate.workers)
        self.hooks = Hooks(config.hooks, run.path)
        self.log = RoundLog(config.recipe_of(config.seeds[0]).logger, run.path)
        self.servers = ServedModels(config.serve, logs=run.path / "logs", workers=workers)
        self.sources = Sources()

    def evaluate(self, round_: Round, stages: Stages, *, cell: str, model: str) -> dict[str, Any]:
        """The figures of a model's runs on the held-out tasks."""
        evaluation, held_out = self.config.evaluate, self.sources.held_out
        assert held_out is not None
        made_key = self.episodes_key("evaluate", evaluation, self.sources.held_out_ids, weights=weights_id(model))

        def work() -> dict[str, Any]:
            served = self.servers.serve(
                model, name=f"{round_.path.name}.{cell}", base=self.config.model, sampling=evaluation.openai
            )
            self.finish(stages, f"serve.{cell}", made_key, wall_s=served.wall_s, figures=served.figures)
            place = round_.evaluation(cell)
            return self.collect(evaluation, held_out, "student", into=place, model=served.model)

        serve = f"serve.{cell}"
        figures = self.stage(stages, f"evaluate.{cell}", made_key, work, stage="evaluate", outdates=[serve, "promote"])
        if serve not in stages:
            stages.restore(serve, made_key)
        return figures

    def episodes_key(
        self,
        stage: StageName,
        episodes: EpisodesConfig,
        task_ids: Mapping[str, str],
        *,
        weights: str | None,
        by: str = "",
        attempts: Mapping[str, int] | None = None,
    ) -> str:
        """What a collection depends on. weights: of the model that is served for it, by: who is asked elsewhere,
        attempts: at each task, where earlier rounds decide them. More tasks and attempts add to what is there."""
        base = self.run.path
        served = None if weights is None else (weights, identity(self.config.serve, base=base))
        chosen = () if attempts is None else (sorted(attempts.items()),)
        decides = key(stage, identity(episodes, base=base), served, by, *chosen)
        return joint_key(decides, key(additions(episodes, base=base), sorted(task_ids.items())))

    def collect(
        self,
        episodes: EpisodesConfig,
        tasks: str,
        teacher: str,
        *,
        into: Round,
        model: Model | None,
        attempts: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Collect and grade into a round or an evaluation; the figures of what came of it. attempts: at each of the
        tasks, no others are tried; `None`: all tasks, as often as `episodes` says."""
        settings = {field: getattr(episodes, field) for field in episodes.__struct_fields__}
        config = CollectConfig(tasks=tasks, model=teacher, **settings)
        if attempts is not None:
            others = {task: number for task, number in attempts.items() if number != episodes.attempts}
            config = msgspec.structs.replace(config, only=tuple(attempts), attempts_by_task=others)
        ended = collect(config, self.run, stop=self.stop, watch=self.displays.episodes, into=into, model=model)
        if ended.reason:
            raise Incomplete(ended.reason)
        self.check_stop()
        not_graded = ended.evaluation.not_graded if ended.evaluation else 0
        if ended.failed + not_graded > self.config.may_fail * ended.episodes:
            raise Incomplete(
                f"{into.path}: of {ended.episodes} episodes {ended.failed} were ended by infrastructure and "
                f"{not_graded} could not be graded, which may_fail {self.config.may_fail:g} does not allow; the same "
                "command tries them again"
            )
        counts = {"episodes": ended.episodes, "finished": ended.finished, "failed": ended.failed}
        return counts | (as_json(ended.evaluation) if ended.evaluation else {})

    def stage(
        self,
        stages: Stages,
        name: str,
        key: str,
        work: Callable[[], dict[str, Any]],
        *,
        stage: StageName,
        outdates: Iterable[str] = (),
        counts: Callable[[], Counts] | None = None,
    ) -> dict[str, Any]:
        """Do a stage unless it is finished; its figures. counts: how far it is, where it does not tell that itself.

        When its inputs changed, what it made is set aside, and so is what the stages that it `outdates` made: it was
        found out about something else. What was made from these very inputs before is brought back.
        """
        self.check_stop()
        folder = stages.path.parent
        if stages.done(name, key) and all(path.exists() for path in made_by(name, folder)[:1]):
            return stages[name].figures
        if stage not in self.only:
            self.leave(stage, f"{stages.path}: {name} is not finished")
        if stages.others(name, key):
            for one in (*outdates, name):
                stages.retire(one, made_by(one, folder))
        if stages.restore(name, key, made_by(name, folder)):
            return stages[name].figures
        logger.info("{}: {}", folder.name, name)
        stages.begin(name, key)
        began = time.monotonic()
        with self.run.live.stage(name, folder, counts):
            figures = work()
        self.finish(stages, name, key, wall_s=time.monotonic() - began, figures=figures)
        return figures

    def finish(self, stages: Stages, name: str, key: str, *, wall_s: float, figures: dict[str, Any]) -> None:
        """Note a stage as finished, and tell those who want to know."""
        stages.finish(name, key, wall_s=wall_s, figures=figures)
        folder = stages.path.parent
        self.hooks.stage(name, folder, wall_s=wall_s, figures=figures)
        self.log.stage(name, int(folder.name.removeprefix("round-")), figures)

    def leave(self, stage: StageName, what: str) -> NoReturn:
        """The end of what was asked for. Raises InputError where a later stage was asked for too, as it needs this."""
        if later := [name for name in STAGES[STAGES.index(stage) :] if name in self.only and name != "report"]:
            raise InputError(f"{what}, and {', '.join(later)} builds on it; add {stage} to --stages")
        raise Left

    def promote(self, model: str, evaluation: dict[str, Any], folder: Path) -> None:
        """From here on this model is the one to beat, and the link `model` of the run leads to it."""
        self.model, self.standing = model, (evaluation, folder)
        self.link()

    def link(self) -> None:
        """Let the link `model` of the run lead to the promoted model, and be away where there is none."""
        model = self.model
        if model == self.config.model:
            (self.run.path / "model").unlink(missing_ok=True)
            return
        link, target = self.run.path / "model", Path(os.path.relpath(model, self.run.path))
        if link.is_symlink() and link.readlink() == target:
            return
        temporary = link.with_name(".model.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(link)

    def check_stop(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def report(self) -> Path | None:
        return write_report(self.run.path) if "report" in self.only else None
