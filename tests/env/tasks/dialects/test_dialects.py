"""Rows with the columns that SWE-rebench, SWE-smith and SWE-Gym publish, and what they become."""

import datetime
import json
import subprocess

import msgspec
import pytest
from loguru import logger
from msgspec.structs import replace

from srft.env.errors import InputError
from srft.env.tasks.dialects.eval_script import apply_command, test_directives
from srft.env.tasks.dialects.schema import adapt
from srft.env.tasks.dialects.unsupported import UnsupportedRow
from srft.env.tasks.task import Task, load_tasks
from tests import tiny

TEST_PATCH = """\
diff --git a/tests/test_x.py b/tests/test_x.py
--- a/tests/test_x.py
+++ b/tests/test_x.py
@@ -1 +1,2 @@
 one
+two
diff --git a/tests/test_new.py b/tests/test_new.py
new file mode 100644
--- /dev/null
+++ b/tests/test_new.py
@@ -0,0 +1 @@
+new
diff --git a/tests/data.json b/tests/data.json
--- a/tests/data.json
+++ b/tests/data.json
@@ -1 +1 @@
-{}
+[]
diff --git a/tests/test_old.py b/tests/test_old.py
deleted file mode 100644
--- a/tests/test_old.py
+++ /dev/null
@@ -1 +0,0 @@
-old
"""
GOLD = "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-bad\n+good\n"

SWE_REBENCH = {
    "instance_id": "0b01001001__spectree-64",
    "repo": "0b01001001/spectree",
    "base_commit": "a091fab020ac26548250c907bae0855273a98778",
    "patch": GOLD,
    "test_patch": TEST_PATCH,
    "problem_statement": "A description is not shown.",
    "hints_text": "",
    "created_at": "2020-10-12 13:21:50",
    "version": "0.3",
    "meta": {"is_lite": False, "llm_score": {"difficulty_score": 1}, "num_modified_files": 1},
    "install_config": {
        "env_vars": None,
        "env_yml_path": None,
        "install": "pip install -e .[flask]",
        "log_parser": "parse_log_pytest",
        "no_use_env": None,
        "packages": "requirements.txt",
        "pip_packages": ["pytest"],
        "pre_install": None,
        "python": "3.9",
        "reqs_path": ["requirements.txt"],
        "test_cmd": "pytest --no-header -rA --tb=line --color=no -p no:cacheprovider",
    },
    "requirements": "attrs==1.0",
    "environment": "name: spectree",
    "FAIL_TO_PASS": ["tests/test_x.py::test_a"],
    "FAIL_TO_FAIL": [],
    "PASS_TO_PASS": ["tests/test_x.py::test_b"],
    "PASS_TO_FAIL": [],
    "license_name": "Apache License 2.0",
    "docker_image": "swerebench/sweb.eval.x86_64.0b01001001_1776_spectree-64",
    "image_name": "swerebench/sweb.eval.x86_64.0b01001001_1776_spectree-64",
}
SWE_REBENCH_V2 = {
    "instance_id": "acme__tiny-7",
    "repo": "acme/tiny",
    "base_commit": "ad6bff35c39a0600fb8f2e176be4269e768e4e22",
    "created_at": 1609298073000,
    "meta": {"num_modified_files": 6},
    "patch": GOLD,
    "test_patch": TEST_PATCH,
    "pr_description": "text",
    "problem_statement": "It does not work.",
    "language": "python",
    "interface": "text",
    "FAIL_TO_PASS": ["tests/test_x.py::test_a"],
    "PASS_TO_PASS": [],
    "install_config": {
        "base_image_name": "python_base_310",
        "docker_specs": None,
        "install": ["pip install -e ."],
        "log_parser": "parse_log_pytest",
        "test_cmd": ["pytest -rA tests/test_x.py", "echo done"],
    },
    "image_name": "docker.io/swerebenchv2/acme-tiny:7-ad6bff3",
}
SWE_SMITH = {
    "instance_id": "oauthlib__oauthlib.1fd52536.combine_file__0fceycuu",
    "repo": "swesmith/oauthlib__oauthlib.1fd52536",
    "patch": GOLD,
    "FAIL_TO_PASS": ["tests/test_b.py::test_2[a b]", "tests/test_b.py::test_1"],
    "PASS_TO_PASS": ["tests/test_a.py::test_1"],
    "created_at": datetime.datetime(2025, 4, 1, 12, 0),
    "image_name": "jyangballin/swesmith.x86_64.oauthlib_1776_oauthlib.1fd52536",
    "base_commit": "0123456789012345678901234567890123456789",
    "problem_statement": "Tokens are lost.",
}
SWE_GYM = {
    "instance_id": "getmoto__moto-7365",
    "hints_text": "",
    "patch": GOLD,
    "test_patch": TEST_PATCH,
    "created_at": "2024-02-19 20:29:03",
    "problem_statement": "A number is wrong.",
    "repo": "getmoto/moto",
    "base_commit": "7f6c9cb1deafb280fe7fcc7551c38e397f11a706",
    "version": "5.0",
    "PASS_TO_PASS": ["tests/test_x.py::test_b"],
    "FAIL_TO_PASS": ["tests/test_x.py::test_a"],
}


