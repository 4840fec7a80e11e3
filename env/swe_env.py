"""SWE-bench as a Gymnasium environment: an action is a bash command, an observation is what it printed.

    import gymnasium, srft.env
    env = gymnasium.make("srft/SWEBench-v0", tasks="tasks.jsonl", backend="docker", max_episode_steps=50)
    observation, info = env.reset(seed=0, options={"task": "sympy__sympy-24539"})   # the issue's text
    observation, reward, terminated, truncated, info = env.step("ls")
    env.step("submit")          # terminated; reward 1.0 if the official grader says resolved

Made with names alone, as here, `env.spec` is JSON and makes the environment again. The agent's loop uses `execute`,
`is_submission` and `patch` directly and leaves grading to a stage of its own.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import msgspec
from gymnasium.utils import RecordConstructorArgs

from srft.env.backends import Backend, choose_backend
from srft.env.errors import GradingError, InputError
from srft.env.git.patch import Patch, PatchError
from srft.env.git.record import Start
from srft.env.grading.grade import Grade, grade
from srft.env.sandbox.contract import OUTPUT_LIMIT_BYTES, CommandResult, Limits, Sandbox
from srft.env.tasks.task import Task, load_tasks
from srft.env.text_space import UnicodeText
from srft.env.workspace import Workspace, WorkspacePool, WorkspaceSettings

SUBMIT = "submit"
SENTINEL = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""A command that succeeds and prints this as its first line submits too: mini-swe-agent's convention."""

NOTES_CHARACTERS = 1000
"""More than an observation's notes take: see `observed`."""


class EpisodeEnded(gymnasium.error.ResetNeeded, RuntimeError):
    """A step without a running episode: before the first reset, after the end, or after `close`."""


def observed(result: CommandResult, *, timeout_s: float) -> str:
    """What the agent sees of a command: its output, and in lines of their own what the output does not tell.

    Those are what was left out of it, a timeout, an exit code other than 0, and a shell that the command has ended.
    """
    text = result.output
    if result.elided_bytes:
        head, tail = text[: result.elided_at], text[result.elided_at :]
        text = f"{_ended_line(head)}[... {result.elided_bytes} bytes left out here ...]\n{tail}"
    notes = []
    if result.timed_out:
        notes.append(f"[killed: it was still running after {timeout_s:g} s]")
    elif result.exit_code != 0:
        notes.append(f"[exit code {'unknown' if result.exit_code is None else result.exit_code}]")
    if result.shell_restarted:
        notes.append("[the command ended the shell; a new one was started, and variables are lost]")
    return _ended_line(text) + "\n".join(notes) + "\n" if notes else text


def _ended_line(text: str) -> str:
    return text if text.endswith("\n") or not text else text + "\n"


