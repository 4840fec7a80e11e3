"""A source's container: many bugs tried in it, one after another.

    with Bench(backend, image="srft/practice.ledger:source-1f2e3d4c", tests=["test_ledger.py"], gold=files) as bench:
        bench.run({"ledger.py": broken}).statuses["test_ledger.py::test_add"]          # "FAILED"

A run is the command that the tasks' eval.sh gives, in the tree as it will be when a task is graded, and its log is read
by swebench's own parser.
"""

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files as package_files
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from srft.env.backends import Backend
from srft.env.errors import SandboxDied
from srft.env.practice.git_store import File
from srft.env.sandbox.contract import CommandResult, Limits, Sandbox, SandboxSpec

LOG_PARSER = "parse_log_pytest"
PYTEST_OPTIONS = "-rA --color=no --tb=short -p no:cacheprovider -o addopts="
LOG_LIMIT_BYTES = 16 << 20
PATIENCE = 5.0
"""How many times as long as the unbroken project's a test run may compute, and the least such time in seconds."""

IDLE_PATIENCE = 4.0
"""How many times as long as it may compute a command may take in all."""

PROBE_FOLDER = "/tmp/srft-probe"
SNIPPET_TIMEOUT_S = 10.0
SNIPPET_LIMIT_BYTES = 1 << 16

Outcome = Literal["passed", "failed", "not collected", "timed out", "crashed"]


def test_command(tests: Iterable[str]) -> str:
    return f"pytest {PYTEST_OPTIONS} {' '.join(map(shlex.quote, tests))}"


class TestRun(NamedTuple):
    """What one run of the tests gave. statuses: {test: PASSED, FAILED, ERROR, SKIPPED, XFAIL}, each name once."""

    outcome: Outcome
    statuses: dict[str, str]
    output: str
    wall_s: float


class Bench:
    """One container, opened when it is first needed, and anew after it has died."""

    def __init__(
        self, backend: Backend, *, image: str, name: str, tests: Iterable[str], gold: Mapping[str, File]
    ) -> None:
        self._backend = backend
        self._spec = SandboxSpec(
            image=image,
            workdir="/testbed",
            limits=Limits(memory_bytes=2 << 30),
            labels={"srft.practice": name},
        )
        self._command = test_command(tests)
        self._gold = gold
        self._sandbox: Sandbox | None = None
        self._changed: set[str] = set()
        self.patience_s = 600.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        self._changed.clear()
        if sandbox is not None:
            sandbox.close()

    def sandbox(self) -> Sandbox:
        if self._sandbox is None:
            self._sandbox = self._backend.open(self._spec)
            self._sandbox.start()
        return self._sandbox

    def run(self, changed: Mapping[str, bytes]) -> TestRun:
        """Run the tests with these files in place of the unbroken ones."""
        return self._run(changed, self._command)

    def probe(self, changed: Mapping[str, bytes], *, calls: bool = False) -> tuple[TestRun, dict[str, Any]]:
        """`run`, and what the probe (probe.py) tells of it: nothing where the run did not end by itself."""
        told = f"{PROBE_FOLDER}/told.json"
        variables = f"export PYTHONPATH={PROBE_FOLDER} SRFT_PROBE={told} SRFT_PROBE_CALLS={'1' if calls else ''}"
        plugin = package_files("srft.env.practice").joinpath("probe.py").read_text()
        put = f"mkdir -p {PROBE_FOLDER}; printf %s {shlex.quote(plugin)} >{PROBE_FOLDER}/srft_probe.py"
        run = self._run(changed, f"rm -f {told}; {put}\n{variables}\n{self._command} -p srft_probe")
        if run.outcome not in {"passed", "failed"}:
            return run, {"calls": [], "failures": {}}
        return run, json.loads(self.sandbox().read(told))

    def _run(self, changed: Mapping[str, bytes], command: str) -> TestRun:
        try:
            ran = self._bash(changed, command, self.patience_s)
        except SandboxDied:
            self.close()
            return TestRun("crashed", {}, "", math.nan)
        return TestRun(_outcome(ran), read_log(ran.output), ran.output, ran.wall_s)

    def python(self, changed: Mapping[str, bytes], script: str) -> CommandResult:
        """Run a script at the project's root, as an agent would. Raises SandboxDied."""
        command = f"PYTHONPATH=/testbed python - <<'SRFT_SNIPPET'\n{script}SRFT_SNIPPET"
        return self._bash(changed, command, SNIPPET_TIMEOUT_S, output_limit_bytes=SNIPPET_LIMIT_BYTES)

    def archive(self, excluded: Iterable[str]) -> bytes:
        """A tar of /testbed without what the patterns name and .git. Raises SandboxDied."""
        patterns = " ".join(shlex.quote(f"--exclude={pattern.rstrip('/')}") for pattern in (*excluded, ".git"))
        packed = self.sandbox().run(f"tar {patterns} -C /testbed -cf /tmp/testbed.tar .")
        assert packed.exit_code == 0, packed.output
        return self.sandbox().read("/tmp/testbed.tar")

    def _put(self, changed: Mapping[str, bytes]) -> str:
        """A command that makes the tree the unbroken one but for these files."""
        contents = {path: self._gold[path].content for path in self._changed - set(changed)} | dict(changed)
        self._changed = set(changed)
        return "".join(
            f"printf %s {shlex.quote(content.decode())} >{shlex.quote(path)}\n" for path, content in contents.items()
        )

    def _bash(
        self,
        changed: Mapping[str, bytes],
        command: str,
        timeout_s: float,
        *,
        output_limit_bytes: int = LOG_LIMIT_BYTES,
    ) -> CommandResult:
        sandbox = self.sandbox()
        # Processor time is what an endless loop takes, on a busy machine too; one that sleeps meets the other limit.
        limit = f"ulimit -t {math.ceil(timeout_s)}"
        ran = sandbox.run(
            f"{self._put(changed)}source /opt/testbed/bin/activate\n{limit}\n{command}",
            timeout_s * IDLE_PATIENCE,
            output_limit_bytes=output_limit_bytes,
        )
        if ran.timed_out:
            sandbox.kill_all()
        return ran


def _outcome(ran: CommandResult) -> Outcome:
    if ran.timed_out or ran.exit_code in {137, 152}:  # killed, or out of processor time
        return "timed out"
    outcomes: dict[int | None, Outcome] = {0: "passed", 1: "failed", 2: "not collected", 5: "not collected"}
    return outcomes.get(ran.exit_code, "crashed")


def read_log(log: str) -> dict[str, str]:
    """The statuses by swebench's parser, without names that stand for two tests: it cuts them at the first blank."""
    named = re.findall(r"^(?:PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S+)", log, re.MULTILINE)
    once = {name for name, count in Counter(named).items() if count == 1}
    return {name: status for name, status in _parser()(log, None).items() if name in once and "::" in name}


@cache
def _parser() -> Any:
    from swebench.harness.log_parsers import PARSER_REGISTRY

    return PARSER_REGISTRY[LOG_PARSER]
