"""What the tests of every sandbox share: a way to open one on each backend that srft has."""

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from srft.env.docker.sandbox import DockerSandbox
from srft.env.local.sandbox import LocalSandbox, empty_image
from srft.env.sandbox.contract import Mode, Sandbox, SandboxSpec


@pytest.fixture(scope="module", params=[pytest.param("docker", marks=pytest.mark.engine), "local"])
def opener(request: pytest.FixtureRequest) -> Callable[..., Sandbox]:
    """(mode, **other fields of the spec) -> a sandbox that is not started; one such function for each backend."""
    if request.param == "docker":
        return partial(_open_sandbox, DockerSandbox, request.getfixturevalue("base_image"))
    if shutil.which("bwrap") is None:
        pytest.skip("no bwrap on this machine (Debian: apt-get install bubblewrap)")
    return partial(_open_sandbox, LocalSandbox, empty_image())


def _open_sandbox(kind: Callable[[SandboxSpec], Sandbox], image: str, mode: Mode, **fields: Any) -> Sandbox:
    return kind(SandboxSpec(image=image, mode=mode, **fields))
