"""Grading: swebench's own verdict on a patch, from a fresh container.

Reads a Task and a patch; writes `<log_dir>/<instance_id>/<key>/` with patch.diff, apply.log and test_output.txt.

    grade(task, patch, open_sandbox=DockerSandbox, log_dir=Path("logs")).resolved     # True, False or None

The steps are those of swebench's `run_instance`: its apply commands, its eval script, its parsers, its
`get_eval_report`, in a container of its profile; before them runs the task's `grading_setup`, which only tasks of other
datasets have. Where that harness stops with an error (not resolved), the Grade says what happened and is not resolved
either. Only failures of infrastructure give `None`: such a task is not graded and may be tried again.

Importing this module is cheap. swebench takes seconds to import, so the functions that need it do.
"""

import codecs
import contextlib
import hashlib
import importlib.metadata
import io
import os
import shlex
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from loguru import logger

from srft.env.errors import GradingError, InfrastructureError
from srft.env.git.scrub import run_setup
from srft.env.grading.container import GradingContainer
from srft.env.grading.tampering import tampering
from srft.env.sandbox.contract import CommandResult, Sandbox, SandboxSpec
from srft.env.tasks.task import Task

if TYPE_CHECKING:
    from swebench.types import TestSpec

Outcome = Literal["resolved", "unresolved", "empty", "not_applied", "not_graded"]

OFFICIAL = GradingContainer()

SCHEMA_VERSION = 1
TIMEOUT_S = 1800.0
"""swebench's own limit, on the tests and on every request to the engine."""

LOG_LIMIT_BYTES = 64 << 20
"""How much of a test run's output is kept. swebench keeps all of it, in memory."""

DIFF_COMMAND = "git -c core.fileMode=false diff"


