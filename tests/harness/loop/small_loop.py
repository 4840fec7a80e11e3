"""Loops that take seconds: a real if tiny model, really trained, served and proved, and every stage's own code. Only
the sandbox and the grader are doubles: an episode is three replies of the model, and the verdict is a digit of a hash.

    python -m tests.harness.loop.small_loop          # reads a command a line (JSON), runs each in a process of its own

A command names the folder, the run, what is set, and after how many writes to the disk its process is killed
(`kill_after`). What the stages did is noted in `<folder>/<log>`, a line each. The imports are done once.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml

from srft.agent.prompts import prompt
from srft.agent.records import Step, Trajectory, trajectory_id
from srft.critic.labels.labels import Critique, StepLabel, Verdict
from srft.env.grading.grade import Grade, grade_key, patch_hash
from srft.harness.run.stages import Stages
from srft.harness.run.store import Round, Run
from srft.train.fit.weights import weights_id
from srft.train.rows.rows import RowTable
from tests.tiny import row
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML
from tests.train.training import tiny_model

TASKS = ("small__t-1", "small__t-2")
PROMPT = Path(prompt.__file__).with_name("short.yaml")


def make_folder(folder: Path) -> Path:
    """The base model, the recipe, tasks, the teacher's script and the loop's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_model(folder / "base", byte_tokenizer(CHATML))
    recipe = {"compute": "float32", "pack_tokens": 512, "packs_per_step": 1, "steps": 2, "learning_rate": 0.05}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "warmup_steps": 0, "save_every": 1, "held_out": 0.0}))
    write_tasks(folder / "tasks.jsonl", TASKS)
    write_tasks(folder / "held_out.jsonl", ("held__h-1", "held__h-2"))
    script = {task: [f"I look at {task}.", "I am wrong.", f"I mend {task}."] for task in (*TASKS, "small__t-3")}
    (folder / "script.yaml").write_text(yaml.safe_dump(script))
    (folder / "prompt.yaml").write_text(PROMPT.read_text())
    (folder / "loop.yaml").write_text(yaml.safe_dump(configuration(folder)))
    return folder


def configuration(folder: Path) -> dict[str, Any]:
    short = {"workers": 1, "prompt": str(folder / "prompt.yaml"), "openai": {"temperature": 0.0, "max_tokens": 6}}
    return {
        "tasks": str(folder / "tasks.jsonl"),
        "evaluation": str(folder / "held_out.jsonl"),
        "model": str(folder / "base"),
        "rounds": 2,
        "teachers": [f"script:{folder / 'script.yaml'}", "student"],
        "start": "promoted",
        "collect": short,
        "evaluate": short,
        "critic": "tool_error",
        "mask": {"mask_resolved": True},
        "arms": ["srft", "all"],
        "recipe": str(folder / "recipe.yaml"),
        "rows": {"max_tokens": 512},
        "promote": {"margin": 1.0},
        "serve": {"kind": "transformers", "dtype": "float32", "max_model_len": 1024, "cache_gib": 0.05},
    }


def write_tasks(path: Path, names: tuple[str, ...]) -> None:
    rows = [{**row(0), "instance_id": name, "repo": name.rpartition("-")[0].replace("__", "/")} for name in names]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


class Loops:
    """Runs commands; each in a process of its own."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)

    def __call__(self, folder: Path, run: Path, *sets: str, **more: Any) -> dict[str, Any]:
        """{"code": 0, "error": ""}: 0 finished, 1 not complete, 2 refused, -9 killed. more: see `_loop`."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        command = {"folder": str(folder), "run": str(run), "sets": list(sets), **more}
        self._server.stdin.write(json.dumps(command) + "\n")
        self._server.stdin.flush()
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def done(folder: Path, log: str = "done.log") -> Counter[str]:
    """What the stages did, each thing with how often."""
    path = folder / log
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def label(run: Path, run_id: str, verdicts: dict[int, Verdict], *, round_number: int = 1, by: str = "anna") -> None:
    """A person's word on a run; without verdicts it takes all of hers back."""
    with Run(run) as opened:
        round_ = opened.round(round_number)
        labelled = next(one for one in round_.finished() if one.id == run_id)
        labels = tuple(StepLabel(step=it.index, verdict=verdicts.get(it.index)) for it in labelled.steps)
        round_.critiques.append(
            Critique(
                trajectory_id=run_id,
                task_id=labelled.task_id,
                critic=by,
                fingerprint="by hand",
                source="human",
                labels=labels,
            )
        )


