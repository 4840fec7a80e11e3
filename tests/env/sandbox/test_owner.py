"""Whether an owner's end is certain: by host, boot, pid namespace, pid and start time."""

import shutil
import subprocess
import sys

import pytest

from srft.env.sandbox import owner as owners
from srft.env.sandbox.owner import is_orphan, owner

GONE = str(2**22 + 1)
"""No pid: the kernel's largest is 2**22."""


def changed(**fields: str) -> str:
    names = ("host", "boot", "namespace", "pid", "start_time")
    own = dict(zip(names, owner().split(":"), strict=True))
    return ":".join({**own, **fields}.values())


def test_who_is_an_orphan() -> None:
    own_start = int(owner().split(":")[4])
    table = {
        "this process": (owner(), False),
        "a pid that is gone": (changed(pid=GONE), True),
        "a pid that came round again": (changed(start_time=str(own_start - 1)), True),
        "another pid namespace": (changed(namespace="4026539999", pid=GONE), False),
        "another host": (changed(host="elsewhere", pid=GONE), False),
        "another boot, maybe of another machine of that name": (changed(boot="00000000"), False),
        "a system without /proc": (changed(boot="-", namespace="-", pid=GONE), False),
        "an older srft's": (f"{owner().split(':')[0]}:{GONE}:1", False),
        "no pid": (changed(pid="x"), False),
        "nonsense": ("nonsense", False),
        "nobody": (None, False),
    }
    assert {name: is_orphan(owned_by) for name, (owned_by, _) in table.items()} == {
        name: orphan for name, (_, orphan) in table.items()
    }


def test_an_earlier_boot_of_this_machine_has_ended() -> None:
    assert is_orphan(changed(boot="00000000"), same_machine=True) is True
    assert is_orphan(changed(boot="00000000", host="elsewhere"), same_machine=True) is False
    assert is_orphan(owner(), same_machine=True) is False


def test_where_there_is_no_proc_nobody_is_an_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    of_linux = changed(pid=GONE)
    host = of_linux.split(":")[0]
    monkeypatch.setattr(owners, "_place", lambda: f"{host}:-:-")
    assert (is_orphan(owner()), is_orphan(of_linux), is_orphan(f"{host}:-:-:{GONE}:1")) == (False, False, False)


@pytest.mark.parametrize("proc", [["--mount-proc"], []], ids=["its own /proc", "the host's /proc"])
def test_a_living_process_of_another_pid_namespace_is_no_orphan(proc: list[str]) -> None:
    """Whether asked from outside or from inside: both have the same host name and see other pids."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Upf", "true"]).returncode:
        pytest.skip("no pid namespace can be made here (unshare -Upf)")
    script = "import sys; from srft.env.sandbox.owner import *; print(is_orphan(sys.argv[1]), owner())"
    ran = subprocess.run(
        ["unshare", "-Upf", *proc, sys.executable, "-c", script, owner()], capture_output=True, text=True, check=True
    )
    outside_seen_inside, inside = ran.stdout.split()
    assert outside_seen_inside == "False"
    assert inside.split(":")[:2] == owner().split(":")[:2]
    assert inside.split(":")[2] != owner().split(":")[2]
    assert is_orphan(inside) is False  # ended by now, which nobody out here can know
