"""The Sandbox contract on every backend that srft has, and what the checker says of one that breaks it."""

import pytest

from srft.env.docker.sandbox import DockerSandbox
from srft.env.sandbox.conformance.check import Check, Opener
from srft.env.sandbox.conformance.commands import CHECKS
from srft.env.sandbox.conformance.suite import check_sandbox
from srft.env.sandbox.contract import CommandResult, SandboxSpec


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_promise(check: Check, opener: Opener) -> None:
    check.verify(opener)


class Echoless(DockerSandbox):
    """Breaks nearly every promise: no command prints anything, and nothing can be read."""

    def start(self) -> None:
        pass

    def run(self, command: str, timeout_s: float = 0, *, output_limit_bytes: int = 0) -> CommandResult:
        return CommandResult("", 0, 0.0)

    def read(self, path: str) -> bytes:
        raise RuntimeError("a backend's own bug")


def test_a_broken_backend_is_reported_and_raises_nothing() -> None:
    report = check_sandbox(lambda mode: Echoless(SandboxSpec(image="never started", mode=mode)))
    assert not report.passed
    assert len(report.kept) + len(report.failures) == len(CHECKS)
    lines = str(report).splitlines()
    assert lines[0] == f"{len(report.kept)} of {len(CHECKS)} promises kept"
    assert (
        "exit_codes (a command's exit code is bash's): output and exit code of 'false': expected ('', 1), got ('', 0)"
        in lines
    )
