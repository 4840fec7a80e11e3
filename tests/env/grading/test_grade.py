"""Verdicts from real containers, on a repository of one text file whose tests are greps."""

import hashlib
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import msgspec
import pytest

from srft.env.docker.sandbox import DockerSandbox
from srft.env.errors import InputError
from srft.env.grading import grade as grading
from srft.env.grading.container import GradingContainer
from srft.env.grading.grade import Grade, NamedTests, grade, grade_key, patch_hash
from srft.env.local.sandbox import LocalSandbox, empty_image
from srft.env.sandbox.contract import Limits, Sandbox, SandboxSpec
from srft.env.swe_env import SweEnv
from srft.env.tasks.task import Task

pytestmark = pytest.mark.engine

LABEL = "srft.test-grading"
DOCKERFILE = r"""
FROM srft/base:bookworm
RUN rm -f /usr/bin/patch
ENV SRFT_MARK=kept
WORKDIR /testbed
COPY run_tests.sh code.txt latin.txt ./
RUN git init -q && git config user.email t@t && git config user.name t && git add -A && git commit -qm base
"""
RUN_TESTS = r"""
echo "patch is $(sha256sum < /tmp/patch.diff)"
[ ! -f sleep ] || { echo half way; sleep 600; }
[ ! -f flood ] || head -c 3000000 /dev/zero | tr '\0' x; echo
grep -q '^fixed' code.txt && echo "PASSED t.py::fix" || echo "FAILED t.py::fix"
grep -q '^one' code.txt && echo "PASSED t.py::keep" || echo "FAILED t.py::keep"
[ ! -f asset.bin ] || echo "asset is $(sha256sum < asset.bin)"
"""
EVAL_SCRIPT = r"""#!/bin/bash
set -uxo pipefail
pwd
echo "mark=$SRFT_MARK user=$(id -un) $(grep CapEff /proc/self/status)"
cd /testbed
: '>>>>> Start Test Output'
bash run_tests.sh
: '>>>>> End Test Output'
"""
CODE = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n"
GOLD = """\
diff --git a/code.txt b/code.txt
--- a/code.txt
+++ b/code.txt
@@ -1,3 +1,4 @@
 one
 two
+fixed
 three
"""
BREAKS_KEEP = """\
diff --git a/code.txt b/code.txt
--- a/code.txt
+++ b/code.txt
@@ -1,3 +1,3 @@
-one
+fixed
 two
 three
"""
HALF_APPLIES = GOLD + "@@ -8,2 +9,3 @@\n eight\n+fixed\n no such line\n"


def new_file(name: str, line: str = "x") -> str:
    """GOLD and a file more."""
    return (
        GOLD
        + f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{line}\n"
    )


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "run_tests.sh").write_text(RUN_TESTS)
    (context / "code.txt").write_text(CODE)
    (context / "latin.txt").write_text("cafe\n")
    name = f"srft/test-grading:{secrets.token_hex(4)}"
    engine.images.build(path=str(context), tag=name, rm=True, forcerm=True)
    yield name
    engine.images.remove(name, force=True)


@pytest.fixture
def task(image: str) -> Task:
    return make_task(image)


def make_task(image: str) -> Task:
    return Task(
        instance_id="o__r-1",
        repo="o/r",
        base_commit="",
        problem_statement="",
        patch=GOLD,
        test_patch="",
        FAIL_TO_PASS=("t.py::fix",),
        PASS_TO_PASS=("t.py::keep",),
        image=image,
        eval_script=EVAL_SCRIPT,
        log_parser="parse_log_pytest",
        eval_type="pass_and_fail",
    )


def open_labelled(spec: SandboxSpec) -> Sandbox:
    return DockerSandbox(replace(spec, labels={LABEL: "1"}))


def never_opened(spec: SandboxSpec) -> Sandbox:
    raise AssertionError("no container may be started for this")


def graded(task: Task, patch: str | None, log_dir: Path, **options: Any) -> Grade:
    return grade(task, patch, **{"open_sandbox": open_labelled, "log_dir": log_dir, **options})


@pytest.fixture(autouse=True)
def no_container_left(engine: docker.DockerClient) -> Iterator[None]:
    yield
    for _ in range(100):  # one that was killed from outside is removed by the engine in its own time
        left = engine.api.containers(all=True, filters={"label": LABEL})
        if not left:
            break
        time.sleep(0.1)
    assert left == []


