"""What works on this machine, and what to do about the rest.

Reads the machine: engine, kernel, disks, GPU; asks an endpoint; loads a tokenizer. Writes one small file into the run's
folder and takes it away, starts one container and one local sandbox, and leaves nothing behind.

    diagnosis = diagnose(Asked(run="runs/first", endpoint="http://localhost:8000/v1#teacher"))
    diagnosis.works                                         # whether runs can be collected, and what was asked is right
    [finding for finding in diagnosis.findings if finding.state == "error"]

One function a check, which gives one Finding; `doctor_model.py` has those of GPU, vLLM, endpoint and tokenizer. A use
works where none of the findings that it needs is an error, and containers only where one was seen to start.
"""

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

import docker
import msgspec
import requests

from srft.agent.openai_model import OpenAIConfig
from srft.env.errors import SrftError
from srft.env.sandbox import Sandbox, SandboxSpec

State = Literal["ok", "warning", "error"]

DISK_WARNING_BYTES = 20 * 10**9
DISK_ERROR_BYTES = 2 * 10**9
MEMORY_WARNING_BYTES = 4 * 10**9
"""What one episode may take by default, nearly."""
ENGINE_TIMEOUT_S = 20
TRIAL_TIMEOUT_S = 30.0
TRIAL_IMAGES = 3
PACKAGES = ("srft", "swebench", "docker", "torch", "transformers", "peft", "datasets", "openai", "ray")


class Finding(msgspec.Struct, frozen=True):
    """What one check found. remedy: what to do about it; `None` where nothing is wrong."""

    name: str
    state: State
    found: str
    remedy: str | None = None


class Use(msgspec.Struct, frozen=True):
    """Something that srft is used for. works: `None` where it could not be tried. stopped_by: the finding that stands
    in its way; remedy: that finding's."""

    name: str
    works: bool | None
    stopped_by: str | None = None
    remedy: str | None = None


class Diagnosis(msgspec.Struct, frozen=True):
    """All findings, and what follows from them."""

    works: bool
    uses: tuple[Use, ...]
    findings: tuple[Finding, ...]


class DoctorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `srft doctor --set` reads: the group of keys that collecting has too."""

    openai: OpenAIConfig = OpenAIConfig()


class Asked(NamedTuple):
    """What to look at besides the machine. `None` is not looked at.

    endpoint: as `--model` names it, http://HOST/v1#NAME. openai: how it is asked, the variable with its key above all.
    """

    run: str | None = None
    endpoint: str | None = None
    tokenizer: str | None = None
    openai: OpenAIConfig = OpenAIConfig()


IN_DOCKER = ("engine", "container", "disk: images of the engine")
ON_THIS_MACHINE = ("local sandbox", "disk: local images")
FILES = ("disk: runs", "run folder")


def diagnose(asked: Asked) -> Diagnosis:
    """Look at everything. Raises nothing for what is wrong with the machine: that is a finding."""
    findings = tuple(_findings(asked))
    uses = uses_of(findings)
    wrong = {finding.name for finding in findings if finding.state == "error"}
    collects = any(use.works for use in uses if use.name.startswith("collect"))
    return Diagnosis(collects and not wrong & {"endpoint", "tokenizer", "run folder"}, uses, findings)


def _findings(asked: Asked) -> Iterator[Finding]:
    from srft.harness.doctor_model import check_endpoint, check_gpu, check_tokenizer, check_vllm

    yield check_versions()
    with _open_engine() as (engine, finding):
        yield finding
        images = None
        if engine is not None:
            images = images_folder(engine)
            base = check_base_image(engine)
            yield base
            yield check_container((base_image(),) if base.state == "ok" else other_images(engine), base)
    yield check_local_sandbox()
    run = Path(asked.run or "runs")
    for what, place, remedy in places(run, images):
        yield check_disk(what, place, remedy)
    yield check_run_folder(run)
    yield check_memory()
    yield check_cpus()
    yield check_gpu()
    yield check_vllm()
    if asked.endpoint is not None:
        yield check_endpoint(asked.endpoint, asked.openai)
    if asked.tokenizer is not None:
        yield check_tokenizer(asked.tokenizer)


def uses_of(findings: tuple[Finding, ...]) -> tuple[Use, ...]:
    """What works and what does not. That there is no GPU is no error of a machine, but training on one needs it.

    >>> uses_of((Finding("gpu", "warning", "none", "train on the CPU"),))[4]
    Use(name='train on a GPU', works=False, stopped_by='gpu', remedy='train on the CPU')
    """
    errors = {finding.name: finding for finding in findings if finding.state == "error"}
    no_gpu = next((finding for finding in findings if finding.name == "gpu" and finding.state != "ok"), None)

    def stop(*names: str) -> Finding | None:
        return next((errors[name] for name in names if name in errors), None)

    docker, local, files, endpoint = stop(*IN_DOCKER), stop(*ON_THIS_MACHINE), stop(*FILES), stop("endpoint")
    untried = next((finding for finding in findings if finding.name == "container" and finding.state != "ok"), None)
    training = stop("tokenizer", "disk: models") or files
    stops = {
        "collect in Docker": docker or files or endpoint,
        "collect locally": local or files or endpoint,
        "evaluate": (docker and local and docker) or files,
        "train on the CPU": training,
        "train on a GPU": no_gpu or training,
        "serve": stop("vllm", "disk: models"),
        "view": None,
    }
    unknown = {"collect in Docker": untried, "evaluate": untried if local else None}
    return tuple(_use(name, found, unknown.get(name)) for name, found in stops.items())


def _use(name: str, stop: Finding | None, untried: Finding | None) -> Use:
    """Whether it works. stop: an error in its way; untried: what is not known of what it needs."""
    if stop is not None:
        return Use(name, works=False, stopped_by=stop.name, remedy=stop.remedy)
    if untried is not None:
        return Use(name, works=None, stopped_by=untried.name, remedy=untried.remedy)
    return Use(name, works=True)


# ---- containers ----


@contextlib.contextmanager
def _open_engine() -> Iterator[tuple[docker.DockerClient | None, Finding]]:
    """The engine, `None` where none answers, and what was found of it."""
    where = os.environ.get("DOCKER_HOST") or "the default socket"
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
    from srft.env.images import DEFAULT_BASE_IMAGE

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
    from srft.env.docker import DockerSandbox

    remedy = "mend what the engine says; `docker run --rm -it IMAGE bash` must work by hand; or take --sandbox local"
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
    from srft.env.bubblewrap import check_bubblewrap
    from srft.env.errors import EngineError
    from srft.env.local import LocalSandbox, empty_image

    try:
        check_bubblewrap()
    except EngineError as error:
        found, _, remedy = str(error).partition("; ")
        if shutil.which("bwrap") is None:
            remedy = "`sudo apt-get install bubblewrap`, or your system's like; or take --sandbox docker"
        return Finding("local sandbox", "error", found, remedy)
    remedy = "make room in SRFT_LOCAL_EPISODES (/var/tmp) and SRFT_LOCAL_IMAGES (~/.cache/srft); or --sandbox docker"
    return _trial("local sandbox", lambda: LocalSandbox(SandboxSpec(image=empty_image())), remedy)


# ---- places ----


def images_folder(engine: docker.DockerClient) -> Path | None:
    """Where the engine keeps its images, `None` where that is not on this machine."""
    named = os.environ.get("DOCKER_HOST", "")
    if named and not named.startswith("unix://"):
        return None
    folder = Path(engine.info().get("DockerRootDir") or "/var/lib/docker")
    return folder if folder.is_dir() else None


def places(run: Path, images: Path | None) -> Iterator[tuple[str, Path, str]]:
    """(what lies there, where, how to have it elsewhere) of each folder that grows; images: the engine's folder."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from srft.env.local_rootfs import image_folder

    yield "runs", run, "put the run on another disk with --run"
    if images is not None:
        yield "images of the engine", images, "`docker system prune`, `srft clean`, or set images.disk_budget_gib"
    yield "local images", image_folder("any").parent, "put them on another disk with SRFT_LOCAL_IMAGES"
    yield "models", Path(HF_HUB_CACHE), "put them on another disk with HF_HOME"


