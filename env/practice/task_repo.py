"""Practice tasks on disk: a swebench-5 task repo, a folder a task.

    write_task(Path("practice/train"), project, trial, seed=0, split="train")      # practice__ledger-boundary-1f2e3d4c

A task's image begins with the lines that all tasks of its source share and ends with two copies: the files as they are
at the base commit (all of a family's; of a package's the ones that the bug and the taken-out tests change), and the
content of its .git, made here (git_store.py). Building one costs two layers and no container.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import yaml

from srft.env.practice.bench import LOG_PARSER, test_command
from srft.env.practice.git_store import File, repository
from srft.env.practice.issue_text import Length, issue_text
from srft.env.practice.sources import EXCLUDED
from srft.env.practice.trials import Project, Trial, write_files
from srft.env.practice.visible_tests import diff

DATASET = "srft/practice"

_EVAL_SCRIPT = """\
#!/bin/bash
set -uxo pipefail
source /opt/testbed/bin/activate
cd /testbed
git config --global --add safe.directory /testbed
git status
git show
git -c core.fileMode=false diff base
git checkout base {tests}
git apply -v - <<'EOF_SRFT_PRACTICE'
{test_patch}EOF_SRFT_PRACTICE
: '>>>>> Start Test Output'
{command}
: '>>>>> End Test Output'
git checkout base {tests}
"""


def instance_id(project: Project, trial: Trial) -> str:
    return f"practice__{project.source.name}-{trial.mutant.kind}-{trial.mutant.id}"


def write_repo(folder: Path, split: str) -> None:
    """The head of a task repo."""
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    (folder / "sweb.yaml").write_text(yaml.safe_dump({"datasets": [DATASET], "splits": [split]}))


def write_task(repo: Path, project: Project, trial: Trial, *, seed: int, split: str, length: Length = "full") -> str:
    """Write one task's folder, over what was there. Returns its instance id."""
    name = instance_id(project, trial)
    folder = repo / "tasks" / name
    visible = project.visible(frozenset(trial.fail_to_pass))
    broken = project.applied(trial.mutant)
    changed = {path: project.files[path]._replace(content=content) for path, content in (broken | visible).items()}
    base = project.files | changed
    context = base if project.source.whole is not None else changed
    test_patch = "".join(diff(path, visible[path], project.files[path].content) for path in sorted(visible))
    gold_patch = "".join(diff(path, broken[path], project.files[path].content) for path in sorted(broken))
    copies = [("testbed/", "/testbed/"), ("git/", "/testbed/.git/")]
    dockerfile = project.source.dockerfile(copies=copies)
    store = repository(base, message=project.source.title, exclude=EXCLUDED)
    texts = {
        "Dockerfile": dockerfile,
        "eval.sh": _eval_script(project, test_patch, sorted(visible)),
        "gold.patch": gold_patch,
        "problem_statement.md": _statement(project, trial, seed, length),
        "task.yaml": _task_yaml(name, project, dockerfile, context, store, split=split),
        "test.patch": test_patch,
        "tests.json": _tests_json(trial),
        "certs/.keep": "",  # srft's builder puts a CA bundle beside it; another's COPY finds the folder all the same
    }
    files = {path: File(text.encode()) for path, text in texts.items()}
    files |= {f"testbed/{path}": file for path, file in context.items()}
    files |= {f"git/{path}": File(content) for path, content in store.items()}
    files |= {f"source/{path}": file for path, file in project.source.context.items()}
    write_files(folder, files)
    return name


def _eval_script(project: Project, test_patch: str, changed_tests: list[str]) -> str:
    return _EVAL_SCRIPT.format(
        tests=" ".join(map(shlex.quote, changed_tests)), test_patch=test_patch, command=test_command(project.tests)
    )


def _statement(project: Project, trial: Trial, seed: int, length: Length) -> str:
    assert trial.symptom is not None, "a kept mutant has a symptom"
    return issue_text(trial.symptom, project=project.source.name, seed=seed, length=length)


def _tests_json(trial: Trial) -> str:
    tests = {"FAIL_TO_PASS": list(trial.fail_to_pass), "PASS_TO_PASS": list(trial.pass_to_pass)}
    return json.dumps(tests, indent=2, ensure_ascii=False) + "\n"


def _task_yaml(
    name: str, project: Project, dockerfile: str, context: Mapping[str, File], store: Mapping[str, bytes], *, split: str
) -> str:
    content = (dockerfile, sorted((path, file.content.hex()) for path, file in context.items()), sorted(store.items()))
    digest = hashlib.sha256(repr(content).encode()).hexdigest()[:8]
    return yaml.safe_dump(
        {
            "base_commit": "base",
            "datasets": [DATASET],
            "eval_type": "pass_and_fail",
            "image": f"srft/practice.{project.source.name}:{digest}",
            "instance_id": name,
            "log_parser": LOG_PARSER,
            "repo": f"practice/{project.source.name}",
            "split": split,
            "version": project.source.version,
        }
    )
