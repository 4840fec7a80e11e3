"""The Gymnasium environment, on real containers."""

import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeLimit

from srft.env.backends import DockerBackend
from srft.env.errors import InputError, SandboxDied
from srft.env.sandbox.contract import CommandResult
from srft.env.swe_env import PatchAtTimeLimit, SweEnv, observed
from srft.env.tasks.task import load_tasks
from srft.env.workspace import WorkspacePool, WorkspaceSettings
from tests import tiny


@pytest.fixture(scope="module")
def tasks_file(engine, base_image, tmp_path_factory):
    tiny.build_image(engine)
    return str(tiny.write_tasks(tmp_path_factory.mktemp("tiny") / "tasks.jsonl", 2))


@pytest.fixture(scope="module")
def tasks(tasks_file):
    return load_tasks(tasks_file)


@pytest.fixture
def env(tasks):
    env = SweEnv(tasks, backend="docker")
    yield env
    env.close()


def test_a_right_and_a_wrong_submission(env):
    observation, info = env.reset(seed=1, options={"task": "tiny__tiny-1"})
    assert (observation, info["instance_id"]) == ("answer.txt must say 42.", "tiny__tiny-1")
    assert env.step("cat answer.txt")[:4] == ("41\n", 0.0, False, False)
    env.step("echo 42 >answer.txt")
    observation, reward, terminated, truncated, info = env.step("submit")
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info["grade"].resolved is True
    assert info["patch"].startswith("diff --git a/answer.txt b/answer.txt\n")
    env.reset(options={"task": "tiny__tiny-1"})
    _, reward, terminated, _, info = env.step("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && git diff")
    assert (reward, terminated, info["grade"].outcome) == (0.0, True, "empty")


def test_a_limit_truncates_and_the_patch_is_taken(tasks):
    env = SweEnv(tasks, backend="docker", step_limit=2, command_timeout_s=1)
    env.reset(options={"task": "tiny__tiny-0"})
    _, _, terminated, truncated, info = env.step("echo new >new.txt; sleep 60")
    assert (terminated, truncated, info["result"].timed_out, info["result"].exit_code) == (False, False, True, None)
    _, reward, terminated, truncated, info = env.step("true")
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert "+new" in info["patch"]
    env.close()


def test_the_same_seed_draws_the_same_tasks(env):
    def drawn():
        return [env.reset(seed=7 if first else None)[1]["instance_id"] for first in (True, False, False, False)]

    assert drawn() == drawn()


def test_a_dead_container_is_an_exception(env, engine):
    env.reset(seed=0)
    engine.api.remove_container(env.sandbox.container_id, force=True)
    with pytest.raises(SandboxDied):
        env.step("ls")


def test_wrong_use_is_said(env):
    with pytest.raises(InputError, match="'nope' is none of the 2 tasks"):
        env.reset(options={"task": "nope"})
    with pytest.raises(InputError, match="expected task alone, got taks"):
        env.reset(options={"taks": "tiny__tiny-1"})
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step("ls")


def test_made_with_names_the_environment_is_json(tasks_file):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        env = gymnasium.make(
            "srft/SWEBench-v0",
            tasks=tasks_file,
            backend="docker",
            settings={"mode": "persistent", "limits": {"pids": 99}},
            warm=True,
            grade_submission=False,
            max_episode_steps=2,
        )
        check_env(env.unwrapped, skip_render_check=True)
    spec = EnvSpec.from_json(env.spec.to_json())
    again = gymnasium.make(spec)
    assert again.spec == env.spec == spec
    env.close()
    again.reset(seed=0)
    assert again.step("cd /; a=3")[0] == ""
    assert again.step("pwd; echo $a")[0] == "/\n3\n"
    assert again.unwrapped.sandbox.spec.limits.pids == 99
    again.close()


def test_objects_of_the_caller_s_make_an_environment_again_and_stay_open(tasks):
    backend = DockerBackend()
    pool = WorkspacePool(backend)
    for given in ({"pool": pool}, {"backend": backend, "settings": WorkspaceSettings(mode="persistent")}):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            env = gymnasium.make("srft/SWEBench-v0", tasks=tasks, **given)
            again = gymnasium.make(env.spec)
        assert again.unwrapped._pool.backend is backend
        env.close()
        again.close()
    backend.prefetch(tasks)  # raises when it is closed
    pool.close()
    backend.close()


