"""Images on a real engine: tiny ones, built from the base image or pulled from a registry of our own."""

import doctest
import gzip
import hashlib
import io
import json
import secrets
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import pytest

from srft.env.docker import images
from srft.env.docker.images import ImageStore
from srft.env.errors import EngineError, ImageError
from srft.env.tasks.task import Task
from tests.env.waiting import wait_until

pytestmark = pytest.mark.engine

NAME = "srft/test-images"
NO_REGISTRY = "localhost:1/srft/nothing-here:latest"
MIB = 1 << 20


def make_task(image: str, folder: Path | None = None) -> Task:
    return Task(
        instance_id=f"o__r-{image}",
        repo="o/r",
        base_commit="",
        problem_statement="",
        patch="",
        test_patch="",
        FAIL_TO_PASS=(),
        PASS_TO_PASS=(),
        image=image,
        eval_script="",
        log_parser="",
        eval_type="",
        source=str(folder) if folder else None,
    )


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


def test_the_docstrings_tell_the_truth() -> None:
    assert doctest.testmod(images).failed == 0


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
        "mend the Dockerfile, or its base image or CA bundle (see srft.env.docker.build)"
    )
    assert json.loads(state_file.read_text() if state_file.exists() else "{}") == {}


def test_a_base_image_that_is_not_there(
    engine: docker.DockerClient, buildable: MakeTask, state_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRFT_BASE_IMAGE", NO_REGISTRY)
    with pytest.raises(ImageError, match=r"failed \(.*connection refused.*\); mend the Dockerfile, or its base image"):
        ImageStore(engine, state_file=state_file).ensure(buildable("no-base"))


def test_a_pull_that_fails(engine: docker.DockerClient, state_file: Path) -> None:
    with pytest.raises(ImageError) as raised:
        ImageStore(engine, state_file=state_file).ensure(make_task(NO_REGISTRY))
    message = str(raised.value)
    assert message.startswith(f"image {NO_REGISTRY}: not on this engine, and pulling it failed (")
    assert "connection refused" in message
    assert message.endswith(
        "check its name and the way to its registry (docker login, proxy), or load or build it under that name"
    )


def test_no_engine(tmp_path: Path) -> None:
    dead = docker.DockerClient(base_url="unix:///nowhere/docker.sock", version="1.41")
    with pytest.raises(EngineError, match="does not answer"):
        ImageStore(dead, state_file=tmp_path / "state.json").ensure(make_task("srft/any:1"))
    with pytest.raises(EngineError, match="does not answer"):
        ImageStore(dead)


class Registry(ThreadingHTTPServer):
    """A registry of one image with one layer. It answers the first requests for its manifest with `refusals`."""

    def __init__(self, refusals: list[tuple[int, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), RegistryRequest)
        self.refusals = refusals
        self.manifests_asked = 0
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            member = tarfile.TarInfo(f"hello-{secrets.token_hex(4)}")
            member.size = 5
            tar.addfile(member, io.BytesIO(b"hello"))
        rootfs = {"type": "layers", "diff_ids": [digest(layer.getvalue())]}
        described = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs, "history": [{}]}
        config, packed = json.dumps(described).encode(), gzip.compress(layer.getvalue())
        kind = "application/vnd.docker."
        self.kind = f"{kind}distribution.manifest.v2+json"
        entries = [(f"{kind}container.image.v1+json", config), (f"{kind}image.rootfs.diff.tar.gzip", packed)]
        first, *rest = [{"mediaType": of, "size": len(blob), "digest": digest(blob)} for of, blob in entries]
        manifest = {"schemaVersion": 2, "mediaType": self.kind, "config": first, "layers": rest}
        self.manifest = json.dumps(manifest).encode()
        self.blobs = {digest(blob): blob for blob in (config, packed)}
        self.image = f"localhost:{self.server_address[1]}/srft/hello:1"


class RegistryRequest(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        registry = self.server
        assert isinstance(registry, Registry)
        status, kind, content = 200, "application/octet-stream", b"{}"
        if "/manifests/" in self.path:
            registry.manifests_asked += 1
            kind, content = registry.kind, registry.manifest
            if registry.refusals:
                (status, content), kind = registry.refusals.pop(0), "application/json"
        elif "/blobs/" in self.path:
            content = registry.blobs[self.path.rpartition("/")[2]]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Docker-Content-Digest", digest(content))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def registry(engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setattr(images, "PULL_BACKOFF_S", 0.01)
    server = Registry([])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    if present(engine, server.image):
        engine.images.remove(server.image)


def test_a_pull(engine: docker.DockerClient, registry: Registry, state_file: Path) -> None:
    store = ImageStore(engine, state_file=state_file, disk_budget_bytes=0)
    with store.hold(make_task(registry.image)):
        store.ensure(make_task(registry.image))
        assert present(engine, registry.image)
        assert list(json.loads(state_file.read_text())) == [registry.image]
    store._evict(keep="-")
    assert store.evicted == [registry.image]
    assert not present(engine, registry.image)


TOO_MANY = (429, b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "you have reached your pull rate limit"}]}')
DENIED = (403, b'{"errors": [{"code": "DENIED", "message": "no access for you"}]}')


def test_a_registry_that_is_busy(engine: docker.DockerClient, registry: Registry, state_file: Path) -> None:
    # The engine itself asks more than once for each pull.
    registry.refusals = [TOO_MANY] * 2
    ImageStore(engine, state_file=state_file).ensure(make_task(registry.image))
    assert present(engine, registry.image)


def test_a_registry_that_stays_busy(engine: docker.DockerClient, registry: Registry, state_file: Path) -> None:
    registry.refusals = [TOO_MANY] * 100
    with pytest.raises(ImageError, match="you have reached your pull rate limit"):
        ImageStore(engine, state_file=state_file).ensure(make_task(registry.image))
    assert registry.manifests_asked >= images.PULL_ATTEMPTS


def test_a_registry_that_refuses(engine: docker.DockerClient, registry: Registry, state_file: Path) -> None:
    registry.refusals = [DENIED] * 100
    with pytest.raises(ImageError, match=r"pulling it failed \(.*denied.*\); check its name"):
        ImageStore(engine, state_file=state_file).ensure(make_task(registry.image))


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
    first, second = buildable("before"), buildable("after")
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
    layers = [store._layers_of(task.image) or {} for task in (first, second)]
    assert [sum(of_one.values()) for of_one in layers] == [size_bytes(engine, task.image) for task in (first, second)]
    base = size_bytes(engine, images.DEFAULT_BASE_IMAGE)
    assert images._union_bytes(layers) == base + 3 * MIB


def test_prefetch_stays_a_little_ahead(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    tasks = [buildable(f"ahead-{number}") for number in range(4)]
    with ImageStore(engine, state_file=state_file, disk_budget_bytes=0) as store:
        store.prefetch([tasks[0], tasks[0], *tasks[1:]], ahead=2)
        wait_until(lambda: present(engine, tasks[1].image))
        time.sleep(1)
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
        with store.hold(make_task(NO_REGISTRY)), pytest.raises(ImageError):
            store.ensure(make_task(NO_REGISTRY))


def test_close_ends_the_prefetch(engine: docker.DockerClient, buildable: MakeTask, state_file: Path) -> None:
    tasks = [buildable(f"close-{number}") for number in range(3)]
    with ImageStore(engine, state_file=state_file) as store:
        store.prefetch(tasks, ahead=1)
        wait_until(lambda: present(engine, tasks[0].image))
    wait_until(lambda: not any(thread.name == "prefetch" for thread in threading.enumerate()))
    assert not present(engine, tasks[2].image)
