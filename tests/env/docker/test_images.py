"""Images on a real engine: tiny ones, built from the base image or pulled from a registry of our own."""

import doctest
import json
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Literal

import docker
import pytest

from srft.env.docker import build, disk_budget, images, layers, pull
from srft.env.docker.images import ImageStore
from srft.env.docker.sandbox import DockerSandbox, reap
from srft.env.docker.snapshots import KEPT
from srft.env.errors import EngineError, ImageError
from srft.env.sandbox.contract import SandboxSpec
from srft.env.tasks.task import Task
from tests.env.docker.registry import Refusal, Registry, refusal
from tests.env.waiting import wait_until
from tests.tiny import bare_task

pytestmark = pytest.mark.engine

NAME = "srft/test-images"
NO_REGISTRY = "localhost:1/srft/nothing-here:latest"
MIB = 1 << 20


def make_task(image: str, folder: Path | None = None) -> Task:
    return bare_task(image, instance_id=f"o__r-{image}", source=str(folder) if folder else None)


class CountingStore(ImageStore):
    """Counts what it builds."""

    builds = 0

    def _build(self, image: str, dockerfile: Path) -> None:
        self.builds += 1
        super()._build(image, dockerfile)


MakeTask = Callable[..., Task]


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """With more patience than the one all tests share: a busy engine can take minutes to remove an image."""
    try:
        client = docker.from_env(timeout=900)
    except docker.errors.DockerException as error:
        pytest.skip(f"no container engine answers ({error}); make setup starts one")
    yield client
    client.close()


@pytest.fixture
def buildable(engine: docker.DockerClient, base_image: str, tmp_path: Path) -> Iterator[MakeTask]:
    """Makes tasks of a task repo; what they leave on the engine is removed."""
    made: list[str] = []
    tag = secrets.token_hex(4)

    def make(name: str, *, commands: str = "", size_mib: int = 0) -> Task:
        image = f"{NAME}-{name}:{tag}"
        folder = tmp_path / "repo" / "tasks" / name
        folder.mkdir(parents=True)
        random = f"RUN echo {name} && head -c {size_mib}M /dev/urandom > /random\n" if size_mib else ""
        (folder / "Dockerfile").write_text(f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}}\n{random}{commands}")
        made.append(image)
        return make_task(image, folder)

    yield make
    for image in made:
        if present(engine, image):
            engine.images.remove(image, force=True)


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "images.json"


def present(engine: docker.DockerClient, image: str) -> bool:
    return bool(engine.images.list(name=image))


def printed(engine: docker.DockerClient, task: Task, command: str) -> str:
    return engine.containers.run(task.image, ["bash", "-c", command], remove=True).decode()


def size_bytes(engine: docker.DockerClient, image: str) -> int:
    size = engine.images.get(image).attrs["Size"]
    assert isinstance(size, int)
    return size


@pytest.mark.parametrize("module", [build, disk_budget, layers, pull])
def test_the_docstrings_tell_the_truth(module: ModuleType) -> None:
    assert doctest.testmod(module)[:1] == (0,)


def test_a_build_from_the_tasks_folder(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SSL_CERT_FILE", "PIP_CERT"):
        monkeypatch.delenv(variable, raising=False)
    task = buildable("build", commands="COPY note.txt /note\nCOPY certs/ /certs/\n")
    assert task.dockerfile is not None
    folder = task.dockerfile.parent
    (folder / "note.txt").write_text("from the folder\n")
    ImageStore(engine, state_file=state_file).ensure(task)
    assert printed(engine, task, "cat /note; ls -A /certs") == "from the folder\n.keep\n"
    assert sorted(file.name for file in folder.iterdir()) == ["Dockerfile", "note.txt"]
    assert list(json.loads(state_file.read_text())) == [task.image]


def test_the_ca_bundle_and_its_build_arguments(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle.pem").write_text("a bundle\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "bundle.pem"))
    arguments = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    lines = [f"ARG {name}" for name in arguments] + [f"RUN echo ${name} >> /arguments" for name in arguments]
    task = buildable("certs", commands="COPY certs/ /certs/\n" + "\n".join(lines) + "\n")
    ImageStore(engine, state_file=state_file).ensure(task)
    assert printed(engine, task, "cat /certs/ca-certificates.crt") == "a bundle\n"
    assert printed(engine, task, "cat /arguments") == "/etc/ssl/certs/ca-certificates.crt\n" * 3


