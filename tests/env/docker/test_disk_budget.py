"""A small disk, many images, a budget: on an engine of the test's own."""

import json
import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from srft.env.docker import pull
from srft.env.docker.images import ImageStore
from srft.env.docker.snapshots import OWNER_LABEL, keep_snapshot
from srft.env.errors import ImageError
from srft.env.sandbox.owner import owner
from tests.env.docker.own_engine import OwnEngine, own_engine
from tests.env.docker.registry import Registry
from tests.env.docker.test_images import make_task

pytestmark = pytest.mark.engine

MB = 1_000_000
ENGINE_ITSELF = 16 * MB
"""What it writes beside the layers: its databases, folders, the packed layer while it comes."""


def used_for(client: docker.DockerClient, store: ImageStore, image: str, *, snapshot: bool) -> None:
    """Use an image as an episode does: held until a container has it; some leave a snapshot for the next."""
    with store.hold(make_task(image)):
        container = client.api.create_container(image, ["x"])["Id"]
    try:
        time.sleep(0.2)
        if snapshot and store.budget is not None and store.budget.fits(MB):
            kept = client.api.commit(container, changes=f"LABEL {OWNER_LABEL}={owner()}")["Id"]
            keep_snapshot(client.api, kept)
    finally:
        client.api.remove_container(container, force=True)


def work_through(
    engine: OwnEngine, registry: Registry, tmp_path: Path, *, budget: int, workers: int, ahead: int
) -> tuple[int, list[str]]:
    """Use every image, the background a few ahead. Returns (the most that was ever used of the disk, what is left)."""
    client = docker.DockerClient(base_url=engine.url, timeout=600)
    tasks = [make_task(image) for image in registry.images]
    most, done = engine.used_bytes(), threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, engine.used_bytes())

    watching = threading.Thread(target=watch)
    watching.start()
    state_file = tmp_path / f"{secrets.token_hex(4)}.json"
    try:
        with (
            ImageStore(client, disk_budget_bytes=budget, state_file=state_file) as store,
            ThreadPoolExecutor(workers) as pool,
        ):
            store.prefetch(tasks, ahead=ahead)
            using = [
                pool.submit(used_for, client, store, task.image, snapshot=place % 2 == 0)
                for place, task in enumerate(tasks)
            ]
            for one in using:
                one.result()
        with ImageStore(client, disk_budget_bytes=0, state_file=state_file) as store:
            assert store.budget is not None
            store.budget.shrink(keep="-")
    finally:
        done.set()
        watching.join()
    assert json.loads(state_file.read_text()) == {}
    return most, [str(image["Id"]) for image in client.api.images(all=True)]


@pytest.mark.slow
@pytest.mark.skipif(
    "SRFT_DISK_TEST" not in os.environ, reason="takes five minutes and 5 GB; SRFT_DISK_TEST=1 asks for it"
)
def test_forty_images_on_a_disk_of_5_gb(tmp_path: Path) -> None:
    """Each of 400 MB, a budget of 2 GB: never above it, never a missing image, nothing left at the end."""
    with (
        own_engine(disk_bytes=5_000 * MB) as engine,
        Registry(images=40, layer_bytes=400 * MB, is_of_zeros=True) as registry,
    ):
        before = engine.used_bytes()
        most, left = work_through(engine, registry, tmp_path, budget=2_000 * MB, workers=3, ahead=4)
        print(f"at most {(most - before) / MB:.0f} MB, at the end {(engine.used_bytes() - before) / MB:.0f} MB")
        assert most - before <= 2_000 * MB + ENGINE_ITSELF
        assert left == []
        assert engine.used_bytes() - before <= ENGINE_ITSELF


@pytest.mark.slow
def test_a_small_disk_and_one_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one of these: nine images under a budget on a disk with room for seven; then one that does not fit."""
    monkeypatch.setattr(pull, "BACKOFF_S", 0.001)
    with (
        own_engine(disk_bytes=200 * MB) as engine,
        Registry(images=9, layer_bytes=20 * MB, is_of_zeros=True) as registry,
        Registry(layer_bytes=300 * MB, is_of_zeros=True) as large,
    ):
        before = engine.used_bytes()
        most, left = work_through(engine, registry, tmp_path, budget=100 * MB, workers=2, ahead=2)
        assert (most - before <= 100 * MB + ENGINE_ITSELF, left) == (True, [])
        client = docker.DockerClient(base_url=engine.url, timeout=600)
        with pytest.raises(ImageError, match=r"failed \(no space left on the engine's disk: .*; make room there"):
            ImageStore(client, state_file=tmp_path / "state.json").ensure(make_task(large.image))
