"""SWE-bench as a Gymnasium environment: an action is a bash command, an observation is what it printed.

    import gymnasium, srft.env
    env = gymnasium.make("srft/SWEBench-v0", tasks="tasks.jsonl")
    observation, info = env.reset(seed=0, options={"task": "sympy__sympy-24539"})   # the issue's text
    observation, reward, terminated, truncated, info = env.step("ls")
    env.step("submit")          # terminated; reward 1.0 if the official grader says resolved

The agent's loop uses `execute`, `is_submission` and `patch` directly and leaves grading to a stage of its own.
"""

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from srft.env.backends import Backend, Kind, choose_backend
from srft.env.errors import GradingError, InputError
from srft.env.git.patch import Patch, PatchError
from srft.env.git.record import Start
from srft.env.grading.grade import Grade, grade
from srft.env.sandbox.contract import OUTPUT_LIMIT_BYTES, CommandResult, Sandbox
from srft.env.tasks.task import Task, load_tasks
from srft.env.workspace import Workspace, WorkspacePool, WorkspaceSettings

SUBMIT = "submit"
SENTINEL = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""A command that succeeds and prints this as its first line submits too: mini-swe-agent's convention."""


class UnicodeText(gymnasium.Space[str]):
    """Any text up to a length. (Gymnasium's `Text` wants its alphabet listed; ours is all of Unicode.)

    examples: what `sample` draws from.
    """

    def __init__(self, max_length: int, *, examples: Sequence[str], seed: int | None = None) -> None:
        super().__init__(dtype=str, seed=seed)
        self.max_length = max_length
        self.examples = tuple(examples)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        if mask is not None or probability is not None:
            raise ValueError("UnicodeText takes neither a mask nor a probability")
        return str(self.np_random.choice(np.array(self.examples)))

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnicodeText) and other.max_length == self.max_length

    def __hash__(self) -> int:
        return hash(self.max_length)

    def __repr__(self) -> str:
        return f"UnicodeText({self.max_length})"


