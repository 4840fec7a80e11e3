"""The doctor's checks of what holds an episode: the engine, its base image, a container, the local sandbox.

Starts one container and one local sandbox, and leaves nothing behind. Each check raises nothing for what it finds.

    check_local_sandbox().found        # 'starts and obeys, holds the limits of memory, pids'
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import docker
import requests

from srft.env.errors import SrftError
from srft.env.sandbox.contract import Sandbox, SandboxSpec
from srft.harness.doctor.finding import Finding

ENGINE_TIMEOUT_S = 20
TRIAL_TIMEOUT_S = 30.0
TRIAL_IMAGES = 3


@contextlib.contextmanager
def open_engine() -> Iterator[tuple[docker.DockerClient | None, Finding]]:
    """The engine, `None` where none answers, and what was found of it."""
    from srft.env.docker.sandbox import engine_address

    where = engine_address()
    try:
        engine = docker.from_env(timeout=ENGINE_TIMEOUT_S)
        about, info = engine.version(), engine.info()
    except (docker.errors.DockerException, requests.RequestException) as error:
        yield None, Finding("engine", "error", f"none answers at {where} ({_cause(error)})", engine_remedy())
        return
    kinds = [part.get("Name", "") for part in about.get("Components") or ()]
    kind = "Podman" if any("podman" in name.lower() for name in kinds) else "Docker"
    with contextlib.closing(engine):
        yield (
            engine,
            Finding("engine", "ok", f"{kind} {about.get('Version')} at {where}, storage driver {info.get('Driver')}"),
        )


def _cause(error: BaseException) -> BaseException:
    """What began it: the operating system's word, below what three libraries made of it."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return error


def engine_remedy() -> str:
    """What to do where no engine answers: use another socket, ask for permission, start one, or do without."""
    without = "or do without: --sandbox local"
    named = os.environ.get("DOCKER_HOST", "")
    path = Path(named.removeprefix("unix://") if named.startswith("unix://") else "/var/run/docker.sock")
    if (not named or named.startswith("unix://")) and path.is_socket() and not os.access(path, os.R_OK | os.W_OK):
        return f"get permission for {path}: `sudo usermod -aG docker $USER`, then log in again; {without}"
    if others := [other for other in _other_sockets() if other != path and other.is_socket()]:
        return f"`export DOCKER_HOST=unix://{others[0]}`, where a socket lies; {without}"
    if named:
        return f"start the engine at {named}, or `unset DOCKER_HOST` to take the default socket; {without}"
    if shutil.which("podman"):
        socket = f"unix://{_runtime_folder()}/podman/podman.sock"
        return f"`systemctl --user start podman.socket` and `export DOCKER_HOST={socket}`; {without}"
    return f"start Docker (`sudo systemctl start docker`), or install it (`make setup` does, as root); {without}"


def _other_sockets() -> list[Path]:
    """Where Docker, rootless Docker and Podman listen unless told otherwise."""
    own = _runtime_folder()
    listening = [Path("/var/run/docker.sock"), own / "docker.sock", own / "podman/podman.sock"]
    return [*listening, Path("/run/podman/podman.sock")]


def _runtime_folder() -> Path:
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")


def base_image() -> str:
    from srft.env.docker.images import DEFAULT_BASE_IMAGE

    return os.environ.get("SRFT_BASE_IMAGE") or DEFAULT_BASE_IMAGE


def check_base_image(engine: docker.DockerClient) -> Finding:
    """Tasks whose images are pulled do without it; practice tasks and task repos do not."""
    try:
        size_bytes = engine.images.get(base_image()).attrs["Size"]
    except docker.errors.ImageNotFound:
        remedy = "`make setup` makes it; or name an image with bash, python3 and git in SRFT_BASE_IMAGE"
        return Finding("base image", "warning", f"no {base_image()}: no task of a task repo can be built", remedy)
    except (docker.errors.DockerException, requests.RequestException) as error:
        return Finding("base image", "warning", f"the engine does not say ({error})", "look at the engine's log")
    return Finding("base image", "ok", f"{base_image()}, {size_bytes / 1e9:.1f} GB")


