"""The folder of one local sandbox on the host, and whose its files are.

Writes one folder per episode, below $SRFT_LOCAL_EPISODES (default /var/tmp/srft-<uid>); `remove` takes it away:

    <owner>+<token> / rootfs/                what the sandbox's processes see as /
                      lower, upper/, work/   the overlay's layers, where one is mounted
                      snapshots/             whole copies of rootfs/
                      fifos/                 the work shells' ends, while they are opened
                      log, cgroups           what bubblewrap said; the sandbox's cgroups, a line each

    episode = EpisodeFolder()
    run_checked(copy_command("images/x/rootfs", str(episode.rootfs)))
    episode.give_away(whole=True)
    episode.remove()
"""

import contextlib
import os
import secrets
import shutil
import stat
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote

from srft.env.errors import EngineError
from srft.env.sandbox.owner import owner
from srft.env.sandbox.shell import BASH

UNCLAIMED_UID = 2_000_000_000
"""Who a sandbox of root's is on the host: in the range that no distribution, container engine or systemd hands out."""


@cache
def host_uid() -> int:
    """Who the sandbox's root is on the host."""
    if os.getuid() != 0:
        return os.getuid()
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= UNCLAIMED_UID < first + count:
            return UNCLAIMED_UID
    return 65534  # a container with few user ids: nobody


def run_checked(command: Sequence[str], *, folder: str | Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise EngineError(f"{' '.join(command[:2])} failed in the local sandbox: {done.stderr.strip()[-500:]}")


def copy_command(source: str, target: str) -> list[str]:
    return ["cp", "-a", "--reflink=auto", "-T", source, target]


def remove_tree(path: Path) -> None:
    """Remove it, however unreadable parts of it were made. Nothing may run in it any more."""
    if os.getuid() != 0:
        subprocess.run(["chmod", "-R", "u+rwX", str(path)], capture_output=True)
    shutil.rmtree(path, ignore_errors=True)


def episodes_folder() -> Path:
    """Where the episodes of this user lie; made when it is not there. Raises EngineError."""
    path = Path(os.environ.get("SRFT_LOCAL_EPISODES") or f"/var/tmp/srft-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
        if os.getuid() == 0:  # the sandbox's user must pass here
            os.chown(path, host_uid(), host_uid())
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.getuid(), host_uid()}:
        raise EngineError(f"{path}: expected a folder of ours for local episodes; remove it or set SRFT_LOCAL_EPISODES")
    return path


class EpisodeFolder:
    """One sandbox's folder on the host. Its name carries its owner, for the reaper.

    rootfs/ is a copy of the image, or the place where an overlay of `lower` (a link to the image) and upper/ is
    mounted, in the sandbox's own mount namespace only.
    """

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self.path = episodes_folder() / f"{quote(owner(), safe='')}+{self.token}"
        self.rootfs = self.path / "rootfs"
        self.fifos = self.path / "fifos"
        self.log = self.path / "log"
        self.snapshots = self.path / "snapshots"
        self.overlaid = False
        self._folders = [self.path, self.fifos, self.snapshots]
        for folder in self._folders:
            folder.mkdir(mode=0o755)

    def overlay(self, lower: Path) -> None:
        """Begin anew on a tree that stays as it is."""
        self.overlaid = True
        layers = [self.path / "upper", self.path / "work", self.rootfs]
        for folder in layers:
            remove_tree(folder)
            folder.mkdir(mode=0o755)
        (self.path / "lower").unlink(missing_ok=True)
        (self.path / "lower").symlink_to(lower)
        self._folders = list({*self._folders, *layers})

    def mounting(self, *, read_only: bool = False) -> list[str]:
        """The command line, up to the command, that runs it where the overlay is mounted. For `cwd=episode.path`."""
        if not self.overlaid:
            return []
        # Names relative to the episode's folder need no escapes for ':' and ','.
        layers = "lowerdir=upper:lower" if read_only else "lowerdir=lower,upperdir=upper,workdir=work"
        return _overlay_command(layers)

    def give_away(self, *, whole: bool) -> None:
        """To the sandbox's user: the folders that srft made, or the `whole` tree."""
        if os.getuid() == 0:
            recursive = ["-R"] if whole else []
            run_checked(["chown", *recursive, "-h", f"{host_uid()}:{host_uid()}", *map(str, self._folders)])

    def note_cgroups(self, paths: Sequence[Path]) -> None:
        (self.path / "cgroups").write_text("".join(f"{path}\n" for path in paths))

    def remove(self) -> None:
        remove_tree(self.path)


def _overlay_command(layers: str) -> list[str]:
    own = ["unshare", "--mount", "--propagation", "private"]
    if os.getuid() != 0:
        own += ["--user", "--map-root-user"]
        layers += ",userxattr"
    script = 'mount -t overlay overlay -o "$1" rootfs && shift && exec "$@"'
    return [*own, "--", *BASH, "-c", script, "srft", layers]