def load(tmp_path, *rows: dict[str, object], only=None) -> list[Task]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
    return load_tasks(str(path), only=only)


def script_after(task: Task, line: str) -> list[str]:
    lines = task.eval_script.split("\n")
    return lines[lines.index(line) :]


# --- SWE-rebench


def test_a_row_of_swe_rebench(tmp_path):
    (task,) = load(tmp_path, SWE_REBENCH)
    assert task.image == "swerebench/sweb.eval.x86_64.0b01001001_1776_spectree-64"
    assert (task.log_parser, task.eval_type, task.grading_setup) == ("parse_log_pytest", "pass_and_fail", "")
    assert (task.FAIL_TO_PASS, task.PASS_TO_PASS) == (("tests/test_x.py::test_a",), ("tests/test_x.py::test_b",))
    assert task.patch == GOLD
    base = SWE_REBENCH["base_commit"]
    reset = f"git checkout {base} tests/test_x.py tests/data.json tests/test_old.py"
    test = "pytest --no-header -rA --tb=line --color=no -p no:cacheprovider tests/test_x.py tests/test_new.py"
    assert task.eval_script == "\n".join(
        [
            "#!/bin/bash",
            "set -uxo pipefail",
            "source /opt/miniconda3/bin/activate",
            "conda activate testbed",
            "cd /testbed",
            "git config --global --add safe.directory /testbed",
            "cd /testbed",
            "git status",
            "git show",
            f"git -c core.fileMode=false diff {base}",
            "source /opt/miniconda3/bin/activate",
            "conda activate testbed",
            "pip install -e .[flask]",
            reset,
            f"git apply -v - <<'EOF_SRFT_TEST_PATCH'\n{TEST_PATCH}EOF_SRFT_TEST_PATCH",
            ": '>>>>> Start Test Output'",
            test,
            ": '>>>>> End Test Output'",
            reset,
            "",
        ]
    )


def test_columns_as_json_text_and_as_lists_are_the_same(tmp_path):
    text = {key: json.dumps(SWE_REBENCH[key]) for key in ("FAIL_TO_PASS", "PASS_TO_PASS", "install_config")}
    assert load(tmp_path, SWE_REBENCH | text) == load(tmp_path, SWE_REBENCH)


def test_the_image_of_a_row_without_one_follows_from_its_id(tmp_path):
    (task,) = load(tmp_path, SWE_REBENCH | {"docker_image": None, "image_name": None, "instance_id": "A__B-1"})
    assert task.image == "swerebench/sweb.eval.x86_64.a_1776_b-1"


def test_a_repository_s_name_as_its_parser(tmp_path):
    config = SWE_REBENCH["install_config"] | {"log_parser": "astropy/astropy"}
    (task,) = load(tmp_path, SWE_REBENCH | {"install_config": config})
    assert task.log_parser == "parse_log_pytest_v2"


