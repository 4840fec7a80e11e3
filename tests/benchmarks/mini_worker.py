"""Runs in the venv of mini-swe-agent: drives its DockerEnvironment, and takes the times here.

Reads one JSON object a line from stdin ({"request": NAME, ...arguments}), writes one a line to stdout. Containers get
the label that is the first argument.

    {"request": "start", "image": "debian:12"}                       -> {"container": "4f...", "wall_s": 0.31}
    {"request": "execute", "container": "4f...", "command": "true"}  -> {"exit_code": 0, "wall_s": 0.06}

The environment is configured as in mini-swe-agent's own config for SWE-bench.
"""

import json
import logging
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import minisweagent
import yaml
from minisweagent.environments.docker import DockerEnvironment
from minisweagent.exceptions import Submitted

CONFIG = yaml.safe_load((Path(minisweagent.__file__).parent / "config/benchmarks/swebench.yaml").read_text())[
    "environment"
]
CONFIG.pop("environment_class", None)

environments: dict[str, DockerEnvironment] = {}


def open_environment(image: str) -> DockerEnvironment:
    return DockerEnvironment(image=image, run_args=["--rm", "--label", sys.argv[1]], **CONFIG)


def execute(environment: DockerEnvironment, command: str) -> int:
    """The exit code, with mini-swe-agent's -1 for a timeout; 0 for a submission, which it raises."""
    try:
        return environment.execute({"command": command})["returncode"]
    except Submitted:
        return 0


def remove(environment: DockerEnvironment) -> None:
    """At once. Its own cleanup takes 10 s in the background, since `sleep` as process 1 ignores SIGTERM."""
    container, environment.container_id = environment.container_id, None
    subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)


def answer_version() -> dict:
    return {"version": version("mini-swe-agent")}


def answer_start(image: str) -> dict:
    began_s = time.perf_counter()
    environment = open_environment(image)
    wall_s = time.perf_counter() - began_s
    assert environment.container_id
    environments[environment.container_id] = environment
    return {"container": environment.container_id, "wall_s": wall_s}


def answer_execute(container: str, command: str) -> dict:
    began_s = time.perf_counter()
    exit_code = execute(environments[container], command)
    return {"exit_code": exit_code, "wall_s": time.perf_counter() - began_s}


def answer_stop(container: str) -> dict:
    remove(environments.pop(container))
    return {}


def answer_episodes(image: str, commands: list[str], episodes: int, workers: int) -> dict:
    """So many episodes as mini-swe-agent runs a batch: a thread each, a container each."""

    def episode(_number: int) -> list[int]:
        environment = open_environment(image)
        try:
            return [execute(environment, command) for command in commands]
        finally:
            remove(environment)

    began_s = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        exit_codes = list(pool.map(episode, range(episodes)))
    return {"wall_s": time.perf_counter() - began_s, "failed": sum(any(codes) for codes in exit_codes)}


ANSWERS = {
    "version": answer_version,
    "start": answer_start,
    "execute": answer_execute,
    "stop": answer_stop,
    "episodes": answer_episodes,
}


def main() -> None:
    logging.getLogger("minisweagent").setLevel(logging.WARNING)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints must not get between the answers
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = ANSWERS[arguments.pop("request")](**arguments)
        except (OSError, subprocess.SubprocessError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    for environment in environments.values():
        environment.container_id = None  # whoever started us removes the containers by their label


if __name__ == "__main__":
    main()
