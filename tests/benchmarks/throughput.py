"""Many short episodes at once: how many a minute, and what memory they take.

`srft collect` as a user runs it, start-up included, with a script for a model and 16 workers, on the tiny task,
ungraded; before and after it, half each of mini-swe-agent's share: the same commands in its DockerEnvironment, 16
threads. Ours also scrubs the repository, takes the patch from a fresh shell, and has each trajectory on disk. An
episode is over when its container is gone, for both.

The memory of a running episode is that of one whose agent is thinking: 16 of them open, a few commands done.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import msgspec
from benchmarks.rows import Bench, Row
from benchmarks.tiny_task import COMMANDS, TINY_TASK
from benchmarks.worker import PeerError

from srft.agent.records import Trajectory
from srft.env.backends import choose_backend
from srft.env.docker.sandbox import DockerSandbox, engine
from srft.env.errors import SrftError
from srft.env.swe_env import SENTINEL, SweEnv
from srft.env.workspace import WorkspacePool
from srft.harness.run.store import Run

EPISODES = 200
MINI_EPISODES = 32
WORKERS = 16
MEBIBYTE = 1 << 20
POLL_S = 0.1


class CollectFailed(SrftError):
    """`srft collect` did not give what the script must lead to."""


class Collected(NamedTuple):
    """A finished `srft collect`."""

    wall_s: float
    peak_bytes: int


def collect_throughput(bench: Bench) -> dict[str, Row]:
    episodes, mini_episodes = (32, 16) if bench.quick else (EPISODES, MINI_EPISODES)
    mini_s = _mini_episodes_s(bench, mini_episodes // 2)
    with tempfile.TemporaryDirectory(prefix="srft-bench-") as folder:
        collected = _collect(Path(folder), episodes)
    mini_s += _mini_episodes_s(bench, mini_episodes // 2)
    per_minute = 60 * episodes / collected.wall_s
    mini_per_minute = 60 * mini_episodes / mini_s if mini_s else None
    peer = bench.mini.missing or f"mini-swe-agent {mini_per_minute:.0f} (over {mini_episodes} episodes)"
    ratio = round(per_minute / mini_per_minute, 2) if mini_per_minute else None
    throughput = Row(value=round(per_minute, 1), unit="episodes/min", peer=peer, ratio=ratio)
    peak = Row(
        value=round(collected.peak_bytes / MEBIBYTE, 1),
        unit="MiB",
        peer=f"none; {episodes} episodes, {WORKERS} at once",
    )
    return {"collect_throughput": throughput, "collect_peak_memory": peak, **_episode_memory(bench)}


def _mini_episodes_s(bench: Bench, episodes: int) -> float:
    """Seconds; 0 where the peer is missing."""
    if bench.mini.missing:
        return 0.0
    commands = [*COMMANDS, f"echo {SENTINEL} && git add -A && git diff --cached"]
    answer = bench.mini.ask("episodes", image=TINY_TASK.image, commands=commands, episodes=episodes, workers=WORKERS)
    if answer["failed"]:
        raise PeerError(f"mini-swe-agent: {answer['failed']} of {episodes} episodes had a command that failed")
    return float(answer["wall_s"])


def _collect(folder: Path, episodes: int) -> Collected:
    """Run the command line; raises CollectFailed unless every episode handed in a patch."""
    (folder / "tasks.jsonl").write_bytes(msgspec.json.encode(TINY_TASK) + b"\n")
    replies = [f"Next.\n```bash\n{command}\n```" for command in (*COMMANDS, "submit")]
    (folder / "script.yaml").write_text(json.dumps(replies))
    command = [str(Path(sys.executable).with_name("srft")), "collect"]
    command += ["--tasks", str(folder / "tasks.jsonl"), "--model", f"script:{folder / 'script.yaml'}"]
    command += ["--run", str(folder / "run"), "--attempts", str(episodes), "--workers", str(WORKERS)]
    command += ["--sandbox", "docker", "--no-grade", "--json"]
    began_s = time.perf_counter()
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        peak_bytes = 0
        while process.poll() is None:
            # Not rusage's maximum: that counts what this process had when it forked.
            peak_bytes = max(peak_bytes, _status_bytes(process.pid, "VmHWM"))
            time.sleep(POLL_S)
    wall_s = time.perf_counter() - began_s
    with Run(folder / "run") as run:
        trajectories = list(run.round(0).trajectories.read())
    if process.returncode != 0 or len(trajectories) != episodes or not all(map(_handed_in, trajectories)):
        said = (folder / "log").read_text(errors="replace").strip()[-500:]
        raise CollectFailed(f"srft collect: {len(trajectories)} of {episodes} episodes; it said: {said}")
    return Collected(wall_s, peak_bytes)


def _handed_in(trajectory: Trajectory) -> bool:
    return trajectory.stop_reason == "submitted" and "+    return sum(numbers) / len(numbers)" in str(trajectory.patch)


def _status_bytes(pid: int, field: str) -> int:
    """A field of /proc/PID/status; 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def _episode_memory(bench: Bench) -> dict[str, Row]:
    """What one more episode adds, inside its container and to our process."""
    with (
        closing(choose_backend("docker")) as backend,
        closing(WorkspacePool(backend)) as pool,
        ExitStack() as stack,
    ):
        environments = [SweEnv([TINY_TASK], backend=backend, pool=pool) for _ in range(WORKERS + 1)]
        for env in environments:
            stack.enter_context(closing(env))
        _begin_episode(environments[0])  # what only the first one costs: imports, the client's buffers
        before_bytes = _status_bytes(os.getpid(), "VmRSS")
        for env in environments[1:]:
            _begin_episode(env)
        added_bytes = (_status_bytes(os.getpid(), "VmRSS") - before_bytes) / WORKERS
        ours_bytes = [_container_bytes(_container(env)) for env in environments[1:]]
        with bench.mini.container(TINY_TASK.image) as container:
            mini_bytes = _mini_bytes(bench, container) if container else None
    peer = bench.mini.missing or f"mini-swe-agent's container {(mini_bytes or 0) / MEBIBYTE:.1f} MiB"
    inside_bytes = mean(ours_bytes)
    ratio = round(mini_bytes / inside_bytes, 2) if mini_bytes and inside_bytes else None
    return {
        "episode_memory_container": Row(value=round(inside_bytes / MEBIBYTE, 2), unit="MiB", peer=peer, ratio=ratio),
        "episode_memory_process": Row(
            value=round(added_bytes / MEBIBYTE, 2), unit="MiB", peer=f"none; {WORKERS} more episodes in one process"
        ),
    }


def _begin_episode(env: SweEnv) -> None:
    env.reset()
    for command in COMMANDS:
        env.execute(command, timeout_s=60)


def _container(env: SweEnv) -> str:
    sandbox = env.sandbox
    assert isinstance(sandbox, DockerSandbox)
    assert sandbox.container_id is not None
    return sandbox.container_id


def _mini_bytes(bench: Bench, container: str) -> int:
    for command in COMMANDS:
        bench.mini.execute_s(container, command)
    return _container_bytes(container)


def _container_bytes(container: str) -> int:
    """What its cgroup holds, without the page cache that can be taken back. 0 where the engine does not know."""
    memory = engine().api.stats(container, stream=False, one_shot=True)["memory_stats"]
    details = memory.get("stats", {})
    return int(memory.get("usage", 0) - details.get("inactive_file", details.get("total_inactive_file", 0)))
