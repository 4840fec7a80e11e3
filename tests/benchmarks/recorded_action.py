"""The commands of recorded runs again, in our container and in mini-swe-agent's, one after the other.

Reads ../shared/data (mini-swe-agent's runs of SWE-bench Verified, and the tasks that can be built here). Both
containers are of the task's image and go through the same commands in the same order, so that they are always in the
same state; they take turns in being first, since the first to touch a file pays for reading it.
"""

import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.rows import Bench, Goal, Row, time_row
from benchmarks.tiny_task import ROOT
from docker.errors import ImageNotFound
from loguru import logger

from srft.agent.importing.importers import read_runs
from srft.agent.records import Trajectory
from srft.env.docker.sandbox import DockerSandbox, engine
from srft.env.tasks.task import Task, load_tasks
from srft.env.workspace import WorkspaceSettings

RUNS = Path("trajectories", "gemini3pro_mini_verified.jsonl.gz")
TASKS = Path("verified_pypi", "verified_pypi.jsonl")
INSTANCES = (
    "sympy__sympy-24562",
    "django__django-15127",
    "sympy__sympy-19954",
    "django__django-16255",
)
QUICK_INSTANCES = 1
TIMEOUT_S = 60.0
GOAL = Goal(at_least_times=4)


class Replay(NamedTuple):
    """Seconds of each command in both, and how often the exit codes were the same."""

    ours_s: list[float]
    mini_s: list[float]
    equal: int


def recorded_action(bench: Bench) -> dict[str, Row]:
    recorded = ROOT.parent / "shared" / "data"
    if bench.mini.missing or not (recorded / RUNS).is_file() or not (recorded / TASKS).is_file():
        reason = bench.mini.missing or "not measured, the recorded runs are not there (../shared/data)"
        return {"recorded_action": Row(value=None, unit="ms", peer=reason, goal=str(GOAL))}
    instances = INSTANCES[:QUICK_INSTANCES] if bench.quick else INSTANCES
    tasks = {task.instance_id: task for task in load_tasks(str(recorded / TASKS), only=instances)}
    runs = {run.task_id: run for run in read_runs(recorded / RUNS) if run.task_id in tasks}
    replays = [_replay(bench, runs[name], tasks[name]) for name in instances if _has_image(tasks[name])]
    if not replays:
        reason = "not measured, no image of the recorded runs is built (../shared/data/verified_pypi/build.py)"
        return {"recorded_action": Row(value=None, unit="ms", peer=reason, goal=str(GOAL))}
    ours_s = [wall_s for replay in replays for wall_s in replay.ours_s]
    mini_s = [wall_s for replay in replays for wall_s in replay.mini_s]
    equal = sum(replay.equal for replay in replays)
    note = (
        f"{len(ours_s)} actions of {len(replays)} runs, {equal} with equal exit codes; "
        f"in all {sum(ours_s):.1f} s against {sum(mini_s):.1f} s"
    )
    return {"recorded_action": time_row(ours_s, peer="mini-swe-agent", peer_s=mini_s, goal=GOAL, note=note)}


def _has_image(task: Task) -> bool:
    try:
        engine().images.get(task.image)
    except ImageNotFound:
        logger.warning("{}: left out, image {} is not on this machine", task.instance_id, task.image)
        return False
    return True


def _replay(bench: Bench, run: Trajectory, task: Task) -> Replay:
    ours_s: list[float] = []
    mini_s: list[float] = []
    equal = 0
    with DockerSandbox(WorkspaceSettings().spec(task)) as sandbox, bench.mini.container(task.image) as container:
        for number, command in enumerate(_commands(run)):
            if number % 2:
                answer = bench.mini.ask("execute", container=container, command=command)
            began_s = time.perf_counter()
            result = sandbox.run(command, TIMEOUT_S)
            ours_s.append(time.perf_counter() - began_s)
            if not number % 2:
                answer = bench.mini.ask("execute", container=container, command=command)
            mini_s.append(answer["wall_s"])
            exit_code = -1 if result.timed_out else result.exit_code
            equal += exit_code == answer["exit_code"]
            if exit_code != answer["exit_code"]:
                logger.info("{} action {}: exit code {} and {}", run.task_id, number, exit_code, answer["exit_code"])
    return Replay(ours_s, mini_s, equal)


def _commands(run: Trajectory) -> list[str]:
    """Those of the replies in which mini-swe-agent found one; it answered the others without running anything."""
    return [str(step.action.arguments["command"]) for step in run.steps if step.action is not None]
