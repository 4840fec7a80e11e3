r"""SWE-bench/SWE-smith: bugs put into 128 repositories, an image a repository.

| published column | becomes |
|---|---|
| instance_id | `owner__name.commit.kind__hash`; as it is |
| repo (`swesmith/owner__name.commit`) | `owner/name`, so that a training set is compared with SWE-bench by repository |
| image_name | image; where it lacks, the published rule `jyangballin/swesmith.x86_64.owner_1776_name.commit` |
| patch, which puts the bug in | `agent_setup` and `grading_setup`, which apply it; and reversed, as `patch`: the fix |
| FAIL_TO_PASS, PASS_TO_PASS | as they are; their files are those that the agent does not get, and that are put back |
| problem_statement | as it is; a row without one (there is no issue text for every bug) is an UnsupportedRow |
| base_commit (some releases) | left: it is the bug's branch, and the state is made from the image and the row |
| created_at | as it is |

What its harness does, and what is done here. An image holds the repository without a bug. The bug's branch, named by
the instance id, is the image's commit, plus a commit "Bug Patch" with `patch`, plus a commit "Remove F2P Tests" without
the files of FAIL_TO_PASS. The agent begins on the branch; the grader on "Bug Patch", where it applies the prediction,
puts the test files back and runs the profile's command. Many images are older than their branches, and the harness
fetches those over the network, which an agent here has not: so the same states are made of the image and the row, and a
branch is used only where the image has it. The agent's state is a repository of one commit: the history holds the fix.

The tests: the profile's command, and its parser as a sed script that turns each result into "STATUS name", which
swebench's pytest parsers read. A test without a result counts as failed, as in SWE-smith's harness since its profiles.
"""

import re
import shlex
from typing import Any, NamedTuple

from srft.env.tasks.dialects import eval_script, patch_text, start_state
from srft.env.tasks.dialects.unsupported import UnsupportedRow

TEXT_COLUMNS = ("instance_id", "patch")
"""What `adapt` reads as text: `schema.py` has made sure of it. Its `repo` follows from the id."""

_IDENTITY = re.compile(r"(?P<owner>.+?)__(?P<name>.+)\.(?P<commit>[0-9a-f]{8})\.(?P<bug>[^.]+)$")

_STATUSES = "PASSED|FAILED|SKIPPED|ERROR|XFAIL"

_VERBOSE = rf"s/^(.*[^[:space:]])[[:space:]]+({_STATUSES})([[:space:]].*)?$/\2 \1/"
"""pytest --verbose: `tests/test_x.py::test_y[a b] PASSED  [ 5%]`."""

_WORKERS = rf"s/^\[gw[0-9]\][[:space:]]({_STATUSES})[[:space:]]([^[:space:]]+).*$/\1 \2/"
_UNITTEST = r"""
s/^([a-zA-Z0-9_,. ()'-]+) \.{3} ok$/PASSED \1/
s/^([a-zA-Z0-9_,. ()'-]+) \.{3} FAIL$/FAILED \1/
s/^([a-zA-Z0-9_,. ()'-]+) \.{3} ERROR$/ERROR \1/
"""
_TORNADO = r"""
/\.{3} ok$/{ s/ \.{3} .*$//; s/^/PASSED /; b
}
/ \.{3} skipped /{ s/ \.{3} .*$//; s/^/SKIPPED /; b
}
s/^(ERROR|FAIL):[[:space:]]+([^[:space:]]+)[[:space:]]+([^[:space:]]+).*$/FAILED \2 \3/
"""

_PYTEST = "pytest --disable-warnings --color=no --tb=no --verbose"


class _Profile(NamedTuple):
    """How a repository is tested. results: sed -E; `None` where pytest prints "STATUS name" itself."""

    command: str = _PYTEST
    results: str | None = _VERBOSE
    pytest_ids: bool = True


_PROFILES = {
    "hips/autograd": _Profile(results=_WORKERS),
    "jax-ml/jax": _Profile(f"{_PYTEST} -n auto"),
    "mido/mido": _Profile(f"{_PYTEST} -rs -c /dev/null"),
    "paramiko/paramiko": _Profile("pytest -rA --color=no --disable-warnings", results=None),
    "pydantic/pydantic": _Profile(f"/root/.local/bin/uv run {_PYTEST}"),
    "tkrajina/gpxpy": _Profile("pytest test.py --verbose --color=no --tb=no --disable-warnings"),
    "tornadoweb/tornado": _Profile("python -m tornado.test --verbose", results=_TORNADO, pytest_ids=False),
    "un33k/python-slugify": _Profile("python test.py --verbose", results=_UNITTEST, pytest_ids=False),
}

_ONLY_LISTED_FILES = frozenset(
    {
        "conan-io/conan",
        "dask/dask",
        "getmoto/moto",
        "iterative/dvc",
        "jax-ml/jax",
        "modin-project/modin",
        "pandas-dev/pandas",
        "project-monai/monai",
        "scrapy/scrapy",
        "sqlfluff/sqlfluff",
        "sunpy/sunpy",
        "sympy/sympy",
        "tobymao/sqlglot",
    }
)
"""Repositories whose whole suite takes too long (`min_testing`): only the files of the listed tests run."""


class _Tests(NamedTuple):
    """The files of a row's tests."""

    fail_to_pass: list[str]
    all: list[str]


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is SWE-smith's."""
    return str(row.get("repo")).startswith("swesmith/") or "swesmith." in str(row.get("image_name"))