def test_another_base_image(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = buildable("base", commands="RUN echo other > /which\n")
    task = buildable("on-top")
    store = ImageStore(engine, state_file=state_file)
    store.ensure(other)
    monkeypatch.setenv("SRFT_BASE_IMAGE", other.image)
    store.ensure(task)
    assert printed(engine, task, "cat /which") == "other\n"


def test_what_is_there_is_left_alone(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    task = buildable("there")
    store = CountingStore(engine, state_file=state_file)
    store.ensure(task)
    store.ensure(task)
    assert store.builds == 1


def test_many_threads_build_once(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    tasks = [buildable("once", commands="RUN sleep 1\n"), buildable("twice")]
    store = CountingStore(engine, state_file=state_file)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store.ensure, tasks * 4))
    assert store.builds == 2


def test_a_build_that_fails(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    task = buildable("broken", commands="RUN echo the compiler is missing && exit 7\n")
    with pytest.raises(ImageError) as raised:
        ImageStore(engine, state_file=state_file).ensure(task)
    message = str(raised.value)
    assert message.startswith(f"image {task.image}: building it from {task.dockerfile} failed (")
    assert "returned a non-zero code: 7" in message
    assert message.endswith(
        "; its last line was: the compiler is missing); "
        "fix the Dockerfile, or its base image or CA bundle (see srft.env.docker.build)"
    )
    assert json.loads(state_file.read_text() if state_file.exists() else "{}") == {}


def test_a_base_image_that_is_not_there(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRFT_BASE_IMAGE", NO_REGISTRY)
    with pytest.raises(ImageError, match=r"failed \(.*connection refused.*\); fix the Dockerfile, or its base image"):
        ImageStore(engine, state_file=state_file).ensure(buildable("no-base"))


def test_a_pull_that_fails(engine: docker.DockerClient, state_file: Path) -> None:
    with pytest.raises(ImageError) as raised:
        ImageStore(engine, state_file=state_file).ensure(make_task(NO_REGISTRY))
    message = str(raised.value)
    assert message.startswith(f"image {NO_REGISTRY}: not on this engine, and pulling it failed (")
    assert "connection refused" in message
    assert message.endswith(
        "check its name and the way to its registry (network, proxy), or load or build it under that name"
    )


def test_no_engine(tmp_path: Path) -> None:
    dead = docker.DockerClient(base_url="unix:///nowhere/docker.sock", version="1.41")
    with pytest.raises(EngineError, match="does not answer"):
        ImageStore(dead, state_file=tmp_path / "state.json").ensure(make_task("srft/any:1"))
    with pytest.raises(EngineError, match="does not answer"):
        ImageStore(dead)


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "BACKOFF_S", 0.001)
    monkeypatch.setattr(images, "ROOM_WAIT_S", 0.0)


@pytest.fixture
def registry(engine: docker.DockerClient) -> Iterator[Registry]:
    with Registry() as server:
        yield server
    if present(engine, server.image):
        engine.images.remove(server.image)


def test_a_pull(engine: docker.DockerClient, registry: Registry, state_file: Path) -> None:
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=0)
    with store.hold(make_task(registry.image)):
        assert present(engine, registry.image)
        assert list(json.loads(state_file.read_text())) == [registry.image]
        assert store.evicted == []
    assert store.budget is not None
    store.budget.shrink(keep="-")
    assert store.evicted == [registry.image]
    assert not present(engine, registry.image)


TOO_MANY = refusal(429, "TOOMANYREQUESTS", "you have reached your pull rate limit")
DENIED = refusal(403, "DENIED", "no access for you")
UNKNOWN = refusal(404, "MANIFEST_UNKNOWN", "manifest unknown")
FOREIGN = Refusal(500, b"oops")


@pytest.mark.parametrize("what", ["manifests", "blobs"])
def test_a_registry_that_is_busy(
    engine: docker.DockerClient, registry: Registry, state_file: Path, what: Literal["manifests", "blobs"]
) -> None:
    """Layers are refused in the stream of an answer that began well. The engine asks more than once for each pull."""
    registry.refuse(what, TOO_MANY, times=4)
    ImageStore(engine, state_file=state_file).ensure(make_task(registry.image))
    assert present(engine, registry.image)


@pytest.mark.parametrize(
    ("what", "refused", "attempts", "told"),
    [
        (
            "manifests",
            TOO_MANY,
            4,
            "the registry's rate limit: .*you have reached your pull rate limit.*docker login raises",
        ),
        ("blobs", TOO_MANY, 4, "the registry's rate limit: .*you have reached your pull rate limit.*pulls_per_minute"),
        ("manifests", DENIED, 1, "no access: .*no access for you.*; check its name, and log in"),
        ("blobs", DENIED, 1, "no access: .*no access for you.*; check its name, and log in"),
        ("manifests", UNKNOWN, 1, "not in its registry: .*manifest unknown.*; check its name and tag"),
        ("blobs", UNKNOWN, 1, "not in its registry: .*unknown blob.*; check its name and tag"),
        (
            "manifests",
            FOREIGN,
            4,
            "the registry or the way to it fails: .*500 Internal Server Error.*; try again later",
        ),
        ("manifests", Refusal(cut=True), 4, "the registry or the way to it fails: .*unexpected EOF.*; try again later"),
    ],
)
def test_a_registry_that_goes_on_refusing(
    engine: docker.DockerClient,
    registry: Registry,
    state_file: Path,
    what: Literal["manifests", "blobs"],
    refused: Refusal,
    attempts: int,
    told: str,
) -> None:
    registry.refuse(what, refused, times=1000)
    waited: list[float] = []
    store = ImageStore(engine, state_file=state_file)
    store._pulls.take = lambda: waited.append(0.0)  # type: ignore[method-assign]
    with pytest.raises(ImageError) as raised:
        store.ensure(make_task(registry.image))
    tried = f" {attempts} times" if attempts > 1 else ""
    start = f"image {registry.image}: not on this engine, and pulling it{tried} failed ("
    assert str(raised.value).startswith(start)
    assert re.match(told, str(raised.value).removeprefix(start)), raised.value
    assert len(waited) == attempts
    assert not state_file.exists()


def test_a_platform_that_the_image_is_not_made_for(engine: docker.DockerClient, state_file: Path) -> None:
    with Registry(architectures=("arm64", "s390x")) as registry:
        with pytest.raises(
            ImageError, match=r"not for this machine's platform: no matching manifest.*images\.platform"
        ):
            ImageStore(engine, state_file=state_file).ensure(make_task(registry.image))
        store = ImageStore(engine, state_file=state_file, platform="linux/arm64")
        store.ensure(make_task(registry.image))
        assert engine.images.get(registry.image).attrs["Architecture"] == "arm64"
        engine.images.remove(registry.image)


ENGINES_WORDS = {
    "no space left on the engine's disk": ["failed to register layer: write /usr/lib/x: no space left on device"],
    "no access": [
        "unauthorized: authentication required",
        "pull access denied for x, repository does not exist or may require 'docker login'",
    ],
    "not in its registry": ["manifest for x:1 not found: manifest unknown"],
    "the registry's rate limit": ["toomanyrequests: You have reached your unauthenticated pull rate limit"],
    "the registry or the way to it fails": [
        'Get "https://r/v2/": net/http: TLS handshake timeout',
        'Get "https://r/v2/": context deadline exceeded',
        "read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer",
        "received unexpected HTTP status: 503 Service Unavailable",
    ],
    "the registry's certificate is not trusted": ["x509: certificate signed by unknown authority"],
    "the registry cannot be reached": ['Get "https://r/v2/": dial tcp: lookup r: no such host'],
    "not for this machine's platform": [
        "image with reference x was found but does not match the specified platform: wanted linux/arm64"
    ],
    "": ["something else"],
}


def test_the_words_of_engines() -> None:
    found = {name: [pull.failure_of(reason).name for reason in reasons] for name, reasons in ENGINES_WORDS.items()}
    assert found == {name: [name] * len(reasons) for name, reasons in ENGINES_WORDS.items()}
    passing = {failure.name for failure in pull.FAILURES if failure.passes}
    assert passing == {"the registry's rate limit", "the registry or the way to it fails"}


def test_the_least_recently_used_goes(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    first, second, third = (buildable(name, size_mib=2) for name in ("lru-1", "lru-2", "lru-3"))
    budget = size_bytes(engine, images.DEFAULT_BASE_IMAGE) + 5 * MIB
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=budget)
    store.ensure(first)
    store.ensure(second)
    store.ensure(first)  # a use
    store.ensure(third)
    assert store.evicted == [second.image]
    assert [present(engine, task.image) for task in (first, second, third)] == [True, False, True]
    store.ensure(second)  # had again
    assert store.evicted == [second.image, first.image]


def test_what_is_held_stays(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    first, second = buildable("held-1", size_mib=2), buildable("held-2", size_mib=2)
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=0)
    with store.hold(first):
        store.ensure(first)
        store.ensure(second)
        assert (store.evicted, present(engine, first.image)) == ([], True)
    third = buildable("held-3")
    store.ensure(third)
    assert store.evicted == [second.image, first.image]  # the end of a hold is a use


def test_what_a_container_uses_stays(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    first, second = buildable("used-1", size_mib=1), buildable("used-2", size_mib=1)
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=0)
    store.ensure(first)
    container = engine.containers.create(first.image, "true")  # not even started
    try:
        store.ensure(second)
        assert store.evicted == []
    finally:
        container.remove()


def test_what_srft_did_not_get_stays(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    theirs, ours = buildable("theirs"), buildable("ours")
    CountingStore(engine, state_file=state_file.with_name("other.json")).ensure(theirs)
    store = CountingStore(engine, state_file=state_file, disk_budget_bytes=0)
    store.ensure(theirs)
    store.ensure(ours)
    assert (store.builds, store.evicted) == (1, [])
    assert present(engine, theirs.image)


def test_the_next_process_knows_what_is_ours(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path
) -> None:
    first, second = buildable("before", size_mib=1), buildable("after", size_mib=1)
    ImageStore(engine, state_file=state_file).ensure(first)
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=0)
    store.ensure(second)
    assert store.evicted == [first.image]


def test_an_image_removed_by_hand(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    first, second = buildable("gone"), buildable("stays")
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=1 << 50)
    store.ensure(first)
    engine.images.remove(first.image)
    store.ensure(second)
    assert list(json.loads(state_file.read_text())) == [second.image]


def test_layers_count_once(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    first, second = buildable("layers-1", size_mib=1), buildable("layers-2", size_mib=2)
    store = ImageStore(engine, state_file=state_file)
    store.ensure(first)
    store.ensure(second)
    of_both = [layers.layers_of(engine.api, task.image) for task in (first, second)]
    assert [sum(of_one.values()) for of_one in of_both] == [size_bytes(engine, task.image) for task in (first, second)]
    base = size_bytes(engine, images.DEFAULT_BASE_IMAGE)
    assert disk_budget.union_bytes(of_both) == base + 3 * MIB


def test_prefetch_stays_a_little_ahead(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    tasks = [buildable(f"ahead-{number}") for number in range(4)]
    with ImageStore(engine, state_file=state_file, disk_budget_bytes=1 << 50) as store:
        store.prefetch([tasks[0], tasks[0], *tasks[1:]], ahead=2)
        wait_until(lambda: present(engine, tasks[1].image))
        time.sleep(0.5)
        assert [present(engine, task.image) for task in tasks] == [True, True, False, False]
        with store.hold(tasks[0]):
            wait_until(lambda: present(engine, tasks[2].image))
            assert [present(engine, task.image) for task in tasks] == [True, True, True, False]
    assert store.prefetch_failures == {}


def test_prefetch_leaves_out_what_was_held_before(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path
) -> None:
    early, late = buildable("early"), buildable("late")
    with ImageStore(engine, state_file=state_file) as store:
        with store.hold(early):
            pass
        store.prefetch([early, late], ahead=1)
        wait_until(lambda: present(engine, late.image))


def test_prefetch_goes_on_after_a_failure(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    task = buildable("after-failure")
    with ImageStore(engine, state_file=state_file) as store:
        store.prefetch([make_task(NO_REGISTRY), task], ahead=1)
        wait_until(lambda: present(engine, task.image))
        assert list(store.prefetch_failures) == [NO_REGISTRY]
        with pytest.raises(ImageError), store.hold(make_task(NO_REGISTRY)):
            raise AssertionError("it is not there to be held")


def test_close_ends_the_prefetch(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    tasks = [buildable(f"close-{number}") for number in range(3)]
    with ImageStore(engine, state_file=state_file) as store:
        store.prefetch(tasks, ahead=1)
        wait_until(lambda: present(engine, tasks[0].image))
    wait_until(lambda: not any(thread.name == "prefetch" for thread in threading.enumerate()))
    assert not present(engine, tasks[2].image)


def test_an_edited_dockerfile_or_context_is_built_again(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = buildable("edited", commands="COPY . /all/\nRUN echo first > /which\n")
    assert task.dockerfile is not None
    folder = task.dockerfile.parent
    (folder / "note.txt").write_text("one\n")
    store = CountingStore(engine, state_file=state_file)
    seen: list[tuple[str, int, bool]] = []

    def look() -> None:
        before = fingerprints[-1] if fingerprints else None
        store.ensure(task)
        fingerprints.append(task.fingerprint)
        said = printed(engine, task, "cat /which /all/note.txt").replace("\n", " ").strip()
        seen.append((said, store.builds, fingerprints[-1] == before))

    fingerprints: list[str] = []
    look()
    look()
    first = engine.images.get(task.image).id
    task.dockerfile.write_text(task.dockerfile.read_text().replace("echo first", "echo second"))
    look()
    assert not _is_there(engine, first)
    (folder / "note.txt").write_text("two\n")
    look()
    (folder / "tests.json").write_text("an answer, which no build gets")
    (folder / "task.yaml").write_text("split: train")
    (folder / "problem_statement.md").write_text("the issue, worded otherwise")
    look()
    (folder / ".dockerignore").write_text("ignored*\n")
    look()
    (folder / "ignored.txt").write_text("not in the build\n")
    look()
    (folder / "note.txt").chmod(0o755)
    look()
    assert seen == [
        ("first one", 1, False),
        ("first one", 1, True),
        ("second one", 2, False),
        ("second two", 3, False),
        ("second two", 3, True),
        ("second two", 4, False),
        ("second two", 4, True),
        ("second two", 5, False),
    ]


def _is_there(engine: docker.DockerClient, image_id: str | None) -> bool:
    return any(image["Id"] == image_id for image in engine.api.images())


def test_an_image_that_another_built_is_left_alone(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path
) -> None:
    task = buildable("by-hand")
    assert task.dockerfile is not None
    engine.api.tag(images.DEFAULT_BASE_IMAGE, *task.image.split(":"))
    store = CountingStore(engine, state_file=state_file, disk_budget_bytes=0)
    store.ensure(task)
    assert (store.builds, store.evicted) == (0, [])


def test_what_buildkit_knows(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=1 << 50)
    before = build._cache_ids(engine.api)
    mounted = "RUN --mount=type=cache,target=/kept echo from $BASE_IMAGE > /which\nCOPY certs/ /certs/\n"
    task = buildable("buildkit", commands=f"ARG BASE_IMAGE\n{mounted}")
    store.ensure(task)
    assert printed(engine, task, "cat /which; ls -A /certs | grep keep") == f"from {images.DEFAULT_BASE_IMAGE}\n.keep\n"
    labels = engine.images.get(task.image).labels
    assert labels == {build.BUILT_LABEL: "built", build.ID_LABEL: build.made_of(engine.api, task.dockerfile)}
    assert build._cache_ids(engine.api) <= before  # or what the image leaves there when it goes would not count
    broken = buildable(
        "buildkit-broken", commands="RUN --mount=type=tmpfs,target=/t echo the compiler is missing; exit 7\n"
    )
    with pytest.raises(
        ImageError, match=r"exit code: 7; its last line was: the compiler is missing\); fix the Dockerfile"
    ):
        store.ensure(broken)


def scrubbed(client: docker.DockerClient, task: Task, *, bytes_: int) -> str:
    """A snapshot as a pool keeps it."""
    with DockerSandbox(SandboxSpec(image=task.image, workdir="/"), client=client) as sandbox:
        sandbox.run(f"head -c {bytes_} /dev/urandom >/snapped")
        snapshot = sandbox.snapshot()
        sandbox.disown(snapshot)
    return snapshot


def test_a_snapshot_counts_and_goes_before_its_image(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path
) -> None:
    first, second, third = (buildable(f"snapped-{n}", size_mib=3) for n in range(3))
    base = size_bytes(engine, images.DEFAULT_BASE_IMAGE)
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=base + 10 * MIB)
    store.ensure(first)
    store.ensure(second)
    kept = [scrubbed(engine, task, bytes_=MIB) for task in (first, second)]
    ids = [engine.images.get(task.image).id for task in (first, second)]
    store.ensure(third)  # 6 MiB, and 2 of the snapshots, and 3: one snapshot is enough
    assert [_is_there(engine, one) for one in (*kept, *ids)] == [False, True, True, True]
    assert store.evicted == []
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=base + 4 * MIB)
    assert store.budget is not None
    store.budget.shrink(keep=third.image)
    assert store.evicted == [first.image, second.image]
    assert [_is_there(engine, one) for one in (*kept, *ids)] == [False] * 4
    assert not [one for one in engine.api.images(all=True) if one["Id"] in ids]  # not even without a name


def test_a_snapshot_in_use_keeps_its_image(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    task = buildable("snapped-used", size_mib=1)
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=0)
    store.ensure(task)
    snapshot = scrubbed(engine, task, bytes_=1)
    assert store.budget is not None
    with DockerSandbox(SandboxSpec(image=snapshot, workdir="/"), client=engine) as sandbox:
        store.budget.shrink(keep="-")
        assert (store.evicted, sandbox.run("echo alive").output) == ([], "alive\n")
        own = sandbox.snapshot()
        store.budget.shrink(keep="-")
        sandbox.restore(own)
        assert sandbox.run("echo alive").output == "alive\n"
    store.budget.shrink(keep="-")
    assert (store.evicted, _is_there(engine, snapshot)) == ([task.image], False)


def test_srft_clean_knows_kept_snapshots(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    task = buildable("snapped-left")
    ImageStore(engine, state_file=state_file).ensure(task)
    script = f"""
import docker
from srft.env.docker.sandbox import DockerSandbox
from srft.env.sandbox.contract import SandboxSpec
with DockerSandbox(SandboxSpec(image={task.image!r}, workdir="/")) as sandbox:
    snapshot = sandbox.snapshot()
    sandbox.disown(snapshot)
    print(snapshot)
"""
    snapshot = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert any(name.startswith(f"{KEPT}:") for name in engine.images.get(snapshot).tags)
    assert f"snapshot {snapshot[7:19]}" in reap(client=engine)
    assert not _is_there(engine, snapshot)


def test_another_process_holds_an_image(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    task = buildable("held-elsewhere", size_mib=1)
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=0)
    store.ensure(task)
    script = f"""
import sys
from pathlib import Path
from srft.env.docker.image_record import ImageRecord
with ImageRecord(Path({str(state_file)!r})).held({task.image!r}):
    print("held", flush=True)
    sys.stdin.read()
"""
    assert store.budget is not None
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        store.budget.shrink(keep="-")
        assert store.evicted == []
        other.kill()
    store.budget.shrink(keep="-")
    assert store.evicted == [task.image]


def test_who_finds_no_room_waits_for_it(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "ROOM_WAIT_S", 60.0)
    first, second, third = (buildable(f"room-{n}", size_mib=2) for n in range(3))
    base = size_bytes(engine, images.DEFAULT_BASE_IMAGE)
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=base + 5 * MIB)
    with ThreadPoolExecutor(1) as pool:
        with store.hold(first):
            store.ensure(second)
            with store.hold(second):
                coming = pool.submit(store.ensure, third)
                wait_until(lambda: store.budget is not None and len(store.budget._waiting) == 1)
                assert not coming.done()
        coming.result(timeout=60)
    assert (store.evicted, present(engine, third.image)) == ([second.image], True)


def test_what_is_larger_than_the_budget_comes_all_the_same(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "ROOM_WAIT_S", 600.0)
    task = buildable("too-large", size_mib=1)
    ImageStore(engine, state_file=state_file, disk_budget_bytes=1).ensure(task)  # nothing to wait for
    assert present(engine, task.image)


def test_sizes_of_layers() -> None:
    def step(size: int, by: str) -> dict[str, object]:
        return {"Size": size, "CreatedBy": by}

    classic = [step(9, "/bin/sh -c #(nop) ADD file:1 in / "), step(0, "/bin/sh -c #(nop)  CMD [bash]")]
    runs = [
        step(0, "/bin/sh -c mkdir /x"),
        step(0, "/bin/sh -c #(nop) WORKDIR /x"),
        step(4, "RUN |1 A=1 /bin/sh -c make"),
    ]
    assert layers.layer_sizes(classic, 1) == [9]
    assert layers.layer_sizes([*classic, *runs], 3) == [9, 0, 4]
    assert layers.layer_sizes([*classic, *runs], 4) == [9, 0, 0, 4]
    assert layers.layer_sizes([*classic, *runs], 1) is None
    assert layers.layer_sizes(classic, 3) is None