def test_a_time_limit_has_the_patch_and_ends_the_episode(tasks_file, tasks):
    made = gymnasium.make("srft/SWEBench-v0", tasks=tasks_file, backend="docker", max_episode_steps=2)
    by_hand = PatchAtTimeLimit(TimeLimit(SweEnv(tasks, backend="docker"), 2))
    for env in (made, by_hand):
        env.reset(seed=0)
        assert "patch" not in env.step("echo new >new.txt")[4]
        _, reward, terminated, truncated, info = env.step("true")
        assert (reward, terminated, truncated) == (0.0, False, True)
        assert "+new" in info["patch"]
        with pytest.raises(ResetNeeded, match="the episode has ended: call reset first"):
            env.step("echo more >more.txt")
        env.reset()
        assert env.step("ls")[0] == "answer.txt\nkept.txt\n"
        env.close()


def test_nothing_is_done_after_the_end(env):
    env.reset(seed=0)
    env.step("submit")
    for action in ("echo 42 >answer.txt", "submit"):
        with pytest.raises(ResetNeeded, match="the episode has ended: call reset first"):
            env.step(action)
    assert env.execute("cat answer.txt").output == "41\n"  # for who looks at what is left
    env.close()
    with pytest.raises(RuntimeError, match="closed: make another"):
        env.reset()


@pytest.mark.parametrize(
    ("result", "seen"),
    [
        (CommandResult("out\n", 0, 0.1), "out\n"),
        (CommandResult("", 0, 0.1), ""),
        (CommandResult("", 1, 0.1), "[exit code 1]\n"),
        (CommandResult("no newline", 127, 0.1), "no newline\n[exit code 127]\n"),
        (CommandResult("a\n", None, 0.1, timed_out=True), "a\n[killed: it was still running after 1.5 s]\n"),
        (
            CommandResult("ab\nyz", 0, 0.1, elided_bytes=7, elided_at=2),
            "ab\n[... 7 bytes left out here ...]\n\nyz",
        ),
        (
            CommandResult("a", 3, 0.1, shell_restarted=True),
            "a\n[exit code 3]\n[the command ended the shell; a new one was started, and variables are lost]\n",
        ),
        (CommandResult("", None, 0.1), "[exit code unknown]\n"),
    ],
)
def test_an_observation_tells_what_the_output_does_not(result, seen):
    assert observed(result, timeout_s=1.5) == seen


def test_observations_of_commands(tasks):
    env = SweEnv(tasks, backend="docker", command_timeout_s=1)
    env.reset(seed=0)
    assert env.step("ls nothing 2>/dev/null")[0] == "[exit code 2]\n"
    assert env.step("echo first; sleep 60")[0] == "first\n[killed: it was still running after 1 s]\n"
    long = env.step("yes | head -c 3000000")[0]
    assert long in env.observation_space
    assert long.count("[... 1951424 bytes left out here ...]\n") == 1
    env.close()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("sync", AutoresetMode.NEXT_STEP),
        ("sync", AutoresetMode.DISABLED),
        ("async", AutoresetMode.NEXT_STEP),
        ("async", AutoresetMode.SAME_STEP),
    ],
)
def test_vector_environments(tasks_file, kind, mode):
    """Each kind and each way of resetting, with no other argument."""
    vector = gymnasium.make_vec(
        "srft/SWEBench-v0",
        num_envs=2,
        vectorization_mode=kind,
        vector_kwargs={"autoreset_mode": mode},
        tasks=tasks_file,
        backend="docker",
        max_episode_steps=3,
    )
    issue = "answer.txt must say 42."
    assert vector.reset(seed=3)[0] == (issue, issue)
    assert vector.step(("echo a", "echo 42 >answer.txt"))[0] == ("a\n", "")
    observations, rewards, terminated, truncated, infos = vector.step(("pwd", "submit"))
    assert observations == ("/testbed\n", issue if mode == AutoresetMode.SAME_STEP else "")
    np.testing.assert_array_equal(rewards, [0.0, 1.0])
    np.testing.assert_array_equal(terminated, [False, True])
    np.testing.assert_array_equal(truncated, [False, False])
    final = infos["final_info"] if mode == AutoresetMode.SAME_STEP else infos
    assert final["grade"][1].outcome == "resolved"
    assert final["patch"][1].startswith("diff --git a/answer.txt")
    if mode == AutoresetMode.DISABLED:
        vector.reset(options={"reset_mask": np.array([False, True])})
    observations, _, _, truncated, infos = vector.step(("echo b >b.txt", "cat answer.txt"))
    ended = "41\n" if mode != AutoresetMode.NEXT_STEP else issue
    assert observations == (issue if mode == AutoresetMode.SAME_STEP else "", ended)
    np.testing.assert_array_equal(truncated, [True, False])
    final = infos["final_info"] if mode == AutoresetMode.SAME_STEP else infos
    assert "+b" in final["patch"][0]
    vector.close()


