"""Trees in a sandbox, for the tests of scrubbing and of patches: made, looked at, and made again from a patch."""

import json
import shlex
from typing import NamedTuple

from srft.env.git.patch import Patch, take_patch
from srft.env.git.record import Start
from srft.env.git.scrub import scrub
from srft.env.sandbox.contract import Sandbox

IDENTITY = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b"

BASE = """
git init -q -b main . && printf 'a\\nb\\n' >kept.txt && echo x >gone.txt && mkdir -p pkg/sub && echo one >pkg/a.py
echo two >pkg/sub/b.py && ln -s kept.txt link && printf '#!/bin/sh\\n' >run.sh && chmod +x run.sh
printf '*.log\\nbuild/\\n' >.gitignore && git add . && git commit -q -m base
"""

_LIST = """
import json, os, stat, sys
def listed(top):
    found = {}
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != b'.git']
        for name in [*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if name == b'.git':
                continue
            if stat.S_ISLNK(status.st_mode):
                what = ['link', False, os.readlink(path).hex()]
            elif stat.S_ISREG(status.st_mode):
                what = ['file', bool(status.st_mode & 0o100), open(path, 'rb').read().hex()]
            else:
                continue
            found[os.path.relpath(path, top).hex()] = what
    return found
json.dump([listed(os.fsencode(top)) for top in sys.argv[1:]], sys.stdout)
"""


class Entry(NamedTuple):
    """A file or link; content is a link's target."""

    kind: str
    executable: bool
    content: bytes


def made(sandbox: Sandbox, script: str, *, folder: str = "/testbed") -> None:
    """Runs a script that has to succeed."""
    ran = sandbox.run(f"cd {folder} && bash -e -c {shlex.quote(IDENTITY + chr(10) + script)}", 120)
    assert ran.exit_code == 0, ran.output


def begun(sandbox: Sandbox, script: str = BASE) -> Start:
    """A repository that the script makes, scrubbed and recorded, with copies at /fresh and /start."""
    clear = "rm -rf /testbed /fresh /start /srv /elsewhere /var/tmp/.srft*; mkdir /testbed /srv; cd /testbed"
    made(sandbox, f"{clear}\n{script}", folder="/")
    start = scrub(sandbox)
    made(sandbox, "cp -a /testbed /fresh; cp -a /testbed /start", folder="/")
    return start


def again(sandbox: Sandbox) -> None:
    """Makes the repository and the copy at /fresh anew as the last `begun` left them."""
    made(sandbox, "rm -rf /testbed /fresh /elsewhere; cp -a /start /testbed; cp -a /start /fresh", folder="/")


def trees_of(sandbox: Sandbox, *folders: str) -> list[dict[bytes, Entry]]:
    """Path to entry in each folder, without `.git` and what is neither file nor link."""
    listed = sandbox.run(
        f"cd /; python3 -I -S -c {shlex.quote(_LIST)} {shlex.join(folders)}", 60, output_limit_bytes=64 << 20
    )
    assert listed.exit_code == 0, listed.output
    return [
        {
            bytes.fromhex(path): Entry(kind, executable, bytes.fromhex(content))
            for path, (kind, executable, content) in tree.items()
        }
        for tree in json.loads(listed.output.rpartition("\n")[2])
    ]


def applied(sandbox: Sandbox, patch: Patch) -> None:
    """Applies a patch to /fresh as swebench does."""
    if patch.text:
        sandbox.write("/tmp/the.patch", patch.text.encode())
        ran = sandbox.run("cd /fresh && git apply --verbose /tmp/the.patch", 60)
        assert ran.exit_code == 0, f"{ran.output}\n{patch.text}"


def changed(sandbox: Sandbox, start: Start, script: str, *, timeout_s: float = 60) -> tuple[Patch, set[bytes]]:
    """(the patch of what the script did, the paths where /fresh differs from /start once the patch is applied to it).

    Asserts that these are as they are in the working directory.
    """
    sandbox.run(f"{IDENTITY}\n{script}", timeout_s)
    patch = take_patch(sandbox, start)
    applied(sandbox, patch)
    before, after, ours = trees_of(sandbox, "/start", "/fresh", "/testbed/.")
    differ = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    for path in differ:
        assert after.get(path) == ours.get(path), path
    return patch, differ