def run_ids(run: Path, round_number: int = 1) -> list[str]:
    return [one.id for one in Round(run / f"round-{round_number:03d}").finished(in_order=True)]


def came_of(run: Path, *, rounds: int, cells: tuple[str, ...]) -> dict[str, Any]:
    """All that must not depend on how a loop came to its end."""
    came: dict[str, Any] = {"link": str((run / "model").readlink()) if (run / "model").is_symlink() else None}
    for number in range(rounds + 1):
        folder = run / f"round-{number:03d}"
        stages = Stages.read(folder)
        names = [name for name, _ in stages.items() if name.partition(".")[2] in ("", "base", *cells)]
        came[f"{number} stages"] = {name: (stages[name].key, _lasting(stages[name].figures)) for name in sorted(names)}
        came[f"{number} runs"] = [_lasting(msgspec.to_builtins(one)) for one in Round(folder).finished(in_order=True)]
        for cell in cells if number else ():
            table = RowTable.open(folder / "rows" / cell)
            came[f"{number} rows of {cell}"] = [[str(it) for it in table[at]] for at in range(len(table))]
            came[f"{number} weights of {cell}"] = weights_id(folder / "model" / cell)
    return came


def _lasting(figures: Any) -> Any:
    """Without times, and what tells how often the command was given."""
    passing = ("wall_s", "seconds", "started_at", "judged", "resumed", "spent_now", "spent")
    if isinstance(figures, dict):
        return {name: _lasting(value) for name, value in figures.items() if name not in passing}
    return [_lasting(value) for value in figures] if isinstance(figures, list | tuple) else figures


# What follows runs in the process of a command.


class _Episodes:
    """In the place of EpisodeRunner: an episode is three replies, of which the second one fails its command."""

    note: Any = None

    def __init__(self, config: Any, backend: object, model: Any, prompt: Any, fmt: object) -> None:
        self._config, self._model, self._prompt = config, model, prompt

    def warm(self, task: object) -> None:
        pass

    def run(self, task: Any, attempt: int, *, stop: threading.Event, on_step: Any = None) -> Trajectory:
        type(self).note(f"episode {task.instance_id} {attempt}")
        model = self._model.for_episode(task.instance_id, attempt, self._config.seed + attempt)
        messages = [{"role": "system", "content": self._prompt.fingerprint}, {"role": "user", "content": "Mend it."}]
        steps = []
        for index in range(3):
            reply = model.reply(messages)
            messages.append({"role": "assistant", "content": reply.content})
            observation = None if index == 2 else "seen"
            if observation:
                messages.append({"role": "user", "content": observation})
            exit_code = None if index == 2 else index
            steps.append(Step(index=index, content=reply.content, observation=observation, exit_code=exit_code))
        ident = trajectory_id(task_id=task.instance_id, model=model.name, attempt=attempt, messages=messages)
        return Trajectory(
            id=ident,
            task_id=task.instance_id,
            repo=task.repo,
            model=model.name,
            sampling={},
            scaffold="small",
            prompt=self._prompt.fingerprint,
            seed=self._config.seed + attempt,
            attempt=attempt,
            messages=tuple(messages),
            steps=tuple(steps),
            patch=f"patch {ident}",
            stop_reason="submitted",
        )

    def close(self) -> None:
        pass


