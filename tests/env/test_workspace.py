"""Workspaces and their pool, on real containers and local sandboxes."""

import io
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from srft.env import workspace as workspace_module
from srft.env.backends import Backend, DockerBackend, LocalBackend
from srft.env.docker.sandbox import DockerSandbox, image_id
from srft.env.errors import EngineError, ImageError
from srft.env.local.sandbox import empty_image
from srft.env.sandbox.contract import Sandbox, SandboxSpec
from srft.env.tasks.task import Task
from srft.env.workspace import Workspace, WorkspacePool
from tests.env.git.trees import BASE, IDENTITY, trees_of
from tests.tiny import bare_task

SECRET = "the fix"
FUTURE = f"""
set -e
{IDENTITY}
rm -rf /testbed/* /testbed/.git
cd /testbed
{BASE}
echo '{SECRET}' >kept.txt && git commit -qam '{SECRET}' && git branch future && git reset -q --hard HEAD~1
"""
LOOK = f"git log --all --format=%s; git show future:kept.txt 2>&1 | grep '{SECRET}'; true"


def task_on(image: str, *, setup: str = FUTURE, name: str = "o__r-1") -> Task:
    return bare_task(image, instance_id=name, agent_setup=setup)


class Place(NamedTuple):
    """A backend, and the name of an image that it has."""

    backend: Backend
    image: str