def test_gold(task: Task, tmp_path: Path) -> None:
    made = graded(task, GOLD, tmp_path)
    folder = tmp_path / "o__r-1" / grade_key(task, GOLD)
    assert made == Grade(
        instance_id="o__r-1",
        resolved=True,
        outcome="resolved",
        fail_to_pass=NamedTests(passed=("t.py::fix",)),
        pass_to_pass=NamedTests(passed=("t.py::keep",)),
        log_path=str(folder / "test_output.txt"),
        wall_s=made.wall_s,
        grader=grading.grader_version(),
        key=grade_key(task, GOLD),
        patch_hash=patch_hash(GOLD),
    )
    assert sorted(file.name for file in folder.iterdir()) == ["apply.log", "patch.diff", "test_output.txt"]
    assert msgspec.json.decode(msgspec.json.encode(made), type=Grade) == made


def test_a_broken_pass_to_pass_test(task: Task, tmp_path: Path) -> None:
    made = graded(task, BREAKS_KEEP, tmp_path)
    assert (made.resolved, made.outcome) == (False, "unresolved")
    assert made.fail_to_pass == NamedTests(passed=("t.py::fix",))
    assert made.pass_to_pass == NamedTests(failed=("t.py::keep",))


@pytest.mark.parametrize("patch", [None, ""])
def test_nothing_to_grade_is_never_run(task: Task, tmp_path: Path, patch: str | None) -> None:
    made = graded(task, patch, tmp_path, open_sandbox=never_opened)
    assert (made.resolved, made.outcome, made.log_path, made.fail_to_pass) == (False, "empty", None, None)


def test_half_a_patch_is_taken_back(task: Task, tmp_path: Path) -> None:
    made = graded(task, HALF_APPLIES, tmp_path)
    assert (made.resolved, made.outcome) == (False, "not_applied")
    assert made.log_path is not None
    log = Path(made.log_path).read_text()
    # --reject applied the first hunk, and the next attempt met a clean tree again.
    assert "Applying patch code.txt with 1 reject..." in log
    assert log.count("$ ") == 5
    assert made.detail is not None
    assert made.detail.startswith("the patch does not apply: ")


@pytest.mark.parametrize(
    ("patch", "detail"),
    [
        (" \n", "the patch does not apply: "),
        ("not a patch\n", "the patch does not apply: "),
        (GOLD.rstrip("\n"), "the patch does not apply: "),
        (
            GOLD + "\ud800\n",
            "the patch is not text that UTF-8 can write ('utf-8' codec can't encode character '\\ud800'",
        ),
    ],
)
def test_what_is_no_patch(task: Task, tmp_path: Path, patch: str, detail: str) -> None:
    made = graded(task, patch, tmp_path)
    assert (made.resolved, made.outcome) == (False, "not_applied")
    assert made.detail is not None
    assert made.detail.startswith(detail)


@pytest.mark.parametrize(
    "patch",
    [
        new_file("a.txt", "trailing \t "),
        new_file("a.txt", "carriage return\r"),
        new_file("a.txt", "caf\u00e9 \u2028 \U0001f600 \ufffd"),
        "\n\n" + GOLD + "\n\n",
        new_file("a.txt", "x" * 3_000_000),
    ],
    ids=["trailing", "crlf", "unicode", "blank-lines", "3-MB"],
)
def test_the_patch_arrives_to_the_byte(task: Task, tmp_path: Path, patch: str) -> None:
    made = graded(task, patch, tmp_path)
    assert made.resolved is True
    assert made.log_path is not None
    log = Path(made.log_path)
    assert f"patch is {hashlib.sha256(patch.encode()).hexdigest()}" in log.read_text()
    assert log.with_name("patch.diff").read_bytes() == patch.encode()


def test_the_official_container(task: Task, tmp_path: Path) -> None:
    made = graded(task, GOLD, tmp_path)
    assert made.log_path is not None
    lines = Path(made.log_path).read_text().splitlines()
    assert lines[1] == "/testbed"
    # The engine's default capabilities and SYS_ADMIN, bit 21.
    assert "mark=kept user=root CapEff:\t00000000a82425fb" in lines