class NamedTests(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tests of one of the task's lists, split by how they ended."""

    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class Grade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The verdict on one patch.

    resolved: `None` means not graded: the engine, the image or the container failed, which says nothing of the patch.
    fail_to_pass, pass_to_pass: `None` where no test results could be read (nothing ran, or the log is unusable).
    key: a hash of the task, the patch and the grader; equal keys mean equal verdicts, flaky tests apart.
    patch_hash: of the patch alone: which attempts at the task the verdict is on.
    detail: what went wrong, and swebench's advice on whether the environment was to blame.
    tampering: what the patch changes of the tests' machinery, see `tampering.py`. The verdict is the official one all
        the same; a resolved run whose grade names any is trained in no arm that chooses runs by their verdict.
    """

    schema_version: int = SCHEMA_VERSION
    instance_id: str
    resolved: bool | None
    outcome: Outcome
    timed_out: bool = False
    fail_to_pass: NamedTests | None = None
    pass_to_pass: NamedTests | None = None
    log_path: str | None = None
    wall_s: float
    grader: str
    key: str
    patch_hash: str | None = None
    detail: str | None = None
    tampering: tuple[str, ...] = ()


class _Verdict(NamedTuple):
    outcome: Outcome
    timed_out: bool = False
    fail_to_pass: NamedTests | None = None
    pass_to_pass: NamedTests | None = None
    detail: str | None = None

    def but(self, remark: str | None) -> "_Verdict":
        return self._replace(detail="; ".join(filter(None, (self.detail, remark))) or None)


@cache
def grader_version() -> str:
    """Who gives the verdicts, say `swebench 5.0.2`."""
    return f"swebench {importlib.metadata.version('swebench')}"


def grade_key(task: Task, patch: str | None, container: GradingContainer = OFFICIAL) -> str:
    """The key that `grade` will give: a run that resumes skips what it has a grade for."""
    told = f"{task.fingerprint} {grader_version()} {container.key}".encode()
    return hashlib.sha256(told + _patch_bytes(patch)).hexdigest()[:16]


def patch_hash(patch: str | None) -> str:
    """A hash of a patch to the byte; no patch and an empty one differ."""
    return hashlib.sha256(_patch_bytes(patch)).hexdigest()[:16]


def _patch_bytes(patch: str | None) -> bytes:
    # surrogatepass: a patch may hold lone surrogates, which plain UTF-8 refuses.
    return b"null" if patch is None else b"patch " + patch.encode(errors="surrogatepass")


def grade(
    task: Task,
    patch: str | None,
    *,
    open_sandbox: Callable[[SandboxSpec], Sandbox],
    log_dir: Path | None,
    timeout_s: float = TIMEOUT_S,
    container: GradingContainer = OFFICIAL,
) -> Grade:
    """The official verdict on a patch, which is taken to the byte as it is. container: what its tests may use.

    `open_sandbox` makes a sandbox that is not started yet; it is closed before this returns. Never raises for what the
    patch, the container or the disk does.
    """
    started = time.monotonic()
    key = grade_key(task, patch, container)
    logs = log_dir and log_dir / task.instance_id.replace("/", "__") / key
    try:
        with _scratch_folder(logs) as folder:
            verdict = _verdict(
                task, patch, open_sandbox=open_sandbox, folder=folder, timeout_s=timeout_s, container=container
            )
    except (InfrastructureError, OSError) as error:
        verdict = _Verdict("not_graded", detail=f"{type(error).__name__}: {error}")
    return Grade(
        instance_id=task.instance_id,
        resolved=None if verdict.outcome == "not_graded" else verdict.outcome == "resolved",
        outcome=verdict.outcome,
        timed_out=verdict.timed_out,
        fail_to_pass=verdict.fail_to_pass,
        pass_to_pass=verdict.pass_to_pass,
        log_path=_log_path(logs),
        wall_s=time.monotonic() - started,
        grader=grader_version(),
        key=key,
        patch_hash=patch_hash(patch),
        detail=verdict.detail,
        tampering=tampering(patch, repo=task.repo, eval_script=task.eval_script, test_patch=task.test_patch),
    )


@contextlib.contextmanager
def _scratch_folder(logs: Path | None) -> Iterator[Path]:
    """A folder of this grading alone, its files moved to `logs` at the end: two may grade the same patch at once."""
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".grading-", dir=logs) as name:
        folder = Path(name)
        try:
            yield folder
        finally:
            if logs is not None:
                for file in folder.iterdir():
                    os.replace(file, logs / file.name)


def _log_path(logs: Path | None) -> str | None:
    """The log that a reader wants: the tests', or why the patch did not apply."""
    paths = [logs / "test_output.txt", logs / "apply.log"] if logs is not None else []
    return next((str(path) for path in paths if path.is_file()), None)


def _verdict(
    task: Task,
    patch: str | None,
    *,
    open_sandbox: Callable[[SandboxSpec], Sandbox],
    folder: Path,
    timeout_s: float,
    container: GradingContainer,
) -> _Verdict:
    if not patch:
        return _Verdict("empty")
    spec = _test_spec(task)
    (folder / "patch.diff").write_bytes(patch.encode(errors="surrogatepass"))
    try:
        patch_bytes = patch.encode()
    except UnicodeEncodeError as error:
        return _Verdict("not_applied", detail=f"the patch is not text that UTF-8 can write ({error})")
    with open_sandbox(container.spec(task)) as sandbox:
        run_setup(sandbox, task.grading_setup)
        testbed = _Testbed(sandbox, task.workdir)
        if reason := _apply(testbed, patch_bytes, folder=folder):
            return _Verdict("not_applied", detail=reason)
        if not _diff_is_utf8(testbed):
            return _Verdict("unresolved", detail="git diff of the patched tree is not UTF-8: swebench stops there")
        return _run_tests(task, patch, spec, testbed, folder=folder, timeout_s=timeout_s)


def _test_spec(task: Task) -> "TestSpec":
    """swebench's view of the task. Raises GradingError where the task itself cannot be graded."""
    from swebench.harness.constants import EvalType
    from swebench.harness.log_parsers import PARSER_REGISTRY
    from swebench.harness.utils import make_test_spec

    known_types = [kind.value for kind in EvalType]
    if task.log_parser not in PARSER_REGISTRY:
        raise GradingError(
            f"{task.instance_id}: {grader_version()} has no log parser {task.log_parser!r}; fix the row's log_parser, "
            f"or install the swebench that has it"
        )
    if task.eval_type not in known_types:
        raise GradingError(f"{task.instance_id}: eval_type is {task.eval_type!r}, expected one of {known_types}")
    row = msgspec.structs.asdict(task)
    return make_test_spec({**row, "FAIL_TO_PASS": list(task.FAIL_TO_PASS), "PASS_TO_PASS": list(task.PASS_TO_PASS)})


class _Testbed:
    """The task's repository in the grader's container."""

    def __init__(self, sandbox: Sandbox, workdir: str) -> None:
        self.sandbox, self._enter = sandbox, f"cd -- {shlex.quote(workdir)}"

    def run(self, command: str, timeout_s: float = TIMEOUT_S, *, output_limit_bytes: int = 1 << 20) -> CommandResult:
        return self.sandbox.run(f"{self._enter} && {{ {command}\n}}", timeout_s, output_limit_bytes=output_limit_bytes)


def _apply(testbed: _Testbed, patch: bytes, *, folder: Path) -> str | None:
    """Apply the patch as swebench does. Returns why it does not apply, `None` when it did."""
    from swebench.harness.constants import CONTAINER_PATCH_FILE
    from swebench.harness.run_evaluation import GIT_APPLY_CMDS

    testbed.sandbox.write(CONTAINER_PATCH_FILE, patch)
    with (folder / "apply.log").open("w", encoding="utf-8", newline="") as log:
        for attempt, command in enumerate(GIT_APPLY_CMDS):
            if attempt:
                # A failed attempt, --reject above all, leaves half a patch behind.
                testbed.run("git checkout -- . ; git clean -fd")
            tried = testbed.run(f"{command} {CONTAINER_PATCH_FILE}")
            log.write(f"$ {command}\n{tried.output}[exit code {tried.exit_code}]\n")
            if tried.exit_code == 0:
                # swebench decodes this output strictly, and an undecodable one is an error there.
                foreign = "\ufffd" in tried.output and "\ufffd" not in patch.decode()
                return "the output of the apply command is not UTF-8: swebench stops there" if foreign else None
        # The commands can leave the patch wholly applied and exit with an error all the same.
        reversed_ = testbed.run(f"git apply --check --reverse {CONTAINER_PATCH_FILE}")
        log.write(f"$ git apply --check --reverse\n{reversed_.output}[exit code {reversed_.exit_code}]\n")
    last_lines = tried.output.strip().splitlines() or ["no output"]
    return None if reversed_.exit_code == 0 else f"the patch does not apply: {last_lines[-1]}"


def _diff_is_utf8(testbed: _Testbed) -> bool:
    """Whether swebench survives its look at the tree: it decodes `git diff` strictly, before and after the tests."""
    shown = testbed.run(DIFF_COMMAND, output_limit_bytes=LOG_LIMIT_BYTES)
    if "\ufffd" not in shown.output:
        return True
    # U+FFFD is an invalid byte, or the file itself holds it: only the bytes tell.
    testbed.run(f"{DIFF_COMMAND} 2>&1 | head -c {LOG_LIMIT_BYTES} > /tmp/srft.diff")
    content = testbed.sandbox.read("/tmp/srft.diff", limit_bytes=LOG_LIMIT_BYTES)
    testbed.run("rm -f /tmp/srft.diff")
    try:  # of a longer diff the last character may be cut
        codecs.getincrementaldecoder("utf-8")().decode(content, final=len(content) < LOG_LIMIT_BYTES)
    except UnicodeDecodeError:
        return False
    return True


def _run_tests(
    task: Task, patch: str, spec: "TestSpec", testbed: _Testbed, *, folder: Path, timeout_s: float
) -> _Verdict:
    script, missing_assets = _eval_script(task, spec, testbed.sandbox)
    testbed.sandbox.write("/eval.sh", script.encode())
    ran = testbed.run("/bin/bash /eval.sh", timeout_s, output_limit_bytes=LOG_LIMIT_BYTES)
    log = folder / "test_output.txt"
    log.write_bytes(_log_text(ran, timeout_s).encode())
    remarks = [missing_assets]
    if ran.elided_bytes:
        remarks.append(f"the log is over {LOG_LIMIT_BYTES} bytes: {ran.elided_bytes} from its middle are missing")
    if ran.timed_out:
        verdict = _Verdict("unresolved", timed_out=True, detail=f"the tests ran past {timeout_s:g} s")
    elif not _diff_is_utf8(testbed):
        verdict = _Verdict("unresolved", detail="git diff after the tests is not UTF-8: swebench stops there")
    else:
        verdict = _read_log(task, patch, spec, log)
    for remark in remarks:
        verdict = verdict.but(remark)
    return verdict


def _eval_script(task: Task, spec: "TestSpec", sandbox: Sandbox) -> tuple[str, str | None]:
    """(the script, a remark where binary test assets are missing). Stages the assets in the sandbox."""
    declared = [asset for assets in task.image_assets.values() for asset in assets or () if asset.get("path")]
    if not declared:
        return spec.eval_script, None
    from swebench.harness.run_evaluation import _inject_asset_restore, _stage_image_assets

    task_repo = str(Path(task.source).parent.parent) if task.source else None
    with tempfile.TemporaryDirectory() as staging:
        container = _AssetContainer(sandbox)
        restore = _stage_image_assets(container, spec, Path(staging), logger, task_repo)
    missing = len(declared) - len(restore)
    remark = f"{missing} of {len(declared)} test assets could not be had" if missing else None
    return _inject_asset_restore(spec.eval_script, restore), remark


class _AssetContainer:
    """What swebench's staging of binary assets asks of a container, on a sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def exec_run(self, command: str, **_: Any) -> None:
        self._sandbox.run(command, TIMEOUT_S)

    def put_archive(self, folder: str, archive: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None, f"swebench staged {member.name}, which is not a file"
                self._sandbox.write(f"{folder}/{member.name}", content.read())


def _log_text(ran: CommandResult, timeout_s: float) -> str:
    text = ran.output
    if ran.elided_bytes:
        gap = f"\n[srft: {ran.elided_bytes} bytes left out here]\n"
        text = text[: ran.elided_at] + gap + text[ran.elided_at :]
    return text + f"\n\nTimeout error: {timeout_s:g} seconds exceeded." if ran.timed_out else text


def _read_log(task: Task, patch: str, spec: "TestSpec", log: Path) -> _Verdict:
    """swebench's reading of the test log."""
    from swebench.harness.constants import FAIL_TO_PASS, PASS_TO_PASS
    from swebench.harness.grading import get_eval_report
    from swebench.harness.infra_failure import classify_logs

    prediction = {"instance_id": task.instance_id, "model_patch": patch}
    try:
        report = get_eval_report(
            test_spec=spec, prediction=prediction, test_log_path=str(log), include_tests_status=True
        )[task.instance_id]
    except Exception as error:  # noqa: BLE001 - swebench's parsers on any text at all; swebench too catches everything
        return _Verdict("unresolved", detail=f"swebench stops at the test log: {type(error).__name__}: {error}")
    status = report.get("tests_status")
    verdict = _Verdict(
        "resolved" if report["resolved"] else "unresolved",
        fail_to_pass=status and _named_tests(status[FAIL_TO_PASS]),
        pass_to_pass=status and _named_tests(status[PASS_TO_PASS]),
        detail=None if status else "no test results in the log",
    )
    advice = None if report["resolved"] else classify_logs(log)
    return verdict.but(advice and f"swebench's advice: {advice[0]} ({advice[1]})")


def _named_tests(split: dict[str, list[str]]) -> NamedTests:
    return NamedTests(passed=tuple(split["success"]), failed=tuple(split["failure"]))
