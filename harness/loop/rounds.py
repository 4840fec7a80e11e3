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

The same command resumes where the last one ended, however it ended. A stage whose inputs have changed since is done
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
from srft.env.identity import INSIDE_RUN, identity, key
from srft.harness.config.config import EpisodesConfig, inside_run
from srft.harness.config.identity import model_id
from srft.harness.facts.episodes import read_episodes
from srft.harness.loop.budget import BudgetWatch
from srft.harness.loop.choice import attempts_by_task, most_attempts
from srft.harness.loop.imported import check_sources, import_into, runs_id
from srft.harness.loop.loop_config import LoopConfig
from srft.harness.loop.loop_work import (
    STAGES,
    Displays,
    Incomplete,
    Left,
    LoopWork,
    StageName,
    Stopped,
    known_stages,
)
from srft.harness.loop.loop_yaml import keep_loop_config
from srft.harness.loop.promotion import decide
from srft.harness.loop.round_log import check_logger
from srft.harness.loop.sources import Sources
from srft.harness.run.stages import Stages
from srft.harness.run.store import Round, Run
from srft.harness.serve.server import check_native
from srft.harness.serve.weights import check_folder
from srft.harness.stages.critics import open_critic
from srft.harness.stages.critique import CritiqueConfig, critique, standing
from srft.harness.stages.models import close_model, open_model
from srft.harness.stages.practice import practice
from srft.harness.stages.rows import RowsConfig, make_rows, refuse_evaluated
from srft.harness.stages.training_process import progress_of, train_in_process
from srft.train.fit.weights import weights_id
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
            with rounds.hooks.failures(but=(Stopped,)), run.live.stage("loop", run.path):
                rounds.go()
                report = rounds.report()
        except Stopped:
            reason = budget.spent or "stopped"
            run.live.incomplete(reason)
            rounds.hooks.stopped(reason)
            return Outcome(False, reason, rounds.model, None)
        finally:
            rounds.servers.close()
            rounds.log.close()
    rounds.hooks.finished()
    return Outcome(True, None, rounds.model, report, tuple(rounds.unmeasured))


def _check_names(config: LoopConfig) -> None:
    """What a later stage would stumble on, before anything is done. Raises InputError."""
    check_logger(config.recipe_of(config.seeds[0]).logger)
    if config.critic != "oracle":  # which needs the tasks
        open_critic(config.critic, judge=config.judge)
    if config.runs is not None:
        check_sources(config.runs)
    for teacher in config.teachers:
        if teacher not in {"demonstrator", "student"}:
            close_model(open_model(teacher, settings=config.collect.openai, where="teachers:"))
    try:
        check_folder(config.model)
    except InputError as error:
        raise InputError(f"model (--model): {error}; it is looked for from {Path.cwd()}") from None
    if "native" in config.formats_served():
        check_native(config.model, config.serve)


class _AllSolved(Exception):
    """There is no task left that a round could collect on."""


