"""The Sandbox contract as named checks that anyone can run on a backend of their own.

Reads and writes nothing outside the sandboxes that it opens, and closes each of them. The checks are in `commands.py`.
An opener takes a mode and gives a sandbox that is not started yet (checks of `init`, `env` and `limits` set its `spec`
first); the image holds bash and coreutils, the working directory is writable.

    def open_sandbox(mode):
        return DockerSandbox(SandboxSpec(image="srft/base:bookworm", mode=mode))

    print(check_sandbox(open_sandbox))      # '36 of 36 promises kept', or each broken one with what came instead
"""

from dataclasses import dataclass

from srft.env.sandbox.conformance.check import Check, Opener, PromiseBroken
from srft.env.sandbox.conformance.commands import CHECKS


@dataclass(frozen=True)
class Failure:
    """A promise that was not kept. `error` is what the check or the backend raised."""

    check: Check
    error: BaseException

    def __str__(self) -> str:
        kind = "" if isinstance(self.error, PromiseBroken) else f"{type(self.error).__name__}: "
        return f"{self.check.name} ({self.check.promise}): {kind}{self.error}"


@dataclass(frozen=True)
class Report:
    """What `check_sandbox` found. Its text has a line for each failure."""

    kept: tuple[Check, ...]
    failures: tuple[Failure, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    def __str__(self) -> str:
        total = len(self.kept) + len(self.failures)
        return "\n".join([f"{len(self.kept)} of {total} promises kept", *map(str, self.failures)])


def check_sandbox(open_sandbox: Opener) -> Report:
    """Run every check. Raises nothing: what a backend raises is in the report."""
    kept: list[Check] = []
    failures: list[Failure] = []
    for check in CHECKS:
        try:
            check.verify(open_sandbox)
        except Exception as error:  # noqa: BLE001 - a backend under test may raise anything, and that is the finding
            failures.append(Failure(check, error))
        else:
            kept.append(check)
    return Report(tuple(kept), tuple(failures))
