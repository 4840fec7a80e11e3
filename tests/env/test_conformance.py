"""The Sandbox contract on every backend that srft has, and what the checker says of one that breaks it."""

import importlib.util
import shutil

import pytest

from srft.env.conformance import CHECKS, Check, Opener, check_sandbox
from srft.env.docker import DockerSandbox, engine
from srft.env.errors import EngineError
from srft.env.sandbox import CommandResult, Mode, Sandbox, SandboxSpec

IMAGE = "srft/base:bookworm"


def open_docker(mode: Mode) -> Sandbox:
    return DockerSandbox(SandboxSpec(image=IMAGE, mode=mode))


def open_local(mode: Mode) -> Sandbox:
    from srft.env.local import LocalSandbox, empty_image

    return LocalSandbox(SandboxSpec(image=empty_image(), mode=mode))


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.engine), "local"])
def opener(request: pytest.FixtureRequest) -> Opener:
    if request.param == "docker":
        try:
            engine()
        except EngineError as error:
            pytest.skip(str(error))
        return open_docker
    if importlib.util.find_spec("srft.env.local") is None:
        pytest.skip("srft.env.local is not there yet")
    if shutil.which("bwrap") is None:
        pytest.skip("no bwrap on this machine (Debian: apt-get install bubblewrap)")
    return open_local


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_promise(check: Check, opener: Opener) -> None:
    check.verify(opener)


def test_names_are_unique() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)


class Echoless(DockerSandbox):
    """Breaks nearly every promise: no command prints anything, and nothing can be read."""

    def start(self) -> None:
        pass

    def run(self, command: str, timeout_s: float = 0, *, output_limit_bytes: int = 0) -> CommandResult:
        return CommandResult("", 0, 0.0)

    def read(self, path: str) -> bytes:
        raise RuntimeError("a backend's own bug")


def test_a_broken_backend_is_reported_and_raises_nothing() -> None:
    report = check_sandbox(lambda mode: Echoless(SandboxSpec(image=IMAGE, mode=mode)))
    assert not report.passed
    assert len(report.kept) + len(report.failures) == len(CHECKS)
    lines = str(report).splitlines()
    assert lines[0] == f"{len(report.kept)} of {len(CHECKS)} promises kept"
    assert (
        "exit_codes (a command's exit code is bash's): output and exit code of 'false': expected ('', 1), got ('', 0)"
        in lines
    )
