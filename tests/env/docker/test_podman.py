"""An episode and its grade on rootless Podman, through its Docker API at DOCKER_HOST or in a Docker context."""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from srft.env.docker import sandbox
from srft.env.errors import EngineError
from srft.env.swe_env import SweEnv
from srft.env.tasks.task import load_tasks
from tests import tiny
from tests.env.docker.rootless_podman import rootless_podman
from tests.env.oci_registry import files_of_testbed, programs_layer


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; the image of `tests/tiny.py`'s tasks is there, made of this machine's programs."""
    files = files_of_testbed(tmp_path_factory.mktemp("tiny") / "testbed")
    with rootless_podman() as url, contextlib.closing(docker.DockerClient(url, timeout=60)) as client:
        client.api.import_image_from_data(programs_layer(files), repository="srft/tiny", tag="latest")
        yield url


@pytest.fixture(autouse=True)
def own_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    sandbox._engine.cache_clear()
    yield
    sandbox._engine.cache_clear()


def test_an_episode_and_its_grade(podman: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", podman)
    tasks = load_tasks(str(tiny.write_tasks(tmp_path / "tasks.jsonl", 1)))
    # The grader's container has a network, which slirp4netns makes.
    has_network = os.access("/dev/net/tun", os.W_OK) and stat.S_IMODE(os.stat("/dev/net/tun").st_mode) & stat.S_IWOTH
    env = SweEnv(tasks, backend="docker", grade_submission=bool(has_network))
    env.reset()
    assert env.step("git status --short; cat answer.txt")[0] == "41\n"
    env.step("echo 42 >answer.txt")
    _, reward, terminated, _, info = env.step("submit")
    assert terminated
    assert info["patch"].startswith("diff --git a/answer.txt b/answer.txt\n")
    assert reward == (1.0 if has_network else 0.0)
    env.close()
    if not has_network:
        pytest.skip("not graded: rootless Podman has no network where /dev/net/tun is root's alone")


def docker_context(folder: Path, name: str, host: str) -> None:
    """Write it as `docker context create` does."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    endpoint = {"Host": host, "SkipTLSVerify": False}
    meta.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}))


def test_the_engine_of_the_docker_context(podman: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    docker_context(tmp_path, "mine", podman)
    docker_context(tmp_path, "dead", "unix:///nonexistent/docker.sock")
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "mine"}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    assert sandbox.engine().version()["Components"][0]["Name"] == "Podman Engine"
    sandbox._engine.cache_clear()
    monkeypatch.setenv("DOCKER_CONTEXT", "dead")
    with pytest.raises(EngineError, match=r"answers at unix:///nonexistent/docker.sock, the Docker context dead \("):
        sandbox.engine()
    monkeypatch.setenv("DOCKER_CONTEXT", "nothing")
    with pytest.raises(EngineError, match="no Docker context nothing"):
        sandbox.engine()
    monkeypatch.setenv("DOCKER_HOST", podman)  # wins, as with the docker program
    assert sandbox.engine().version()["Components"][0]["Name"] == "Podman Engine"
