"""The local sandbox beyond the common contract: what it shows of the host, what it leaves, how images are built."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from srft.env.errors import EngineError, ImageError, InputError
from srft.env.local import bubblewrap
from srft.env.local import cgroups as cgroups_module
from srft.env.local import sandbox as local
from srft.env.local.episode_folder import episodes_folder, host_uid
from srft.env.local.images import Instruction, build_local_image, ensure_local_image, expand, read_dockerfile
from srft.env.local.rootfs import BOUND, PATH, LocalImage, image_folder, load_image
from srft.env.local.sandbox import LocalSandbox, check_bubblewrap, empty_image, new_image, reap_local
from srft.env.sandbox.channel import Channel
from srft.env.sandbox.contract import Limits, SandboxSpec
from srft.env.tasks.task import Task
from tests.env.waiting import wait_until

try:
    check_bubblewrap()
except EngineError as error:
    pytest.skip(str(error), allow_module_level=True)

SECRET = "only the host may read this"


@pytest.fixture(autouse=True)
def own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SRFT_LOCAL_IMAGES", str(tmp_path / "images"))
    yield
    mine = [name for name in os.listdir(episodes_folder()) if f"%3A{os.getpid()}%3A" in name]
    assert mine == []


@pytest.fixture
def sandbox() -> Iterator[LocalSandbox]:
    with LocalSandbox(SandboxSpec(image=empty_image())) as sandbox:
        yield sandbox


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


def output(sandbox: LocalSandbox, command: str) -> str:
    return sandbox.run(command, 30).output


class SlowChannel:
    """A channel whose answers come late, as on a machine that has much else to do."""

    def __init__(self, channel: Channel, seconds: float) -> None:
        self.channel = channel
        self.seconds = seconds

    def receive(self, timeout_s: float) -> bytes:
        content = self.channel.receive(timeout_s)
        time.sleep(self.seconds)
        return content

    def __getattr__(self, name: str) -> object:
        return getattr(self.channel, name)


def test_a_timeout_spares_what_began_just_before_however_late_the_answers(sandbox: LocalSandbox) -> None:
    sandbox.run("echo ready", 30)
    control = sandbox._live_control()
    control._channel = SlowChannel(control._channel, 0.2)  # type: ignore[assignment]
    sandbox.run("setsid sleep 98001 >/dev/null 2>&1 &", 30)
    time.sleep(0.1)
    assert sandbox.run("setsid sleep 98002 & sleep 98002", 0.1).timed_out
    assert output(sandbox, "pgrep -fxc 'sleep 98001'; pgrep -fxc 'sleep 98002'") == "1\n0\n"


# ------------------------------------------------------------------------------------------- what is seen of the host


def test_root_holds_what_is_listed_and_nothing_else(sandbox: LocalSandbox) -> None:
    links = {path.lstrip("/") for path in BOUND if os.path.exists(path)}
    made = {"dev", "etc", "home", "proc", "root", "run", "testbed", "tmp", "var"}
    assert set(output(sandbox, "ls /").split()) == links | made
    assert output(sandbox, "ls -A /home /root /tmp /var/tmp") == "/home:\n\n/root:\n\n/tmp:\n\n/var/tmp:\n"
    assert output(sandbox, "ls /var /run") == "/run:\nsrft\n\n/var:\ntmp\n"


def test_accounts_and_keys_of_the_host_are_not_there(sandbox: LocalSandbox) -> None:
    assert output(sandbox, "cut -d: -f1 /etc/passwd") == "root\nnobody\n"
    assert sandbox.run("cat /etc/shadow /etc/ssl/private", 30).exit_code == 1


def test_host_path_is_not_there(sandbox: LocalSandbox, secret: Path) -> None:
    assert sandbox.run(f"cat {secret}", 30).exit_code == 1
    with pytest.raises(FileNotFoundError):
        sandbox.read(str(secret))


def test_environment_of_the_host_is_not_there(sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set(output(sandbox, "compgen -e").split())
    assert names <= {"HOME", "PATH", "PWD", "OLDPWD", "SHLVL", "_"}


def test_usr_is_read_only(sandbox: LocalSandbox) -> None:
    assert sandbox.run("touch /usr/srft-test", 30).exit_code == 1
    for path in ("/usr/srft-test", "/usr/share/srft-test/x", "/bin/srft-test"):
        with pytest.raises(OSError, match=r"(?i)read-only"):
            sandbox.write(path, b"x")
    assert sandbox.read("/usr/bin/env") == Path("/usr/bin/env").read_bytes()


def test_no_rights_on_the_host(sandbox: LocalSandbox) -> None:
    for command in ("mount -t tmpfs x /mnt", "unshare -U true", "mknod /tmp/disk b 254 0", "dmesg -C"):
        assert sandbox.run(command, 30).exit_code != 0, command
    assert sandbox.run("echo 0 > /proc/sys/vm/overcommit_memory", 30).exit_code == 1
    assert sandbox.run("echo b > /proc/sysrq-trigger", 30).exit_code == 1


def test_host_network_where_asked_for() -> None:
    spec = SandboxSpec(image=empty_image(), network="host")
    with LocalSandbox(spec) as sandbox:
        theirs = output(sandbox, "cut -d: -f1 -s /proc/net/dev | tr -d ' '")
        assert theirs == "".join(f"{line.split(':')[0].strip()}\n" for line in _net_dev())
        assert sandbox.read("/etc/resolv.conf") == Path("/etc/resolv.conf").read_bytes()


def _net_dev() -> list[str]:
    return [line for line in Path("/proc/net/dev").read_text().splitlines() if ":" in line]


# ------------------------------------------------------------------------------------------------------------ symlinks


@pytest.mark.parametrize("climb", ["", "../../../../../.."])
def test_link_to_a_host_file_does_not_lead_out(sandbox: LocalSandbox, secret: Path, climb: str) -> None:
    output(sandbox, f"ln -s {climb}{secret} leak; ln -s {climb}{secret.parent} folder; ln -s / root; ln -s .. up")
    for path in ("leak", "folder/secret", f"root{secret}", f"up/up/up/up{secret}", f"../../../../..{secret}"):
        with pytest.raises(FileNotFoundError):
            sandbox.read(path)


def test_write_through_a_link_stays_inside(sandbox: LocalSandbox, secret: Path) -> None:
    output(sandbox, f"ln -s {secret} leak; ln -s {secret.parent} folder")
    sandbox.write("leak", b"agent")
    sandbox.write("folder/new", b"agent")
    assert secret.read_text() == SECRET
    assert not (secret.parent / "new").exists()
    assert output(sandbox, f"cat {secret} {secret.parent}/new") == "agentagent"


def test_link_loop_and_link_into_usr(sandbox: LocalSandbox) -> None:
    output(sandbox, "ln -s a b; ln -s b a; ln -s /usr usr")
    with pytest.raises(OSError, match="symlinks"):
        sandbox.read("a")
    with pytest.raises(OSError, match=r"(?i)read-only"):
        sandbox.write("usr/bin/env", b"agent")


def test_kernel_files_are_not_read_with_the_host_s_rights(sandbox: LocalSandbox) -> None:
    output(sandbox, "ln -s /proc/kcore core; ln -s /proc/self/root/etc/shadow shadow")
    for path in ("core", "shadow", "/proc/1/environ", "/dev/null"):
        with pytest.raises(FileNotFoundError, match="not read or written from outside"):
            sandbox.read(path)


def test_fifo_is_not_waited_for(sandbox: LocalSandbox) -> None:
    output(sandbox, "mkfifo pipe")
    with pytest.raises(FileNotFoundError):
        sandbox.read("pipe")
    sandbox.write("pipe", b"a file now")
    assert output(sandbox, "cat pipe") == "a file now"


def test_swapped_folders_never_lead_out(sandbox: LocalSandbox, secret: Path) -> None:
    output(sandbox, "mkdir -p d real; echo inside > d/secret")
    swap = f"(while :; do mv -T d e; ln -sfn {secret.parent} d; rm d; mv -T e d; done) >/dev/null 2>&1 &"
    output(sandbox, swap)
    seen = set()
    for _ in range(300):
        try:
            seen.add(sandbox.read("d/secret"))
        except OSError:
            seen.add(b"nothing")
    assert seen <= {b"inside\n", b"nothing"}


# ------------------------------------------------------------------------------------------------- files and snapshots


@pytest.mark.parametrize("overlay", [True, False])
def test_snapshot_keeps_odd_files(monkeypatch: pytest.MonkeyPatch, overlay: bool) -> None:
    if not overlay:
        monkeypatch.setattr(local, "has_overlay", lambda *_: False)
    with LocalSandbox(SandboxSpec(image=empty_image())) as sandbox:
        output(sandbox, "mkdir a; echo 1 >a/x; chmod 0 a; ln -s /nowhere l; mkfifo p; chmod 4755 /tmp; rm -r /home")
        kept = sandbox.snapshot()
        output(sandbox, "rm -rf a l p; mkdir /home; echo 2 >later")
        for _ in range(2):
            sandbox.restore(kept)
            listed = output(sandbox, "stat -c '%A %n' a a/x l p /tmp; cat a/x; ls -d /home later; git status --short")
            assert listed == (
                "d--------- a\n-rw-r--r-- a/x\nlrwxrwxrwx l\nprw-r--r-- p\ndrwsr-xr-x /tmp\n1\n"
                "ls: cannot access '/home': No such file or directory\n"
                "ls: cannot access 'later': No such file or directory\n?? a/\n?? l\n"
            )
        with pytest.raises(InputError):
            sandbox.restore("../../x")


def test_episodes_do_not_share_files() -> None:
    spec = SandboxSpec(image=empty_image())
    with LocalSandbox(spec) as one, LocalSandbox(spec) as other:
        output(one, "echo one >x; rm -r .git")
        assert output(other, "ls -A") == ".git\n"
    with LocalSandbox(spec) as third:
        assert output(third, "ls -A") == ".git\n"


def test_image_made_by_hand() -> None:
    rootfs = image_folder("hand/made:1") / "rootfs"
    (rootfs / "testbed").mkdir(parents=True)
    (rootfs / "testbed" / "x").write_text("by hand")
    (rootfs.parent / "image.json").write_text('{"env": {"FROM_IMAGE": "1", "BOTH": "image"}}')
    with LocalSandbox(SandboxSpec(image="hand/made:1", env={"BOTH": "spec"})) as sandbox:
        assert output(sandbox, "cat x; echo $FROM_IMAGE $BOTH; stat -c %U x; echo >>x") == "by hand1 spec\nroot\n"
    assert (rootfs / "testbed" / "x").read_text() == "by hand"


@pytest.mark.parametrize(
    ("image_json", "message"), [('{"envv": {}}', "envv"), ("{", "not readable"), (None, "no local image")]
)
def test_image_that_cannot_be_used(image_json: str | None, message: str) -> None:
    if image_json is not None:
        (image_folder("bad") / "rootfs").mkdir(parents=True)
        (image_folder("bad") / "image.json").write_text(image_json)
    with pytest.raises(ImageError, match=message):
        LocalSandbox(SandboxSpec(image="bad")).start()


def test_user_other_than_root_is_refused() -> None:
    with pytest.raises(InputError, match="one user, root"):
        LocalSandbox(SandboxSpec(image="any", user="1000"))


def test_bubblewrap_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    bubblewrap._bubblewrap_problem.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EngineError, match="install the package bubblewrap, or take --sandbox docker"):
        check_bubblewrap()
    bubblewrap._bubblewrap_problem.cache_clear()


# -------------------------------------------------------------------------------------------------------------- limits

FORK_BOMB = "bomb() { bomb | bomb & }; bomb; sleep 2"


@pytest.mark.parametrize("cgroups", [True, False])
def test_fork_bomb_and_memory_are_bounded(monkeypatch: pytest.MonkeyPatch, cgroups: bool) -> None:
    if not cgroups:
        monkeypatch.setattr(cgroups_module, "_cgroup_parents", lambda _wanted: iter(()))
    limits = Limits(memory_bytes=256 << 20, pids=64)
    with LocalSandbox(SandboxSpec(image=empty_image(), limits=limits)) as sandbox:
        assert "pids" in sandbox.limits_held
        sandbox.run(FORK_BOMB, 10)
        assert len(_processes_of(sandbox)) <= 66
        sandbox.kill_all()
        assert output(sandbox, "echo alive") == "alive\n"
        eat = "python3 -c 'x = b\"x\" * (512 << 20)' 2>/dev/null"
        assert sandbox.run(eat, 30).exit_code in ({137} if "memory" in sandbox.limits_held else {1, 137})


def _processes_of(sandbox: LocalSandbox) -> list[int]:
    """Those whose PID namespace is that of the sandbox's first process."""
    inside = os.readlink(f"/proc/{sandbox._ground._first_pid}/ns/pid")  # type: ignore[union-attr]
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/ns/pid") == inside:
                found.append(int(name))
        except OSError:
            continue
    return found


