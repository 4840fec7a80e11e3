"""Local images from OCI images: skopeo fetches, umoci unpacks; no engine and no root.

Reads a registry, or wherever skopeo can read from (an image named with one of TRANSPORTS), and writes a local image
(`rootfs.py`) with a system of its own: nothing of the host's /usr is seen in it. Beside the images lies

    $SRFT_LOCAL_IMAGES / .blobs/      layers as they were fetched, which other images share; `srft clean` removes them

    fetch_image("swebench/sweb.eval.x86_64.sympy_1776_sympy-24539:latest")
    fetch_image("docker-archive:/data/astropy.tar")

Every file belongs to the sandbox's one user, whoever it belonged to in the image.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loguru import logger

from srft.env.errors import ImageError
from srft.env.local.episode_folder import host_uid, remove_tree, run_checked
from srft.env.local.rootfs import LocalImage, image_folder, locked_image, place_image

TRANSPORTS = ("docker://", "docker-archive:", "docker-daemon:", "oci:", "oci-archive:", "dir:", "containers-storage:")
PROGRAMS = ("skopeo", "umoci")
FETCH_TIMEOUT_S = 3600.0
RETRIES = 3
BLOBS = ".blobs"


def missing_programs() -> list[str]:
    """What has to be installed before images can be fetched."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def fetch_image(image: str) -> None:
    """Have it as a local image: found, or fetched and unpacked. Raises ImageError.

    Many processes may ask at once: one fetches, the others wait.
    """
    with locked_image(image) as is_there:
        if not is_there:
            _fetch(image)


def remove_blobs() -> bool:
    """Remove the layers as they were fetched; images stay. Gives whether there were some."""
    blobs = image_folder("any").parent / BLOBS
    there = blobs.is_dir()
    remove_tree(blobs)
    return there


def _fetch(image: str) -> None:
    if missing := missing_programs():
        raise ImageError(
            f"image {image}: fetching it without an engine takes {' and '.join(missing)}; install them (Debian: "
            f"apt-get install {' '.join(missing)}), or take --sandbox docker"
        )
    began = time.monotonic()
    logger.info("fetching the image {} as a local image", image)
    folder = image_folder(image)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        layout, rootfs = _copied(image, fresh), fresh / "rootfs"
        settings = _settings(layout)
        _run(image, ["umoci", "raw", "unpack", "--rootless", "--image", f"{layout}:srft", str(rootfs)])
        shutil.rmtree(layout)
        _check_bash(image, rootfs)
        if os.getuid() == 0:
            run_checked(["chown", "-R", "-h", f"{host_uid()}:{host_uid()}", str(rootfs)])
        place_image(image, fresh, settings)
    finally:
        remove_tree(fresh)
    logger.info("{} is a local image after {:.0f} s", image, time.monotonic() - began)


def _copied(image: str, fresh: Path) -> Path:
    """The image as an OCI layout, whose blobs lie where those of other images do."""
    blobs, layout = fresh.parent / BLOBS, fresh / "oci"
    blobs.mkdir(exist_ok=True)
    layout.mkdir()
    (layout / "blobs").symlink_to(blobs)
    # No signatures are asked for, as engines ask for none; the policy file that would say so is not everywhere.
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--retry-times", str(RETRIES)]
    command += ["--dest-compress-format", "gzip"]  # what every umoci reads
    if _is_loopback(image):
        command.append("--src-tls-verify=false")
    _run(image, [*command, source_of(image), f"oci:{layout}:srft"])
    return layout


def source_of(image: str) -> str:
    """What skopeo calls the image.

    >>> source_of("debian:12"), source_of("docker-archive:/data/x.tar")
    ('docker://debian:12', 'docker-archive:/data/x.tar')
    """
    return image if image.startswith(TRANSPORTS) else f"docker://{image}"


def _is_loopback(image: str) -> bool:
    """Whether its registry is on this machine, where engines ask for no certificate either."""
    source = source_of(image)
    registry = source.removeprefix("docker://").partition("/")[0]
    return source.startswith("docker://") and bool(re.fullmatch(r"(localhost|127\.[\d.]+|\[::1\])(:\d+)?", registry))


def _run(image: str, command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=FETCH_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"image {image}: {command[0]} failed ({error})") from error
    if done.returncode != 0:
        raise ImageError(
            f"image {image}: {command[0]} failed ({_last_words(done.stderr)}); check its name, the way to its registry "
            "(skopeo login, proxy), and the room in SRFT_LOCAL_IMAGES"
        )


def _last_words(said: str) -> str:
    """The message of a program's last line, without time and level."""
    line = (said.strip().splitlines() or ["it says nothing"])[-1]
    found = re.search(r'msg="((?:[^"\\]|\\.)*)"', line)
    return found[1].replace('\\"', '"') if found else line[-1000:]


def _settings(layout: Path) -> LocalImage:
    """What the image's configuration says of environment and folder."""
    index = json.loads((layout / "index.json").read_bytes())
    manifest = _blob(layout, index["manifests"][0])
    config = _blob(layout, manifest["config"]).get("config") or {}
    return LocalImage(
        env=dict(_variables(config)),
        workdir=config.get("WorkingDir") or "/",
        own_system=True,
        digest=manifest["config"]["digest"],
    )


def _blob(layout: Path, descriptor: Mapping[str, Any]) -> dict[str, Any]:
    algorithm, _, name = descriptor["digest"].partition(":")
    content: dict[str, Any] = json.loads((layout / "blobs" / algorithm / name).read_bytes())
    return content


def _variables(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for line in config.get("Env") or ():
        name, is_pair, value = line.partition("=")
        if is_pair and name:
            yield name, value


def _check_bash(image: str, rootfs: Path) -> None:
    if not any(os.path.lexists(rootfs / folder / "bash") for folder in ("bin", "usr/bin", "usr/local/bin")):
        raise ImageError(f"image {image}: no bash in it, and commands run in one; take an image that has bash")