def test_rows_that_cannot_be_graded_are_counted_by_reason(tmp_path):
    config = SWE_REBENCH["install_config"]
    haskell = SWE_REBENCH | {"instance_id": "h__h-1", "install_config": config | {"log_parser": "parse_log_haskell"}}
    no_command = SWE_REBENCH | {"instance_id": "n__n-1", "install_config": config | {"test_cmd": None}}
    rows = [haskell, SWE_REBENCH, haskell | {"instance_id": "h__h-2"}, no_command]
    said: list[str] = []
    sink = logger.add(said.append, format="{message}", level="WARNING")
    assert [task.instance_id for task in load(tmp_path, *rows)] == ["0b01001001__spectree-64"]
    logger.remove(sink)
    assert len(said) == 1
    assert "3 of its 4 rows left out: 2 x install_config.log_parser 'parse_log_haskell' is no parser" in said[0]
    assert "1 x install_config has no test_cmd" in said[0]
    with pytest.raises(InputError, match=r"rows\.jsonl:1: h__h-1: install_config\.log_parser 'parse_log_haskell'"):
        load(tmp_path, *rows, only=["h__h-1"])
    with pytest.raises(InputError, match=r"none of its 2 rows can be graded here; the first: .*h__h-1"):
        load(tmp_path, haskell, no_command)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("install_config", "no json", "install_config: expected a JSON object, got 'no json'"),
        ("install_config", [1], "install_config: expected an object, got list"),
        ("install_config", {"test_cmd": 7}, r"install_config\.test_cmd: expected a command or a list of them, got 7"),
        ("FAIL_TO_PASS", "[", "FAIL_TO_PASS: expected a JSON list, got '\\['"),
        ("PASS_TO_PASS", [1], "PASS_TO_PASS: expected a list of test names, got \\[1\\]"),
    ],
)
def test_a_broken_column_is_named(tmp_path, column, value, message):
    with pytest.raises(InputError, match=rf"rows\.jsonl:1: {message}"):
        load(tmp_path, SWE_REBENCH | {column: value})


@pytest.mark.parametrize("row", [SWE_REBENCH, SWE_REBENCH_V2, SWE_GYM], ids=["rebench", "v2", "gym"])
@pytest.mark.parametrize("column", ["instance_id", "repo", "base_commit"])
def test_a_missing_column_is_named(tmp_path, row, column):
    with pytest.raises(InputError, match=rf"rows\.jsonl:1: missing column {column}; expected a"):
        load(tmp_path, {key: value for key, value in row.items() if key != column})


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (SWE_REBENCH, "instance_id", 5),
        (SWE_REBENCH, "repo", ["a", "b"]),
        (SWE_REBENCH, "base_commit", 7),
        (SWE_REBENCH, "base_commit", " "),
        (SWE_GYM, "instance_id", 5),
        (SWE_GYM, "base_commit", ""),
        (SWE_SMITH, "instance_id", 5),
        (SWE_SMITH, "patch", 5),
        (SWE_SMITH, "patch", ""),
    ],
)
def test_a_column_that_is_no_text_is_named(tmp_path, row, column, value):
    with pytest.raises(InputError) as caught:
        load(tmp_path, row | {column: value})
    expected = f"rows.jsonl:1: {column}: expected text, got {value!r}; fix it, or leave the row out"
    assert str(caught.value) == f"{tmp_path}/{expected}"
    assert not isinstance(caught.value, UnsupportedRow)


@pytest.mark.parametrize("row", [tiny.row(0), SWE_REBENCH], ids=["native", "rebench"])
@pytest.mark.parametrize("time", [1e20, float("nan"), float("inf"), -(10**400)])
def test_a_time_that_is_none_is_named(tmp_path, row, time):
    with pytest.raises(InputError, match=r"rows\.jsonl:1: created_at: expected text or milliseconds since 1970, got "):
        load(tmp_path, row | {"created_at": time})


def test_a_row_of_swe_rebench_v2(tmp_path):
    (task,) = load(tmp_path, SWE_REBENCH_V2)
    assert task.image == "docker.io/swerebenchv2/acme-tiny:7-ad6bff3"
    assert task.created_at == "2020-12-30T03:14:33+00:00"
    assert "ln -s /tiny /testbed" in task.grading_setup
    assert task.agent_setup.startswith(task.grading_setup)
    assert script_after(task, ": '>>>>> Start Test Output'") == [
        ": '>>>>> Start Test Output'",
        "(",
        "set -e",
        "pytest -rA tests/test_x.py",
        "echo done",
        ")",
        ": '>>>>> End Test Output'",
        "",
    ]


@pytest.mark.parametrize("name", ["a [1.34 ms]", "b in 29.08 msec", "c (2s)"])
def test_v2_names_with_times_are_not_supported(name):
    with pytest.raises(UnsupportedRow, match="test names with times in them"):
        adapt(SWE_REBENCH_V2 | {"PASS_TO_PASS": [name]}, "x")