def test_what_the_tests_may_use(task: Task, tmp_path: Path, engine: docker.DockerClient) -> None:
    """Bounded unless told otherwise; network and capabilities as they are set."""
    seen = r"""
echo "capabilities $(grep CapEff /proc/self/status)"
echo "interfaces $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | sort | tr '\n' ' ')"
"""
    told = msgspec.structs.replace(task, eval_script=seen + EVAL_SCRIPT)
    limits: dict[str, Any] = {}

    class Watched(DockerSandbox):
        def start(self) -> None:
            super().start()
            limits.update(engine.api.inspect_container(self.container_id)["HostConfig"])

    def lines(**container: Any) -> list[str]:
        made = graded(told, GOLD, tmp_path, open_sandbox=Watched, container=GradingContainer(**container))
        assert made.resolved is True
        assert made.log_path is not None
        return [line for line in Path(made.log_path).read_text().splitlines() if line.startswith(("cap", "inter"))]

    assert lines() == ["capabilities CapEff:\t00000000a82425fb", "interfaces eth0 lo "]
    assert (limits["Memory"], limits["PidsLimit"], limits["NetworkMode"]) == (8 << 30, 4096, "bridge")
    own = lines(network="none", capabilities=(), limits=Limits(memory_bytes=1 << 30, cpus=1.5, pids=100))
    assert own == ["capabilities CapEff:\t00000000a80425fb", "interfaces lo "]
    assert (limits["Memory"], limits["PidsLimit"], limits["NanoCpus"]) == (1 << 30, 100, 1_500_000_000)


@pytest.mark.parametrize("network", ["host", "container:abc", "ns:/proc/1/ns/net"])
def test_the_hosts_network_is_refused(network: str) -> None:
    with pytest.raises(InputError, match=f"grading.network: {network} would show .* take bridge, none"):
        GradingContainer(network=network)


