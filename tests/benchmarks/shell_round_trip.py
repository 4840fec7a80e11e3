"""How long `true` takes: our shell in both modes, `docker exec` and mini-swe-agent's DockerEnvironment.

Four containers of one image; each round asks every one of them in turn.
"""

import time
from contextlib import ExitStack

from benchmarks.docker_cli import docker_exec, plain_container
from benchmarks.rows import Bench, Goal, Row, time_row
from benchmarks.tiny_task import TINY_IMAGE, TINY_TASK

from srft.env.docker.sandbox import DockerSandbox
from srft.env.sandbox.contract import Mode, Sandbox
from srft.env.workspace import WorkspaceSettings

ROUNDS = 50
OURS_A_ROUND = 20
"""Ours is two orders of magnitude quicker, so more of them are needed to meet the same noise."""

GOAL = Goal(at_most_ms=1.0, at_least_times=60)
MODES: tuple[Mode, ...] = ("stateless", "persistent")


def shell_round_trip(bench: Bench) -> dict[str, Row]:
    ours_s: dict[Mode, list[float]] = {mode: [] for mode in MODES}
    exec_s: list[float] = []
    mini_s: list[float] = []
    with ExitStack() as stack:
        sandboxes = {mode: stack.enter_context(_sandbox(mode)) for mode in MODES}
        plain = stack.enter_context(plain_container(TINY_IMAGE))
        minis = stack.enter_context(bench.mini.container(TINY_IMAGE))
        for _ in range(bench.rounds(ROUNDS)):
            exec_s.append(docker_exec(plain, "true"))
            if minis is not None:
                mini_s.append(bench.mini.execute_s(minis, "true"))
            for mode, sandbox in sandboxes.items():
                ours_s[mode] += [_round_trip_s(sandbox) for _ in range(OURS_A_ROUND)]
    stateless_s, persistent_s = ours_s["stateless"], ours_s["persistent"]
    mini = "mini-swe-agent execute" if mini_s else bench.mini.missing or ""
    return {
        "shell_round_trip": time_row(stateless_s, peer="docker exec", peer_s=exec_s, goal=GOAL),
        "shell_round_trip_persistent": time_row(persistent_s, peer="docker exec", peer_s=exec_s, goal=GOAL),
        "shell_round_trip_mini": time_row(stateless_s, peer=mini, peer_s=mini_s, goal=GOAL),
    }


def _sandbox(mode: Mode) -> Sandbox:
    return DockerSandbox(WorkspaceSettings(mode=mode).spec(TINY_TASK))


def _round_trip_s(sandbox: Sandbox) -> float:
    began_s = time.perf_counter()
    sandbox.run("true", 10)
    return time.perf_counter() - began_s