# --- SWE-smith


def test_a_row_of_swe_smith(tmp_path):
    (task,) = load(tmp_path, SWE_SMITH)
    assert (task.repo, task.base_commit, task.test_patch) == ("oauthlib/oauthlib", "", "")
    assert task.image == "jyangballin/swesmith.x86_64.oauthlib_1776_oauthlib.1fd52536"
    assert task.patch == "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-good\n+bad\n"
    assert task.log_parser == "parse_log_pytest_v2"
    assert GOLD in task.grading_setup
    assert task.agent_setup.startswith(task.grading_setup)
    assert "git rm -q -f --ignore-unmatch -- tests/test_b.py\n" in task.agent_setup
    tail = script_after(task, "git checkout -- tests/test_a.py tests/test_b.py")
    assert tail[1] == ": '>>>>> Start Test Output'"
    assert tail[2].startswith("pytest --disable-warnings --color=no --tb=no --verbose 2>&1 | sed -E ")
    assert tail[3] == ": '>>>>> End Test Output'"


def test_swe_smith_without_spaces_in_names_is_read_by_the_plain_parser(tmp_path):
    (task,) = load(tmp_path, SWE_SMITH | {"FAIL_TO_PASS": ["tests/test_b.py::test_1"], "image_name": None})
    assert task.log_parser == "parse_log_pytest"
    assert task.image == "jyangballin/swesmith.x86_64.oauthlib_1776_oauthlib.1fd52536"


def test_slow_repositories_of_swe_smith_run_the_listed_files_only(tmp_path):
    identity = {"instance_id": "dask__dask.5f61e423.pr_1", "repo": "swesmith/dask__dask.5f61e423"}
    (task,) = load(tmp_path, SWE_SMITH | identity)
    command = script_after(task, ": '>>>>> Start Test Output'")[1]
    assert command.startswith(
        "pytest --disable-warnings --color=no --tb=no --verbose tests/test_a.py tests/test_b.py 2>&1 | sed"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_statement": ""}, "no problem_statement"),
        ({"instance_id": "python__mypy.e93f06ce.pr_1"}, "python/mypy: its profile's command"),
        ({"FAIL_TO_PASS": ["TestRouter"]}, "oauthlib/oauthlib: its tests are not pytest's"),
        ({"instance_id": "oauthlib"}, "expected an id such as"),
        ({"FAIL_TO_PASS": []}, "FAIL_TO_PASS names no test file"),
        ({"FAIL_TO_PASS": [], "instance_id": "un33k__python-slugify.872b3750.pr_1"}, "FAIL_TO_PASS names no test file"),
        (
            {"FAIL_TO_PASS": ["Docstring"], "instance_id": "tornadoweb__tornado.d5ac65c1.pr_1"},
            "FAIL_TO_PASS names no test file",
        ),
        ({"patch": "diff --git a/x b/x\nGIT binary patch\nliteral 1\n"}, "its patch has a binary change"),
    ],
)
def test_rows_of_swe_smith_that_cannot_be_graded(change, message):
    with pytest.raises(UnsupportedRow, match=message):
        adapt(SWE_SMITH | change, "rows")


def test_swe_smith_needs_a_patch(tmp_path):
    with pytest.raises(
        InputError, match=r"rows\.jsonl:1: missing column patch; expected a row with instance_id, patch"
    ):
        load(tmp_path, {key: value for key, value in SWE_SMITH.items() if key != "patch"})


VERBOSE_LOG = """\
============================= test session starts ==============================
collecting ... collected 6 items

tests/test_b.py::test_1 PASSED                                           [ 16%]
tests/test_b.py::test_2[a b] FAILED                                      [ 33%]
tests/test_b.py::test_3 SKIPPED (no network)                             [ 50%]
tests/test_b.py::test_4 XFAIL (known)                                    [ 66%]
tests/test_b.py::test_5 ERROR                                            [ 83%]
tests/test_b.py::test_6
PASSED                                                                   [100%]
=========================== short test summary info ============================
FAILED tests/test_b.py::test_2[a b] - assert 1 == 2
ERROR tests/test_b.py::test_5 - fixture
"""
UNITTEST_LOG = """\
test_a (__main__.TestSlug) ... ok
test_b (__main__.TestSlug.test_b) ... FAIL
test_c (__main__.TestSlug) ... ERROR
Ran 3 tests in 0.1s
FAILED (failures=1, errors=1)
"""
TORNADO_LOG = """\
test_a (tornado.test.web_test.WebTest) ... ok
test_b (tornado.test.web_test.WebTest.test_b)
Docstring ... skipped 'no'
test_c (tornado.test.web_test.WebTest) ... skipped 'no curl'
test_d (tornado.test.web_test.WebTest) ... FAIL
ERROR: test_e (tornado.test.web_test.WebTest)
FAIL: test_d (tornado.test.web_test.WebTest)
"""


