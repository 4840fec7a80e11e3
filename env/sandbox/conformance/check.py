"""What a promise of the Sandbox contract is checked with.

Reads and writes nothing outside the sandboxes. `commands.py` has the promises, `suite.py` checks them all; a
backend with promises of its own writes them in the same way.

    @check_started("a command's exit code is bash's")       # in a sandbox of each mode
    def exit_codes(sandbox: Sandbox) -> None:
        expect_run(sandbox, "exit 3", output="", exit_code=3)

    exit_codes.verify(open_sandbox)     # PromiseBroken: output and exit code of 'exit 3': expected ('', 3), got ('', 0)
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from srft.env.sandbox.contract import CommandResult, Mode, Sandbox

Opener = Callable[[Mode], Sandbox]
BOTH_MODES: tuple[Mode, ...] = ("stateless", "persistent")

TIMEOUT_S = 60.0
"""For commands that end by themselves: a backend that needs it all has hung."""


class PromiseBroken(AssertionError):
    """A check's expectation was not met; the message says what was expected and what came."""


@dataclass(frozen=True)
class Check:
    """One promise of the contract. `verify` returns when it is kept and raises when it is not."""

    name: str
    promise: str
    verify: Callable[[Opener], None]


def check(promise: str) -> Callable[[Callable[[Opener], None]], Check]:
    """Make a check of a function of an opener."""

    def made(verify: Callable[[Opener], None]) -> Check:
        return Check(verify.__name__, promise, verify)

    return made


def check_started(promise: str, *modes: Mode, **spec_fields: Any) -> Callable[[Callable[[Sandbox], None]], Check]:
    """Make a check of a function of a started sandbox, in these modes (both when none is named)."""

    def made(verify: Callable[[Sandbox], None]) -> Check:
        def verify_in_modes(open_sandbox: Opener) -> None:
            for mode in modes or BOTH_MODES:
                with _opened(open_sandbox, mode, **spec_fields) as sandbox:
                    verify(sandbox)

        return Check(verify.__name__, promise, verify_in_modes)

    return made


@contextlib.contextmanager
def _opened(open_sandbox: Opener, mode: Mode, **spec_fields: Any) -> Iterator[Sandbox]:
    sandbox = open_sandbox(mode)
    sandbox.spec = replace(sandbox.spec, mode=mode, **spec_fields)
    with sandbox:
        yield sandbox


def expect(what: str, got: object, expected: object) -> None:
    if got != expected or type(got) is not type(expected):
        raise PromiseBroken(f"{what}: expected {_short(expected)}, got {_short(got)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:200]} ... {text[-200:]} ({len(text)} characters)"


def expect_raises(kind: type[Exception], what: str, call: Callable[[], object]) -> None:
    try:
        got = call()
    except kind:
        return
    raise PromiseBroken(f"{what}: expected {kind.__name__}, got {_short(got)}")


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