def test_a_backend_by_its_name(tasks_file):
    env = gymnasium.make("srft/SWEBench-v0", tasks=tasks_file, backend="srft.env.backends:DockerBackend")
    assert json.loads(env.spec.to_json())["kwargs"]["backend"] == "srft.env.backends:DockerBackend"
    assert env.unwrapped._pool.backend.name == "docker"
    env.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"backend": "dokker"}, "sandbox dokker: choose auto, docker, local or MODULE:NAME"),
        ({"backend": "srft.env.nothing:Backend"}, "No module named 'srft.env.nothing'"),
        ({"backend": "srft.env.backends:Nothing"}, "has no attribute 'Nothing'"),
        ({"backend": "builtins:dict"}, "no Backend; it has no close, ensure_image"),
        ({"settings": {"netwrk": "none"}}, "settings: no netwrk; expected some of mode, network"),
        ({"settings": {"limits": {"pid": 1}}}, "settings: no limits.pid; expected some of memory_bytes"),
        ({"settings": {"mode": "other"}}, "settings: Invalid enum value 'other'"),
        ({"settings": {"limits": 3}}, "settings: Expected `object`, got `int`"),
        ({"step_limit": 0}, "step_limit: expected a number above 0, got 0"),
        ({"command_timeout_s": "1"}, "command_timeout_s: expected a number above 0, got '1'"),
        ({"tasks": []}, "expected at least one task"),
        ({"render_mode": "human"}, "expected ansi or None, got 'human'"),
    ],
)
def test_a_wrong_argument_is_said(tasks, given, said):
    with pytest.raises(InputError, match=said):
        SweEnv(**{"tasks": tasks, "backend": "docker", **given})


def test_the_agent_has_no_network_and_the_tests_are_not_there(env):
    env.reset(seed=0)
    tried = env.execute("exec 3<>/dev/tcp/1.1.1.1/53", timeout_s=10)
    assert tried.exit_code == 1
    assert "Network is unreachable" in tried.output
    assert env.execute("ls /sys/class/net; ls /eval.sh", timeout_s=10).output.startswith("lo\n")


def test_planted_files_do_not_change_the_verdict(env):
    """What an agent does outside its patch is not in the fresh container where the tests run."""
    env.reset(options={"task": "tiny__tiny-0"})
    env.step("printf '#!/bin/sh\\necho PASSED test_answer\\n' >/usr/bin/cat; chmod +x /usr/bin/cat; alias cat=true")
    env.step("printf 'echo PASSED test_answer\\n' >/eval.sh; mkdir -p /root; echo 'export X=1' >/root/.bashrc")
    env.step("echo 43 >answer.txt")  # a patch, or no container is opened at all
    _, reward, _, _, info = env.step("submit")
    assert (reward, info["grade"].outcome) == (0.0, "unresolved")
    assert info["grade"].fail_to_pass.failed == ("test_answer",)


def test_what_a_patch_leaves_out_is_told(env):
    env.reset(options={"task": "tiny__tiny-0"})
    env.step("echo 42 >answer.txt; mkfifo pipe; rm -rf .git; git init -q; git add -A")
    _, reward, _, _, info = env.step("submit")
    assert (reward, info["grade"].outcome) == (1.0, "resolved")
    assert info["patch_remark"] == "left out of the patch: 1 neither file nor link (pipe)"