class _Rounds(LoopWork):
    """The rounds of one loop, from the tasks on."""

    def go(self) -> None:
        self.sources = self._tasks()
        self._round_zero()
        for number in range(1, self.config.rounds + 1):
            try:
                _Round(self, number).go()
            except Left:  # the further rounds have the stages that were asked for too
                self.is_left = True
            except _AllSolved as end:
                logger.info("{}", end)
                break
            if number < self.config.rounds:
                self.report()

    def _tasks(self) -> Sources:
        """What is trained on and what is held out, made first where the loop makes it."""
        if self.config.practice is None:
            return Sources.load(self.config.tasks, self.config.evaluation)
        folder = self.run.path / "practice"
        if "practice" in self.only:
            sandbox, watch = self.config.collect.sandbox.kind, self.displays.practice
            with self.run.live.stage("practice", folder):
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
    """One round. `teacher` is who it collects from, `None` where it imports."""

    def __init__(self, rounds: LoopWork, number: int) -> None:
        self.rounds, self.config, self.number = rounds, rounds.config, number
        self.round = rounds.run.round(number)
        self.stages = Stages.read(self.round.path)
        self.teacher = self.config.teacher(number)

    def go(self) -> None:
        if self.teacher is None:
            self._import()
        else:
            self._collect(self.teacher)
        critics = self._critique()
        evaluated: dict[str, dict[str, Any]] = {}
        models: dict[str, str] = {}
        left: Left | None = None
        rows = {arm: self._rows(arm, critics) for arm in self.config.arms}
        for cell, arm, seed in self.config.cells():
            try:
                models[cell] = self._train(cell, arm, seed, rows[arm])
            except Left as end:  # the other cells have the stages that were asked for too
                left = end
        # After all trainings, so that a server starts once a round and adapters are swapped in it.
        for cell, model in models.items() if self.rounds.sources.held_out is not None else ():
            try:
                evaluated[cell] = self.rounds.evaluate(self.round, self.stages, cell=cell, model=model)
            except Left as end:
                left = end
        if left is not None:
            raise left
        if self.rounds.sources.held_out is None:
            self.rounds.unmeasured += models.values()
        else:
            self._promote(models, evaluated)

    def _model_before(self, stage: StageName) -> str:
        """The model that stands when this round begins. Ends what was asked for where that is not decided."""
        if not self.rounds.is_left:
            return self.rounds.model
        if any(name in self.rounds.only for name in STAGES[STAGES.index(stage) : -1]):
            raise InputError(
                f"{self.round.path}: {stage} builds on the model that round {self.number - 1} promotes, and that round "
                "is not finished; add the stages that it lacks (train, evaluate, promote) to --stages"
            )
        raise Left

    def _first(self) -> str:
        """The model that is trained."""
        return self.config.model if self.config.start == "base" else self._model_before("rows")

    def _import(self) -> None:
        """Raises InputError where a model is to be evaluated on what these runs are about: before a judge is paid."""
        runs = self.config.runs
        assert runs is not None

        def work() -> dict[str, Any]:
            figures = import_into(runs, self.rounds.run, self.round, stop=self.rounds.stop)
            self.rounds.check_stop()
            return figures

        figures = self.rounds.stage(self.stages, "import", runs_id(runs), work, stage="import")
        if damaged := figures["damaged_runs"]:
            logger.warning("{}: {} damaged runs were left out, say {}", self.round.path, damaged, figures["damaged"][0])
        refuse_evaluated(self.round, self._held_out(), by=self.config.contamination)

    def _held_out(self) -> tuple[str, ...]:
        held_out = self.rounds.sources.held_out
        return () if held_out is None else (held_out,)

    def _collect(self, teacher: str) -> None:
        episodes, tasks = self._episodes(), self.rounds.sources.trained
        assert tasks is not None
        asks_student = teacher == "student"
        student = self._model_before("collect") if asks_student else None
        by = teacher if asks_student else model_id(teacher, base=self.rounds.run.path, record=self.config)
        weights = None if student is None else weights_id(student)
        attempts = self._attempts()
        ids = {task: it for task, it in self.rounds.sources.trained_ids.items() if task in attempts}
        made_key = self.rounds.episodes_key(
            "collect", episodes, ids, weights=weights, by=by, attempts=attempts if asks_student else None
        )

        def work() -> dict[str, Any]:
            model = None
            if student is not None:
                name = f"{self.round.path.name}.student"
                model = self.rounds.servers.serve(
                    student, name=name, base=self.config.model, sampling=episodes.openai
                ).model
            is_choice = len(attempts) < len(self.rounds.sources.trained_ids) or asks_student
            return self.rounds.collect(
                episodes, tasks, teacher, into=self.round, model=model, attempts=attempts if is_choice else None
            )

        self.rounds.stage(self.stages, "collect", made_key, work, stage="collect")

    def _attempts(self) -> dict[str, int]:
        """Task -> how many episodes of it this round collects. Raises _AllSolved where there are none."""
        of_student = (number for number in range(1, self.number) if self.config.teacher(number) == "student")
        before = [self.rounds.run.round(number).index().attempts_by_task() for number in of_student]
        tasks = self.rounds.sources.trained_ids
        if attempts := attempts_by_task(self.config, self.number, tasks, before):
            return attempts
        raise _AllSolved(
            f"{self.round.path.name}: the student solves all {len(tasks)} tasks reliably, and choose.solved is 0, so "
            "there is nothing to collect and the loop ends here. Give more tasks, or choose.solved"
        )

    def _episodes(self) -> EpisodesConfig:
        """Seeds of its own: a further round of the same teacher must not repeat the one before."""
        episodes = self.config.collect
        return msgspec.structs.replace(episodes, seed=episodes.seed + (self.number - 1) * most_attempts(self.config))

    def _critique(self) -> list[str]:
        """The critic's name. Of the demonstrator's runs the true verdicts are noted too, to measure the critic by."""
        critics = [self.config.critic]
        if self.teacher == "demonstrator" and "oracle" not in critics:
            critics.append("oracle")
        judged = [standing(self._judging(critic), self.round) for critic in critics]
        made_key = key("critique", [one.key for one in judged])
        if not all(one.is_last_word for one in judged):  # somebody has asked the same critic with other settings since
            self.stages.begin("critique", made_key)

        def work() -> dict[str, Any]:
            return {critic: self._judge(critic) for critic in critics}

        figures = self.rounds.stage(self.stages, "critique", made_key, work, stage="critique")
        return [figures[self.config.critic]["critic"]]

    def _judging(self, critic: str) -> CritiqueConfig:
        return CritiqueConfig(
            critic=critic,
            judge=self.config.judge,
            round=self.number,
            tasks=self.rounds.sources.trained,
            outcome="all" if self.config.mask.mask_resolved else "auto",
        )

    def _judge(self, critic: str) -> dict[str, Any]:
        ended = critique(self._judging(critic), self.rounds.run, stop=self.rounds.stop, watch=self.rounds.displays.runs)
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
            tokenizer=self._first(),
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
            self.rounds.finish(self.stages, f"rows.{arm}", made.fingerprint, wall_s=wall_s, figures=figures)
        return made.fingerprint

    def _carried(self) -> list[Round]:
        """The earlier rounds whose runs this one trains on too."""
        first = {"all": 1, "new": self.number}.get(str(self.config.carry))
        if first is None:
            first = max(1, self.number - int(self.config.carry) + 1)
        return [self.rounds.run.round(number) for number in range(first, self.number)]

    def _train(self, cell: str, arm: Arm, seed: int, rows: str) -> str:
        """The folder of the trained model."""
        recipe, out, first = self.config.recipe_of(seed), self.round.path / "model" / cell, self._first()
        made_key = key("train", rows, weights_id(first), identity(recipe, base=self.rounds.run.path))

        def work() -> dict[str, Any]:
            self.rounds.servers.close()  # its memory goes to the training
            trained = train_in_process(
                rows=self.round.path / "rows" / arm,
                model=first,
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
            made_key,
            work,
            stage="train",
            outdates=[f"serve.{cell}", f"evaluate.{cell}", "promote"],
            counts=lambda: progress_of(out),
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
        weights = [weights_id(self.rounds.model), weights_id(models[cell])]
        made_key = key("promote", verdicts, before, after, identity(rule, base=self.rounds.run.path), weights)
        missing = sum(one["missing"] + one["not_run"] for one in (before, after))
        decision = decide(rule, *verdicts, tasks=after["tasks"], missing=missing)
        model = models[cell] if decision.promoted else self.rounds.model
        figures = {
            "decision": "promoted" if decision.promoted else "rolled back",
            "cell": cell,
            "model": inside_run(model, self.rounds.run.path).removeprefix(INSIDE_RUN),
            "before": before["rate"],
            "after": after["rate"],
            **decision.figures(),
            "rule": rule.text(),
            "reason": f"{cell}: {_share(after)} resolved, the model before it {_share(before)}: {decision.why}",
        }
        self.rounds.stage(self.stages, "promote", made_key, lambda: figures, stage="promote")
        logger.info("{}: {}: {}", self.round.path.name, figures["decision"], figures["reason"])
        if decision.promoted:
            self.rounds.promote(models[cell], after, folder)
        else:
            self.rounds.link()


def _verdicts(folder: Path) -> dict[str, list[bool]]:
    """Task -> a verdict an attempt that was graded, in an order of their own."""
    on_file = read_episodes(folder)
    return {} if on_file is None else {task: sorted(graded) for task, graded in on_file.attempts_by_task().items()}


def _share(evaluation: dict[str, Any]) -> str:
    return f"{evaluation['resolved']} of {evaluation['predictions']}"
