"""The Gymnasium environment, on real containers."""

from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from srft.env.errors import InputError, SandboxDied
from srft.env.swe_env import SweEnv
from srft.env.tasks.task import load_tasks
from tests import tiny


@pytest.fixture(scope="module")
def tasks(engine, base_image, tmp_path_factory):
    tiny.build_image(engine)
    return load_tasks(str(tiny.write_tasks(tmp_path_factory.mktemp("tiny") / "tasks.jsonl", 2)))


@pytest.fixture
def env(tasks):
    env = SweEnv(tasks, backend="docker")
    yield env
    env.close()


def test_check_env(tasks):
    env = SweEnv(tasks[:1], backend="docker", grade_submission=False, warm=True)
    check_env(env, skip_render_check=True)
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
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step("ls")


@pytest.mark.parametrize(
    "vectorise",
    [gymnasium.vector.SyncVectorEnv, partial(gymnasium.vector.AsyncVectorEnv, shared_memory=False)],
    ids=["sync", "async"],
)
def test_vector_environments(tasks, vectorise):
    make = partial(gymnasium.make, "srft/SWEBench-v0", tasks=tasks, backend="docker")
    vector = vectorise([make, make])
    observations, _ = vector.reset(seed=3)
    assert observations == ("answer.txt must say 42.",) * 2
    observations, *_ = vector.step(("echo a", "echo 42 >answer.txt"))
    assert observations == ("a\n", "")
    observations, rewards, terminated, truncated, _ = vector.step(("pwd", "submit"))
    assert observations == ("/testbed\n", "")
    np.testing.assert_array_equal(rewards, [0.0, 1.0])
    np.testing.assert_array_equal(terminated, [False, True])
    np.testing.assert_array_equal(truncated, [False, False])
    vector.close()


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