def check_disk(what: str, place: Path, remedy: str) -> Finding:
    """The room where the place lies, or will lie."""
    there = _existing(place)
    try:
        free_bytes = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(f"disk: {what}", "error", f"{there}: {error.strerror}", remedy)
    found = f"{free_bytes / 1e9:.1f} GB free at {there}"
    if free_bytes < DISK_ERROR_BYTES:
        return Finding(f"disk: {what}", "error", f"{found}; at least 2 GB are needed", f"make room, or {remedy}")
    if free_bytes < DISK_WARNING_BYTES:
        return Finding(f"disk: {what}", "warning", f"{found}; 20 GB are soon used", f"make room, or {remedy}")
    return Finding(f"disk: {what}", "ok", found)


def _existing(place: Path) -> Path:
    """The place, or the nearest folder above it that is there and can be seen."""
    return next(path for path in (place.absolute(), *place.absolute().parents) if os.path.exists(path))


def check_run_folder(run: Path) -> Finding:
    """That a record can be written there, by writing one."""
    there = _existing(run)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedy = "name a folder of yours on a disk with room: --run DIR"
        return Finding("run folder", "error", f"{there} cannot be written ({error.strerror})", remedy)
    return Finding("run folder", "ok", f"{there} can be written")


# ---- this machine ----


def check_versions() -> Finding:
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return Finding("versions", "ok", ", ".join([*found, f"{platform.system()} {platform.release()}"]))


def check_memory() -> Finding:
    """What is free now: of the machine, or of the cgroup that holds this process where that is less."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        known = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        total_bytes, free_bytes = known["MemTotal"], known["MemAvailable"]
    except (OSError, KeyError, ValueError) as error:
        return Finding("memory", "warning", f"not known ({error})", "a Linux machine says it in /proc/meminfo")
    with contextlib.suppress(OSError, ValueError):  # "max", or no cgroup of version 2
        limit_bytes = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used_bytes = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total_bytes, free_bytes = min(total_bytes, limit_bytes), min(free_bytes, limit_bytes - used_bytes)
    found = f"{free_bytes / 1e9:.1f} GB free of {total_bytes / 1e9:.1f}"
    if free_bytes < MEMORY_WARNING_BYTES:
        remedy = "end what else runs, take fewer --workers, or lower sandbox.memory_gib"
        return Finding("memory", "warning", f"{found}; one episode may take 4 GiB", remedy)
    return Finding("memory", "ok", found)


def check_cpus() -> Finding:
    cpus = len(os.sched_getaffinity(0))
    if cpus == 1:
        return Finding("cpus", "warning", "1", "episodes and grading wait for each other: take --workers 1")
    return Finding("cpus", "ok", str(cpus))


def output_of(command: list[str], *, timeout_s: float) -> str | None:
    """What a command printed, `None` where it is not there or failed."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None
