"""Datasets by their Hub name, from a hub on loopback that speaks as much of the API as the `datasets` library asks."""

import io
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pyarrow
import pyarrow.parquet
import pytest

pytest.importorskip("datasets")

COMMIT = "a" * 40
CARD = """---
configs:
- config_name: tasks
  data_files: [{split: train, path: tasks/train.parquet}]
- config_name: runs
  data_files: [{split: train, path: runs/train.parquet}, {split: test, path: runs/test.parquet}]
---
"""
# One process for all cases: the endpoint is read when the library is imported, and importing it takes its time.
SCRIPT = """
import json, sys
from srft.agent.importing.importers import read_runs
from srft.env.errors import InputError
for name in sys.argv[1:]:
    try:
        print(json.dumps([[run.task_id, run.recorded_resolved, run.prompt] for run in read_runs(name)]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def parquet(*tasks, **more):
    said = [{"role": "user", "content": "T"}, {"role": "assistant", "content": "A"}]
    file = io.BytesIO()
    rows = [{"instance_id": task, "messages": said, **more} for task in tasks]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


KWAI = "Kwai-Klear/SWE-smith-mini_swe_agent_plus-trajectories-66k"
FILES = {
    "me/plain": {"data/train-00000-of-00001.parquet": parquet("a__b-1", "a__b-2", resolved=1)},
    "me/many": {
        "README.md": CARD.encode(),
        "tasks/train.parquet": parquet("x"),
        "runs/train.parquet": parquet("c__d-1", resolved=True),
        "runs/test.parquet": parquet("c__d-2", resolved=False),
    },
    KWAI: {"data/train-00000-of-00001.parquet": parquet("e__f-1")},
}


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(404, b"{}")

    def do_GET(self):
        path = unquote(self.path.partition("?")[0])
        for name, files in FILES.items():
            if path == f"/api/datasets/{name}" or path.startswith(f"/api/datasets/{name}/revision/"):
                siblings = [{"rfilename": file} for file in files]
                return self.json({"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "gated": False})
            if path.startswith(tree := f"/api/datasets/{name}/tree/{COMMIT}"):
                return self.json(entries(files, path.removeprefix(tree).strip("/")))
            if path.startswith(f"/datasets/{name}/resolve/"):
                return self.file(files.get(path.split("/resolve/")[1].partition("/")[2]))
        return self.answer(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

    def file(self, content):
        if content is None:
            return self.answer(404, b"{}", **{"X-Error-Code": "EntryNotFound"})
        wanted, status, headers = self.headers.get("Range"), 200, {"ETag": f'"{len(content)}"', "X-Repo-Commit": COMMIT}
        if wanted and self.command == "GET":
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            first, last = int(first), min(int(last or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        return self.answer(status, content, **headers)

    def json(self, content):
        self.answer(200, json.dumps(content).encode(), **{"Content-Type": "application/json"})

    def answer(self, status, content, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def entries(files, folder):
    """What lies in a folder of a repository, as the API lists it."""
    found = {}
    for path, content in files.items():
        if path.startswith(prefix := f"{folder}/" if folder else ""):
            name, slash, _ = path.removeprefix(prefix).partition("/")
            kind = {"type": "directory"} if slash else {"type": "file", "size": len(content)}
            found[prefix + name] = {"path": prefix + name, "oid": "1" * 40, **kind}
    return list(found.values())


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def read(endpoint, tmp_path, *names):
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", SCRIPT, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_runs_by_hub_name(endpoint, tmp_path):
    names = [
        "me/plain",
        "me/plain:train",
        "me/many:runs:test",
        "me/many:runs",
        "me/many",
        "me/many:none:x",
        "me/none",
        KWAI,
    ]
    plain, again, test, no_split, no_config, wrong, missing, kwai = read(endpoint, tmp_path, *names)
    told = "recorded: me/plain"
    assert plain == again == [["a__b-1", True, told], ["a__b-2", True, told]]
    assert test == [["c__d-2", False, "recorded: me/many"]]
    assert kwai == [["e__f-1", True, f"recorded: {KWAI} (MIT)"]]
    assert no_split == (
        "me/many:runs: several splits, which may hold the same runs; there are train, test: name one, as in "
        "me/many:runs:train"
    )
    assert no_config == "me/many: the configurations tasks, runs; name one, as in me/many:tasks"
    assert wrong == "me/many:none:x: no configuration none; there are tasks, runs"
    assert missing.startswith("me/none: no file or folder of that name here, and the Hugging Face Hub does not give a")


def test_a_hub_that_cannot_be_reached_is_one_clear_error(tmp_path):
    (told,) = read("http://127.0.0.1:9", tmp_path, "me/plain")
    assert told.startswith("me/plain: no file or folder of that name here, and the Hugging Face Hub does not give")
    assert told.endswith("HF_ENDPOINT and HF_TOKEN, or fetch the dataset elsewhere and give its folder")
