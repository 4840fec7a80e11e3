"""The command line as a user has it, for the stages' tests."""

import os
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.forked import Forked


@pytest.fixture(scope="session")
def commands() -> Iterator[Forked]:
    forked = Forked(os.environ)
    yield forked
    forked.close()


@pytest.fixture
def srft(tmp_path, commands) -> Callable:
    """Runs a command as a user does, in a process of its own: srft("collect", ...) gives the finished process."""

    def run(*arguments: object, env: Mapping[str, str] | None = None):
        return commands.run([str(argument) for argument in arguments], cwd=tmp_path, env=env)

    return run
