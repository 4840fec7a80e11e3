r"""The local sandbox, for machines without a container engine: bubblewrap over root file systems.

Reads local images and writes one folder per episode, removed by `close`:

    $SRFT_LOCAL_IMAGES (default ~/.cache/srft/images) / <image name, %-escaped> / rootfs/      testbed/, opt/, root/ ...
                                                                                 image.json   {"env", "workdir", ...}
    $SRFT_LOCAL_EPISODES (default /var/tmp/srft-<uid>) / <owner>+<token> / rootfs/       the episode's own copy
                                                                          snapshots/

    with LocalSandbox(SandboxSpec(image=empty_image())) as sandbox:
        sandbox.run("git status --short", timeout_s=10).output     # ''

Where the kernel can (Linux 5.11, and a file system that takes it), "copy" is an overlay mounted for the sandbox alone:
a start costs the same for every image. Else the image is copied. Images made by hand are always copied; they are given
what is missing of /etc, /tmp and the like.

What a process sees of the host and what limits hold: `bubblewrap.py`.
"""

import contextlib
import os
import re
import secrets
import signal
import threading
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from loguru import logger

from srft.env.errors import EngineError, InputError, SandboxDied
from srft.env.local.bubblewrap import BubblewrapGround, check_bubblewrap, has_overlay
from srft.env.local.cgroups import cgroup_pids, remove_cgroup
from srft.env.local.channel import FdChannel
from srft.env.local.episode_folder import (
    EpisodeFolder,
    copy_command,
    episodes_folder,
    host_uid,
    remove_tree,
    run_checked,
)
from srft.env.local.oci import remove_blobs
from srft.env.local.rootfs import ETC_NEW, LocalImage, furnish, image_folder, load_image, locked_image, put_image
from srft.env.sandbox.contract import READ_LIMIT_BYTES, SandboxSpec
from srft.env.sandbox.owner import is_orphan
from srft.env.sandbox.shell import ShellSandbox