@pytest.mark.parametrize(
    ("identity", "log", "expected"),
    [
        (
            "oauthlib__oauthlib.1fd52536",
            VERBOSE_LOG,
            {
                "tests/test_b.py::test_1": "PASSED",
                "tests/test_b.py::test_2[a b]": "FAILED",
                "tests/test_b.py::test_3": "SKIPPED",
                "tests/test_b.py::test_4": "XFAIL",
                "tests/test_b.py::test_5": "ERROR",
            },
        ),
        (
            "HIPS__autograd.ac044f0d",
            "[gw0] PASSED tests/a.py::test_1 \n[gw1] FAILED tests/a.py::test_2 \n",
            {"tests/a.py::test_1": "PASSED", "tests/a.py::test_2": "FAILED"},
        ),
        (
            "paramiko__paramiko.23f92003",
            "PASSED tests/a.py::test_1\nFAILED tests/a.py::test_2 - x\n",
            {"tests/a.py::test_1": "PASSED", "tests/a.py::test_2": "FAILED"},
        ),
        (
            "un33k__python-slugify.872b3750",
            UNITTEST_LOG,
            {
                "test_a (__main__.TestSlug)": "PASSED",
                "test_b (__main__.TestSlug.test_b)": "FAILED",
                "test_c (__main__.TestSlug)": "ERROR",
            },
        ),
        (
            "tornadoweb__tornado.d5ac65c1",
            TORNADO_LOG,
            {
                "test_a (tornado.test.web_test.WebTest)": "PASSED",
                "test_c (tornado.test.web_test.WebTest)": "SKIPPED",
                "test_d (tornado.test.web_test.WebTest)": "FAILED",
                "test_e (tornado.test.web_test.WebTest)": "FAILED",
            },
        ),
    ],
)
def test_swebench_reads_what_each_profile_of_swe_smith_prints(identity, log, expected):
    """The test command replaced by one that prints a log; the rest of the line, and swebench's parser, are real."""
    from swebench.harness.log_parsers import PARSER_REGISTRY

    changed = {"instance_id": f"{identity}.pr_1", "repo": f"swesmith/{identity}"}
    if log == TORNADO_LOG:  # its names are unittest's
        changed["FAIL_TO_PASS"] = ["test_d (tornado.test.web_test.WebTest)"]
    row = adapt(SWE_SMITH | changed, "x")
    command = row["eval_script"].split(": '>>>>> Start Test Output'\n")[1].partition("\n: '>>>>> End")[0]
    assert " 2>&1 | " in command or identity.startswith("paramiko")
    command = f"cat | {command.partition(' 2>&1 | ')[2]}" if " 2>&1 | " in command else "cat"
    printed = subprocess.run(["bash", "-c", command], input=log, capture_output=True, text=True, check=True).stdout
    statuses = PARSER_REGISTRY[row["log_parser"]](printed, None)
    assert {name: statuses.get(name) for name in expected} == expected


# --- SWE-Gym


def test_a_row_of_swe_gym(tmp_path):
    (task,) = load(tmp_path, SWE_GYM)
    assert task.image == "xingyaoww/sweb.eval.x86_64.getmoto_s_moto-7365:latest"
    assert (task.log_parser, task.eval_type) == ("parse_log_pytest", "pass_and_fail")
    lines = task.eval_script.split("\n")
    assert lines[2] == "set +u"
    assert "make init" in lines
    assert "pytest -n0 -rA tests/test_x.py tests/test_new.py" in lines


