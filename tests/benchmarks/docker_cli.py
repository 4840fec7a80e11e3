"""The plain `docker` program, as most harnesses use it: a subprocess for every step.

container, wall_s = docker_run("debian:12")
docker_exec(container, "true")      # seconds
docker_remove(container)
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

LABEL = "srft-bench"
"""On every container that a benchmark starts with this program, with the pid of the run as its value."""


class Started(NamedTuple):
    """A container, and how long `docker run -d` took."""

    container: str
    wall_s: float


def docker_run(image: str) -> Started:
    command = ["docker", "run", "-d", "--label", f"{LABEL}={os.getpid()}", image, "sleep", "infinity"]
    began_s = time.perf_counter()
    ran = subprocess.run(command, capture_output=True, check=True, text=True, timeout=120)
    return Started(ran.stdout.strip(), time.perf_counter() - began_s)


def docker_exec(container: str, command: str) -> float:
    """The seconds that it took."""
    began_s = time.perf_counter()
    subprocess.run(["docker", "exec", container, "bash", "-c", command], capture_output=True, check=True, timeout=120)
    return time.perf_counter() - began_s


def docker_remove(container: str) -> None:
    subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)


@contextmanager
def plain_container(image: str) -> Iterator[str]:
    """A container that `docker run -d` started."""
    container = docker_run(image).container
    try:
        yield container
    finally:
        docker_remove(container)


def remove_leftovers() -> None:
    """Remove what this run has started and not removed."""
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label={LABEL}={os.getpid()}"], capture_output=True, text=True, check=False
    )
    if containers := listed.stdout.split():
        subprocess.run(["docker", "rm", "-f", *containers], capture_output=True, check=False)
