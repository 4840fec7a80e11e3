"""nebius/SWE-rebench, nebius/SWE-rebench-leaderboard, nebius/SWE-rebench-V2.

| published column | becomes |
|---|---|
| instance_id, repo, base_commit, patch, test_patch, problem_statement, hints_text, created_at, version | as they are |
| docker_image, else image_name | image; without them `swerebench/sweb.eval.x86_64.<id>`, `__` as `_1776_` (not V2) |
| install_config.install, .eval_commands | run before the tests, as the official fork's eval script does |
| install_config.test_cmd | the test command, followed by the test patch's files (V2: as it is) |
| install_config.log_parser | log_parser: a name or a SWE-bench repository; UnsupportedRow where swebench lacks it |
| FAIL_TO_PASS, PASS_TO_PASS | as they are |
| FAIL_TO_FAIL, PASS_TO_FAIL, meta, requirements, environment, license_name, interface, pr_description | left |

SWE-rebench and its leaderboard are graded by a fork of SWE-bench 4: its script is rebuilt here. V2 is graded by a
program of its own in `/<name of the repo>`, which /testbed then links to; it strips times from test names, which
swebench's parsers do not: such rows are unsupported.

swebench 5's parsers differ from the fork's in one: parse_log_pytest_v2 keeps the whole of a name with spaces, where the
fork kept its first word. swebench's grader resolves a name that was cut inside its brackets, as these are.
"""

import json
import re
import shlex
from typing import Any

from srft.env.errors import InputError
from srft.env.tasks.dialects import start_state
from srft.env.tasks.dialects.eval_script import (
    END,
    HEADER,
    START,
    EvalSteps,
    apply_command,
    eval_script,
    test_directives,
)
from srft.env.tasks.dialects.unsupported import UnsupportedRow

# V2's harness takes such suffixes off both the listed and the parsed names.
_TIME_IN_NAME = re.compile(
    r"[\[(]\s*\d+(?:\.\d+)?\s*(?:ms|s)\s*[\])]\s*$|\s+in\s+\d+(?:\.\d+)?\s+(?:msec|sec)\b", re.IGNORECASE
)

TEXT_COLUMNS = ("instance_id", "repo", "base_commit")
"""What `adapt` reads as text: `schema.py` has made sure of it."""


def recognises(row: dict[str, Any]) -> bool:
    """Whether a row is of one of SWE-rebench's sets."""
    return "install_config" in row


def adapt(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A swebench-5 row of one of SWE-rebench's; its test lists are lists already."""
    config = _install_config(row, where)
    image = row.get("docker_image") or row.get("image_name")
    is_v2 = "base_image_name" in config or "swerebenchv2/" in str(image)
    if not image and is_v2:
        raise UnsupportedRow("no image_name; SWE-rebench-V2 names every image in its row", row=row, where=where)
    image = image or f"swerebench/sweb.eval.x86_64.{row['instance_id'].lower()}".replace("__", "_1776_")
    commands = _commands(config, "test_cmd", where)
    if not commands:
        raise UnsupportedRow("install_config has no test_cmd: add one", row=row, where=where)
    return {
        **row,
        "image": image,
        "eval_script": _v2_script(row, commands, where) if is_v2 else _script(row, config, commands, where),
        "log_parser": _log_parser(config.get("log_parser"), row, where),
        "eval_type": _eval_type(row),
        "agent_setup": (_link_testbed(row) if is_v2 else "") + start_state.COMMIT_LEFTOVERS,
        "grading_setup": _link_testbed(row) if is_v2 else "",
    }


def _install_config(row: dict[str, Any], where: str) -> dict[str, Any]:
    config = row["install_config"]
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except ValueError as error:
            raise InputError(
                f"{where}: install_config: expected a JSON object, got {config[:60]!r} ({error})"
            ) from None
    if not isinstance(config, dict):
        raise InputError(f"{where}: install_config: expected an object, got {type(config).__name__}")
    return {key: value for key, value in config.items() if value is not None}


def _commands(config: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A command or a list of them."""
    value = config.get(key, [])
    commands = [value] if isinstance(value, str) else value
    if not isinstance(commands, (list, tuple)) or not all(isinstance(command, str) for command in commands):
        raise InputError(f"{where}: install_config.{key}: expected a command or a list of them, got {value!r:.60}")
    return tuple(command for command in commands if command.strip())


def _script(row: dict[str, Any], config: dict[str, Any], commands: tuple[str, ...], where: str) -> str:
    *first, last = commands
    test_patch = str(row.get("test_patch") or "")
    return eval_script(
        EvalSteps(
            base_commit=str(row["base_commit"]),
            test_patch=test_patch,
            test_command="\n".join([*first, " ".join([last, *test_directives(test_patch)])]),
            install=_commands(config, "install", where),
            before=_commands(config, "eval_commands", where),
        )
    )


def _v2_script(row: dict[str, Any], commands: tuple[str, ...], where: str) -> str:
    if any(_TIME_IN_NAME.search(name) for name in [*row["FAIL_TO_PASS"], *row["PASS_TO_PASS"]]):
        raise UnsupportedRow("test names with times in them, which swebench's parsers keep", row=row, where=where)
    # As there: a command that fails ends it, and its exit code is the tests'.
    tests = "\n".join(["(", "set -e", *commands, ")"])
    git_apply = "git apply -v --3way --recount --ignore-space-change --whitespace=nowarn -"
    lines = [
        *HEADER,
        "set +u +o pipefail",
        "cd /testbed",
        "git config --global --add safe.directory '*'",
        apply_command(git_apply, str(row.get("test_patch") or "")),
        START,
        tests,
        END,
    ]
    return "\n".join(lines) + "\n"


def _link_testbed(row: dict[str, Any]) -> str:
    """V2's images have the repository in a folder of its name; the engine has made an empty /testbed to start in."""
    folder = shlex.quote("/" + str(row["repo"]).rpartition("/")[2])
    return (
        f"set -eu\ncd /\nif ! [ -L /testbed ]; then\n"
        f"    if [ -d /testbed ]; then rmdir /testbed; fi\n    ln -s {folder} /testbed\nfi\n"
    )


def _log_parser(name: object, row: dict[str, Any], where: str) -> str:
    from swebench.harness.log_parsers import PARSER_REGISTRY
    from swebench.harness.log_parsers.python import MAP_REPO_TO_PARSER_PY

    if isinstance(name, str) and name in PARSER_REGISTRY:
        return name
    if isinstance(name, str) and name in MAP_REPO_TO_PARSER_PY:
        return str(MAP_REPO_TO_PARSER_PY[name].__name__)
    raise UnsupportedRow(
        f"install_config.log_parser {name!r} is no parser of swebench's; leave out such rows, or set log_parser to one "
        "that reads the same output",
        row=row,
        where=where,
    )


def _eval_type(row: dict[str, Any]) -> str:
    from swebench.harness.constants import FAIL_ONLY_REPOS

    return "fail_only" if row["repo"] in FAIL_ONLY_REPOS else "pass_and_fail"