def test_cgroups_are_removed() -> None:
    with LocalSandbox(SandboxSpec(image=empty_image())) as sandbox:
        paths = sandbox._ground._cgroups.paths  # type: ignore[union-attr]
        output(sandbox, "sleep 100 & setsid sleep 100 &")
    assert [path for path in paths if path.exists()] == []


# ---------------------------------------------------------------------------------------------------------------- ends


def test_thread_that_started_it_may_end() -> None:
    sandbox = LocalSandbox(SandboxSpec(image=empty_image()))
    starter = threading.Thread(target=sandbox.start)
    starter.start()
    starter.join()
    assert output(sandbox, "echo still here") == "still here\n"
    sandbox.close()


START_AND_HANG = """
    import sys, time
    from srft.env.local.sandbox import LocalSandbox, empty_image
    from srft.env.sandbox.contract import SandboxSpec
    sandbox = LocalSandbox(SandboxSpec(image=empty_image()))
    sandbox.start()
    sandbox.run("sleep 87654 & setsid sleep 87654 & (trap '' TERM HUP; sleep 87654) & disown")
    print("ready", flush=True)
    sandbox.run("sleep 87654")
"""


def test_killed_parent_leaves_no_process_and_the_reaper_the_rest() -> None:
    before = _sleepers()
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(START_AND_HANG)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    assert [name for name in reap_local() if str(parent.pid) in name] == []  # it lives: not ours to remove
    wait_until(lambda: len(_sleepers() - before) >= 3)  # the last command begins after the line
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not _sleepers() - before)
    left = [name for name in os.listdir(episodes_folder()) if f"%3A{parent.pid}%3A" in name]
    assert len(left) == 1
    cgroups = (episodes_folder() / left[0] / "cgroups").read_text().split()
    assert f"local episode {left[0].rpartition('+')[2]}" in reap_local()
    assert not (episodes_folder() / left[0]).exists()
    assert [path for path in cgroups if os.path.exists(path)] == []


