"""What only the Docker sandbox promises: no container outlives its owner, and the engine's failures are typed."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator

import docker
import pytest
from loguru import logger

from srft.env.docker.sandbox import LABEL, OWNER_LABEL, DockerSandbox, engine, reap
from srft.env.errors import EngineError, ImageError, SandboxDied
from srft.env.sandbox.contract import Limits, SandboxSpec
from srft.env.sandbox.owner import owner
from tests.env.docker.engine_proxy import EngineProxy, changed_json
from tests.env.waiting import wait_until

IMAGE = "srft/base:bookworm"

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", autouse=True)
def client() -> docker.DockerClient:
    try:
        return engine()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture
def sandbox() -> Iterator[DockerSandbox]:
    with DockerSandbox(SandboxSpec(image=IMAGE)) as sandbox:
        yield sandbox


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged, from warnings on."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"]), level="WARNING")
    yield lines
    logger.remove(sink)


def exists(client: docker.DockerClient, container: str) -> bool:
    return bool(client.api.containers(all=True, filters={"id": container}))


STARTED = """
import time
from srft.env.docker.sandbox import DockerSandbox
from srft.env.sandbox.contract import SandboxSpec
sandbox = DockerSandbox(SandboxSpec(image={image!r}, mode={mode!r}))
sandbox.start()
print(sandbox.container_id, flush=True)
sandbox.run({command!r})
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("mode", "command"),
    [
        ("stateless", "true"),
        ("persistent", "trap '' HUP TERM INT; sleep 600"),
        ("stateless", "setsid nohup yes & kill -9 $$"),
    ],
)
def test_a_killed_owner_leaves_no_container(client: docker.DockerClient, mode: str, command: str) -> None:
    script = STARTED.format(image=IMAGE, mode=mode, command=command)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    container = process.stdout.readline().strip()
    assert exists(client, container)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_until(lambda: not exists(client, container))


def leave(client: docker.DockerClient, owned_by: str) -> str:
    """A container as a process leaves it when the engine goes down before it: there, stopped, labelled."""
    labels = {LABEL: "1", OWNER_LABEL: owned_by}
    return client.api.create_container(IMAGE, ["true"], labels=labels)["Id"]


def test_reap_removes_what_dead_processes_left(client: docker.DockerClient) -> None:
    host, boot, namespace, pid, start_time = owner().split(":")
    reused_pid = f"{host}:{boot}:{namespace}:{pid}:{int(start_time) - 1}"
    dead = [leave(client, f"{host}:{boot}:{namespace}:{2**22 + 1}:1"), leave(client, reused_pid)]
    elsewhere = [f"another-{host}:{boot}:{namespace}:{2**22 + 1}:1", f"{host}:{boot}:{namespace}0:{2**22 + 1}:1"]
    living = [leave(client, owned_by) for owned_by in (owner(), *elsewhere, "nonsense")]
    image = client.api.commit(dead[0], changes=f"LABEL {LABEL}=1 {OWNER_LABEL}={reused_pid}")["Id"]
    try:
        removed = reap()
        assert f"container {dead[0][:12]} ({IMAGE})" in removed
        assert f"container {dead[1][:12]} ({IMAGE})" in removed
        assert f"snapshot {image.removeprefix('sha256:')[:12]}" in removed
        assert [exists(client, container) for container in dead] == [False, False]
        assert [exists(client, container) for container in living] == [True] * 4
        assert not any(container[:12] in line for container in living for line in removed)
    finally:
        for container in living:
            client.api.remove_container(container, force=True)
    assert not client.api.images(filters={"label": f"{OWNER_LABEL}={reused_pid}"})


