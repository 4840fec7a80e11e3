"""What a pool keeps of the images it has scrubbed, beside a disk budget: on real containers."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import msgspec
import pytest

from srft.env.backends import DockerBackend
from srft.env.docker import images as image_store
from srft.env.docker.images import ImageStore
from srft.env.docker.snapshots import KEPT
from srft.env.errors import EngineError
from srft.env.sandbox.contract import Sandbox
from srft.env.tasks.task import Task, load_tasks
from srft.env.workspace import WorkspacePool
from tests import tiny

pytestmark = pytest.mark.engine


@pytest.fixture
def task(engine: docker.DockerClient, tiny_image: str, tmp_path: Path) -> Iterator[Task]:
    """On an image of this test's own, so that its snapshots are known."""
    name = f"srft/test-kept:{secrets.token_hex(4)}"
    with_volume = "FROM srft/tiny:latest\nRUN touch /own\n"
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "Dockerfile").write_text(with_volume)
    engine.images.build(path=str(folder), tag=name, rm=True)
    [made] = load_tasks(str(tiny.write_tasks(tmp_path / "tasks.jsonl", 1)))
    yield msgspec.structs.replace(made, image=name)
    engine.images.remove(name, force=True)


@pytest.fixture
def backend(engine: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerBackend]:
    monkeypatch.setattr(image_store, "ROOM_WAIT_S", 0.0)
    backend = DockerBackend()
    backend.images = ImageStore(engine, disk_budget_bytes=1 << 50, state_file=tmp_path / "images.json")
    with closing(backend):
        yield backend


def kept(engine: docker.DockerClient, task: Task) -> list[str]:
    """The kept snapshots of the task's image."""
    layers = engine.images.get(task.image).attrs["RootFS"]["Layers"]
    found = [engine.images.get(image["Id"]) for image in engine.api.images(name=KEPT)]
    return [str(one.id) for one in found if one.attrs["RootFS"]["Layers"][: len(layers)] == layers]


def test_the_budget_takes_a_snapshot_from_under_a_pool(
    engine: docker.DockerClient, task: Task, backend: DockerBackend
) -> None:
    """Later episodes start from one; without it the image is scrubbed again; at the end there is none."""
    budget = backend.images.budget
    assert budget is not None
    with closing(WorkspacePool(backend)) as pool:
        found = []
        for place in range(5):
            workspace = pool.take(task)
            found.append(len(kept(engine, task)))
            output = workspace.sandbox.run("cat answer.txt", timeout_s=60).output
            workspace.sandbox.close()
            assert output == "41\n"
            if place == 2:
                budget._limit_bytes = 0
                budget.shrink(keep="-")
                found.append(len(kept(engine, task)))
                budget._limit_bytes = 1 << 50
    assert found == [0, 1, 1, 0, 1, 1]
    assert kept(engine, task) == []


def test_no_snapshot_where_there_is_no_room_or_it_fails(
    engine: docker.DockerClient, task: Task, backend: DockerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot saves the next episodes some time: no episode fails for want of one."""

    def fails(_sandbox: Sandbox) -> str:
        raise EngineError("no space left on device")

    budget = backend.images.budget
    assert budget is not None
    with closing(WorkspacePool(backend)) as pool:
        pool.take(task).sandbox.close()
        budget._limit_bytes = 1
        pool.take(task).sandbox.close()
        assert kept(engine, task) == []
        budget._limit_bytes = 1 << 50
        with monkeypatch.context() as patched:
            patched.setattr(backend, "keep_snapshot", fails)
            workspace = pool.take(task)
        assert workspace.sandbox.run("cat answer.txt", timeout_s=60).output == "41\n"
        workspace.sandbox.close()
        assert kept(engine, task) == []


def test_an_image_is_there_as_long_as_it_is_held(task: Task, backend: DockerBackend) -> None:
    """From `take` on: between its coming and the container nobody can evict it."""
    seen = []

    class Watching(WorkspacePool):
        def _started(self, task: Task, image: str) -> Sandbox:
            with backend.images._unused(task.image) as is_unused:
                seen.append(is_unused)
            return super()._started(task, image)

    with closing(Watching(backend)) as pool:
        pool.take(task).sandbox.close()
    with backend.images._unused(task.image) as is_unused:
        seen.append(is_unused)
    assert seen == [False, True]
