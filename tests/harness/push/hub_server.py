"""A Hugging Face Hub on this machine: its HTTP API as huggingface_hub's uploads use it, kept in memory.

server = HubServer(); server.url; server.files("datasets/me/rows")      # name -> bytes, after a commit
server.refuse = "commit"                                                # this step answers 503 from now on
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_secret"


class HubServer:
    """repositories: "models/me/a" -> whether it is private. uploads: large files that came in, in their order."""

    def __init__(self) -> None:
        self.repositories: dict[str, bool] = {}
        self.refuse: str | None = None
        self.uploads: list[str] = []
        self.keys: set[str | None] = set()
        self._large: dict[str, bytes] = {}
        self._committed: dict[str, dict[str, bytes]] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if "/me/" in self.path or self.path == "/api/repos/create":
                    hub.keys.add(self.headers["Authorization"])
                status, answer = hub.answer(self.command, self.path.partition("?")[0], body)
                content = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if status == 404:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _serve

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def files(self, repository: str) -> dict[str, bytes]:
        return self._committed.get(repository, {})

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if self.refuse and self.refuse in path:
            return 403, {"error": f"no {self.refuse} today"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._lfs(one) for one in json.loads(body)["objects"]]}
        if method == "PUT" and (found := re.fullmatch(r"/upload/(\w+)", path)):
            assert hashlib.sha256(body).hexdigest() == found[1]
            self._large[found[1]] = body
            self.uploads.append(found[1])
            return 200, None
        found = re.fullmatch(r"/api/((?:models|datasets)/[\w.-]+/[\w.-]+)(/.*)?", path)
        if found is None or found[1] not in self.repositories:
            return 404, {"error": "Repository not found"}
        return self._of_repository(found[1], found[2] or "", body)

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        kind = f"{asked.get('type', 'model')}s"
        name = f"{kind}/{asked['organization']}/{asked['name']}"
        if name in self.repositories:
            return 409, {"error": "You already created this repo", "url": f"{self.url}/{name}"}
        self.repositories[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
        return 200, {"url": f"{self.url}/{name.removeprefix('models/')}"}

    def _lfs(self, asked: dict[str, Any]) -> dict[str, Any]:
        actions = (
            {}
            if asked["oid"] in self._large
            else {"actions": {"upload": {"href": f"{self.url}/upload/{asked['oid']}"}}}
        )
        return {"oid": asked["oid"], "size": asked["size"], **actions}

    def _of_repository(self, name: str, what: str, body: bytes) -> tuple[int, Any]:
        files = self._committed.setdefault(name, {})
        if what.startswith("/preupload/"):
            asked = json.loads(body)["files"]
            large = (".parquet", ".safetensors", "trajectories.jsonl")
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(large) else "regular",
                    "shouldIgnore": False,
                }
                for one in asked
            ]
            return 200, {"files": modes}
        if what.startswith("/commit/"):
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self._large[value["oid"]]
            return 200, {"commitUrl": f"{self.url}/{name}/commit/1", "commitOid": "1" * 40, "pullRequestUrl": None}
        owner_and_name = name.partition("/")[2]
        private = self.repositories[name]
        return 200, {
            "id": owner_and_name,
            "private": private,
            "sha": "1" * 40,
            "siblings": [],
            "tags": [],
            "lastModified": None,
        }