@pytest.fixture(scope="module", params=[pytest.param("docker", marks=pytest.mark.engine), "local"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "local" and shutil.which("bwrap") is None:
        pytest.skip("no bwrap on this machine (Debian: apt-get install bubblewrap)")
    image = request.getfixturevalue("base_image") if request.param == "docker" else empty_image()
    backend = DockerBackend() if request.param == "docker" else LocalBackend()
    yield Place(backend, image)
    backend.close()


@pytest.fixture
def pool(place: Place) -> Iterator[WorkspacePool]:
    pool = WorkspacePool(place.backend)
    yield pool
    pool.close()


def kept_snapshots(pool: WorkspacePool) -> list[str]:
    return [scrubbed.snapshot for scrubbed in pool._scrubbed.values()]


def test_every_workspace_on_an_image_begins_alike(place: Place, pool: WorkspacePool) -> None:
    task = task_on(place.image)
    opened = [pool.take(task) for _ in range(3)]
    assert [workspace.sandbox.run(LOOK).output for workspace in opened] == ["base\n"] * 3
    assert len({workspace.start.tree for workspace in opened}) == 1
    assert len(kept_snapshots(pool)) == (1 if place.backend.snapshots_are_images else 0)
    opened[-1].sandbox.run("echo z >kept.txt; echo n >n; rm -rf .git")
    patch = opened[-1].patch()
    opened[0].sandbox.write("/tmp/the.patch", patch.text.encode())
    assert opened[0].sandbox.run("git apply /tmp/the.patch").exit_code == 0
    fresh, ours = (trees_of(workspace.sandbox, "/testbed")[0] for workspace in (opened[0], opened[-1]))
    assert fresh == ours
    for workspace in opened:
        pool.release(workspace)


@pytest.mark.parametrize("number", [1, 3], ids=["of an image", "of a snapshot"])
def test_a_record_that_is_lost_is_made_again(place: Place, pool: WorkspacePool, number: int) -> None:
    task = task_on(place.image, setup=f"{FUTURE}\necho left >leftover")
    workspace = [pool.take(task) for _ in range(number)][-1]
    workspace.sandbox.run("echo z >kept.txt; echo z >>leftover; rm -rf /var/tmp/.srft* .git")
    changes = [
        line for line in workspace.patch().text.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert changes == ["-a", "-b", "+z", "+z"]


def test_ignored_files_of_the_image_are_not_new(place: Place, pool: WorkspacePool) -> None:
    workspace = pool.take(task_on(place.image, setup=f"{FUTURE}\nmkdir build; echo 1 >build/same; echo 1 >build/other"))
    workspace.sandbox.run(
        "echo 2 >build/other; echo n >build/n; git add -f build; git -c user.name=a -c user.email=a commit -qm x"
    )
    patch = workspace.patch()
    assert patch.text.count("diff --git ") == 1
    assert patch.remark == "left out of the patch: 1 ignored files of the image (build/other)"


def test_a_warm_workspace_is_taken_and_one_that_failed_raises(place: Place, pool: WorkspacePool) -> None:
    task = task_on(place.image)
    pool.warm(task)
    pool._warm[task.instance_id][0].result(timeout=120)
    assert pool.take(task).sandbox.run(LOOK).output == "base\n"
    assert pool._warm[task.instance_id] == []
    broken = task_on(place.image, setup="exit 3")
    pool.warm(broken)
    with pytest.raises(ImageError, match="cannot be brought to the task's state"):
        pool.take(broken)
    pool.warm(broken)
    pool.warm(task)
    pool.close()
    pool.warm(task)
    assert not pool._warm


@pytest.mark.engine
class TestSnapshots:
    """Of scrubbed images, which an engine keeps as images."""

    @pytest.fixture
    def backend(self, engine) -> Iterator[DockerBackend]:
        backend = DockerBackend()
        yield backend
        backend.close()

    @pytest.fixture
    def pool(self, backend: DockerBackend) -> Iterator[WorkspacePool]:
        pool = WorkspacePool(backend)
        yield pool
        pool.close()

    def test_a_volume_over_the_folder_is_scrubbed_each_time(self, engine, base_image, pool: WorkspacePool) -> None:
        run = FUTURE.strip().replace("\n", "\\n").replace("'", "'\\''")
        dockerfile = f"FROM {base_image}\nRUN mkdir /testbed && printf '%b' '{run}' | bash -e\nVOLUME /testbed\n"
        image = "srft/test-workspace:volume"
        engine.images.build(fileobj=io.BytesIO(dockerfile.encode()), tag=image, rm=True)
        task = task_on(image, setup="")
        opened = [pool.take(task) for _ in range(3)]
        assert [workspace.sandbox.run(LOOK).output for workspace in opened] == ["base\n"] * 3
        assert kept_snapshots(pool) == []
        with pytest.raises(EngineError, match=r"no snapshot holds what lies in a volume \(/testbed\)"):
            opened[0].sandbox.snapshot()
        for workspace in opened:
            workspace.sandbox.close()
        engine.images.remove(image, force=True)

    def test_one_that_is_gone_is_made_anew(self, engine, base_image, pool: WorkspacePool) -> None:
        task = task_on(base_image)
        for _ in range(2):
            pool.take(task).sandbox.close()
        (gone,) = kept_snapshots(pool)
        engine.images.remove(gone, force=True)
        assert pool.take(task).sandbox.run(LOOK).output == "base\n"
        (new,) = kept_snapshots(pool)
        assert new != gone
        pool.close()
        assert image_id(new) is None

    def test_the_one_that_was_used_longest_ago_goes(self, base_image, pool: WorkspacePool, monkeypatch) -> None:
        monkeypatch.setattr(workspace_module, "SCRUBBED_IMAGES", 2)
        tasks = [task_on(base_image, setup=f"{FUTURE}\necho {number} >n") for number in range(3)]

        def opened(number: int, times: int) -> None:
            for _ in range(times):
                pool.take(tasks[number]).sandbox.close()

        opened(0, 2)
        opened(1, 2)
        first, second = kept_snapshots(pool)
        opened(0, 1)
        opened(2, 2)
        assert first in kept_snapshots(pool)
        assert image_id(second) is None

    def test_a_repacked_repository_is_kept_at_once(self, base_image, pool: WorkspacePool) -> None:
        pool.take(task_on(base_image))
        assert len(kept_snapshots(pool)) == 1
        pool.take(task_on(base_image, setup=f"rm -rf /testbed; mkdir /testbed; cd /testbed; {IDENTITY}; {BASE}"))
        assert len(kept_snapshots(pool)) == 1

    def test_a_full_disk_costs_no_workspace(self, base_image, backend: DockerBackend) -> None:
        class Full(DockerSandbox):
            def snapshot(self) -> str:
                raise EngineError("no space left on device")

        class FullBackend(DockerBackend):
            def open(self, spec: SandboxSpec) -> Sandbox:
                return Full(spec)

        pool = WorkspacePool(FullBackend())
        workspace: Workspace = pool.take(task_on(base_image))
        assert workspace.sandbox.run(LOOK).output == "base\n"
        assert kept_snapshots(pool) == []
        pool.release(workspace)
        pool.close()
