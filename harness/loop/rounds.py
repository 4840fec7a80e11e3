"""Rounds: collect (or import), critique, rows, train, serve, evaluate, promote; and again.

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

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from loguru import logger

from srft.env.errors import InputError
from srft.harness.config.config import EpisodesConfig, without_defaults
from srft.harness.look.report.episodes import read_episodes
from srft.harness.loop.budget import BudgetWatch
from srft.harness.loop.imported import check_sources, import_into, runs_id
from srft.harness.loop.loop_config import LoopConfig
from srft.harness.loop.loop_work import Displays, Incomplete, Left, LoopWork, StageName, Stopped, known_stages
from srft.harness.loop.loop_yaml import keep_loop_config
from srft.harness.loop.promotion import decide
from srft.harness.loop.stage_keys import Sources, essence, stage_key, trained_by
from srft.harness.loop.weights import weights_id
from srft.harness.run.stages import Stages
from srft.harness.run.store import Round, Run
from srft.harness.serve.weights import check_folder
from srft.harness.stages.critics import open_critic
from srft.harness.stages.critique import CritiqueConfig, critique
from srft.harness.stages.models import close_model, open_model
from srft.harness.stages.practice import practice
from srft.harness.stages.rows import RowsConfig, make_rows, refuse_evaluated
from srft.harness.stages.training_process import train_in_process
from srft.train.rows.mask import Arm
from srft.train.rows.rows import RowTable

ROWS_FIGURES = ("runs", "runs_used", "rows", "tokens", "written_tokens", "trained_tokens", "steps", "steps_masked")


class Outcome(NamedTuple):
    """How a loop ended. reason: why it stopped before its end. model: the promoted one, at first the base model.
    unmeasured: the models that were trained where no tasks are given to measure them on."""

    complete: bool
    reason: str | None
    model: str
    report: Path | None
    unmeasured: tuple[str, ...] = ()


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
    stages = known_stages(only)
    _check_names(config)
    keep_loop_config(config, run)
    with BudgetWatch(config.budget, run.path, stop) as budget:
        rounds = _Rounds(config, run, stop, displays or Displays(), stages)
        try:
            rounds.go()
        except Left:
            pass
        except Stopped:
            return Outcome(False, budget.spent or "stopped", rounds.model, None)
        finally:
            rounds.servers.close()
    return Outcome(True, None, rounds.model, rounds.report(), tuple(rounds.unmeasured))


def _check_names(config: LoopConfig) -> None:
    """What a later stage would stumble on, before anything is done. Raises InputError."""
    if config.critic != "oracle":  # which needs the tasks
        open_critic(config.critic, judge=config.judge)
    if config.runs is not None:
        check_sources(config.runs)
    for teacher in config.teachers:
        if teacher not in {"demonstrator", "student"}:
            close_model(open_model(teacher, settings=config.collect.openai))
    try:
        check_folder(config.model)
    except InputError as error:
        raise InputError(f"model (--model): {error}; it is looked for from {Path.cwd()}") from None


class _Rounds(LoopWork):
    """The rounds of one loop, from the tasks on."""

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
            return Sources.load(self.config.tasks, self.config.evaluation)
        folder = self.run.path / "practice"
        if "practice" in self.only:
            sandbox, watch = self.config.collect.sandbox.kind, self.displays.practice
            made = practice(self.config.practice, folder, sandbox=sandbox, stop=self.stop, watch=watch)
            self.check_stop()
            if made.missing:
                logger.warning("{}: {} tasks fewer than asked for: the tests see no more bugs", folder, made.missing)
        return Sources.load(str(folder / "train"), str(folder / "test"))

    def _round_zero(self) -> None:
        if self.sources.held_out is None:
            if {"evaluate", "promote"} & self.only:
                logger.warning("no evaluation tasks (evaluation): no model is measured, and none is promoted")
            return
        if not {"evaluate", "promote"} & self.only and not (self.run.path / "round-000").exists():
            return  # nothing that was asked for needs it
        round_ = self.run.round(0)
        stages = Stages.read(round_.path)
        with suppress(Left):  # later stages say themselves what they miss
            figures = self.evaluate(round_, stages, cell="base", model=self.config.model)
            self.standing = figures, round_.path / "evaluation" / "base"


class _Round:
    """One round. `teacher` is who it collects from, `None` where it imports; `first` the model that it trains."""

    def __init__(self, rounds: LoopWork, number: int) -> None:
        self.rounds, self.config, self.number = rounds, rounds.config, number
        self.round = rounds.run.round(number)
        self.stages = Stages.read(self.round.path)
        self.teacher = self.config.teacher(number)
        self.first = self.config.model if self.config.start == "base" else rounds.model

    def go(self) -> None:
        critics = self._critique(self._import() if self.teacher is None else self._collect(self.teacher))
        evaluated: dict[str, dict[str, Any]] = {}
        models: dict[str, str] = {}
        left: Left | None = None
        for arm in self.config.arms:
            rows = self._rows(arm, critics)
            for cell, of_arm, seed in self.config.cells():
                if of_arm != arm:
                    continue
                try:
                    models[cell] = self._train(cell, arm, seed, rows)
                    if self.rounds.sources.held_out is None:
                        continue
                    evaluated[cell] = self.rounds.evaluate(self.round, self.stages, cell=cell, model=models[cell])
                except Left as end:  # the other cells have the stages that were asked for too
                    left = end
        if left is not None:
            raise left
        if self.rounds.sources.held_out is None:
            self.rounds.unmeasured += models.values()
        else:
            self._promote(models, evaluated)

    def _import(self) -> str:
        """The stage's key, on which the next ones depend. Raises InputError where a model is to be evaluated on what
        these runs are about: before a judge is paid for them."""
        runs = self.config.runs
        assert runs is not None
        key = runs_id(runs)

        def work() -> dict[str, Any]:
            figures = import_into(runs, self.rounds.run, self.round, stop=self.rounds.stop)
            self.rounds.check_stop()
            return figures

        made = [self.round.trajectories.path]
        figures = self.rounds.stage(self.stages, "import", key, work, stage="import", made=made)
        if damaged := figures["damaged_runs"]:
            logger.warning("{}: {} damaged runs were left out, say {}", self.round.path, damaged, figures["damaged"][0])
        refuse_evaluated(self.round, self._held_out(), by=self.config.contamination)
        return key

    def _held_out(self) -> tuple[str, ...]:
        held_out = self.rounds.sources.held_out
        return () if held_out is None else (held_out,)

    def _collect(self, teacher: str) -> str:
        """The stage's key, on which the next ones depend."""
        episodes, tasks = self._episodes(), self.rounds.sources.trained
        assert tasks is not None
        student = weights_id(self.rounds.model) if teacher == "student" else None
        key = stage_key("collect", self.rounds.sources.trained_digest, essence(episodes), teacher, student)

        def work() -> dict[str, Any]:
            model = None
            if teacher == "student":
                served = self.rounds.servers.serve(
                    self.rounds.model,
                    name=f"{self.round.path.name}.student",
                    base=self.config.model,
                    sampling=episodes.openai,
                )
                model = served.model
            return self.rounds.collect(episodes, tasks, teacher, into=self.round, model=model)

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
            evaluation=self._held_out(),
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
        (before, standing), after, rule = self.rounds.standing, evaluated[cell], self.config.promote
        folder = self.round.path / "evaluation" / cell
        verdicts = _verdicts(standing), _verdicts(folder)
        key = stage_key("promote", verdicts, before, after, rule, *map(weights_id, (self.rounds.model, models[cell])))
        missing = before["missing"] + after["missing"]
        decision = decide(rule, *verdicts, tasks=after["tasks"], missing=missing)
        figures = {
            "decision": "promoted" if decision.promoted else "rolled back",
            "cell": cell,
            "model": models[cell] if decision.promoted else self.rounds.model,
            "before": before["rate"],
            "after": after["rate"],
            **decision.figures(),
            "rule": rule.text(),
            "reason": f"{cell}: {_share(after)} resolved, the model before it {_share(before)}: {decision.why}",
        }
        self.rounds.stage(self.stages, "promote", key, lambda: figures, stage="promote")
        logger.info("{}: {}: {}", self.round.path.name, figures["decision"], figures["reason"])
        if decision.promoted:
            self.rounds.promote(models[cell], after, folder)
        else:
            self.rounds.link()


def _verdicts(folder: Path) -> dict[str, list[bool]]:
    """Task -> a verdict an attempt that was graded, in an order of their own."""
    on_file = read_episodes(folder)
    return {} if on_file is None else {task: sorted(graded) for task, graded in on_file.attempts_by_task.items()}


def _share(evaluation: dict[str, Any]) -> str:
    return f"{evaluation['resolved']} of {evaluation['predictions']}"