class LocalSandbox(ShellSandbox):
    """One task on this machine. `bubblewrap.py` says what confines it."""

    def __init__(self, spec: SandboxSpec) -> None:
        if spec.user != "root":
            raise InputError(f"user {spec.user!r}: the local sandbox has one user, root; take --sandbox docker")
        self.spec = spec
        self._episode: EpisodeFolder | None = None
        self._ground: BubblewrapGround | None = None
        self._image = LocalImage()
        self._closing = threading.Lock()

    @property
    def limits_held(self) -> frozenset[str]:
        """Which of "pids", "memory", "cpu" hold for the sandbox as a whole, and "memory per process"."""
        return self._ground.limits_held if self._ground else frozenset()

    def start(self) -> None:
        check_bubblewrap()
        if self.spec.network not in ("none", "host"):
            _tell_no_network(self.spec.network)
        image = load_image(self.spec.image)
        self._image = image
        self._episode = EpisodeFolder()
        try:
            self._fill(self._episode, image)
            self._begin(self._episode)
        except BaseException:
            self.close()
            raise

    def _fill(self, episode: EpisodeFolder, image: LocalImage) -> None:
        """The episode's own copy of the image."""
        source = image_folder(self.spec.image) / "rootfs"
        if image.owner == host_uid() and has_overlay(host_uid(), episodes_folder()):
            episode.overlay(source.resolve())
            episode.give_away(whole=False)
            return
        run_checked(copy_command(str(source), str(episode.rootfs)))
        if image.owner is None:  # made by hand
            furnish(episode.rootfs)
        episode.give_away(whole=True)

    def _begin(self, episode: EpisodeFolder) -> None:
        own_system = self._image.own_system
        self._ground = BubblewrapGround(self.spec, episode, self._image.env, own_system=own_system)
        self._control = self._ground.start()
        if own_system:  # engines mount these two over the image's
            self._ground.files.write("/etc/hosts", ETC_NEW["hosts"].encode(), mode=0o644)
            self._ground.files.write("/etc/hostname", ETC_NEW["hostname"].encode(), mode=0o644)
        if self.spec.network == "host":
            with contextlib.suppress(FileNotFoundError):  # a host may do without
                self._ground.files.write("/etc/resolv.conf", Path("/etc/resolv.conf").read_bytes(), mode=0o644)
        self._live_shell()

    def _open_channel(self) -> FdChannel:
        return self._running().open_channel()

    def _running(self) -> BubblewrapGround:
        self._live_control().ask(":")
        assert self._ground is not None
        return self._ground

    def _path(self, path: str) -> str:
        return os.path.join(self.spec.workdir, path)

    def read(self, path: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
        return self._running().files.read(self._path(path), limit_bytes=limit_bytes)

    def write(self, path: str, content: bytes, *, mode: int | None = None) -> None:
        self._running().files.write(self._path(path), content, mode=mode)

    def snapshot(self) -> str:
        ground = self._running()
        assert self._episode is not None
        name = secrets.token_hex(4)
        try:
            ground.copy(self._episode.rootfs, self._episode.snapshots / name)
        except EngineError:
            remove_tree(self._episode.snapshots / name)
            raise
        return name

    def restore(self, snapshot: str) -> None:
        episode, ground = self._episode, self._ground
        if episode is None or ground is None:
            raise SandboxDied("the sandbox is not running: it was never started, or was closed")
        kept = episode.snapshots / snapshot
        if not re.fullmatch("[0-9a-f]{8}", snapshot) or not kept.is_dir():
            raise InputError(f"snapshot {snapshot!r}: this sandbox has none of that name")
        self._hang_up()
        ground.end()
        if episode.overlaid:
            episode.overlay(kept)
            episode.give_away(whole=False)
        else:
            remove_tree(episode.rootfs)
            ground.copy(kept, episode.rootfs)
        self._begin(episode)

    def save_image(self, image: str, settings: LocalImage) -> None:
        """Make this sandbox's files the local image of that name, in place of an older one. Raises SandboxDied."""
        assert self._episode is not None
        self.kill_all()
        kept = self._episode.snapshots / self.snapshot()
        put_image(image, kept, settings)

    def close(self) -> None:
        with self._closing:
            self._hang_up()
            if self._ground is not None:
                self._ground.end()
                self._ground = None
            if self._episode is not None:
                self._episode.remove()
                self._episode = None


@cache
def _tell_no_network(network: str) -> None:
    """Once a process. The host's own network in its place would show the sandbox the host's loopback."""
    logger.warning(
        "the local sandbox has no network {}: what asks for it gets no network at all; take --sandbox docker where "
        "tests need one",
        network,
    )


def new_image(name: str, *, git_folder: str | None = None) -> str:
    """Make a local image of that name, empty but for a git repository with one empty commit; or leave the one there."""
    if not (image_folder(name) / "rootfs").is_dir():
        with locked_image(name) as is_there:
            if not is_there:
                _make_image(name, git_folder)
    return name


def _make_image(name: str, git_folder: str | None) -> None:
    episode = EpisodeFolder()
    try:
        episode.rootfs.mkdir()
        furnish(episode.rootfs)
        if git_folder is not None:
            repository = str(episode.rootfs / git_folder)
            as_somebody = ["-c", "user.name=srft", "-c", "user.email=srft@example.invalid"]
            run_checked(["git", "init", "-q", "-b", "main", repository])
            run_checked(["git", "-C", repository, *as_somebody, "commit", "-q", "--allow-empty", "-m", "empty"])
        episode.give_away(whole=True)
        put_image(name, episode.rootfs, LocalImage())
    finally:
        episode.remove()


def empty_image() -> str:
    """The name of a local image with nothing but an empty git repository (one commit) at /testbed."""
    return new_image("srft/empty", git_folder="testbed")


def reap_local(*, everything: bool = False) -> list[str]:
    """Remove the episodes that dead srft processes of this host left; `everything`: of living ones too.

    Their processes are dead already: process 1 of a sandbox ends with the process that started it. Returns what was
    removed.
    """
    removed = []
    for folder in sorted(episodes_folder().iterdir()):
        owned_by, _, token = folder.name.rpartition("+")
        if not token or not (everything or is_orphan(unquote(owned_by), same_machine=True)):
            continue
        with contextlib.suppress(FileNotFoundError):
            for line in (folder / "cgroups").read_text().splitlines():
                group = Path(line)
                for pid in cgroup_pids(group):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                remove_cgroup(group)
        remove_tree(folder)
        removed.append(f"local episode {token}")
    if everything and remove_blobs():
        removed.append("layers of OCI images, as they were fetched")
    return removed
