"""Datasets by their Hub name: what is chosen, from a hub that is a dictionary, and what the `datasets` library makes of
it, from a hub on loopback that speaks as much of the API as the library asks."""

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

from srft.agent.importing.readers import Tally
from srft.agent.importing.readers.hub import HubName, hub_name, hub_source
from srft.env.errors import InputError

# ---- which rows of a dataset are read ----

# Dataset, also at a revision -> configuration -> split -> rows.
SHELF = {
    "me/plain": {"default": {"train": [{"a": 1}, {"a": "\ud800"}]}},
    "me/plain@old/tag": {"default": {"train": [{"a": 0}]}},
    "me/one": {"runs": {"train": [{"a": 2}], "test": [{"a": 3}]}},
    "me/many": {"tasks": {"train": [{"a": 4}]}, "runs": {"train": [{"a": 5}], "test": [{"a": 6}]}},
    "me/both": {"default": {"train": [{"a": 7}]}, "runs": {"train": [{"a": 8}]}},
}


class Shelf:
    """A hub without a network."""

    def configs(self, name):
        return SHELF[str(name)]

    def splits(self, name, config):
        return SHELF[str(name)][config]

    def rows(self, name, config, split):
        return SHELF[str(name)][config][split]


def taken(text, hub=None):
    """(places, values) of all rows"""
    source, dataset = hub_source(text, hub or Shelf())
    assert dataset == text.split("@")[0].split(":")[0]
    found = list(source(Tally()))
    assert {(raw.name, raw.line) for raw in found} == {
        (dataset.split("/")[1], number) for number in range(1, len(found) + 1)
    }
    return [raw.where for raw in found], [raw.content["a"] for raw in found]


def refusal(text, hub=None):
    with pytest.raises(InputError) as refused:
        taken(text, hub)
    return str(refused.value)


def test_names():
    assert hub_name("me/a.b-c_1") == HubName("me/a.b-c_1", None, ())
    assert hub_name("me/a@refs/convert/parquet:x:y") == HubName("me/a", "refs/convert/parquet", ("x", "y"))
    assert hub_name("me/a@v1.0:x") == HubName("me/a", "v1.0", ("x",))
    assert str(hub_name("me/a@v1:x")) == "me/a@v1"
    assert str(hub_name("me/a:x")) == "me/a"
    for other in ("a", "a/b/c", "me/a:x:y:z", "me/a@", "me/a@/x", "me/a@x/", "me/a:", "/a", "me/a b", "me/a:x@v1", ""):
        assert hub_name(other) is None
        assert hub_source(other) is None


def test_the_one_split_of_the_one_configuration_or_of_the_default_one_needs_no_name():
    assert taken("me/plain") == (["me/plain:default:train: row 1", "me/plain:default:train: row 2"], [1, "\ufffd"])
    assert taken("me/plain:train") == taken("me/plain:default") == taken("me/plain:default:train") == taken("me/plain")
    assert taken("me/both") == (["me/both:default:train: row 1"], [7])
    assert taken("me/both:runs") == (["me/both:runs:train: row 1"], [8])


def test_splits_and_configurations_by_name():
    assert taken("me/one:test") == taken("me/one:runs:test") == (["me/one:runs:test: row 1"], [3])
    assert taken("me/many:runs:test") == (["me/many:runs:test: row 1"], [6])
    assert taken("me/many:tasks") == (["me/many:tasks:train: row 1"], [4])


def test_a_revision_is_asked_for_and_named():
    assert taken("me/plain@old/tag") == (["me/plain@old/tag:default:train: row 1"], [0])
    assert taken("me/plain@old/tag:train") == taken("me/plain@old/tag")
    assert "the Hugging Face Hub does not give a dataset of it (KeyError: 'me/plain@new')" in refusal("me/plain@new")


def test_what_is_not_there_or_not_one_is_refused_with_what_there_is():
    assert refusal("me/many") == "me/many: the configurations tasks, runs; name one, as in me/many:tasks"
    assert refusal("me/many:test") == "me/many:test: the configurations tasks, runs; name one, as in me/many:tasks"
    assert refusal("me/many:none:test") == "me/many:none:test: no configuration none; there are tasks, runs"
    assert refusal("me/many:runs:none") == (
        "me/many:runs:none: no split none; there are train, test: name one, as in me/many:runs:train"
    )
    several = "several splits, which may hold the same runs; there are train, test: name one, as in"
    assert refusal("me/many:runs") == f"me/many:runs: {several} me/many:runs:train"
    assert refusal("me/one") == f"me/one: {several} me/one:train"
    assert refusal("me/plain@old/tag:none") == (
        "me/plain@old/tag:none: no split none; there are train: name one, as in me/plain@old/tag:train"
    )


