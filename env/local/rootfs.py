"""Local images: folders that hold what a local sandbox's processes see as /.

Reads and writes $SRFT_LOCAL_IMAGES (default ~/.cache/srft/images):

    <image name, %-escaped> / rootfs/      testbed/, opt/, root/ ...
                              image.json   {"env", "workdir", ...}

    image_folder("demo/x:1")       # .../images/demo%2Fx%3A1
    load_image("demo/x:1").env     # {"PATH": ...}

An image made by hand may lack image.json, and of rootfs/ all but the task's files: `furnish` adds the rest to a copy.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from srft.env.errors import ImageError, InputError
from srft.env.local.episode_folder import copy_command, host_uid, remove_tree, run_checked

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

BOUND = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")

# What programs look up in /etc. No keys, no passwords, no accounts: those files are written new.
ETC = (
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "profile",
    "protocols",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
ETC_NEW = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1\tlocalhost srft\n::1\tlocalhost\n",
    "hostname": "srft\n",
}


class LocalImage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """image.json. owner: the user id that owns all of rootfs/, so that a copy need not be given away again.

    own_system: rootfs/ has programs and libraries of its own; else those of the host stand in it.
    digest: what tells its content: of an OCI image's configuration, which engines call the image's id; of all that went
    into a build.
    base, dockerfile: where it was built from, for the record.
    """

    env: dict[str, str] = {}
    workdir: str = "/testbed"
    owner: int | None = None
    own_system: bool = False
    digest: str | None = None
    base: str | None = None
    dockerfile: str | None = None


def image_folder(image: str) -> Path:
    """Where the local image of that name lies, or would lie."""
    if image in {"", ".", ".."}:
        raise InputError(f"image {image!r}: expected an image name")
    root = os.environ.get("SRFT_LOCAL_IMAGES") or Path.home() / ".cache" / "srft" / "images"
    return Path(root, quote(image, safe=""))


def load_image(image: str) -> LocalImage:
    """What image.json says. Raises ImageError."""
    folder = image_folder(image)
    if not (folder / "rootfs").is_dir():
        raise ImageError(
            f"image {image}: no local image (expected a folder at {folder / 'rootfs'}); local images are built from a "
            "task repo's Dockerfile, or prepared by hand; else take --sandbox docker"
        )
    try:
        return msgspec.json.decode((folder / "image.json").read_bytes(), type=LocalImage)
    except FileNotFoundError:
        return LocalImage()
    except (OSError, msgspec.MsgspecError) as error:
        raise ImageError(f"{folder / 'image.json'}: not readable ({error}); remove {folder} to have it built") from None


@contextlib.contextmanager
def locked_image(image: str) -> Iterator[bool]:
    """One process, and one thread of it, at a time makes that image; the others wait. Gives whether it is there."""
    folder = image_folder(image)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield (folder / "rootfs").is_dir()


def put_image(name: str, rootfs: Path, settings: LocalImage) -> None:
    """Copy a tree into the image folder whole or not at all. It is the sandbox user's already."""
    folder = image_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    fresh.chmod(0o755)
    try:
        run_checked(copy_command(str(rootfs), str(fresh / "rootfs")))
        place_image(name, fresh, settings)
    finally:
        remove_tree(fresh)


def place_image(name: str, fresh: Path, settings: LocalImage) -> None:
    """Make a folder beside the images, whose rootfs/ is the sandbox user's, the image of that name."""
    folder = image_folder(name)
    stamped = msgspec.structs.replace(settings, owner=host_uid())
    (fresh / "image.json").write_bytes(msgspec.json.format(msgspec.json.encode(stamped)))
    if folder.exists():
        folder.rename(fresh / "old")
    fresh.rename(folder)
    remove_tree(folder / "old")


def furnish(rootfs: Path) -> None:
    """What every root folder has, as far as the image does not bring it."""
    for name, mode in (("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777), ("run", 0o755), ("home", 0o755)):
        folder = rootfs / name
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(mode)
    for path in BOUND:
        here = rootfs / path.lstrip("/")
        if os.path.islink(path) and not here.is_symlink():
            here.symlink_to(os.readlink(path))
    if not (rootfs / "etc").is_dir():
        _furnish_etc(rootfs / "etc")


def _furnish_etc(etc: Path) -> None:
    etc.mkdir()
    there = [name for name in ETC if Path("/etc", name).exists()]
    # --parents keeps ssl/certs at its place; the links among the certificates stay links.
    run_checked(["cp", "-a", "--parents", *there, str(etc)], folder="/etc")
    for name, text in ETC_NEW.items():
        (etc / name).write_text(text)
