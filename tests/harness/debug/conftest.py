"""What the debugger's tests share: the tiny task in a container and in the local sandbox, and sessions on it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from srft.critic.rules.rules import ToolErrorCritic
from srft.env.errors import EngineError
from srft.env.local.rootfs import LocalImage
from srft.env.local.sandbox import LocalSandbox, check_bubblewrap, new_image
from srft.env.sandbox.contract import SandboxSpec
from srft.harness.config.config import CollectConfig
from srft.harness.debug.session import Session
from tests import tiny

TASK = "debugged__tiny-0"


def bash(command: str, thought: str = "I act.") -> str:
    return f"{thought}\n\n```bash\n{command}\n```"


REPLIES = [bash("ls"), bash("echo 43 >answer.txt"), bash("submit")]


@pytest.fixture(scope="session")
def local_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of local images that has the tiny task's."""
    try:
        check_bubblewrap()
    except EngineError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRFT_LOCAL_IMAGES", str(folder))
        with LocalSandbox(SandboxSpec(image=new_image("bare", git_folder="testbed"))) as sandbox:
            made = sandbox.run(
                "git config --global user.email a@b && git config --global user.name a && echo 41 >answer.txt "
                "&& echo keep >kept.txt && git add . && git commit -q -m base",
                30,
            )
            assert made.exit_code == 0, made.output
            sandbox.save_image(tiny.IMAGE, LocalImage())
        yield folder


@pytest.fixture
def local(local_images: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SRFT_LOCAL_IMAGES", str(local_images))
    return "local"


@pytest.fixture(params=["docker", "local"])
def sandbox_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of sandbox, with the tiny task's image in it."""
    request.getfixturevalue("tiny_image" if request.param == "docker" else "local")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the task, and the script of a model that fails it."""
    tiny.write_tasks(tmp_path / "tasks.jsonl", 2, owner="debugged")
    (tmp_path / "replies.yaml").write_text(yaml.safe_dump(REPLIES))
    return tmp_path


@pytest.fixture
def session(folder: Path) -> Callable[..., Session]:
    """A session that is not started: session("docker", model="human", ...), keys of the configuration by name."""

    def make(kind: str, **settings: object) -> Session:
        sandbox = {"kind": kind, **settings.pop("sandbox", {})}  # type: ignore[dict-item]
        content = {
            "tasks": str(folder / "tasks.jsonl"),
            "only": [TASK],
            "model": f"script:{folder / 'replies.yaml'}",
            "sandbox": sandbox,
            **settings,
        }
        import msgspec

        return Session.open(msgspec.convert(content, CollectConfig), critics=ToolErrorCritic)

    return make


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