def other_images(engine: docker.DockerClient) -> tuple[str, ...]:
    """A few that the engine has, to try a container of where the base image is missing; srft's own first."""
    try:
        names = [name for image in engine.images.list() for name in image.tags]
    except (docker.errors.DockerException, requests.RequestException):
        return ()
    return tuple(sorted(names, key=lambda name: not name.startswith("srft/"))[:TRIAL_IMAGES])


def check_container(images: Sequence[str], base: Finding) -> Finding:
    """That a container starts and obeys, of the first of these images that can. base: what was found of the base image;
    without it a failure may be the fault of an image that was never srft's."""
    from srft.env.docker.sandbox import DockerSandbox

    remedy = "fix what the engine says; `docker run --rm -it IMAGE bash` must work by hand; or take --sandbox local"
    found = Finding("container", "warning", "not tried: there is no image", base.remedy)
    for image in images:
        spec = SandboxSpec(image=image, workdir="/")
        found = _trial("container", partial(DockerSandbox, spec), remedy)
        if base.state == "ok":
            return found
        if found.state == "ok":
            return Finding("container", "ok", f"{found.found} (tried with {image})")
        found = Finding("container", "warning", f"not known: {image} {found.found}", base.remedy)
    return found


def _trial(name: str, open_sandbox: Callable[[], Sandbox], remedy: str) -> Finding:
    """Start a sandbox and run a command in it."""
    try:
        with open_sandbox() as sandbox:
            ran = sandbox.run("echo here; git --version", timeout_s=TRIAL_TIMEOUT_S)
            held: frozenset[str] = getattr(sandbox, "limits_held", frozenset())
    except (SrftError, OSError, docker.errors.DockerException, requests.RequestException) as error:
        return Finding(name, "error", f"does not start: {error}", remedy)
    if ran.exit_code != 0:
        return Finding(name, "error", f"git does not run in it ({ran.exit_code}: {ran.output.strip()})", remedy)
    limits = f", holds the limits of {', '.join(sorted(held))}" if held else ""
    return Finding(name, "ok", f"starts and obeys{limits}")


def check_local_sandbox() -> Finding:
    """Bubblewrap and the user namespaces it needs, by starting one."""
    from srft.env.errors import EngineError
    from srft.env.local.bubblewrap import check_bubblewrap
    from srft.env.local.sandbox import LocalSandbox, empty_image

    try:
        check_bubblewrap()
    except EngineError as error:
        found, _, remedy = str(error).partition("; ")
        if shutil.which("bwrap") is None:
            remedy = "`sudo apt-get install bubblewrap`, or your system's like; or take --sandbox docker"
        return Finding("local sandbox", "error", found, remedy)
    remedy = "make room in SRFT_LOCAL_EPISODES (/var/tmp) and SRFT_LOCAL_IMAGES (~/.cache/srft); or --sandbox docker"
    return _trial("local sandbox", lambda: LocalSandbox(SandboxSpec(image=empty_image())), remedy)


def check_oci_programs() -> Finding:
    """What fetches the images of datasets for the local sandbox."""
    from srft.env.local.oci import PROGRAMS, missing_programs

    name = "images without an engine"
    if missing := missing_programs():
        remedy = (
            f"`sudo apt-get install {' '.join(missing)}`, or your system's like; Dockerfiles are built without them"
        )
        return Finding(name, "warning", f"the local sandbox fetches none: no {' and no '.join(missing)}", remedy)
    return Finding(name, "ok", f"the local sandbox fetches them with {' and '.join(PROGRAMS)}")


def images_folder(engine: docker.DockerClient) -> Path | None:
    """Where the engine keeps its images, `None` where that is not on this machine."""
    named = os.environ.get("DOCKER_HOST", "")
    if named and not named.startswith("unix://"):
        return None
    folder = Path(engine.info().get("DockerRootDir") or "/var/lib/docker")
    return folder if folder.is_dir() else None