class SweEnv(gymnasium.Env[str, str]):
    """One agent, one task at a time, in a container of its own.

    tasks: Task records, or what `load_tasks` reads. backend: "docker", "local", "unsandboxed", "auto", or a Backend.
    pool: shared between environments; without one, this environment has its own. warm: keep the next reset warm.
    step_limit: `truncated` after so many steps. grade_submission: grade on submit, in a fresh container, and give the
    reward; without it the reward is always 0.0.

    `info` of a step holds `result` (a CommandResult, `None` for the word submit); at an episode's end also `patch`,
    `patch_error` where none could be taken, `patch_remark` where something was left out of it, and `grade`. `reset` and
    `step` raise InfrastructureError when the world fails: that is never an observation. Seeded: the task is drawn with
    `np_random` unless `options["task"]` names one
    (a Task or an instance id). Vectorised, use `AsyncVectorEnv(..., shared_memory=False)`: text has no fixed size.
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        tasks: Sequence[Task] | str,
        *,
        backend: Kind | Backend = "auto",
        settings: WorkspaceSettings | None = None,
        pool: WorkspacePool | None = None,
        warm: bool = False,
        command_timeout_s: float = 60.0,
        step_limit: int | None = None,
        grade_submission: bool = True,
        grade_timeout_s: float = 1800.0,
        render_mode: str | None = None,
    ) -> None:
        self.tasks = load_tasks(tasks) if isinstance(tasks, str) else list(tasks)
        self._own_pool = pool is None
        self._pool = pool or WorkspacePool(
            choose_backend(backend) if isinstance(backend, str) else backend, settings, openers=1
        )
        self._warm = warm
        self._command_timeout_s = command_timeout_s
        self._step_limit = step_limit
        self._grade_submission = grade_submission
        self._grade_timeout_s = grade_timeout_s
        self.render_mode = render_mode
        self.action_space = UnicodeText(1 << 22, examples=("pwd", "git status --short", "ls", SUBMIT))
        # One more character than bytes are kept can only come from replacement characters, which are no more.
        self.observation_space = UnicodeText(OUTPUT_LIMIT_BYTES, examples=("",))
        self._task: Task | None = None
        self._workspace: Workspace | None = None
        self._steps = 0
        self._last_output = ""

    @property
    def task(self) -> Task:
        if self._task is None:
            raise RuntimeError("no task yet: call reset first")
        return self._task

    @property
    def sandbox(self) -> Sandbox:
        return self._open_workspace().sandbox

    @property
    def start(self) -> Start:
        return self._open_workspace().start

    @property
    def workdir(self) -> str:
        return self.task.view.workdir

    def _open_workspace(self) -> Workspace:
        if self._workspace is None:
            raise RuntimeError("no episode is running: call reset first")
        return self._workspace

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self._leave()
        self._task = self._choose((options or {}).get("task"))
        self._workspace = self._pool.take(self._task)
        if self._warm:
            self._pool.warm(self._task)
        self._steps = 0
        self._last_output = self._task.problem_statement
        return self._last_output, {"instance_id": self._task.instance_id, "start_commit": self.start.commit}

    def _choose(self, wanted: Task | str | None) -> Task:
        if isinstance(wanted, Task):
            return wanted
        if wanted is None:
            return self.tasks[int(self.np_random.integers(len(self.tasks)))]
        for task in self.tasks:
            if task.instance_id == wanted:
                return task
        raise InputError(f"options['task']: {wanted!r} is none of the {len(self.tasks)} tasks of this environment")

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        result = None if action.strip() == SUBMIT else self.execute(action, timeout_s=self._command_timeout_s)
        terminated = self.is_submission(action, result)
        truncated = not terminated and self._step_limit is not None and self._steps >= self._step_limit
        reward = 0.0
        info: dict[str, Any] = {"result": result}
        if terminated or truncated:
            info["patch"] = self._patch_or_none(info)
        if terminated and self._grade_submission:
            verdict = self.grade(info["patch"])
            if verdict.resolved is None:
                raise GradingError(f"{self.task.instance_id}: the submission cannot be graded: {verdict.detail}")
            info["grade"] = verdict
            reward = 1.0 if verdict.resolved else 0.0
        self._last_output = result.output if result else ""
        return self._last_output, reward, terminated, truncated, info

    def _patch_or_none(self, info: dict[str, Any]) -> str | None:
        try:
            taken = self.patch()
        except PatchError as error:
            info["patch_error"] = str(error)
            return None
        if taken.remark:
            info["patch_remark"] = taken.remark
        return taken.text

    def execute(self, command: str, *, timeout_s: float = math.inf) -> CommandResult:
        """Run one command in the task's directory. Raises SandboxDied."""
        return self.sandbox.run(command, timeout_s)

    @staticmethod
    def is_submission(command: str, result: CommandResult | None) -> bool:
        """Whether a command ended the episode: the word `submit`, or the sentinel as its output's first line."""
        if command.strip() == SUBMIT:
            return True
        return (
            result is not None
            and result.exit_code == 0
            and result.output.lstrip().split("\n", 1)[0].strip() == SENTINEL
        )

    def patch(self, *, kill: bool = True) -> Patch:
        """What the agent has changed; kill: as in `take_patch`. Raises PatchError, SandboxDied."""
        return self._open_workspace().patch(kill=kill)

    def grade(self, patch: str | None) -> Grade:
        """The official verdict on a patch for this episode's task."""
        return grade(
            self.task, patch, open_sandbox=self._pool.backend.open, log_dir=None, timeout_s=self._grade_timeout_s
        )

    def render(self) -> str | None:  # type: ignore[override]
        return self._last_output if self.render_mode == "ansi" else None

    def _leave(self) -> None:
        if self._workspace is not None:
            self._pool.release(self._workspace)
            self._workspace = None

    def close(self) -> None:
        self._leave()
        if self._own_pool:
            self._pool.close()
            self._pool.backend.close()
