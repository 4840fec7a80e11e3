"""No build context holds a task's answers. (Of `srft.env.docker.build` and `srft.env.local.images`.)"""

from pathlib import Path

import pytest

from srft.env.docker.build import ANSWER_FILES, make_context
from srft.env.errors import ImageError
from srft.env.local.images import _Plan, read_dockerfile


@pytest.fixture
def dockerfile(tmp_path: Path) -> Path:
    """In a task's folder with answers, a link to one, and files of these names that are the project's own."""
    folder = tmp_path / "task"
    (folder / "project").mkdir(parents=True)
    for name in [*ANSWER_FILES, "note.txt", "project/tests.json"]:
        (folder / name).write_text(name)
    (folder / "link").symlink_to("gold.patch")
    (folder / "Dockerfile").write_text("FROM base\nCOPY . /all/\n")
    return folder / "Dockerfile"


def test_an_engines_build_context_has_no_answers(dockerfile: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    make_context(context, dockerfile)
    kept = sorted(str(path.relative_to(context)) for path in context.rglob("*") if path.is_file())
    assert [name for name in kept if not name.startswith("certs/")] == ["Dockerfile", "note.txt", "project/tests.json"]


def copied(dockerfile: Path) -> list[str]:
    plan = _Plan(dockerfile, {})
    for instruction in read_dockerfile(dockerfile):
        plan.add(instruction)
    return [file.target for step in plan.steps for file in step.work if not isinstance(file, str)]


def test_a_local_build_context_has_no_answers(dockerfile: Path) -> None:
    assert copied(dockerfile) == ["/all/Dockerfile", "/all/note.txt", "/all/project/tests.json"]


@pytest.mark.parametrize("name", [*sorted(ANSWER_FILES), "link", "./gold.patch"])
def test_a_local_build_does_not_copy_an_answer_by_its_name(dockerfile: Path, name: str) -> None:
    dockerfile.write_text(f"FROM base\nCOPY {name} /x\n")
    with pytest.raises(ImageError, match="not in the build context"):
        copied(dockerfile)
