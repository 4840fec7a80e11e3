"""Tools for writing the promises of the Sandbox contract: a pytest class, its fixture, and its expectations.

Reads and writes nothing outside the sandboxes. `commands.py` and `files.py` have the promises; a backend with promises
of its own writes them in the same way.

    class MorePromises(Promises):
        @in_modes()                                  # a sandbox of each mode, started
        def test_exit_codes(self, sandbox):
            expect_run(sandbox, "exit 3", output="", exit_code=3)
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from srft.env.sandbox.contract import CommandResult, Mode, Sandbox

BOTH_MODES: tuple[Mode, ...] = ("stateless", "persistent")

TIMEOUT_S = 60.0
"""For commands that end by themselves: a backend that needs it all has hung."""


class Promises:
    """Tests of a backend, which says how one of its sandboxes is opened."""

    def open_sandbox(self, mode: Mode) -> Sandbox:
        """A sandbox of the backend under test, not started; the tests of `init`, `env` and `limits` set its spec."""
        raise NotImplementedError(f"{type(self).__name__} does not say how a sandbox is opened: define open_sandbox")

    @pytest.fixture
    def sandbox(self, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
        """A started sandbox, as the test's `in_modes` asks for it."""
        mode, fields = request.param
        sandbox = self.open_sandbox(mode)
        sandbox.spec = replace(sandbox.spec, mode=mode, **fields)
        with sandbox:
            yield sandbox


def in_modes(*modes: Mode, **spec_fields: Any) -> pytest.MarkDecorator:
    """Run a test in a sandbox of each of these modes (both when none is named), with these fields of its spec."""
    chosen = modes or BOTH_MODES
    return pytest.mark.parametrize("sandbox", [(mode, spec_fields) for mode in chosen], indirect=True, ids=chosen)


def expect(what: str, got: object, expected: object) -> None:
    if got != expected or type(got) is not type(expected):
        raise AssertionError(f"{what}: expected {_short(expected)}, got {_short(got)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:200]} ... {text[-200:]} ({len(text)} characters)"


def expect_raises(kind: type[Exception], what: str, call: Callable[[], object]) -> None:
    try:
        got = call()
    except kind:
        return
    raise AssertionError(f"{what}: expected {kind.__name__}, got {_short(got)}")


def expect_run(sandbox: Sandbox, command: str, output: str, exit_code: int = 0) -> CommandResult:
    """Run a command whose output and exit code are known."""
    result = sandbox.run(command, timeout_s=TIMEOUT_S)
    expect(f"output and exit code of {_short(command)}", (result.output, result.exit_code), (output, exit_code))
    expect(f"timed_out of {_short(command)}", result.timed_out, False)
    return result


def sleeper(number: int) -> str:
    """A process that is found by its odd argument, with `expect_sleepers`."""
    return f"sleep 98{number:03}"


def expect_sleepers(sandbox: Sandbox, number: int, expected: int) -> None:
    # The brackets keep grep from finding itself.
    pattern = f"sleep.98{number:03}"[:-1] + f"[{number % 10}]"
    count = f"for file in /proc/[0-9]*/cmdline; do tr '\\0' . <$file; echo; done 2>/dev/null | grep -c '{pattern}'"
    result = sandbox.run(count, timeout_s=TIMEOUT_S)
    expect(f"processes {sleeper(number)!r} that are alive", result.output, f"{expected}\n")