class SweEnv(gymnasium.Env[str, str]):
    """One agent, one task at a time, in a container of its own.

    tasks: what `load_tasks` reads, or Task records. backend: "auto", "docker", "local", MODULE:NAME of a backend of
    your own, or a Backend, which stays yours to close. settings: WorkspaceSettings, or their fields by name. pool:
    shared between environments; without one, this environment has its own. warm: keep the next reset warm. step_limit:
    `truncated` after so many steps, as Gymnasium's `max_episode_steps` has it. grade_submission: grade on submit, in a
    fresh container, and give the reward; without it the reward is always 0.0.

    The observation is what the command printed; what that does not tell is added in lines of their own (`observed`).
    `info` of a step holds `result` (a CommandResult, `None` for the word submit); at an episode's end also `patch`,
    `patch_error` where none could be taken, `patch_remark` where something was left out of it, and of a submission
    `grade`. `reset` and `step` raise InfrastructureError when infrastructure fails: that is never an observation. A
    step after the end raises EpisodeEnded. Seeded: the task is drawn with `np_random` unless `options["task"]` names
    one (a Task or an instance id).
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        tasks: Sequence[Task] | str,
        *,
        backend: str | Backend = "auto",
        settings: WorkspaceSettings | Mapping[str, Any] | None = None,
        pool: WorkspacePool | None = None,
        warm: bool = False,
        command_timeout_s: float = 60.0,
        step_limit: int | None = None,
        grade_submission: bool = True,
        grade_timeout_s: float = 1800.0,
        render_mode: str | None = None,
    ) -> None:
        _check_positive(command_timeout_s=command_timeout_s, step_limit=step_limit, grade_timeout_s=grade_timeout_s)
        if render_mode not in (None, "ansi"):
            raise InputError(f"render_mode: expected ansi or None, got {render_mode!r}")
        self.tasks = load_tasks(tasks) if isinstance(tasks, str) else list(tasks)
        if not self.tasks:
            raise InputError("tasks: expected at least one task, got none")
        if isinstance(settings, Mapping):
            settings = _settings(settings)
        self._own_backend = choose_backend(backend) if pool is None and isinstance(backend, str) else None
        self._own_pool = pool is None
        self._pool = pool or WorkspacePool(self._own_backend or backend, settings, openers=1)  # type: ignore[arg-type]
        self._warm = warm
        self._command_timeout_s = command_timeout_s
        self._step_limit = step_limit
        self._grade_submission = grade_submission
        self._grade_timeout_s = grade_timeout_s
        self.render_mode = render_mode
        # `submit` is no example: who plays at random does not want to be graded.
        self.action_space = UnicodeText(1 << 22, examples=("pwd", "git status --short", "ls"))
        self.observation_space = UnicodeText(OUTPUT_LIMIT_BYTES + NOTES_CHARACTERS, examples=("",))
        self._task: Task | None = None
        self._workspace: Workspace | None = None
        self._steps = 0
        self._ended = False
        self._closed = False
        self._last_output = ""

    @property
    def task(self) -> Task:
        if self._task is None:
            raise EpisodeEnded("no task yet: call reset first")
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
            raise EpisodeEnded("no episode is running: call reset first")
        return self._workspace

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        if self._closed:
            raise EpisodeEnded("the environment was closed: make another one")
        if unknown := sorted(set(options or {}) - {"task"}):
            raise InputError(f"options: expected task alone, got {', '.join(map(str, unknown))}")
        super().reset(seed=seed)
        self._leave()
        self._task = self._choose((options or {}).get("task"))
        self._workspace = self._pool.take(self._task)
        if self._warm:
            self._pool.warm(self._task)
        self._steps = 0
        self._ended = False
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
        if self._ended:
            raise EpisodeEnded("the episode has ended: call reset first")
        self._steps += 1
        timeout_s = self._command_timeout_s
        result = None if action.strip() == SUBMIT else self.execute(action, timeout_s=timeout_s)
        terminated = self.is_submission(action, result)
        truncated = not terminated and self._step_limit is not None and self._steps >= self._step_limit
        reward = 0.0
        info: dict[str, Any] = {"result": result}
        if terminated or truncated:
            self.end(info)
        if terminated and self._grade_submission:
            verdict = self.grade(info["patch"])
            if verdict.resolved is None:
                self._ended = False  # it may be submitted again
                raise GradingError(f"{self.task.instance_id}: the submission cannot be graded: {verdict.detail}")
            info["grade"] = verdict
            reward = 1.0 if verdict.resolved else 0.0
        self._last_output = observed(result, timeout_s=timeout_s) if result else ""
        return self._last_output, reward, terminated, truncated, info

    def end(self, info: dict[str, Any]) -> None:
        """End the episode: no step is taken any more, and `info` gets the patch, or why there is none."""
        info["patch"] = None
        try:
            taken = self.patch()
        except PatchError as error:
            info["patch_error"] = str(error)
        else:
            info["patch"] = taken.text
            if taken.remark:
                info["patch_remark"] = taken.remark
        self._ended = True

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
        self._closed = True
        self._leave()
        if self._own_pool:
            self._pool.close()
        if self._own_backend is not None:
            self._own_backend.close()


class PatchAtTimeLimit(gymnasium.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Ends the episode when a wrapper below it truncates, as `TimeLimit` does without the environment's knowledge.

    `gymnasium.make` puts it around `max_episode_steps`. Put it around a TimeLimit of your own.
    """

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if truncated and "patch" not in info:
            assert isinstance(self.unwrapped, SweEnv)
            self.unwrapped.end(info)
        return observation, reward, terminated, truncated, info


def _settings(fields: Mapping[str, Any]) -> WorkspaceSettings:
    """Settings from their fields by name, as JSON has them. Raises InputError."""
    for where, record, given in (("", WorkspaceSettings, fields), ("limits.", Limits, fields.get("limits"))):
        names = [field.name for field in dataclasses.fields(record)]
        if unknown := sorted(set(given) - set(names) if isinstance(given, Mapping) else ()):
            raise InputError(f"settings: no {where}{unknown[0]}; expected some of {', '.join(names)}")
    try:
        return msgspec.convert(dict(fields), WorkspaceSettings)
    except msgspec.ValidationError as error:
        raise InputError(f"settings: {error}") from None


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is None and name == "step_limit":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(f"{name}: expected a number above 0, got {value!r}")
