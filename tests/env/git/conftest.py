"""One sandbox of a backend for all tests of a file."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from srft.env.docker.sandbox import DockerSandbox
from srft.env.local.sandbox import LocalSandbox, empty_image
from srft.env.sandbox.contract import Sandbox, SandboxSpec


@pytest.fixture(scope="module")
def sandbox(opener: Callable[..., Sandbox]) -> Iterator[Sandbox]:
    """Of each backend. `begun` clears what an earlier test has left."""
    with opener("stateless") as sandbox:
        yield sandbox


@pytest.fixture(scope="module", params=["local", pytest.param("docker", marks=[pytest.mark.engine, pytest.mark.slow])])
def one_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """For many cases whose programs are the same on each: of the quicker backend, and slowly of the other."""
    if request.param == "docker":
        kind, image = DockerSandbox, request.getfixturevalue("base_image")
    elif shutil.which("bwrap") is None:
        pytest.skip("no bwrap on this machine (Debian: apt-get install bubblewrap)")
    else:
        kind, image = LocalSandbox, empty_image()
    with kind(SandboxSpec(image)) as sandbox:
        yield sandbox
