"""Rows of each dataset on an image in its layout: where an agent begins, and verdicts with and without the fix."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import msgspec
import pytest
from msgspec.structs import replace

from srft.env.backends import DockerBackend
from srft.env.docker.images import ImageStore
from srft.env.docker.sandbox import DockerSandbox
from srft.env.errors import ImageError
from srft.env.grading.grade import Grade, NamedTests, grade
from srft.env.tasks.task import Task, load_tasks
from srft.env.workspace import WorkspacePool
from tests.env.tasks.dialects.test_dialects import SWE_GYM, SWE_REBENCH, SWE_REBENCH_V2, SWE_SMITH

pytestmark = [pytest.mark.engine, pytest.mark.slow]

# What all the published images have: conda's activation, an environment of its own, the tools of the tests.
_ENVIRONMENT = r"""
ARG BASE_IMAGE=srft/base:bookworm
FROM ${BASE_IMAGE}
COPY certs/ /etc/ssl/certs/
ARG PIP_CERT
ARG REQUESTS_CA_BUNDLE
ARG SSL_CERT_FILE
RUN python3 -m venv /opt/miniconda3/envs/testbed \
 && /opt/miniconda3/envs/testbed/bin/pip install -q pytest==8.3.4 pytest-xdist==3.6.1 && mkdir /opt/miniconda3/bin \
 && echo 'conda() { PATH=/opt/miniconda3/envs/$2/bin:$PATH; }' >/opt/miniconda3/bin/activate
RUN git config --global user.name t && git config --global user.email t@t && git config --global init.defaultBranch main
"""

GOOD = "def double(x):\n    return 2 * x\n\n\ndef half(x):\n    return x / 2\n"
BAD = GOOD.replace("2 * x", "3 * x")
TESTS = "import pytest\nimport calc\n\n\ndef test_half():\n    assert calc.half(4) == 2\n"
TEST_DOUBLE = """

@pytest.mark.parametrize("x", [0, 2], ids=["a zero", "two"])
def test_double(x):
    assert calc.double(x) == 2 * x