@pytest.mark.parametrize("host", ["unix:///nonexistent/docker.sock", "tcp://127.0.0.1:9", "nonsense://"])
def test_no_engine_is_an_engine_error_of_one_sentence(host: str) -> None:
    script = (
        "from srft.env.docker.sandbox import *\n"
        "from srft.env.sandbox.contract import SandboxSpec\n"
        "import json\n"
        "said = []\n"
        "for call in (engine, reap, DockerSandbox(SandboxSpec(image='x')).start):\n"
        "    try: call()\n"
        "    except EngineError as error: said.append(str(error))\n"
        "print(json.dumps(said))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "DOCKER_HOST": host},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = json.loads(done.stdout)
    assert len(said) == 3
    for message in said:
        assert message.startswith(f"no container engine answers at {host} (")
        assert message.endswith("or take --sandbox local")
        assert "\n" not in message


def test_a_missing_image_is_an_image_error() -> None:
    sandbox = DockerSandbox(SandboxSpec(image="srft/no-such-image:never"))
    with pytest.raises(ImageError, match=r"image srft/no-such-image:never: not on this machine .* pull or build it"):
        sandbox.start()
    sandbox.close()


@pytest.mark.parametrize("files", [{}, {"etc/passwd": b"root:x:0:0:root:/:/bin/sh\n"}], ids=["no user", "no bash"])
def test_an_image_without_bash_is_an_image_error(client: docker.DockerClient, files: dict[str, bytes]) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in {"empty": b"", **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    client.api.import_image_from_data(archive.getvalue(), repository="srft-test/no-bash", tag="latest")
    try:
        with pytest.raises(ImageError, match=r"image srft-test/no-bash: bash cannot be started in it as root \("):
            DockerSandbox(SandboxSpec(image="srft-test/no-bash")).start()
        assert not client.api.containers(all=True, filters={"ancestor": "srft-test/no-bash"})
    finally:
        client.api.remove_image("srft-test/no-bash", force=True)


@pytest.mark.parametrize("end", ["remove", "kill"])
def test_a_container_that_dies_under_a_command(client: docker.DockerClient, sandbox: DockerSandbox, end: str) -> None:
    container = sandbox.container_id
    assert container is not None
    ending = {
        "remove": lambda: client.api.remove_container(container, force=True),
        "kill": lambda: client.api.kill(container),
    }
    timer = threading.Timer(0.5, ending[end])
    timer.start()
    try:
        with pytest.raises(SandboxDied):
            sandbox.run("echo before; sleep 60", timeout_s=50)
    finally:
        timer.join()
    for call in (
        lambda: sandbox.run("true", timeout_s=50),
        lambda: sandbox.read("/etc/passwd"),
        lambda: sandbox.write("file", b"1"),
        sandbox.snapshot,
        sandbox.kill_all,
    ):
        with pytest.raises(SandboxDied):
            call()
    sandbox.close()


def test_out_of_memory_is_the_commands_end_and_not_the_sandboxes() -> None:
    with DockerSandbox(SandboxSpec(image=IMAGE, limits=Limits(memory_bytes=64 << 20))) as sandbox:
        result = sandbox.run("head -c 300000000 /dev/zero | tail -c 299999999 | wc -c", timeout_s=60)
        assert result.output != "299999999\n"
        assert sandbox.run("echo alive", timeout_s=60).output == "alive\n"


def test_close_removes_the_container_and_its_snapshots(client: docker.DockerClient) -> None:
    with DockerSandbox(SandboxSpec(image=IMAGE)) as sandbox:
        sandbox.write("file", b"1")
        snapshots = [sandbox.snapshot(), sandbox.snapshot()]
        first = sandbox.container_id
        assert first is not None
        sandbox.restore(snapshots[0])
        second = sandbox.container_id
        assert second is not None
        assert not exists(client, first)
        assert sandbox.read("file") == b"1"
        labels = client.api.inspect_image(snapshots[0])["Config"]["Labels"]
        assert labels[OWNER_LABEL] == owner()
    assert not exists(client, second)
    left = {image["Id"] for image in client.api.images()}
    assert not left & set(snapshots)


def test_close_waits_for_a_removal_that_the_engine_began(client: docker.DockerClient) -> None:
    left = []
    for _ in range(5):
        sandbox = DockerSandbox(SandboxSpec(image=IMAGE))
        sandbox.start()
        container = sandbox.container_id
        assert container is not None
        client.api.kill(container)
        sandbox.close()
        left += [container] if exists(client, container) else []
    assert left == []


def test_restore_of_what_is_not_a_snapshot(sandbox: DockerSandbox) -> None:
    with pytest.raises(ImageError):
        sandbox.restore("sha256:" + "0" * 64)


def test_user_is_who_runs_commands_and_owns_written_files() -> None:
    with DockerSandbox(SandboxSpec(image=IMAGE, workdir="/tmp", user="nobody")) as sandbox:
        assert sandbox.run("id -un; touch /etc/mine 2>&1 || echo refused", timeout_s=60).output.endswith("refused\n")
        assert sandbox.run("id -un", timeout_s=60).output == "nobody\n"
        sandbox.write("file", b"1\n")
        assert sandbox.run("echo 2 >>file && cat file && stat -c %U file", timeout_s=60).output == "1\n2\nnobody\n"
        sandbox.write("new/deep/file", b"1\n")
        assert sandbox.run("touch new/mine new/deep/mine && ls -R new", timeout_s=60).exit_code == 0
        assert sandbox.run("sleep 60", timeout_s=0.5).timed_out
        sandbox.kill_all()
        assert sandbox.run("echo alive", timeout_s=60).output == "alive\n"


def test_limits_labels_and_privileges_reach_the_engine(client: docker.DockerClient) -> None:
    with DockerSandbox(SandboxSpec(image=IMAGE, labels={"srft.run": "r1"})) as sandbox:
        said = client.api.inspect_container(sandbox.container_id)
        assert said["Config"]["Labels"] == {LABEL: "1", OWNER_LABEL: owner(), "srft.run": "r1"}
        assert said["Config"]["Healthcheck"] == {"Test": ["NONE"]}
        host = said["HostConfig"]
        got = {name: host[name] for name in ("NetworkMode", "Memory", "MemorySwap", "PidsLimit", "SecurityOpt")}
        assert got == {
            "NetworkMode": "none",
            "Memory": 4 << 30,
            "MemorySwap": 4 << 30,
            "PidsLimit": 1024,
            "SecurityOpt": ["no-new-privileges"],
        }


def test_a_limit_that_the_engine_drops_is_said(logged: list[str]) -> None:
    dropped = "Your kernel does not support CPU CFS scheduler quota. Limitation discarded."
    changes = {
        r"GET .*/info": changed_json(PidsLimit=False, CpuCfsQuota=False),
        r"POST .*/containers/create": changed_json(Warnings=[dropped]),
    }
    with EngineProxy(changes) as proxy:
        client = docker.DockerClient(base_url=proxy.url)
        spec = SandboxSpec(image=IMAGE, limits=Limits(cpus=None))
        for _ in range(2):
            with DockerSandbox(spec, client=client) as sandbox:
                assert sandbox.limits_held == {"memory"}
                assert sandbox.run("echo alive").output == "alive\n"
    said = "the container engine says of its sandboxes: "
    assert [line.removeprefix(said) for line in logged if line.startswith(said)] == [
        "no limit on pids holds: it has no cgroup for it (rootless without delegation?)",
        dropped,
    ]


@pytest.mark.parametrize("noise", ["echo noise; trap 'echo debug' DEBUG", "exec 2>&1; set -x"])
def test_a_user_in_an_image_that_prints(noise: str) -> None:
    with DockerSandbox(SandboxSpec(image=IMAGE, workdir="/tmp", user="nobody", init=noise)) as sandbox:
        sandbox.write("file", b"1\n")
        assert "nobody nogroup" in sandbox.run("stat -c '%U %G' file").output


def test_files_on_the_kernels_mounts_are_refused_and_not_misplaced(sandbox: DockerSandbox) -> None:
    """The engine would write below the mount point, where no process of the container sees it."""
    for path in ("/dev/shm/file", "/proc/self/comm", "/sys/x", "/testbed/../dev/shm/file"):
        with pytest.raises(OSError, match="use a command"):
            sandbox.write(path, b"1")
        with pytest.raises(OSError, match="use a command"):
            sandbox.read(path)


def test_exit_codes_of_ended_shells_are_never_missing() -> None:
    """The engine notes an exit a moment after the stream's end, and later still when a child holds another stream."""
    with DockerSandbox(SandboxSpec(image=IMAGE, mode="persistent")) as sandbox:
        for code in (3, 4, 5):
            assert sandbox.run(f"exit {code}", timeout_s=60).exit_code == code
        assert sandbox.run("sleep 300 & exit 6", timeout_s=60).exit_code == 6
        assert sandbox.run("sleep 300 >/dev/null 2>&1 & exit 7", timeout_s=60).exit_code == 7
        assert sandbox.run("exit 8", timeout_s=60).exit_code == 8
