"""The Dockerfile: it builds from the base image of `make setup`, and srft works in it on the machine's engine."""

import os
import shutil
import subprocess
from pathlib import Path

import docker
import pytest

import srft
from tests.conftest import ROOT
from tests.test_install import git_files

TAG = "srft/test-container:latest"
SOCKET = "/var/run/docker.sock"


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient, base_image: str, tmp_path_factory: pytest.TempPathFactory):
    """The image, built as docs/container.md has it, with this machine's own way to packages."""
    if not os.environ.get("SRFT_CONTAINER_TEST"):
        pytest.skip("downloads 2 GB of packages for an image of 3 GB; SRFT_CONTAINER_TEST=1 runs it")
    if not Path(SOCKET).is_socket():
        pytest.skip(f"no {SOCKET} to mount")
    context = tmp_path_factory.mktemp("context") / "srft"
    for name in git_files("."):
        if not (ROOT / name).is_symlink():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, context / name)
    arguments = {"BASE": base_image}
    if bundle := os.environ.get("PIP_CERT"):
        (context / "certs").mkdir()
        shutil.copyfile(bundle, context / "certs" / "ca.crt")
        arguments["PIP_CERT"] = "/opt/build/certs/ca.crt"
    arguments |= {name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if name in os.environ}
    for folder in os.environ.get("PIP_FIND_LINKS", "").split():
        if wheels := sorted(Path(folder).glob("torch-*+cpu-cp311-*.whl")):
            (context / "wheels").mkdir(exist_ok=True)
            shutil.copyfile(wheels[-1], context / "wheels" / wheels[-1].name)
            arguments["TORCH"] = f"torch=={wheels[-1].name.split('-')[1]}"
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    if shutil.which("docker") is None:
        pytest.skip("no docker command on this machine")
    built = subprocess.run(
        ["docker", "build", "-q", "-t", TAG, *words, context],
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert built.returncode == 0, built.stderr[-3000:] + built.stdout[-3000:]
    yield TAG
    subprocess.run(["docker", "rmi", "--force", TAG], capture_output=True, check=False)  # a busy engine takes minutes


@pytest.mark.slow
@pytest.mark.engine
def test_srft_works_in_its_container(image: str, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        here = str(tmp_path)
        command = ["docker", "run", "--rm", "-v", f"{SOCKET}:{SOCKET}", "-v", f"{here}:{here}", "-w", here, image]
        return subprocess.run([*command, *words], capture_output=True, text=True, timeout=600)

    assert run("--version").stdout == f"{srft.__version__}\n"
    doctor = run("doctor")
    assert "collect in Docker" in doctor.stdout, doctor.stderr
    (line,) = [line for line in doctor.stdout.splitlines() if "collect in Docker" in line]
    assert line.startswith("works"), doctor.stdout
