"""No build context holds a task's answers. (Of `srft.env.docker.build` and `srft.env.local.images`.)"""

from pathlib import Path

import pytest
from swebench.task import repo

from srft.env.docker.build import make_context
from srft.env.errors import ImageError
from srft.env.local.images import _Plan, read_dockerfile

HIDDEN = [*repo.AS_FILE.values(), *repo.OPTIONAL_FILE.values(), repo.TESTS_FILE, "task.yaml"]
KEPT = ["Dockerfile", "note.txt", "project/test_assets/a.png", "project/tests.json"]


@pytest.fixture
def dockerfile(tmp_path: Path) -> Path:
    """In a task's folder with answers, a link to one, and files of these names that are the project's own."""
    folder = tmp_path / "task"
    for name in ("project/test_assets", "test_assets/images"):
        (folder / name).mkdir(parents=True)
    kept = ["note.txt", "project/tests.json", "project/test_assets/a.png"]
    for name in [*HIDDEN, *kept, "test_assets/expected.png", "test_assets/images/b.png"]:
        (folder / name).write_text(name)
    (folder / "link").symlink_to("gold.patch")
    (folder / "Dockerfile").write_text("FROM base\nCOPY . /all/\n")
    return folder / "Dockerfile"


def test_an_engines_build_context_has_no_answers(dockerfile: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    make_context(context, dockerfile)
    kept = sorted(str(path.relative_to(context)) for path in context.rglob("*") if path.is_file())
    assert [name for name in kept if not name.startswith("certs/")] == KEPT


def copied(dockerfile: Path) -> list[str]:
    plan = _Plan(dockerfile, {})
    for instruction in read_dockerfile(dockerfile):
        plan.add(instruction)
    return [file.target for step in plan.steps for file in step.work if not isinstance(file, str)]


def test_a_local_build_context_has_no_answers(dockerfile: Path) -> None:
    assert copied(dockerfile) == [f"/all/{name}" for name in KEPT]


@pytest.mark.parametrize(
    "name", [*HIDDEN, repo.ASSETS_SUBDIR, "test_assets/expected.png", "test_assets/images", "link", "./gold.patch"]
)
def test_a_local_build_does_not_copy_an_answer_by_its_name(dockerfile: Path, name: str) -> None:
    dockerfile.write_text(f"FROM base\nCOPY {name} /x\n")
    with pytest.raises(ImageError, match="not in the build context"):
        copied(dockerfile)
