"""What tests share: the container engine, the base image, the real inputs beside the checkout, the small models.

Each fixture skips with its reason where the machine lacks the thing. SRFT_SHARED names the real inputs' folder; without
it, `shared/data` beside the checkout or in it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from hypothesis import HealthCheck, settings

from srft.env.tasks.task import Task, load_tasks
from tests import tiny

# Tiny models gain nothing from threads, and several workers' threads wait for each other's cores: a training of
# two layers took 20 s instead of 2. Read when torch is imported, here and in the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
BASE_IMAGE = "srft/base:bookworm"

# No test asserts a time, the generated ones neither: other programs may be at work on this machine.
settings.register_profile("srft", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("srft")


@pytest.fixture(autouse=True)
def _no_settings_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """What whoever runs the tests has set for their own work decides nothing in them."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "SRFT_LOG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The container engine."""
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        pytest.skip(f"no container engine answers ({error}); make setup starts one")
    yield client
    client.close()


@pytest.fixture(scope="session")
def base_image(engine: docker.DockerClient) -> str:
    """The name of an image with bash, python3 and git."""
    try:
        engine.images.get(BASE_IMAGE)
    except docker.errors.ImageNotFound:
        pytest.skip(f"no image {BASE_IMAGE}; make setup makes it")
    return BASE_IMAGE


@pytest.fixture(scope="session")
def tiny_image(engine: docker.DockerClient, base_image: str) -> str:
    """The image of `tests/tiny.py`'s tasks."""
    return tiny.build_image(engine)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inputs that are no part of the project."""
    places = [ROOT.parent / "shared" / "data", ROOT / "shared" / "data"]
    if named := os.environ.get("SRFT_SHARED"):
        places.insert(0, Path(named, "data"))
    for place in places:
        if place.is_dir():
            return place
    pytest.skip(f"the real inputs are not here (looked for {', '.join(map(str, places))})")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct."""
    return _small_model("smollm2-135m")


@pytest.fixture(scope="session")
def qwen3_tokenizer() -> Path:
    """The folder of the tokenizer of Qwen3."""
    return _small_model("qwen3-tokenizer")


def _small_model(name: str) -> Path:
    folder = ROOT / ".models" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}; make model fetches it")
    return folder


@pytest.fixture(scope="session")
def verified_tasks(shared_data: Path) -> dict[str, Task]:
    """Instance id -> Task: SWE-bench Verified rows rebuilt on source packages."""
    path = shared_data / "verified_pypi" / "verified_pypi.jsonl"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return {task.instance_id: task for task in load_tasks(str(path))}


@pytest.fixture(scope="session")
def demo_tasks() -> dict[str, Task]:
    """Instance id -> Task: the four tasks of `make demo`."""
    return {task.instance_id: task for task in load_tasks(str(ROOT / "harness" / "presets" / "demo" / "tasks"))}
