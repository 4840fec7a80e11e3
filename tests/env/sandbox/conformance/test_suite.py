"""The Sandbox contract on every backend that srft has, and what pytest says of one that breaks it."""

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from srft.env.docker.sandbox import DockerSandbox
from srft.env.errors import EngineError
from srft.env.local.bubblewrap import check_bubblewrap
from srft.env.local.oci import fetch_image, missing_programs
from srft.env.local.sandbox import LocalSandbox, empty_image
from srft.env.sandbox.conformance.check import expect_run, in_modes
from srft.env.sandbox.conformance.suite import SandboxContract
from srft.env.sandbox.contract import Limits, Mode, Sandbox, SandboxSpec
from tests.env.docker.rootless_podman import rootless_podman
from tests.env.oci_registry import Registry, layer, programs_layer


@pytest.mark.engine
class TestDocker(SandboxContract):
    @pytest.fixture(autouse=True)
    def image(self, base_image: str) -> None:
        self._image = base_image

    def open_sandbox(self, mode: Mode) -> Sandbox:
        return DockerSandbox(SandboxSpec(image=self._image, mode=mode))


@pytest.fixture(scope="module")
def podman() -> Iterator[docker.DockerClient]:
    """Rootless Podman, with an image of this machine's programs."""
    with rootless_podman() as url, contextlib.closing(docker.DockerClient(url, timeout=60)) as client:
        client.api.import_image_from_data(programs_layer(), repository="srft/hand", tag="latest")
        yield client


class TestRootlessPodman(SandboxContract):
    @pytest.fixture(autouse=True)
    def client(self, podman: docker.DockerClient) -> None:
        self._client = podman

    def open_sandbox(self, mode: Mode) -> Sandbox:
        return DockerSandbox(SandboxSpec(image="srft/hand:latest", mode=mode), client=self._client)

    # Its API takes the others for patterns.
    odd_names = tuple(name for name in SandboxContract.odd_names if not set(name) & set("*?[\\"))

    @in_modes("stateless")
    def test_patterns_are_refused(self, sandbox: Sandbox) -> None:
        expect_run(sandbox, "touch '[id].tsx' i.tsx", "")
        for call in (lambda: sandbox.read("[id].tsx"), lambda: sandbox.write("[id].tsx", b"1")):
            with pytest.raises(OSError, match=r"Podman's API takes \*, \?, \[ and \\ in a name for a pattern"):
                call()

    @in_modes("stateless", limits=Limits(pids=32))
    def test_pids_limit(self, sandbox: Sandbox) -> None:
        if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
            pytest.skip("rootless Podman holds no limits with cgroups of version 1")
        super().test_pids_limit(sandbox)


@pytest.fixture(scope="module")
def bubblewrap() -> None:
    try:
        check_bubblewrap()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("bubblewrap")
class TestLocal(SandboxContract):
    def open_sandbox(self, mode: Mode) -> Sandbox:
        return LocalSandbox(SandboxSpec(image=empty_image(), mode=mode))


@pytest.fixture(scope="module")
def oci_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image that was fetched from a registry, with an environment of its own; files belong to another user in it."""
    if missing := missing_programs():
        pytest.skip(f"no {' and '.join(missing)} (Debian: apt-get install skopeo umoci)")
    with Registry() as registry, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRFT_LOCAL_IMAGES", str(tmp_path_factory.mktemp("images")))
        image = registry.push("srft/hand", [programs_layer(), layer({"testbed/kept": b"1"}, uid=1000)])
        fetch_image(image)
        yield image


@pytest.mark.usefixtures("bubblewrap")
class TestLocalOnAnOciImage(SandboxContract):
    @pytest.fixture(autouse=True)
    def image(self, oci_image: str) -> None:
        self._image = oci_image

    def open_sandbox(self, mode: Mode) -> Sandbox:
        return LocalSandbox(SandboxSpec(image=self._image, mode=mode))


BROKEN = """
    from srft.env.docker.sandbox import DockerSandbox
    from srft.env.sandbox.conformance.suite import SandboxContract
    from srft.env.sandbox.contract import CommandResult, SandboxSpec


    class Echoless(DockerSandbox):
        def start(self):
            pass

        def run(self, command, timeout_s=0, *, output_limit_bytes=0):
            return CommandResult("", 0, 0.0)

        def read(self, path):
            raise RuntimeError("a backend's own bug")


    class TestEcholess(SandboxContract):
        def open_sandbox(self, mode):
            return Echoless(SandboxSpec(image="never started", mode=mode))


    class TestUnsaid(SandboxContract):
        pass
"""


def test_what_pytest_says_of_a_backend_that_breaks_nearly_every_promise(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(textwrap.dedent(BROKEN))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "test_mine.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    said = ran.stdout
    assert "AssertionError: output and exit code of 'false': expected ('', 1), got ('', 0)" in said
    assert "RuntimeError: a backend's own bug" in said
    assert "TestUnsaid does not say how a sandbox is opened: define open_sandbox" in said
    assert "test_mine.py::TestEcholess::test_exit_codes[stateless]" in said
