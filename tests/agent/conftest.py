"""What the agent's tests share: a chat server over a real socket, a container, a task, the recorded runs."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from srft.env.errors import EngineError, ImageError
from srft.env.sandbox.contract import Sandbox, SandboxSpec
from srft.env.tasks.task import Task, load_tasks
from tests import tiny

DATA = Path(os.environ.get("SRFT_SHARED") or Path(__file__).parents[3] / "shared", "data")
"""For tests that choose their parameters by what lies there; others take the fixture `shared_data`."""


@pytest.fixture(scope="session")
def recorded_runs(shared_data: Path) -> Path:
    path = shared_data / "trajectories" / "gemini3pro_mini_verified.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


@pytest.fixture(scope="session")
def task(tiny_image: str, tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A task whose image is here, under a name of its own: other tests count the containers of theirs."""
    path = tmp_path_factory.mktemp("tasks") / "tasks.jsonl"
    path.write_text(json.dumps(tiny.row(0) | {"instance_id": "loop__loop-0"}))
    return load_tasks(str(path))[0]


@pytest.fixture(scope="session")
def container() -> Iterator[Sandbox]:
    from srft.env.docker.sandbox import DockerSandbox

    try:
        sandbox = DockerSandbox(SandboxSpec(image="srft/base:bookworm", workdir="/tmp"))
        sandbox.start()
    except (EngineError, ImageError) as error:
        pytest.skip(f"no container can be had: {error}")
    yield sandbox
    sandbox.close()


@pytest.fixture
def sandbox(container: Sandbox) -> Sandbox:
    """A container with an empty /tmp, shared by the tests of a process."""
    container.run("find /tmp -mindepth 1 -delete", 10)
    return container


class ChatServer:
    """A chat API that gives scripted answers, one a request, and keeps the requests.

    An answer is (status, body) or (status, body, headers); status 0 hangs up without a word.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[Any, ...]] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.models: tuple[Any, ...] = (200, {"object": "list", "data": [{"id": "tiny", "object": "model"}]})
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*server.models)

            def do_POST(self) -> None:
                server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                server.keys.append(self.headers["Authorization"])
                self._answer(*server.answers.pop(0))

            def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
                if status == 0:
                    self.close_connection = True
                    return
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()


@pytest.fixture
def completion() -> Callable[..., dict[str, Any]]:
    """The body of a chat completion, as vLLM writes it."""

    def body(content: str | None, *, message: Any = None, choice: Any = None, **extra: Any) -> dict[str, Any]:
        said = {"role": "assistant", "content": content, **(message or {})}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "choices": [{"index": 0, "message": said, "finish_reason": "stop", **(choice or {})}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            **extra,
        }

    return body