def _sleepers() -> set[int]:
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path("/proc", name, "cmdline").read_bytes() == b"sleep\x0087654\0":
                found.add(int(name))
        except OSError:
            continue
    return found


# -------------------------------------------------------------------------------------------------------------- images

DOCKERFILE = r"""
# a comment
ARG BASE_IMAGE=some/base:1
FROM ${BASE_IMAGE}
ENV LANG=C.UTF-8 GREETING="hello  $USER there" RAW='$USER'
ARG WHO=nobody
ARG UNSET
COPY certs/ /etc/ssl/certs/
COPY files/ /testbed/
COPY --nothing
"""


def test_dockerfile_is_built(tmp_path: Path) -> None:
    text = DOCKERFILE.replace("COPY --nothing\n", "") + textwrap.dedent(r"""
        WORKDIR /testbed
        # between
        RUN echo "$GREETING/$RAW/$WHO/${UNSET-unset}" > greeting \
         # a comment in a continuation
         && pwd >> greeting
        ENV PATH=/opt/bin:$PATH
        RUN ["bash", "-c", "mkdir -p /opt/bin && printf '#!/bin/sh\necho tool $1\n' >/opt/bin/tool"]
        RUN chmod 755 /opt/bin/tool
        RUN tool one >> greeting && git init -q . \
         && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first
        CMD ["bash"]
    """)
    (tmp_path / "Dockerfile").write_text(text)
    (tmp_path / "files" / "deep").mkdir(parents=True)
    (tmp_path / "files" / "deep" / "script").write_text("echo deep\n")
    (tmp_path / "files" / "deep" / "script").chmod(0o755)
    build_local_image("tiny/image:1", tmp_path / "Dockerfile", build_args={"WHO": "me", "NOT_ASKED_FOR": "x"})
    settings = load_image("tiny/image:1")
    assert (settings.base, settings.workdir) == ("some/base:1", "/testbed")
    assert settings.env == {
        "PATH": f"/opt/bin:{PATH}",
        "LANG": "C.UTF-8",
        "GREETING": "hello   there",
        "RAW": "$USER",
    }
    with LocalSandbox(SandboxSpec(image="tiny/image:1")) as sandbox:
        assert output(sandbox, "cat greeting; deep/script; tool two; git log --format=%s; echo $LANG $WHO") == (
            "hello   there/$USER/me/unset\n/testbed\ntool one\ndeep\ntool two\nfirst\nC.UTF-8\n"
        )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ADD x /", "does not know ADD"),
        ("COPY --from=other /x /y", "no options of COPY"),
        ("COPY missing /y", "not in the build context"),
        ("COPY ../outside /y", "leads out of the build context"),
        ("RUN echo why; exit 3", "exit code 3: why"),
        ("RUN touch /usr/lib/x", "exit code 1"),
        ("RUN cat <<EOF", "heredocs"),
        ("FROM second", "multi-stage"),
        ("USER nobody", "one user, root"),
        ("ENV A=1 B", "expected NAME=VALUE"),
    ],
)
def test_what_cannot_be_built_names_the_line(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM base\n\n{line}\n")
    with pytest.raises(ImageError, match=rf"Dockerfile:3: .*{problem}"):
        build_local_image("bad", tmp_path / "Dockerfile")
    assert not image_folder("bad").exists()


def test_dockerfile_lines(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM a\n\nRUN one \\\n# no\n  two\nenv X=1\nRUN last \\\n")
    assert read_dockerfile(tmp_path / "Dockerfile") == [
        Instruction(1, "FROM", "a"),
        Instruction(3, "RUN", "one   two"),
        Instruction(6, "ENV", "X=1"),
        Instruction(7, "RUN", "last"),
    ]


def test_expand() -> None:
    variables = {"A": "1", "EMPTY": ""}
    words = ["$A", "${A}b", "'$A'", '"x $A"', r"\$A", "${NO:-d}", "${EMPTY:-d}", "${A:+set}", "$NO", '"it\'s"']
    assert [expand(word, variables) for word in words] == [
        "1", "1b", "$A", "x 1", "$A", "d", "d", "set", "", "it's"
    ]  # fmt: skip


def _task(tmp_path: Path, *, source: Path | None) -> Task:
    return Task(
        instance_id="a__b-1", repo="a/b", base_commit="", problem_statement="", patch="", test_patch="",
        FAIL_TO_PASS=(), PASS_TO_PASS=(), image="a/b:1", eval_script="", log_parser="", eval_type="",
        source=str(source) if source else None,
    )  # fmt: skip


def test_image_is_built_once(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM base\nRUN mkdir /testbed && date +%s%N >/testbed/when\n")
    task = _task(tmp_path, source=tmp_path)
    threads = [threading.Thread(target=ensure_local_image, args=[task]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    when = (image_folder("a/b:1") / "rootfs" / "testbed" / "when").read_text()
    ensure_local_image(task)
    assert (image_folder("a/b:1") / "rootfs" / "testbed" / "when").read_text() == when


def test_an_edited_dockerfile_or_context_is_built_again(tmp_path: Path) -> None:
    source = tmp_path / "task"
    source.mkdir()
    task = _task(tmp_path, source=str(source))

    def built(*, dockerfile: str | None = None, answer: str | None = None) -> tuple[str, str, str | None]:
        if dockerfile is not None:
            (source / "Dockerfile").write_text(f"FROM base\n{dockerfile}WORKDIR /testbed\n")
        if answer is not None:
            (source / "answer.txt").write_text(answer)
        ensure_local_image(task)
        rootfs = image_folder(task.image) / "rootfs"
        made = load_image(task.image)
        when = (rootfs / "when").read_text()
        return (rootfs / "testbed" / "answer.txt").read_text(), when, made.digest

    copies = "RUN date +%s%N >/when\nCOPY answer.txt /testbed/\n"
    first = built(dockerfile=copies, answer="first")
    assert first[0] == "first"
    assert built() == first
    second = built(answer="second")
    assert (second[0], second[1]) == ("second", first[1])  # the layer before it is the same
    assert second[2] != first[2]
    third = built(dockerfile=copies.replace("RUN", "ENV A=1\nRUN"))
    assert (third[0], load_image(task.image).env["A"]) == ("second", "1")
    assert third[1] != second[1]
    assert built(answer="first", dockerfile=copies)[2] == first[2]

    by_hand = LocalImage(workdir="/elsewhere")
    (image_folder(task.image) / "image.json").write_bytes(msgspec.json.encode(by_hand))
    ensure_local_image(task)
    assert load_image(task.image) == by_hand


def _built_when(folder: Path, name: str, *, installs: str, task: str) -> tuple[str, str]:
    """When the RUN of an image was carried out, and what the task's own file holds."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        "FROM base\nCOPY needs.txt /needs.txt\nRUN date +%s%N >/when\nENV A=1\nWORKDIR /testbed\nCOPY task.txt ./\n"
    )
    (folder / "needs.txt").write_text(installs)
    (folder / "task.txt").write_text(task)
    build_local_image(name, folder / "Dockerfile")
    assert load_image(name).workdir == "/testbed"
    assert load_image(name).env["A"] == "1"
    rootfs = image_folder(name) / "rootfs"
    return (rootfs / "when").read_text(), (rootfs / "testbed" / "task.txt").read_text()


@pytest.mark.parametrize("steps", ["", "RUN true\n", "RUN true\nCOPY Dockerfile /x\n", "WORKDIR /testbed\n"])
def test_the_last_line_counts(tmp_path: Path, steps: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM base\n{steps}ENV PATH=/opt/venv/bin:$PATH\n")
    build_local_image("ends", tmp_path / "Dockerfile")
    assert load_image("ends").env == {"PATH": f"/opt/venv/bin:{PATH}"}


def test_images_that_begin_alike_run_it_once(tmp_path: Path) -> None:
    one, task = _built_when(tmp_path / "1", "one", installs="pytest", task="1")
    assert task == "1"
    assert _built_when(tmp_path / "2", "two", installs="pytest", task="2") == (one, "2")
    other, _ = _built_when(tmp_path / "3", "three", installs="pytest-cov", task="2")
    assert other > one


def test_an_image_without_a_dockerfile_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for source in (None, tmp_path):
        with pytest.raises(ImageError, match="image a/b:1: fetching it without an engine takes skopeo and umoci"):
            ensure_local_image(_task(tmp_path, source=source))


def test_a_new_image_is_made_once_by_many() -> None:
    """Those that made it at a time took each other's away: the first tasks on a new machine failed."""

    def made(_: int) -> int:
        return (image_folder(new_image("new")) / "rootfs").stat().st_ino

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(made, range(8)))) == 1


def test_new_image_is_left_as_it_is() -> None:
    assert new_image("x") == "x"
    made = (image_folder("x") / "image.json").stat().st_mtime_ns
    assert new_image("x") == "x"
    assert (image_folder("x") / "image.json").stat().st_mtime_ns == made
    assert load_image("x") == LocalImage(owner=host_uid())


def test_kill_all_returns_when_the_processes_are_gone() -> None:
    """A killed process lives on until the kernel comes to it: one in twenty of these counts saw some."""
    with LocalSandbox(SandboxSpec(image=empty_image())) as sandbox:
        for _ in range(20):
            sandbox.run("for i in {1..100}; do sleep 98099 >/dev/null 2>&1 & done", timeout_s=30)
            sandbox.kill_all()
            processes = sandbox.run("set -- /proc/[0-9]*; echo $#", timeout_s=30).output
            assert int(processes) <= 3  # process 1, the new shell, the command's subshell
