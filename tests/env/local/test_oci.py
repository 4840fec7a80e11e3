"""The local sandbox over OCI images that skopeo and umoci fetch from a registry on loopback: no engine."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from srft.env.backends import LocalBackend
from srft.env.errors import EngineError, ImageError
from srft.env.local import oci
from srft.env.local.oci import fetch_image, missing_programs, source_of
from srft.env.local.rootfs import image_folder, load_image
from srft.env.local.sandbox import LocalSandbox, check_bubblewrap
from srft.env.sandbox.contract import SandboxSpec
from srft.env.swe_env import SweEnv
from srft.env.tasks.task import load_tasks
from tests import tiny
from tests.env.oci_registry import Registry, files_of_testbed, layer, programs_layer

try:
    check_bubblewrap()
except EngineError as error:
    pytest.skip(str(error), allow_module_level=True)
if missing := missing_programs():
    pytest.skip(f"no {' and '.join(missing)} (Debian: apt-get install skopeo umoci)", allow_module_level=True)


@pytest.fixture(scope="module")
def programs() -> bytes:
    return programs_layer()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("SRFT_LOCAL_IMAGES", str(tmp_path / "images"))
    with Registry() as registry:
        yield registry


def output(sandbox: LocalSandbox, command: str) -> str:
    return sandbox.run(command, 30).output


def test_an_image_with_a_system_of_its_own(registry: Registry, programs: bytes) -> None:
    first = layer({"etc/greeting": b"hello\n", "etc/gone": b"1", "etc/shadow": b"secret"}, modes={"etc/shadow": 0o600})
    second = layer({"etc/.wh.gone": b"", "testbed/a": b"1\n"}, links={"testbed/link": "/etc/greeting"}, uid=1234)
    image = registry.push("some/image", [programs, first, second], env=["PATH=/usr/bin", "A=x=y"], user="dev")
    fetch_image(image)
    assert load_image(image).workdir == "/testbed"
    with LocalSandbox(SandboxSpec(image=image)) as sandbox:
        assert output(sandbox, "cat link a; echo $A $HOME; id -u; stat -c %u a .") == "hello\n1\nx=y /root\n0\n0\n0\n"
        assert output(sandbox, "ls /etc/gone 2>&1") == "ls: cannot access '/etc/gone': No such file or directory\n"
        assert output(sandbox, "cat /etc/shadow; cat /etc/hosts; stat -c %a /tmp") == (
            "secret127.0.0.1\tlocalhost srft\n::1\tlocalhost\n1777\n"
        )
        assert output(sandbox, "type -P python3; ls /usr") == "bin\nlib\nlib64\n"  # nothing of the host
        sandbox.write("/usr/bin/tool", b"#!/bin/sh\necho tool\n", mode=0o755)
        assert output(sandbox, "tool; rm /usr/bin/yes; yes 2>/dev/null; echo $?") == "tool\n127\n"
        assert sandbox.read("link") == b"hello\n"
        kept = sandbox.snapshot()
        output(sandbox, "rm -r /usr/bin/tool a")
        sandbox.restore(kept)
        assert output(sandbox, "tool; cat a") == "tool\n1\n"
    with LocalSandbox(SandboxSpec(image=image)) as sandbox:
        assert output(sandbox, "ls /usr/bin/yes; tool 2>/dev/null; echo $?") == "/usr/bin/yes\n127\n"


def test_layers_are_fetched_once(registry: Registry, programs: bytes) -> None:
    one = registry.push("a/one", [programs, layer({"testbed/a": b"1"})])
    other = registry.push("a/other", [programs, layer({"testbed/a": b"2"})])
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(fetch_image, [one, one, other]))
    fetch_image(one)
    shared = [path for path in registry.asked if "/blobs/" in path]
    assert len([path for path in registry.asked if path == "/v2/a/one/manifests/1"]) == 1
    assert len(shared) <= 6  # two configurations, two layers of their own, and the shared one, by both at most
    fetched = len(registry.asked)
    third = registry.push("a/third", [programs, layer({"testbed/a": b"3"})])
    fetch_image(third)
    assert len([path for path in registry.asked[fetched:] if "/blobs/" in path]) == 2
    assert oci.remove_blobs()
    assert not oci.remove_blobs()
    assert not (image_folder(one).parent / ".blobs").exists()
    with LocalSandbox(SandboxSpec(image=third)) as sandbox:
        assert output(sandbox, "cat a") == "3"


def test_an_episode_and_its_grade(registry: Registry, programs: bytes, tmp_path: Path) -> None:
    """A row of a dataset, whose image is fetched; the agent's repository is another user's in the image."""
    files = files_of_testbed(tmp_path / "testbed")
    image = registry.push("swebench/tiny", [programs, layer(files, modes=dict.fromkeys(files, 0o644), uid=1000)])
    row = tiny.row(0) | {"image": image}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(row))
    env = SweEnv(load_tasks(str(tmp_path / "tasks.jsonl")), backend="local")
    env.reset()
    assert env.step("git status --short; cat answer.txt")[0] == "41\n"
    env.step("echo 42 >answer.txt")
    _, reward, terminated, _, info = env.step("submit")
    assert (reward, terminated, info["grade"].outcome) == (1.0, True, "resolved")
    assert info["patch"].startswith("diff --git a/answer.txt b/answer.txt\n")
    env.close()
    manifest = json.loads(registry.content["/v2/swebench/tiny/manifests/1"][1])
    assert LocalBackend().image_id(image) == manifest["config"]["digest"]
    assert LocalBackend().image_id("never/fetched") is None


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (
            None,
            r"image 127.0.0.1:\d+/no/image:1: skopeo failed \(.*manifest unknown.*\); check its name",
        ),
        ([layer({"usr/bin/dash": b""})], "no bash in it, and commands run in one; take an image that has bash"),
    ],
)
def test_what_cannot_be_fetched_is_said_and_leaves_nothing(
    registry: Registry, layers: list[bytes] | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oci, "RETRIES", 0)
    image = f"{registry.host}/no/image:1" if layers is None else registry.push("no/image", layers)
    with pytest.raises(ImageError, match=said):
        fetch_image(image)
    left = {path.name for path in image_folder(image).parent.iterdir() if not path.name.endswith(".lock")}
    assert left == {".blobs"}


def test_programs_that_are_missing_are_named(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "skopeo").symlink_to(shutil.which("skopeo") or "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ImageError, match=r"takes umoci; install them \(Debian: apt-get install umoci\)"):
        fetch_image("some/image:1")


def test_what_skopeo_is_asked_for() -> None:
    assert [source_of(name) for name in ("debian:12", "quay.io/x/y", "docker-daemon:a:1", "oci:/data/x:1")] == [
        "docker://debian:12",
        "docker://quay.io/x/y",
        "docker-daemon:a:1",
        "oci:/data/x:1",
    ]
    names = (
        "localhost:5000/a",
        "127.0.0.1:5/a",
        "[::1]:5/a",
        "localhost.example/a",
        "a/localhost",
        "docker-daemon:localhost",
    )
    assert [oci._is_loopback(name) for name in names] == [True, True, True, False, False, False]


AS_NOBODY = """
    import sys
    from srft.env.local.oci import fetch_image
    from srft.env.local.sandbox import LocalSandbox
    from srft.env.sandbox.contract import SandboxSpec

    fetch_image(sys.argv[1])
    with LocalSandbox(SandboxSpec(image=sys.argv[1])) as sandbox:
        print(sandbox.run("id -u; cat a; echo 2 >a; echo 3 >/usr/bin/b; cat a /usr/bin/b", 30).output, end="")
        kept = sandbox.snapshot()
        sandbox.run("rm a", 30)
        sandbox.restore(kept)
        print(sandbox.run("cat a", 30).output, end="")
"""


def test_without_root(registry: Registry, programs: bytes, tmp_path: Path) -> None:
    """As a user who has nothing but his own files: where root runs the tests, in a namespace in which it is no root."""
    image = registry.push("b/image", [programs, layer({"testbed/a": b"1\n"}, uid=77)])
    command = [sys.executable, "-c", textwrap.dedent(AS_NOBODY), image]
    if os.getuid() == 0:
        command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--", *command]
    env = {**os.environ, "SRFT_LOCAL_EPISODES": str(tmp_path / "episodes")}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    if "unshare: " in ran.stderr:
        pytest.skip(f"no user namespaces here: {ran.stderr.strip()}")
    assert (ran.stdout, ran.returncode) == ("0\n1\n2\n3\n2\n", 0), ran.stderr