def adapt(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A swebench-5 row of one of SWE-smith's; its test lists are lists already."""
    identity = _IDENTITY.match(row["instance_id"])
    if identity is None:
        raise UnsupportedRow("expected an id such as owner__name.1a2b3c4d.kind__hash", row=row, where=where)
    repo = f"{identity['owner']}/{identity['name']}"
    if not row.get("problem_statement"):
        raise UnsupportedRow("no problem_statement: write one, or take the rows that have one", row=row, where=where)
    profile = _PROFILES.get(repo.lower(), _Profile())
    tests = _tests(row, repo, profile, where)
    bug = _bug_state(row["instance_id"], row["patch"])
    image = f"jyangballin/swesmith.x86_64.{identity['owner']}_1776_{identity['name']}.{identity['commit']}".lower()
    return {
        **row,
        "repo": repo,
        "base_commit": "",
        "image": row.get("image_name") or image,
        "patch": _fix(row, where),
        "test_patch": "",
        "agent_setup": _agent_setup(bug, tests),
        "grading_setup": bug,
        "eval_script": _eval_script(repo.lower(), profile, tests),
        "log_parser": _parser(row),
        "eval_type": "pass_and_fail",
    }


def _fix(row: dict[str, Any], where: str) -> str:
    try:
        return patch_text.reverse(row["patch"])
    except ValueError as error:
        raise UnsupportedRow(f"its patch has {error}, which cannot be reversed as text", row=row, where=where) from None


def _tests(row: dict[str, Any], repo: str, profile: _Profile, where: str) -> _Tests:
    """The test files. Raises UnsupportedRow where the names are not those that the profile's parser gives."""
    if repo.lower() == "python/mypy":
        reason = "python/mypy: its profile's command (pytest -k without an expression) runs no test; leave it out"
        raise UnsupportedRow(reason, row=row, where=where)
    listed = [*row["FAIL_TO_PASS"], *row["PASS_TO_PASS"]]
    if profile.pytest_ids and not all(re.match(r"[^:\s]+\.py::", name) for name in row["FAIL_TO_PASS"]):
        raise UnsupportedRow(
            f"{repo}: its tests are not pytest's, and this repository's profile is not known; "
            "add eval_script, log_parser and eval_type to the row",
            row=row,
            where=where,
        )
    file_of = _unittest_file if not profile.pytest_ids else _pytest_file
    fail_to_pass, all_ = (
        {file for name in names if (file := file_of(name))} for names in (row["FAIL_TO_PASS"], listed)
    )
    if repo == "un33k/python-slugify":
        fail_to_pass, all_ = ({"test.py"} if names else set() for names in (row["FAIL_TO_PASS"], listed))
    if not fail_to_pass:  # and `git rm` wants a file
        reason = "FAIL_TO_PASS names no test file, so there is nothing that a fix must make pass; leave it out"
        raise UnsupportedRow(reason, row=row, where=where)
    return _Tests(sorted(fail_to_pass), sorted(all_))


def _pytest_file(name: str) -> str:
    # mido's tests run with -c /dev/null, from whose folder pytest then counts.
    return name.split("::", 1)[0].removeprefix("../dev/")


def _unittest_file(name: str) -> str | None:
    """`test_x (tornado.test.web_test.T)` is in tornado/test/web_test.py."""
    in_brackets = re.search(r"\s\((.*)\)", name)
    return "/".join(in_brackets[1].split(".")[:-1]) + ".py" if in_brackets else None


def _bug_state(instance_id: str, patch: str) -> str:
    """Bash to the commit "Bug Patch": the bug is in, no test is removed."""
    branch = shlex.quote(instance_id)
    return f"""{start_state.PROLOGUE}
branch={branch}
bug=$(git rev-parse -q --verify "refs/heads/$branch^{{commit}}" ||
      git rev-parse -q --verify "refs/remotes/origin/$branch^{{commit}}" || true)
if [ -n "$bug" ]; then
    git checkout -q --detach "$bug"
    if [ "$(git log -1 --format=%s)" = 'Remove F2P Tests' ]; then git checkout -q --detach HEAD~1; fi
else
    git update-index -q --refresh || true  # inodes changed when the image became layers
    {eval_script.apply_command("git apply --index -", patch)}
    git commit -q --no-verify --no-gpg-sign -m 'Bug Patch'
fi
"""


def _agent_setup(bug: str, tests: _Tests) -> str:
    files = " ".join(map(shlex.quote, tests.fail_to_pass))
    return f"{bug}git rm -q -f --ignore-unmatch -- {files}\n{start_state.FORGET_HISTORY}"


def _eval_script(repo: str, profile: _Profile, tests: _Tests) -> str:
    command = profile.command
    if repo in _ONLY_LISTED_FILES:
        command = " ".join([command, *map(shlex.quote, tests.all)])
    if profile.results is not None:
        # 2>&1: unittest reports on stderr. `pipefail` keeps the tests' exit code.
        command = f"{command} 2>&1 | sed -E {shlex.quote(profile.results)}"
    lines = [
        *eval_script.HEADER,
        *eval_script.ACTIVATE,
        "cd /testbed",
        "git config --global --add safe.directory /testbed",
        " ".join(["git checkout --", *map(shlex.quote, tests.all)]),
        eval_script.START,
        command,
        eval_script.END,
    ]
    return "\n".join(lines) + "\n"


def _parser(row: dict[str, Any]) -> str:
    """Of names with spaces, parse_log_pytest reads the first word; v2 reads all but drops what looks like a colour."""
    spaced = any(re.search(r"\s", name) for column in ("FAIL_TO_PASS", "PASS_TO_PASS") for name in row[column])
    return "parse_log_pytest_v2" if spaced else "parse_log_pytest"