def test_locally_the_tests_do_not_reach_the_hosts_loopback(tmp_path: Path) -> None:
    """In bubblewrap `bridge` is no network, never the host's."""
    if shutil.which("bwrap") is None:
        pytest.skip("no bwrap on this machine (Debian: apt-get install bubblewrap)")
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        spec = GradingContainer().spec(make_task(empty_image()))
        with LocalSandbox(spec) as sandbox:
            tried = sandbox.run(f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo reached", timeout_s=30)
            assert "reached" not in tried.output
            assert tried.exit_code != 0
            assert sandbox.limits_held >= {"pids"}


def test_a_patch_that_takes_the_machine_is_stopped(task: Task, tmp_path: Path) -> None:
    """Memory and processes: the tests fail, the grader does not."""
    greedy = r"""
head -c 400000000 /dev/zero | tail -c 399999999 | wc -c
for i in {1..200}; do sleep 60 & done 2>/dev/null
"""
    told = msgspec.structs.replace(task, eval_script=f"timeout 6 bash -c '{greedy}'\n" + EVAL_SCRIPT)
    container = GradingContainer(limits=Limits(memory_bytes=64 << 20, cpus=None, pids=64))
    made = graded(told, GOLD, tmp_path, container=container, timeout_s=120)
    assert made.resolved is not None
    assert made.log_path is not None
    assert "399999999\n" not in Path(made.log_path).read_text()


SPOOF = new_file("pytest.py", "print('PASSED t.py::fix')").removeprefix(GOLD)


def test_a_patch_that_shadows_the_runner_is_named(task: Task, tmp_path: Path) -> None:
    """The verdict stays the official one."""
    script = EVAL_SCRIPT.replace("bash run_tests.sh", "python3 -m pytest; echo 'PASSED t.py::keep'")
    made = graded(msgspec.structs.replace(task, eval_script=script), SPOOF, tmp_path)
    assert (made.resolved, made.outcome) == (True, "resolved")
    assert made.tampering == ("pytest.py: stands in for the module pytest",)
    assert graded(task, GOLD, tmp_path).tampering == ()
    runs = "diff --git a/run_tests.sh b/run_tests.sh\n--- a/run_tests.sh\n+++ b/run_tests.sh\n@@ -1 +1 @@\n-a\n+b\n"
    assert graded(task, runs, tmp_path).tampering == ("run_tests.sh: is run by the tests' own script",)


OTHERS = r"""
FROM srft/base:bookworm
ENV SRFT_MARK=kept
RUN useradd -m dev
COPY run_tests.sh code.txt latin.txt /app/
RUN chown -R dev:dev /app
USER dev
WORKDIR /app
RUN git init -q && git config user.email t@t && git config user.name t && git add -A && git commit -qm base
"""


def test_an_image_with_another_user_and_another_folder(
    engine: docker.DockerClient, base_image: str, tmp_path: Path, task: Task
) -> None:
    """Scrubbing, the agent's git, the patch and the verdict; the task says where the repository lies."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(OTHERS)
    for name, content in {"run_tests.sh": RUN_TESTS, "code.txt": CODE, "latin.txt": "cafe\n"}.items():
        (context / name).write_text(content)
    image = f"srft/test-grading:{secrets.token_hex(4)}"
    engine.images.build(path=str(context), tag=image, rm=True, forcerm=True)
    script = EVAL_SCRIPT.replace("cd /testbed", "cd /app")
    others = msgspec.structs.replace(task, image=image, workdir="/app", eval_script=script)
    assert others.fingerprint != msgspec.structs.replace(others, workdir="/testbed").fingerprint
    try:
        with closing(SweEnv([others], backend="docker", grade_submission=False)) as env:
            env.reset()
            shown = env.execute("pwd; git status --short; git log --format=%s; git config user.name", timeout_s=60)
            assert (shown.output, shown.exit_code) == ("/app\nbase\nt\n", 0)
            env.execute("sed -i '2a fixed' code.txt && git add -A && git commit -qm mine", timeout_s=60)
            patch = env.patch().text
        made = graded(others, patch, tmp_path)
        assert (made.resolved, made.detail) == (True, None)
    finally:
        engine.images.remove(image, force=True)


def test_a_diff_of_many_megabytes_is_not_read_whole(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is longer than what is kept, and the replacement character in it makes it be looked at in bytes."""
    monkeypatch.setattr(grading, "LOG_LIMIT_BYTES", 100_001)
    patch = GOLD.replace("+fixed", "+fixed \ufffd" + "é" * 200_000)
    assert graded(task, patch, tmp_path).outcome == "resolved"


def test_timeout(task: Task, tmp_path: Path) -> None:
    made = graded(task, new_file("sleep"), tmp_path, timeout_s=3)
    assert (made.resolved, made.outcome, made.timed_out) == (False, "unresolved", True)
    assert made.detail == "the tests ran past 3 s"
    assert made.log_path is not None
    assert Path(made.log_path).read_text().endswith("half way\n\n\nTimeout error: 3 seconds exceeded.")


def test_a_long_log_is_cut_and_says_so(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grading, "LOG_LIMIT_BYTES", 1 << 20)
    made = graded(task, new_file("flood"), tmp_path)
    assert made.resolved is True
    assert made.detail is not None
    assert made.detail.startswith("the log is over 1048576 bytes: ")
    assert made.log_path is not None
    assert " bytes left out here]" in Path(made.log_path).read_text()


def test_a_tree_that_swebench_cannot_print(task: Task, tmp_path: Path, image: str) -> None:
    with DockerSandbox(SandboxSpec(image=image, labels={LABEL: "1"})) as sandbox:
        sandbox.write("/tmp/gold", GOLD.encode())
        sandbox.run("git apply /tmp/gold; printf 'caf\\351\\n' > latin.txt")
        sandbox.run("echo 'latin.txt binary' > .git/info/attributes; git diff --binary > /tmp/p")
        patch = sandbox.read("/tmp/p").decode("ascii")
    made = graded(task, patch, tmp_path)
    assert (made.resolved, made.outcome) == (False, "unresolved")
    assert made.detail == "git diff of the patched tree is not UTF-8: swebench stops there"


def test_a_replacement_character_in_the_tree_is_text(task: Task, tmp_path: Path) -> None:
    patch = GOLD.replace("+fixed", "+fixed \ufffd")
    assert graded(task, patch, tmp_path).resolved is True


def test_no_image(task: Task, tmp_path: Path) -> None:
    made = graded(msgspec.structs.replace(task, image="srft/no-such-image:1"), GOLD, tmp_path)
    assert (made.resolved, made.outcome) == (None, "not_graded")
    assert made.detail is not None
    assert made.detail.startswith("ImageError: image srft/no-such-image:1: not on this machine")


def test_no_engine(task: Task, tmp_path: Path) -> None:
    dead = docker.DockerClient(base_url="unix:///nowhere/docker.sock", version="1.41")
    made = graded(task, GOLD, tmp_path, open_sandbox=lambda spec: DockerSandbox(spec, client=dead))
    assert (made.resolved, made.outcome) == (None, "not_graded")
    assert made.detail is not None
    assert made.detail.startswith("EngineError: ")


def test_a_container_killed_under_the_tests(task: Task, tmp_path: Path, engine: docker.DockerClient) -> None:
    def kill_when_sleeping() -> None:
        for _ in range(600):
            time.sleep(0.1)
            for container in engine.containers.list(filters={"label": LABEL}):
                if any("sleep 600" in " ".join(process) for process in container.top()["Processes"]):
                    container.kill()
                    return

    killer = threading.Thread(target=kill_when_sleeping)
    killer.start()
    made = graded(task, new_file("sleep"), tmp_path, timeout_s=60)
    killer.join()
    assert (made.resolved, made.outcome, made.timed_out) == (None, "not_graded", False)
    assert made.detail is not None
    assert made.detail.startswith("SandboxDied: ")


def test_a_full_disk(task: Task, tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    made = graded(task, GOLD, tmp_path / "logs", open_sandbox=never_opened)
    assert (made.resolved, made.outcome) == (None, "not_graded")
    assert made.detail is not None
    assert made.detail.startswith("NotADirectoryError: ")


@pytest.mark.parametrize(("column", "value"), [("log_parser", "parse_log_cobol"), ("eval_type", "sometimes")])
def test_a_task_that_cannot_be_graded(task: Task, tmp_path: Path, column: str, value: str) -> None:
    made = graded(msgspec.structs.replace(task, **{column: value}), GOLD, tmp_path, open_sandbox=never_opened)
    assert (made.resolved, made.outcome) == (None, "not_graded")
    assert made.detail is not None
    assert made.detail.startswith("GradingError: o__r-1: ")
    assert repr(value) in made.detail


def test_no_markers_in_the_log(task: Task, tmp_path: Path) -> None:
    bare = msgspec.structs.replace(task, eval_script="#!/bin/bash\necho ModuleNotFoundError: no tests ran\n")
    made = graded(bare, GOLD, tmp_path)
    assert (made.resolved, made.outcome, made.fail_to_pass) == (False, "unresolved", None)
    assert made.detail == "no test results in the log; swebench's advice: missing_module (ambiguous)"


def test_binary_assets_of_a_task_repo(task: Task, tmp_path: Path) -> None:
    folder = tmp_path / "repo" / "tasks" / "o__r-1"
    (folder / "test_assets").mkdir(parents=True)
    (folder / "test_assets" / "asset.bin").write_bytes(bytes(range(256)))
    assets = {"test_patch": [{"path": "asset.bin"}, {"path": "lost.bin"}], "patch": None}
    with_assets = msgspec.structs.replace(task, image_assets=assets, source=str(folder))
    made = graded(with_assets, GOLD, tmp_path / "logs")
    assert made.resolved is True
    assert made.detail == "1 of 2 test assets could not be had"
    assert made.log_path is not None
    assert f"asset is {hashlib.sha256(bytes(range(256))).hexdigest()}" in Path(made.log_path).read_text()


def test_one_patch_graded_by_four_at_once(task: Task, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: graded(task, GOLD, tmp_path), range(4)))
    assert [one.resolved for one in made] == [True] * 4
    assert len({one.log_path for one in made}) == 1


def test_no_logs_wanted(task: Task) -> None:
    made = grade(task, GOLD, open_sandbox=open_labelled, log_dir=None)
    assert (made.resolved, made.log_path) == (True, None)


def test_the_key(task: Task) -> None:
    patches = (None, "", "a", "a\n", "a\r\n", "\ud800")
    assert len({grade_key(task, patch) for patch in patches}) == len(patches)
    other = msgspec.structs.replace(task, eval_script="true\n")
    assert grade_key(other, "a") != grade_key(task, "a")
    larger = GradingContainer(limits=Limits(memory_bytes=None, cpus=None, pids=None))
    alone = [GradingContainer(network="none"), GradingContainer(capabilities=())]
    keys = [grade_key(task, "a", container) for container in (GradingContainer(), larger, *alone)]
    assert (keys[0], len(set(keys))) == (grade_key(task, "a"), 3)
    assert keys[1] == keys[0]  # a bound is no part of a verdict, as the time limit is none


def test_records_do_not_load_the_harness() -> None:
    heavy = ("swebench", "docker", "datasets", "torch")
    script = f"import sys, srft.env.grading.grade, srft.agent.records; print([n for n in {heavy} if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.slow
def test_verdicts_are_swebenchs(
    shared_data: Path, engine: docker.DockerClient, verified_tasks: dict[str, Task]
) -> None:
    for name in ("pallets__flask-5014", "django__django-16938"):
        try:
            engine.images.get(verified_tasks[name].image)
        except docker.errors.ImageNotFound:
            pytest.skip(f"no image {verified_tasks[name].image}; build it from the real inputs' folder")
    script = Path(__file__).parents[2] / "official_verdicts.py"
    tasks = shared_data / "verified_pypi" / "verified_pypi.jsonl"
    command = [sys.executable, str(script), "--tasks", str(tasks), "--only", "pallets__flask-5014,django__django-16938"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert ran.stdout.endswith("28 of 28 equal\n"), ran.stdout + ran.stderr
    assert ran.returncode == 0