"""
HEADER = "--- a/calc.py\n+++ b/calc.py\n"
AROUND = " \n \n def half(x):\n"
INTRODUCES = f"{HEADER}@@ -1,5 +1,5 @@\n def double(x):\n-    return 2 * x\n+    return 3 * x\n{AROUND}"
FIXES = f"{HEADER}@@ -1,5 +1,5 @@\n def double(x):\n-    return 3 * x\n+    return 2 * x\n{AROUND}"
FIXES_AND_BREAKS = FIXES.replace("1,5", "1,6") + "-    return x / 2\n+    return x // 3\n"
UNRELATED = f"{HEADER}@@ -4,3 +4,4 @@\n \n def half(x):\n     return x / 2\n+# half\n"
TEST_PATCH = (
    "--- a/tests/test_calc.py\n+++ b/tests/test_calc.py\n"
    "@@ -4,3 +4,8 @@\n \n def test_half():\n     assert calc.half(4) == 2\n"
    + "".join(f"+{line}\n" for line in TEST_DOUBLE.rstrip("\n").split("\n"))
)

# An installation left a changed file and a new one, which no commit holds.
_LEFTOVERS = "RUN echo changed >>notes.ini && echo left >left.txt\n"
_SWE_BENCH_LIKE = _ENVIRONMENT + (
    "COPY bad.py /testbed/calc.py\nCOPY tests.py /testbed/tests/test_calc.py\nWORKDIR /testbed\n"
    "RUN printf '[x]\\n' >notes.ini && printf 'init:\\n\\ttrue\\n' >Makefile && echo 'import sys' >conftest.py"
    " && git init -q && git add -A && git commit -qm base && git tag base\n" + _LEFTOVERS
)
DOCKERFILES = {
    "rebench": _SWE_BENCH_LIKE + "RUN git commit -q --allow-empty -am SWE-bench\n",
    "gym": _SWE_BENCH_LIKE,
    "v2": _SWE_BENCH_LIKE + "RUN mv /testbed /tiny\nENV PATH=/opt/miniconda3/envs/testbed/bin:$PATH\nWORKDIR /tiny\n",
    "smith": _ENVIRONMENT
    + (
        "COPY good.py /testbed/calc.py\nCOPY all_tests.py /testbed/tests/test_calc.py\nWORKDIR /testbed\n"
        "RUN echo 'import sys' >conftest.py && printf '[x]\\n' >notes.ini && git init -q && git add -A"
        " && git commit -qm 'Initial commit'\n"
        # A bug that has its branch in the image, as those pushed before the image was made.
        "COPY bad.py /tmp/bad.py\n"
        "RUN git checkout -qb tiny__calc.0123abcd.lm_rewrite__branch && cp /tmp/bad.py calc.py"
        " && git commit -qam 'Bug Patch' && git rm -q tests/test_calc.py && git commit -qm 'Remove F2P Tests'"
        " && git checkout -q main && rm /tmp/bad.py\n" + _LEFTOVERS
    ),
}
NAMES = {
    "FAIL_TO_PASS": ["tests/test_calc.py::test_double[two]"],
    "PASS_TO_PASS": ["tests/test_calc.py::test_half"],
}
FROM_BASE = NAMES | {"base_commit": "base", "patch": FIXES, "test_patch": TEST_PATCH}
SMITH = SWE_SMITH | NAMES | {"repo": "swesmith/tiny__calc.0123abcd", "patch": INTRODUCES}
ROWS = {
    "rebench": SWE_REBENCH | FROM_BASE | {"install_config": SWE_REBENCH["install_config"] | {"install": "true"}},
    "gym": SWE_GYM | FROM_BASE,
    "v2": SWE_REBENCH_V2
    | FROM_BASE
    | {"install_config": SWE_REBENCH_V2["install_config"] | {"test_cmd": ["python -m pytest -rA"]}},
    "smith": SMITH
    | {"instance_id": "tiny__calc.0123abcd.lm_rewrite__row"}
    # Names with a space, which SWE-smith's newer parser knows.
    | {"PASS_TO_PASS": ["tests/test_calc.py::test_double[a zero]", "tests/test_calc.py::test_half"]},
    "smith-branch": SMITH | {"instance_id": "tiny__calc.0123abcd.lm_rewrite__branch"},
}


@pytest.fixture(scope="module")
def built(
    engine: docker.DockerClient, base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Task]]:
    """Layout -> Task, its image built by hand in that layout."""
    folder = tmp_path_factory.mktemp("layouts")
    tasks = {}
    with ImageStore(engine, state_file=folder / "images.json") as store:
        for layout, row in ROWS.items():
            context = folder / layout
            context.mkdir()
            (context / "Dockerfile").write_text(DOCKERFILES[layout.partition("-")[0]])
            files = {"good.py": GOOD, "bad.py": BAD, "tests.py": TESTS, "all_tests.py": TESTS + TEST_DOUBLE}
            for name, text in files.items():
                (context / name).write_text(text)
            (context / "rows.jsonl").write_text(json.dumps(row, default=str) + "\n")
            (task,) = load_tasks(str(context / "rows.jsonl"))
            tasks[layout] = replace(task, image=f"srft/test-adapters:{layout}", source=str(context))
            store.ensure(tasks[layout])
    yield tasks
    for task in tasks.values():
        engine.images.remove(task.image, force=True)


@pytest.fixture
def pool() -> Iterator[WorkspacePool]:
    pool = WorkspacePool(DockerBackend())
    yield pool
    pool.close()


def _grade(task: Task, patch: str, tmp_path: Path) -> Grade:
    return grade(task, patch, open_sandbox=DockerSandbox, log_dir=tmp_path)


@pytest.mark.parametrize("layout", ROWS)
def test_verdicts(built, tmp_path, layout):
    task = built[layout]
    assert task.patch == FIXES
    gold = _grade(task, task.patch, tmp_path)
    assert gold.resolved is True, gold.detail
    assert gold.fail_to_pass == NamedTests(passed=task.FAIL_TO_PASS)
    assert _grade(task, "", tmp_path).outcome == "empty"
    untouched = _grade(task, UNRELATED, tmp_path)
    assert (untouched.resolved, untouched.outcome) == (False, "unresolved")
    assert untouched.fail_to_pass == NamedTests(failed=task.FAIL_TO_PASS)
    assert untouched.pass_to_pass == NamedTests(passed=task.PASS_TO_PASS)
    broken = _grade(task, FIXES_AND_BREAKS, tmp_path)
    assert broken.resolved is False
    assert broken.pass_to_pass is not None
    assert broken.pass_to_pass.failed == ("tests/test_calc.py::test_half",)


@pytest.mark.parametrize("layout", ROWS)
def test_the_patch_of_an_agent_holds_its_changes_alone_and_is_graded(built, pool, tmp_path, layout):
    task = built[layout]
    for _ in range(3):  # the third starts from a snapshot
        workspace = pool.take(task)
        seen = workspace.sandbox.run("cat calc.py notes.ini left.txt; git status --porcelain").output
        assert seen == BAD + "[x]\nchanged\nleft\n"
        workspace.sandbox.run("sed -i 's/3 \\* x/2 * x/' calc.py && echo new >new.txt", 60)
        patch = workspace.patch().text
        pool.release(workspace)
        assert [line for line in patch.split("\n") if line.startswith("diff")] == [
            "diff --git a/calc.py b/calc.py",
            "diff --git a/new.txt b/new.txt",
        ]
    assert _grade(task, patch, tmp_path).resolved is True


@pytest.mark.parametrize("layout", ["smith", "smith-branch"])
def test_an_agent_finds_neither_the_fix_nor_the_tests_in_swe_smith_s_repository(built, pool, layout):
    workspace = pool.take(built[layout])
    look = "git log --all --format=%s; git cat-file --batch-all-objects --batch; ls tests 2>&1; git branch -a"
    seen = workspace.sandbox.run(look, 60).output
    pool.release(workspace)
    assert seen.startswith("Initial commit\n")
    assert "3 * x" in seen
    assert "2 * x" not in seen
    assert "test_double" not in seen
    assert "main" not in seen


def test_test_files_of_a_prediction_do_not_count_in_swe_smith(built, tmp_path):
    """They are put back after it is applied; so is a file that it makes anew, which does not apply at all."""
    cheats = (
        "--- a/tests/test_calc.py\n+++ b/tests/test_calc.py\n@@ -10,3 +10,3 @@\n"
        ' @pytest.mark.parametrize("x", [0, 2], ids=["a zero", "two"])\n def test_double(x):\n'
        "-    assert calc.double(x) == 2 * x\n+    assert True\n"
    )
    assert _grade(built["smith"], cheats, tmp_path).outcome == "unresolved"
    anew = "--- /dev/null\n+++ b/tests/test_calc.py\n@@ -0,0 +1 @@\n+x = 1\n"
    assert _grade(built["smith"], anew, tmp_path).outcome == "not_applied"


def test_an_image_that_is_not_the_row_s_is_not_graded(built, pool, tmp_path):
    task = replace(built["smith"], image=built["gym"].image, source=None)
    verdict = _grade(task, FIXES, tmp_path)
    assert (verdict.resolved, verdict.outcome) == (None, "not_graded")
    assert verdict.detail is not None
    assert "it cannot be brought to the task's state" in verdict.detail
    with pytest.raises(ImageError, match=r"expected the image that the row was made for, got: .*calc\.py"):
        pool.take(task)


def test_the_official_harness_grades_adapted_rows_unmodified(built, tmp_path):
    """Those that need no grading_setup: SWE-rebench's and SWE-Gym's."""
    tasks = [built["rebench"], built["gym"]]
    assert [task.grading_setup for task in tasks] == ["", ""]
    rows = [msgspec.to_builtins(task) for task in tasks]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for run_id, patch in (("gold", None), ("unrelated", UNRELATED)):
        predictions = [
            {"instance_id": task.instance_id, "model_name_or_path": run_id, "model_patch": patch or task.patch}
            for task in tasks
        ]
        (tmp_path / f"{run_id}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in predictions))
        command = [sys.executable, "-m", "swebench.harness.run_evaluation", "--dataset_name", "rows.jsonl"]
        options = ["--predictions_path", f"{run_id}.jsonl", "--run_id", run_id, "--max_workers", "1"]
        done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        report = json.loads((tmp_path / f"{run_id}.{run_id}.json").read_text())
        key = "resolved_ids" if patch is None else "unresolved_ids"
        assert sorted(report[key]) == sorted(task.instance_id for task in tasks)