def test_what_the_library_says_is_told_in_one_line_of_300_characters():
    class Speaks(Shelf):
        def configs(self, name):
            raise ConnectionError("no\n  network " + "x" * 300)

    told = f"ConnectionError: no network {'x' * 300}"[:300]
    assert refusal("me/plain", Speaks()) == (
        "me/plain: no file or folder of that name here, and the Hugging Face Hub does not give a dataset of it "
        f"({told}). Check the name, the network, HF_ENDPOINT and HF_TOKEN, or fetch the dataset elsewhere and give its "
        "folder"
    )


def test_rows_that_end_early_keep_those_before_and_say_how_to_resume():
    class Breaks(Shelf):
        def rows(self, name, config, split):
            yield from super().rows(name, config, split)
            raise OSError("hung up")

    source, _ = hub_source("me/plain", Breaks())
    rows = source(Tally())
    assert [next(rows).line, next(rows).line] == [1, 2]
    with pytest.raises(InputError) as ended:
        next(rows)
    assert str(ended.value) == (
        "me/plain:default:train: its rows end after row 2 (OSError: hung up); the same command again resumes after "
        "what is on file"
    )


def test_nothing_is_asked_before_the_first_run_is():
    class Silent(Shelf):
        asked = False

        def configs(self, name):
            self.asked = True
            return super().configs(name)

    hub = Silent()
    source, _ = hub_source("me/plain", hub)
    rows = source(Tally())
    assert not hub.asked
    next(rows)
    assert hub.asked


# ---- with the library ----

COMMIT, EARLIER = "a" * 40, "b" * 40
TAGS = {COMMIT: "main", EARLIER: "v1"}
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
    "me/plain": {
        COMMIT: {"data/train-00000-of-00001.parquet": parquet("a__b-1", "a__b-2", resolved=1)},
        EARLIER: {"data/train-00000-of-00001.parquet": parquet("a__b-0", resolved=0)},
    },
    "me/many": {
        COMMIT: {
            "README.md": CARD.encode(),
            "tasks/train.parquet": parquet("x"),
            "runs/train.parquet": parquet("c__d-1", resolved=True),
            "runs/test.parquet": parquet("c__d-2", resolved=False),
        }
    },
    KWAI: {COMMIT: {"data/train-00000-of-00001.parquet": parquet("e__f-1")}},
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
        for name, revisions in FILES.items():
            for commit, files in revisions.items():
                api, revisions_of_it = f"/api/datasets/{name}", (commit, TAGS[commit])
                if path in [f"{api}/revision/{revision}" for revision in revisions_of_it] + [api] * (commit == COMMIT):
                    siblings = [{"rfilename": file} for file in files]
                    return self.json(
                        {"id": name, "sha": commit, "siblings": siblings, "private": False, "gated": False}
                    )
                if path.startswith(tree := f"{api}/tree/{commit}"):
                    return self.json(entries(files, path.removeprefix(tree).strip("/")))
                for revision in revisions_of_it:
                    if path.startswith(there := f"/datasets/{name}/resolve/{revision}/"):
                        return self.file(files.get(path.removeprefix(there)), commit)
        return self.answer(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

    def file(self, content, commit):
        if content is None:
            return self.answer(404, b"{}", **{"X-Error-Code": "EntryNotFound"})
        wanted, status, headers = self.headers.get("Range"), 200, {"ETag": f'"{len(content)}"', "X-Repo-Commit": commit}
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
    pytest.importorskip("datasets")
    names = ["me/plain", "me/plain@v1", "me/many:runs:test", "me/many:runs", "me/none", "me/plain@v2", KWAI]
    plain, earlier, test, no_split, missing, no_revision, kwai = read(endpoint, tmp_path, *names)
    told = "recorded: me/plain"
    assert plain == [["a__b-1", True, told], ["a__b-2", True, told]]
    assert earlier == [["a__b-0", False, told]]
    assert test == [["c__d-2", False, "recorded: me/many"]]
    assert kwai == [["e__f-1", True, f"recorded: {KWAI} (MIT)"]]
    assert no_split == (
        "me/many:runs: several splits, which may hold the same runs; there are train, test: name one, as in "
        "me/many:runs:train"
    )
    for name, refused in (("me/none", missing), ("me/plain@v2", no_revision)):
        assert refused.startswith(
            f"{name}: no file or folder of that name here, and the Hugging Face Hub does not give"
        )


def test_a_hub_that_cannot_be_reached_is_one_clear_error(tmp_path):
    pytest.importorskip("datasets")
    (told,) = read("http://127.0.0.1:9", tmp_path, "me/plain")
    assert told.startswith("me/plain: no file or folder of that name here, and the Hugging Face Hub does not give")
    assert told.endswith("HF_ENDPOINT and HF_TOKEN, or fetch the dataset elsewhere and give its folder")
