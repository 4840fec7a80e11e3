"""Two Ray nodes collect what threads do."""

import socket
import threading

import msgspec
import pytest
import yaml

from srft.env.errors import InputError
from srft.harness.config.config import CollectConfig, RayConfig, read_config
from srft.harness.run.store import Run
from srft.harness.stages.cluster import Cluster
from srft.harness.stages.collect import collect
from srft.harness.stages.models import configured_model
from tests import tiny

ray = pytest.importorskip("ray", reason="no ray; pip install 'srft[ray]'")


@pytest.fixture(scope="module")
def two_nodes():
    """The address of a cluster of two nodes with one processor each, on this machine."""
    from ray.cluster_utils import Cluster as LocalCluster

    cluster = LocalCluster()
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def tasks(tmp_path, tiny_image):
    return tiny.write_tasks(tmp_path / "tasks.jsonl", 4)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "replies.yaml"
    path.write_text(yaml.safe_dump({f"tiny__tiny-{n}": (tiny.SOLVE, tiny.FAIL)[n % 2] for n in range(4)}))
    return path


def came_of(folder):
    """What does not depend on where and when an episode ran."""
    with Run(folder) as run:
        round_ = run.round(0)
        runs = {(it.task_id, it.attempt, it.id, it.patch, it.stop_reason) for it in round_.finished()}
        return runs, {(grade.instance_id, grade.resolved, grade.key) for grade in round_.grades.read()}


def test_an_address_where_nothing_listens_is_said_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=f"ray.address 127.0.0.1:{port}: no cluster answers"):
        Cluster(RayConfig(address=f"127.0.0.1:{port}")).__enter__()


@pytest.mark.slow  # Ray takes its time to start
def test_two_nodes_collect_what_threads_do(two_nodes, tasks, script, tmp_path):
    config = read_config(
        CollectConfig, tasks=str(tasks), model=f"script:{script}", attempts=2, workers=4, **{"sandbox.kind": "docker"}
    )
    with Run(tmp_path / "threads") as run:
        collect(config, run, stop=threading.Event())
    elsewhere = msgspec.structs.replace(config, ray=RayConfig(address=two_nodes, cpus=0.5))
    with Run(tmp_path / "nodes") as run:
        summary = collect(elsewhere, run, stop=threading.Event())
    assert (summary.finished, summary.failed, summary.evaluation.resolved) == (8, 0, 4)
    assert came_of(tmp_path / "nodes") == came_of(tmp_path / "threads")
    logs = list((tmp_path / "nodes").rglob("test_output.txt"))
    assert len(logs) == 4  # as many as there are different patches for a task


def test_a_model_in_this_process_is_refused_before_it_is_loaded(tmp_path):
    config = CollectConfig(tasks="t", model=f"local:{tmp_path}/none", ray=RayConfig(address="auto"))
    with pytest.raises(
        InputError, match=r"ray\.address is set, and a model in this process cannot be asked from other"
    ):
        configured_model(config, [])
