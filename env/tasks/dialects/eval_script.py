"""The shape that SWE-bench's eval scripts have, for harnesses that forked SWE-bench's.

    eval_script(EvalSteps(base_commit="1a2b3c", test_patch=..., test_command="pytest -rA tests/test_x.py"))

What it does in /testbed: activate the conda environment, install the patched package again, put the test files back to
the base commit, apply the test patch, run the tests between swebench's two markers, put the test files back.
"""

import shlex
from typing import NamedTuple

from srft.env.tasks.dialects.patch_text import changed_files

START = ": '>>>>> Start Test Output'"
END = ": '>>>>> End Test Output'"
HEADER = ("#!/bin/bash", "set -uxo pipefail")
ACTIVATE = ("source /opt/miniconda3/bin/activate", "conda activate testbed")

# What SWE-bench takes for no test file, by the end of its name; "csv" without a dot is SWE-bench's.
NON_TEST_ENDINGS = (".json", ".png", "csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")

_DELIMITER = "EOF_SRFT_TEST_PATCH"


class EvalSteps(NamedTuple):
    """What a repository's tests take. `install` and `before` are lines of bash; `nounset` is `set -u`."""

    base_commit: str
    test_patch: str
    test_command: str
    install: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    nounset: bool = True


def eval_script(steps: EvalSteps) -> str:
    """The script, as the forks of SWE-bench write it."""
    files = [file.source for file in changed_files(steps.test_patch) if file.source]
    # Where every test file is new, this is a bare checkout of the base commit: the forks do the same.
    reset = " ".join(["git checkout", steps.base_commit, *map(shlex.quote, files)])
    lines = [
        *HEADER,
        # swebench puts `set -uxo pipefail` back whatever a script begins with.
        *(() if steps.nounset else ("set +u",)),
        *ACTIVATE,
        "cd /testbed",
        *steps.before,
        "git config --global --add safe.directory /testbed",
        "cd /testbed",
        "git status",
        "git show",
        f"git -c core.fileMode=false diff {steps.base_commit}",
        *ACTIVATE,
        *steps.install,
        reset,
        apply_command("git apply -v -", steps.test_patch),
        START,
        steps.test_command,
        END,
        reset,
    ]
    return "\n".join(lines) + "\n"


def apply_command(command: str, patch: str) -> str:
    """A command with a patch as its standard input."""
    delimiter = _DELIMITER
    while delimiter in patch:
        delimiter += "_"
    return f"{command} <<'{delimiter}'\n{patch}{'' if patch.endswith(chr(10)) else chr(10)}{delimiter}"


def test_directives(test_patch: str) -> list[str]:
    """The test files that a test patch writes, as pytest takes them."""
    targets = [file.target for file in changed_files(test_patch) if file.target]
    return [shlex.quote(target) for target in targets if not target.endswith(NON_TEST_ENDINGS)]


test_directives.__test__ = False  # type: ignore[attr-defined]  # a name that pytest would collect