@pytest.mark.parametrize(
    ("repo", "version", "line"),
    [
        ("Project-MONAI/MONAI", "1.3", "pytest -rA tests/test_x.py tests/test_new.py"),
        ("dask/dask", "2024.5", "python -m pip install --no-deps -e ."),
        ("conan-io/conan", "2.4", "export PYTHONPATH=${PYTHONPATH:-}:$(pwd)"),
        ("bokeh/bokeh", "3.5", "python -m pip install -e .; python -m pip install bokeh_sampledata;"),
    ],
)
def test_commands_of_swe_gym_follow_from_repository_and_version(tmp_path, repo, version, line):
    (task,) = load(tmp_path, SWE_GYM | {"repo": repo, "version": version})
    assert line in task.eval_script.split("\n")


@pytest.mark.parametrize(
    ("repo", "version", "expected", "unexpected"),
    [
        ("conan-io/conan", "1.59", "cython<3", "\0"),
        ("conan-io/conan", "1.60", "requirements_dev", "cython<3"),
        ("conan-io/conan", "2.0", "cython<3", "\0"),
        ("conan-io/conan", "2.1", "requirements_dev", "cython<3"),
        ("pandas-dev/pandas", "2.1", "numpy<2", "\0"),
        ("pandas-dev/pandas", "2.2", "qt -y;", "numpy<2"),
        ("modin-project/modin", "0.19", "protobuf==3.20.1", "\0"),
        ("modin-project/modin", "0.20", "pip install -e", "protobuf"),
        ("iterative/dvc", "3.3", "pytest<8", "\0"),
        ("iterative/dvc", "3.10", "mock-ssh", "pytest<8"),
        ("facebookresearch/hydra", "1.2", "pip==24.0", "\0"),
        ("facebookresearch/hydra", "1.3", "requirements/dev.txt", "pip==24.0"),
    ],
)
def test_the_versions_at_which_swe_gym_s_commands_change(tmp_path, repo, version, expected, unexpected):
    (task,) = load(tmp_path, SWE_GYM | {"repo": repo, "version": version})
    assert expected in task.eval_script
    assert unexpected not in task.eval_script


@pytest.mark.parametrize(
    ("version", "command"), [("1.10", "pytest -rA -k"), ("1.4", "pytest -n0 -rA -k"), ("0.990", "pytest -n0 -rA -k")]
)
def test_mypy_runs_the_cases_of_its_test_patch(tmp_path, version, command):
    test_patch = "--- a/t.test\n+++ b/t.test\n@@ -1 +1,3 @@\n [case testOld]\n+[case testNew]\n+x\n"
    (task,) = load(tmp_path, SWE_GYM | {"repo": "python/mypy", "version": version, "test_patch": test_patch})
    assert f'{command} "testOld or testNew"' in task.eval_script.split("\n")


def test_swe_gym_needs_a_version(tmp_path):
    with pytest.raises(InputError, match=r"version: expected one such as 1\.10, got 'main'"):
        load(tmp_path, SWE_GYM | {"version": "main"})


def test_swe_gym_raw_has_nothing_to_grade_with(tmp_path):
    row = {key: value for key, value in SWE_GYM.items() if not key.endswith("_TO_PASS")}
    with pytest.raises(InputError, match="SWE-Gym-Raw is published without images"):
        load(tmp_path, row)


# --- all of them


def test_rows_of_swebench_5_are_left_alone():
    row = tiny.row(0) | {"install_config": {}, "repo": "swesmith/x"}
    assert adapt(row, "x") is row


def test_what_was_adapted_can_be_stored_and_loaded_again(tmp_path):
    for row in (SWE_REBENCH, SWE_REBENCH_V2, SWE_SMITH, SWE_GYM):
        (task,) = load(tmp_path, row)
        assert load(tmp_path, msgspec.to_builtins(task)) == [task]


def test_a_grading_setup_is_part_of_the_fingerprint_and_an_agent_s_is_not(tmp_path):
    (task,) = load(tmp_path, SWE_GYM)
    assert replace(task, agent_setup="true").fingerprint == task.fingerprint
    assert replace(task, grading_setup="true").fingerprint != task.fingerprint


def test_directives_are_the_test_files_that_stay():
    assert test_directives(TEST_PATCH) == ["tests/test_x.py", "tests/test_new.py"]


def test_a_patch_that_holds_the_delimiter_does_not_end_early():
    assert apply_command("cat", "EOF_SRFT_TEST_PATCH") == (
        "cat <<'EOF_SRFT_TEST_PATCH_'\nEOF_SRFT_TEST_PATCH\nEOF_SRFT_TEST_PATCH_"
    )
