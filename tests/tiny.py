"""A tiny task and its image, for tests that need many real episodes: a repository of one file, graded in half a second.

The task is solved when `answer.txt` says 42.
"""

import io
import json
from pathlib import Path
from typing import Any

import docker

from srft.env.tasks.task import Task

IMAGE = "srft/tiny:latest"

DOCKERFILE = """
FROM srft/base:bookworm
RUN mkdir /testbed && cd /testbed && git init -q -b main && git config --global user.email a@b && git config --global \
 user.name a && echo 41 >answer.txt && echo keep >kept.txt && git add . && git commit -q -m base
WORKDIR /testbed
"""

EVAL_SCRIPT = """#!/bin/bash
set -uxo pipefail
cd /testbed
: '>>>>> Start Test Output'
if [ "$(cat answer.txt)" = 42 ]; then echo 'PASSED test_answer'; else echo 'FAILED test_answer'; fi
if [ "$(cat kept.txt)" = keep ]; then echo 'PASSED test_kept'; else echo 'FAILED test_kept'; fi
: '>>>>> End Test Output'
"""

SOLVE = ["I look.\n```bash\nls\n```", "I mend it.\n```bash\necho 42 >answer.txt\n```", "Done.\n```bash\nsubmit\n```"]
FAIL = ["I guess.\n```bash\necho 43 >answer.txt\n```", "Done.\n```bash\nsubmit\n```"]


def bare_task(image: str, *, instance_id: str, **changes: Any) -> Task:
    """A task with nothing but an image."""
    texts = ("base_commit", "problem_statement", "patch", "test_patch", "eval_script", "log_parser", "eval_type")
    given = {**dict.fromkeys(texts, ""), "FAIL_TO_PASS": (), "PASS_TO_PASS": ()} | changes
    return Task(instance_id=instance_id, repo="o/r", image=image, **given)


def build_image(client: docker.DockerClient) -> str:
    client.images.build(fileobj=io.BytesIO(DOCKERFILE.encode()), tag=IMAGE, rm=True)
    return IMAGE


def row(number: int, *, owner: str = "tiny") -> dict[str, object]:
    """A swebench-5 row. owner: the first part of its id, by which tests know their own containers."""
    return {
        "instance_id": f"{owner}__tiny-{number}",
        "repo": f"tiny/{'even' if number % 2 == 0 else 'odd'}",
        "base_commit": "",
        "problem_statement": "answer.txt must say 42.",
        "patch": "--- a/answer.txt\n+++ b/answer.txt\n@@ -1 +1 @@\n-41\n+42\n",
        "test_patch": "",
        "version": "1",
        "FAIL_TO_PASS": json.dumps(["test_answer"]),
        "PASS_TO_PASS": json.dumps(["test_kept"]),
        "image": IMAGE,
        "eval_script": EVAL_SCRIPT,
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
    }


def write_tasks(path: Path, count: int, *, owner: str = "tiny") -> Path:
    path.write_text("".join(json.dumps(row(number, owner=owner)) + "\n" for number in range(count)))
    return path