class _Backend:
    """In the place of an engine."""

    name = "docker"

    def hold(self, task: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def prefetch(self, tasks: Any) -> None:
        list(tasks)

    def image_id(self, image: str) -> str | None:
        return None

    def close(self) -> None:
        pass


def _grade(self: object, task: Any, patch: str | None) -> Grade:
    resolved = int(hashlib.sha256(str(patch).encode()).hexdigest(), 16) % 3 > 0
    return Grade(
        instance_id=task.instance_id,
        resolved=resolved,
        outcome="resolved" if resolved else "unresolved",
        wall_s=0.0,
        grader="small",
        key=grade_key(task, patch),
        patch_hash=patch_hash(patch),
    )


def _no_grade(self: object, task: Any, patch: str | None) -> Grade:
    return msgspec.structs.replace(_grade(self, task, patch), resolved=None, outcome="not_graded", detail="no engine")


def _train(note: Any) -> Any:
    """In the place of a process: the same function, here."""
    from srft.harness.stages.train import TrainConfig, load_recipe, train

    def in_process(*, rows: Path, model: str, out: Path, recipe: str, sets: list[str], stop: Any, **more: Any) -> Any:
        note(f"training {out.parent.parent.name} {out.name}")
        config = TrainConfig(rows=rows, model=model, out=out, recipe=load_recipe(recipe, sets=sets))
        return train(config, stop=stop)

    return in_process


def _loop(command: dict[str, Any]) -> int:
    """only: the stages. log: where it is noted what was done. grader_fails: on every patch."""
    import torch

    from srft.harness.loop import loop_work, rounds
    from srft.harness.loop.loop_config import read_loop_config
    from srft.harness.stages import collect, critique, evaluate

    torch.set_num_threads(1)
    folder = Path(command["folder"])
    begun = {"stage": ""}

    def note(text: str) -> None:
        with (folder / command.get("log", "done.log")).open("a") as log:
            log.write(f"{begun['stage']}: {text}\n")

    def stage(self: Any, stages: Any, name: str, key: str, work: Any, **more: Any) -> Any:
        def noted() -> Any:
            begun["stage"] = f"{stages.path.parent.name} {name} {key.partition('+')[0]}"
            return work()

        return original_stage(self, stages, name, key, noted, **more)

    def told(self: Any, trajectory: Any) -> Any:
        note(f"judging {trajectory.id} {self.critic.name}")
        return original_told(self, trajectory)

    original_stage, original_told = loop_work.LoopWork.stage, critique._Stage._told
    _Episodes.note = staticmethod(note)
    loop_work.LoopWork.stage, critique._Stage._told = stage, told
    collect.EpisodeRunner, collect._backend = _Episodes, lambda config, folder: _Backend()
    evaluate.Grader._here = _no_grade if command.get("grader_fails") else _grade
    rounds.train_in_process = _train(note)
    config = read_loop_config(None, file=str(folder / "loop.yaml"), sets=command["sets"])
    with _killed(command.get("kill_after")), Run(command["run"]) as run:
        only = command.get("only") or [name for name in loop_work.STAGES if name != "report"]
        outcome = rounds.loop(config, run, stop=threading.Event(), only=only)
    return 0 if outcome.complete else 1


@contextlib.contextmanager
def _killed(after: int | None) -> Iterator[None]:
    """End this process, as kill -9 does, before its so many-th write that lasts."""
    left = [after]

    def counted(original: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            if left[0] is not None:
                left[0] -= 1
                if left[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*given, **more)

        return call

    os.fsync = counted(os.fsync)
    for name in ("rename", "replace", "write_text", "write_bytes", "symlink_to"):
        setattr(Path, name, counted(getattr(Path, name)))
    yield


def _command(line: str) -> dict[str, Any]:
    """What came of one command, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code, error = 3, ""
        with open(Path(json.loads(line)["folder"], "stderr.log"), "a") as log:
            os.dup2(log.fileno(), 2)
            os.dup2(log.fileno(), 1)
            try:
                code = _loop(json.loads(line))
            except BaseException as raised:  # noqa: BLE001 - the test looks at it
                from srft.env.errors import InputError

                code, error = (2 if isinstance(raised, InputError) else 3), f"{type(raised).__name__}: {raised}"
                if code == 3:
                    import traceback

                    error += "\n" + traceback.format_exc()
        os.write(writing, error.encode()[:60_000])
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as said:
        error = said.read()
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "error": error}


def main() -> None:
    import peft  # noqa: F401 - what a command would import
    import transformers

    import srft.harness.loop.rounds
    import srft.harness.serve.local_server
    import srft.harness.stages.train  # noqa: F401

    transformers.utils.logging.disable_progress_bar()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(_command(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
