"""Rounds: collect, critique, rows, train, serve, evaluate, promote; and again.

Reads a LoopConfig; writes a run directory (see README, "How data flows") and its report:

    practice/                    the tasks, where the loop makes them
    loop.yaml                    the configuration and the versions
    round-000/evaluation/base/   the base model on the held-out tasks
    round-001/                   trajectories, labels, grades, rows/<arm>, model/<cell>, evaluation/<cell>
    round-NNN/stages.json        what is finished, keyed by a hash of inputs and configuration
    model                        a link to the promoted model

    with Run("runs/demo") as run:
        outcome = loop(read_loop_config("demo"), run, stop=threading.Event())

The same command goes on where the last one ended, however it ended. A stage whose inputs have changed since is done
again, and what it had made before is set aside, not deleted.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
from loguru import logger

from srft.agent.model import Model
from srft.env.errors import InputError, SrftError
from srft.harness.budget import BudgetWatch
from srft.harness.collect import Episodes, collect
from srft.harness.config import CollectConfig, EpisodesConfig, without_defaults
from srft.harness.critics import open_critic
from srft.harness.critique import CritiqueConfig, Runs, critique
from srft.harness.evaluate import as_json
from srft.harness.loop_config import LoopConfig
from srft.harness.loop_yaml import keep_loop_config
from srft.harness.models import close_model, open_model
from srft.harness.practice import Making, practice
from srft.harness.report import write_report
from srft.harness.rows import RowsConfig, make_rows
from srft.harness.served import ServedModels
from srft.harness.serving.weights import check_folder
from srft.harness.stage_keys import Sources, essence, stage_key, trained_by
from srft.harness.stages import Stages, set_aside
from srft.harness.store import Round, Run
from srft.harness.training_process import train_in_process
from srft.harness.weights import weights_id
from srft.train.mask import Arm
from srft.train.rows import RowTable

StageName = str
STAGES = ("practice", "collect", "critique", "rows", "train", "evaluate", "promote", "report")
"""Serving belongs to what needs the model: `evaluate`, and `collect` from the student."""

ROWS_FIGURES = ("runs", "runs_used", "rows", "tokens", "written_tokens", "trained_tokens", "steps", "steps_masked")


class Displays(NamedTuple):
    """How progress is shown: each is entered while its stage goes on."""

    practice: Callable[[Making], AbstractContextManager[object]] = nullcontext
    episodes: Callable[[Episodes], AbstractContextManager[object]] = nullcontext
    runs: Callable[[Runs], AbstractContextManager[object]] = nullcontext


class Outcome(NamedTuple):
    """How a loop ended. reason: why it stopped before its end. model: the promoted one, at first the base model."""

    complete: bool
    reason: str | None
    model: str
    report: Path | None


class Incomplete(SrftError):
    """A stage did not get to its end; the same command goes on."""


class _Stopped(Exception):
    """Somebody asked to stop, or a budget is spent."""


def loop(
    config: LoopConfig,
    run: Run,
    *,
    stop: threading.Event,
    displays: Displays | None = None,
    only: Iterable[StageName] | None = None,
) -> Outcome:
    """Go on to the end of the last round. Raises InputError, and SrftError where a stage fails.

    stop: when set, the steps under way are finished. only: these stages alone; what they build on must be there.
    """
    stages = _known_stages(only)
    _check_names(config)
    keep_loop_config(config, run)
    with BudgetWatch(config.budget, run.path, stop) as budget:
        rounds = _Rounds(config, run, stop, displays or Displays(), stages)
        try:
            rounds.go()
        except _Left:
            pass
        except _Stopped:
            return Outcome(False, budget.spent or "stopped", rounds.model, None)
        finally:
            rounds.servers.close()
    return Outcome(True, None, rounds.model, rounds.report())


def _known_stages(only: Iterable[StageName] | None) -> frozenset[StageName]:
    """Raises InputError."""
    stages = frozenset(STAGES if only is None else only)
    if not stages or stages - set(STAGES):
        raise InputError(f"--stages {', '.join(sorted(stages))}: expected some of {', '.join(STAGES)}")
    return stages


def _check_names(config: LoopConfig) -> None:
    """What a later stage would stumble on, before anything is done. Raises InputError."""
    if config.critic != "oracle":  # which needs the tasks
        open_critic(config.critic, judge=config.judge)
    for teacher in config.teachers:
        if teacher not in {"demonstrator", "student"}:
            close_model(open_model(teacher, settings=config.collect.openai))
    try:
        check_folder(config.model)
    except InputError as error:
        raise InputError(f"model (--model): {error}; it is looked for from {Path.cwd()}") from None


class _Left(Exception):
    """The stages that were asked for are done."""


class _Rounds:
    """The rounds of one loop. `model` is the promoted one, `standing` the evaluation that a new one is held against."""

    def __init__(
        self, config: LoopConfig, run: Run, stop: threading.Event, displays: Displays, only: frozenset[StageName]
    ) -> None:
        self.config, self.run, self.stop, self.displays, self.only = config, run, stop, displays, only
        self.model = str(config.model)
        self.standing: dict[str, Any] = {}
        self.servers = ServedModels(config.serve, logs=run.path / "logs")
        self.sources = Sources("", "", "", "")

    def go(self) -> None:
        self.sources = self._tasks()
        self._round_zero()
        for number in range(1, self.config.rounds + 1):
            _Round(self, number).go()
            if number < self.config.rounds:
                self.report()

    def _tasks(self) -> Sources:
        """What is trained on and what is held out, made first where the loop makes it."""
        if self.config.practice is None:
            return Sources.load(str(self.config.tasks), str(self.config.evaluation))
        folder = self.run.path / "practice"
        if "practice" in self.only:
            sandbox, watch = self.config.collect.sandbox.kind, self.displays.practice
            made = practice(self.config.practice, folder, sandbox=sandbox, stop=self.stop, watch=watch)
            self.check_stop()
            if made.missing:
                logger.warning("{}: {} tasks fewer than asked for: the tests see no more bugs", folder, made.missing)
        return Sources.load(str(folder / "train"), str(folder / "test"))

    def _round_zero(self) -> None:
        if not {"evaluate", "promote"} & self.only and not (self.run.path / "round-000").exists():
            return  # nothing that was asked for needs it
        round_ = self.run.round(0)
        stages = Stages.read(round_.path)
        with suppress(_Left):  # later stages say themselves what they miss
            self.standing = self.evaluate(round_, stages, cell="base", model=self.config.model)

    def evaluate(self, round_: Round, stages: Stages, *, cell: str, model: str) -> dict[str, Any]:
        """The figures of a model's runs on the held-out tasks."""
        evaluation = self.config.evaluate
        key = stage_key("evaluate", weights_id(model), self.sources.held_out_digest, essence(evaluation))

        def work() -> dict[str, Any]:
            served = self.servers.serve(
                model, name=f"{round_.path.name}.{cell}", base=self.config.model, sampling=evaluation.openai
            )
            stages.finish(f"serve.{cell}", key, wall_s=served.wall_s, figures=served.figures)
            place = round_.evaluation(cell)
            return self.collect(evaluation, self.sources.held_out, "student", into=place, model=served.model)

        return self.stage(
            stages, f"evaluate.{cell}", key, work, stage="evaluate", made=[round_.path / "evaluation" / cell]
        )

    def collect(
        self, episodes: EpisodesConfig, tasks: str, teacher: str, *, into: Round, model: Model | None
    ) -> dict[str, Any]:
        """Collect and grade into a round or an evaluation; the figures of what came of it."""
        settings = {field: getattr(episodes, field) for field in episodes.__struct_fields__}
        config = CollectConfig(tasks=tasks, model=teacher, **settings)
        ended = collect(config, self.run, stop=self.stop, watch=self.displays.episodes, into=into, model=model)
        if ended.reason:
            raise Incomplete(ended.reason)
        self.check_stop()
        if ended.failed > self.config.may_fail * ended.episodes:
            raise Incomplete(
                f"{into.path}: {ended.failed} of {ended.episodes} episodes were ended by the world, which may_fail "
                f"{self.config.may_fail:g} does not allow; the same command tries them again"
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
        made: Iterable[Path] = (),
        outdates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Do a stage unless it is finished; its figures.

        When its inputs changed, `made` (what it writes) is set aside, and the stages that it `outdates` are forgotten.
        """
        self.check_stop()
        if stages.done(name, key):
            return stages[name].figures
        if stage not in self.only:
            self.leave(stage, f"{stages.path}: {name} is not finished")
        if before := stages.others(name, key):
            for path in made:
                set_aside(path, before)
            stages.forget(outdates)
        logger.info("{}: {}", stages.path.parent.name, name)
        stages.begin(name, key)
        began = time.monotonic()
        figures = work()
        stages.finish(name, key, wall_s=time.monotonic() - began, figures=figures)
        return figures

    def leave(self, stage: StageName, what: str) -> NoReturn:
        """The end of what was asked for. Raises InputError where a later stage was asked for too, as it needs this."""
        if later := [name for name in STAGES[STAGES.index(stage) :] if name in self.only and name != "report"]:
            raise InputError(f"{what}, and {', '.join(later)} builds on it; add {stage} to --stages")
        raise _Left

    def promote(self, model: str, evaluation: dict[str, Any]) -> None:
        """From here on this model is the one to beat, and the link `model` of the run leads to it."""
        self.model, self.standing = model, evaluation
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
            raise _Stopped

    def report(self) -> Path | None:
        return write_report(self.run.path) if "report" in self.only else None


class _Round:
    """One round. `teacher` is who it collects from, `first` the model that it trains."""

    def __init__(self, rounds: _Rounds, number: int) -> None:
        self.rounds, self.config, self.number = rounds, rounds.config, number
        self.round = rounds.run.round(number)
        self.stages = Stages.read(self.round.path)
        self.teacher = self.config.teacher(number)
        self.first = self.config.model if self.config.start == "base" else rounds.model

    def go(self) -> None:
        critics = self._critique(self._collect())
        evaluated: dict[str, dict[str, Any]] = {}
        models: dict[str, str] = {}
        left: _Left | None = None
        for arm in self.config.arms:
            rows = self._rows(arm, critics)
            for cell, of_arm, seed in self.config.cells():
                if of_arm != arm:
                    continue
                try:
                    models[cell] = self._train(cell, arm, seed, rows)
                    evaluated[cell] = self.rounds.evaluate(self.round, self.stages, cell=cell, model=models[cell])
                except _Left as end:  # the other cells have the stages that were asked for too
                    left = end
        if left is not None:
            raise left
        self._promote(models, evaluated)

    def _collect(self) -> str:
        """The stage's key, on which the next ones depend."""
        episodes = self._episodes()
        student = weights_id(self.rounds.model) if self.teacher == "student" else None
        key = stage_key("collect", self.rounds.sources.trained_digest, essence(episodes), self.teacher, student)

        def work() -> dict[str, Any]:
            model = None
            if self.teacher == "student":
                served = self.rounds.servers.serve(
                    self.rounds.model,
                    name=f"{self.round.path.name}.student",
                    base=self.config.model,
                    sampling=episodes.openai,
                )
                model = served.model
            return self.rounds.collect(
                episodes, self.rounds.sources.trained, self.teacher, into=self.round, model=model
            )

        self.rounds.stage(self.stages, "collect", key, work, stage="collect")
        return key

    def _episodes(self) -> EpisodesConfig:
        """Seeds of its own: a further round of the same teacher must not repeat the one before."""
        episodes = self.config.collect
        return msgspec.structs.replace(episodes, seed=episodes.seed + (self.number - 1) * episodes.attempts)

    def _critique(self, collected: str) -> list[str]:
        """The critic's name. Of the demonstrator's runs the true verdicts are noted too, to measure the critic by."""
        critics = [self.config.critic]
        if self.teacher == "demonstrator" and "oracle" not in critics:
            critics.append("oracle")
        key = stage_key("critique", collected, critics, without_defaults(self.config.judge))

        def work() -> dict[str, Any]:
            return {critic: self._judge(critic) for critic in critics}

        figures = self.rounds.stage(self.stages, "critique", key, work, stage="critique")
        return [figures[self.config.critic]["critic"]]

    def _judge(self, critic: str) -> dict[str, Any]:
        settings = CritiqueConfig(
            critic=critic, judge=self.config.judge, round=self.number, tasks=self.rounds.sources.trained
        )
        ended = critique(settings, self.rounds.run, stop=self.rounds.stop, watch=self.rounds.displays.runs)
        if ended.reason:
            raise Incomplete(ended.reason)
        self.rounds.check_stop()
        if ended.failed:
            raise Incomplete(f"{self.round.path}: {critic} failed on {ended.failed} runs; the same command tries again")
        figures: dict[str, Any] = msgspec.to_builtins(ended)
        return figures

    def _rows(self, arm: Arm, critics: Sequence[str]) -> str:
        """The fingerprint of the arm's rows, which know by themselves what they were made of."""
        folder = self.round.path / "rows" / arm
        if "rows" not in self.rounds.only:
            if not (folder / "rows.json").exists():
                self.rounds.leave("rows", f"{folder}: no rows there")
            return RowTable.open(folder).manifest.fingerprint
        began = time.monotonic()
        settings = RowsConfig(
            tokenizer=self.first,
            arms=(arm,),
            critics=tuple(critics),
            policy=self.config.mask,
            rows=self.config.rows,
            evaluation=(self.rounds.sources.held_out,),
            contamination=self.config.contamination,
        )
        made = make_rows(settings, self.round, earlier=self._carried())[arm].manifest
        figures = {name: getattr(made, name) for name in ROWS_FIGURES}
        if not self.stages.done(f"rows.{arm}", made.fingerprint):
            wall_s = time.monotonic() - began
            self.stages.finish(f"rows.{arm}", made.fingerprint, wall_s=wall_s, figures=figures)
        return made.fingerprint

    def _carried(self) -> list[Round]:
        """The earlier rounds whose runs this one trains on too."""
        first = {"all": 1, "new": self.number}.get(str(self.config.carry))
        if first is None:
            first = max(1, self.number - int(self.config.carry) + 1)
        return [self.rounds.run.round(number) for number in range(first, self.number)]

    def _train(self, cell: str, arm: Arm, seed: int, rows: str) -> str:
        """The folder of the trained model."""
        recipe, out = self.config.recipe_of(seed), self.round.path / "model" / cell
        key = stage_key("train", rows, weights_id(self.first), trained_by(recipe))

        def work() -> dict[str, Any]:
            self.rounds.servers.close()  # its memory goes to the training
            trained = train_in_process(
                rows=self.round.path / "rows" / arm,
                model=self.first,
                out=out,
                recipe=self.config.recipe,
                sets=self.config.recipe_sets(seed),
                processes=self.config.processes,
                stop=self.rounds.stop,
            )
            self.rounds.check_stop()
            assert trained is not None
            return dict(trained.figures)

        # What was found out about a model that is trained anew is of the one before.
        self.rounds.stage(
            self.stages,
            f"train.{cell}",
            key,
            work,
            stage="train",
            made=[out, self.round.path / "evaluation" / cell],
            outdates=[f"serve.{cell}", f"evaluate.{cell}", "promote"],
        )
        return str(out)

    def _promote(self, models: dict[str, str], evaluated: dict[str, dict[str, Any]]) -> None:
        """The new model takes the place of the one before, or does not."""
        if not self.rounds.standing:
            self.rounds.leave("promote", f"{self.rounds.run.path}: the model before is not evaluated")
        cell = next(name for name, arm, _ in self.config.cells() if arm == self.config.promoted_arm)
        before, after = self.rounds.standing, evaluated[cell]
        rule = self.config.promote
        key = stage_key("promote", before, after, rule, weights_id(self.rounds.model), weights_id(models[cell]))
        is_better = after["rate"] is not None and after["rate"] >= (before["rate"] or 0.0) - rule.may_lose - 1e-9
        figures = {
            "decision": "promoted" if is_better else "rolled back",
            "cell": cell,
            "model": models[cell] if is_better else self.rounds.model,
            "before": before["rate"],
            "after": after["rate"],
            "rule": f"promoted unless the share of resolved held-out tasks falls by more than {rule.may_lose:g}",
            "reason": f"{cell}: {_share(after)} resolved, the model before it {_share(before)}",
        }
        self.rounds.stage(self.stages, "promote", key, lambda: figures, stage="promote")
        logger.info("{}: {}: {}", self.round.path.name, figures["decision"], figures["reason"])
        if is_better:
            self.rounds.promote(models[cell], after)
        else:
            self.rounds.link()


def _share(evaluation: dict[str, Any]) -> str:
    return f"{evaluation['resolved']} of {evaluation['predictions']}"
