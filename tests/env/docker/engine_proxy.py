"""An HTTP proxy before the real engine that changes some of its answers: what this machine's engine never says.

    with EngineProxy({r"POST .*/containers/create": changed_json(Warnings=["no memory limit"])}) as proxy:
        docker.DockerClient(base_url=proxy.url)

Everything else goes through as it is, attached sockets too.
"""

import json
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

Change = Callable[[bytes], bytes]
"""The body of an answer, as the client is to have it."""


def changed_json(**values: Any) -> Change:
    """The answer's JSON object with these fields in the place of its own."""
    return lambda body: json.dumps({**json.loads(body), **values}).encode()


class EngineProxy:
    """Listens on loopback. changes: pattern of `METHOD /path` -> what becomes of the answer's body.

    asked: every request that came, as `METHOD /path`.
    """

    def __init__(self, changes: Mapping[str, Change] | None = None) -> None:
        self._changes = changes or {}
        self._engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX)
        with client, engine, suppress(OSError):
            engine.connect(self._engine)
            head, rest = self._head(client)
            request = head.split(b" HTTP/", 1)[0].decode()
            self.asked.append(request)
            change = next((to for pattern, to in self._changes.items() if re.match(pattern, request)), None)
            if b"upgrade:" not in head.lower():  # one request a connection
                head = re.sub(rb"\r\nConnection: [^\r]*", b"", head) + b"\r\nConnection: close"
            engine.sendall(head + b"\r\n\r\n" + rest)
            back = threading.Thread(target=_splice, args=(client, engine), daemon=True)
            back.start()
            if change is None:
                _splice(engine, client)
            else:
                client.sendall(_changed(_all_of(engine), change))

    @staticmethod
    def _head(client: socket.socket) -> tuple[bytes, bytes]:
        got = b""
        while b"\r\n\r\n" not in got:
            part = client.recv(1 << 16)
            if not part:
                raise OSError("the client has gone")
            got += part
        head, _, rest = got.partition(b"\r\n\r\n")
        return head, rest


def _splice(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(1 << 16):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


def _all_of(source: socket.socket) -> bytes:
    got = b""
    while part := source.recv(1 << 16):
        got += part
    return got


def _changed(answer: bytes, change: Change) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = b"".join(re.split(rb"(?:^|\r\n)[0-9a-f]+\r\n", body)[1:-1])
    body = change(body)
    kept = [line for line in head.split(b"\r\n") if not re.match(rb"(?i)content-length|transfer-encoding", line)]
    return b"\r\n".join([*kept, b"Content-Length: %d" % len(body), b"", body])
