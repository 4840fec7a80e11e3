"""How soon an agent may begin: SweEnv.reset, cold and warm, against `docker run -d` by the command line.

Cold: no workspace is ready, the image is known (it was counted at an earlier reset). Like `docker run`, it does not
include the removal of the container before it; `reset_again` does: an environment that is used a second time.
Warm: the same environment, the pool having had the time to open the next workspace; the removal is included.
Local: a first reset without the engine, of the local sandbox on the same image, which was fetched before.
"""

import time
from contextlib import closing

import msgspec
from benchmarks.docker_cli import docker_remove, docker_run
from benchmarks.rows import Bench, Goal, Row, time_row
from benchmarks.tiny_task import TINY_TASK

from srft.env.backends import Backend, choose_backend
from srft.env.errors import EngineError
from srft.env.local.oci import missing_programs
from srft.env.swe_env import SweEnv
from srft.env.workspace import WorkspacePool

ROUNDS = 20
POOL_HAS_TIME_S = 2.0
COLD = Goal(at_least_times=round(1 / 1.3, 2), text="<= 1.3x docker run's time")
WARM = Goal(at_most_ms=50)
PEER = "docker run -d"


def reset(bench: Bench) -> dict[str, Row]:
    with closing(choose_backend("docker")) as backend:
        cold_s, again_s, run_s = _cold(bench, backend)
        warm_s = _warm(bench, backend)
    local_s = _local(bench)
    local = {"reset_local": time_row(local_s, peer=PEER, peer_s=run_s)} if local_s else {}
    return {
        **local,
        "reset_cold": time_row(cold_s, peer=PEER, peer_s=run_s, goal=COLD),
        "reset_again": time_row(again_s, peer=PEER, peer_s=run_s),
        "reset_warm": time_row(warm_s, peer=PEER, peer_s=run_s, goal=WARM),
    }


def _cold(bench: Bench, backend: Backend) -> tuple[list[float], list[float], list[float]]:
    """Seconds of a first reset, of one that has a container to leave, and of `docker run`."""
    cold_s, again_s, run_s = [], [], []
    with closing(WorkspacePool(backend)) as pool:
        with closing(SweEnv([TINY_TASK], backend=backend, pool=pool)) as env:
            env.reset()
        for _ in range(bench.rounds(ROUNDS)):
            started = docker_run(TINY_TASK.image)
            run_s.append(started.wall_s)
            docker_remove(started.container)
            with closing(SweEnv([TINY_TASK], backend=backend, pool=pool)) as env:
                cold_s.append(_reset_s(env))
                again_s.append(_reset_s(env))
    return cold_s, again_s, run_s


def _local(bench: Bench) -> list[float]:
    """Empty where the machine lacks what fetches and runs an image without an engine."""
    if missing_programs():
        return []
    try:
        backend = choose_backend("local")
    except EngineError:
        return []
    task = msgspec.structs.replace(TINY_TASK, image=f"docker-daemon:{TINY_TASK.image}")
    local_s = []
    with closing(WorkspacePool(backend)) as pool:
        with closing(SweEnv([task], backend=backend, pool=pool)) as env:
            env.reset()
        for _ in range(bench.rounds(ROUNDS)):
            with closing(SweEnv([task], backend=backend, pool=pool)) as env:
                local_s.append(_reset_s(env))
    return local_s


def _warm(bench: Bench, backend: Backend) -> list[float]:
    warm_s = []
    with (
        closing(WorkspacePool(backend)) as pool,
        closing(SweEnv([TINY_TASK], backend=backend, pool=pool, warm=True)) as env,
    ):
        env.reset()
        for _ in range(bench.rounds(ROUNDS)):
            time.sleep(POOL_HAS_TIME_S)
            warm_s.append(_reset_s(env))
    return warm_s


def _reset_s(env: SweEnv) -> float:
    began_s = time.perf_counter()
    env.reset()
    return time.perf_counter() - began_s
