"""A loop's run by hand: what `srft loop` leaves, written through the product's own store, for the report's tests.

with LoopRun(path) as run:
    run.evaluation(0, "base", {"a-1": [True], "a-2": [False]})
    run.collection(1, {"b-1": [episode(...)]})
"""

from pathlib import Path
from typing import Any

import msgspec

from srft.agent.records import Step, Trajectory, Usage, trajectory_id
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.grading.grade import Grade, patch_hash
from srft.harness.run.stages import Stages
from srft.harness.run.store import Round, Run

LETTERS = {"g": "good", "u": "unnecessary", "m": "mistake", "r": "recover", "-": None}


def episode(
    task: str, *, attempt: int = 0, steps: int = 2, model: str = "m", text: str = "", **changes: Any
) -> Trajectory:
    """A run of so many steps; its patch is of its own. text: makes it another one."""
    messages = [{"role": "user", "content": f"{task} {text}"}]
    usage = Usage(prompt_tokens=100, completion_tokens=10)
    made = [
        Step(index=number, content="I look.", observation="out", exit_code=0, usage=usage) for number in range(steps)
    ]
    run = Trajectory(
        id=trajectory_id(task_id=task, model=model, attempt=attempt, messages=messages),
        task_id=task,
        repo=f"practice/{task.split('-')[0]}",
        model=model,
        sampling={},
        scaffold="test",
        prompt="test",
        seed=0,
        attempt=attempt,
        messages=tuple(messages),
        steps=tuple(made),
        patch=f"patch of {task} {attempt} {model} {text}",
        stop_reason="submitted",
        wall_s=2.0,
    )
    return msgspec.structs.replace(run, **changes)


def grade_of(run: Trajectory, resolved: bool | None, **changes: Any) -> Grade:
    outcome = {True: "resolved", False: "unresolved", None: "not_graded"}[resolved]
    made = Grade(
        instance_id=run.task_id,
        resolved=resolved,
        outcome=outcome,
        wall_s=1.0,
        grader="swebench 5.0.2",
        key=f"{run.id}{resolved}",
        patch_hash=patch_hash(run.patch),
    )
    return msgspec.structs.replace(made, **changes)


def critique_of(
    run: Trajectory, verdicts: str, *, critic: str = "judge", source: str = "model", **more: Any
) -> Critique:
    """verdicts: a letter a step, see LETTERS."""
    labels = tuple(StepLabel(step=place, verdict=LETTERS[letter]) for place, letter in enumerate(verdicts))
    return Critique(
        trajectory_id=run.id,
        task_id=run.task_id,
        critic=critic,
        fingerprint=critic,
        source=source,
        labels=labels,
        **more,
    )


class LoopRun:
    """Writes the files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._run = Run(path)

    def __enter__(self) -> "LoopRun":
        self._run.__enter__()
        return self

    def __exit__(self, *ended: Any) -> None:
        self._run.__exit__(*ended)

    def round(self, number: int) -> Round:
        return self._run.round(number)

    def add(self, round_: Round, run: Trajectory, resolved: bool | None = None, *, graded: bool = True) -> Trajectory:
        round_.trajectories.append(run)
        if graded:
            round_.grades.append(grade_of(run, resolved))
        return run

    def evaluation(self, number: int, cell: str, verdicts: dict[str, list[bool | None]], **changes: Any) -> None:
        """One episode a verdict; `None` was not graded."""
        round_ = self.round(number).evaluation(cell)
        for task, attempts in verdicts.items():
            for attempt, resolved in enumerate(attempts):
                self.add(round_, episode(task, attempt=attempt, model=cell, **changes), resolved)

    def stage(self, number: int, name: str, wall_s: float = 1.0, **figures: Any) -> None:
        Stages.read(self.round(number).path).finish(name, "key", wall_s=wall_s, figures=figures)

    def rows(self, number: int, arm: str, **figures: Any) -> None:
        """rows.json with these figures, the rest nothing."""
        counts = ("runs", "runs_used", "rows", "tokens", "written_tokens", "trained_tokens", "steps", "steps_masked")
        content = dict.fromkeys(counts, 0) | {
            "schema_version": 1,
            "arm": arm,
            "fingerprint": "f",
            "tokenizer": "models/base",
            "vocabulary": "v",
            **figures,
        }
        self._json(number, f"rows/{arm}/rows.json", content)

    def training(self, number: int, cell: str, losses: list[float], held_out: dict[int, float] | None = None) -> None:
        log: list[dict[str, Any]] = [{"loss": loss, "step": step} for step, loss in enumerate(losses, 1)]
        log += [{"eval_loss": loss, "step": step} for step, loss in (held_out or {}).items()]
        log.append({"train_runtime": 12.5, "train_loss": 1.0, "step": len(losses)})
        content = {
            "schema_version": 1,
            "fingerprint": "f",
            "model": "models/base",
            "rows": "rows",
            "arm": cell.partition(".")[0],
            "recipe": {"learning_rate": 2e-4, "epochs": 2.0},
            "versions": {"torch": "2.13.0"},
            "task_ids": ["b-1", "b-2"],
            "repos": ["practice/b"],
            "held_out_tasks": ["b-2"] if held_out else [],
            "figures": {"steps": len(losses), "tokens": 1000, "first_loss": losses[0], "last_loss": losses[-1]},
            "log": log,
        }
        self._json(number, f"model/{cell}/training.json", content)

    def _json(self, number: int, name: str, content: Any) -> None:
        path = self.round(number).path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(content))
