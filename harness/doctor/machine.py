"""The doctor's checks of the machine itself: versions, disks, the run's folder, memory, processors.

Writes one small file into the run's folder and takes it away. Each check raises nothing for what it finds.

    check_disk("runs", Path("runs"), "put the run on another disk with --run").state       # 'ok'
"""

import contextlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from srft.harness.doctor.finding import Finding

DISK_WARNING_BYTES = 20 * 10**9
DISK_ERROR_BYTES = 2 * 10**9
MEMORY_WARNING_BYTES = 4 * 10**9
"""What one episode may take by default, nearly."""
PACKAGES = ("srft", "swebench", "docker", "torch", "transformers", "peft", "datasets", "openai", "ray")


def places(run: Path, images: Path | None) -> Iterator[tuple[str, Path, str]]:
    """(what lies there, where, how to have it elsewhere) of each folder that grows; images: the engine's folder."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from srft.env.local.rootfs import image_folder

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
