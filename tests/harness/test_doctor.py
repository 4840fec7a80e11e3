"""srft doctor: each thing that is wrong gets its own remedy; exit code 0 only where runs can be collected."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from srft.agent.models.openai import OpenAIConfig
from srft.harness.commands.doctor import print_diagnosis
from srft.harness.doctor.containers import check_container, check_oci_programs, engine_remedy
from srft.harness.doctor.diagnosis import Diagnosis, Use, uses_of
from srft.harness.doctor.finding import Finding
from srft.harness.doctor.machine import check_disk, check_run_folder
from srft.harness.doctor.model import check_endpoint, check_gpu, check_tokenizer, check_vllm

FULL_BYTES = 1 << 20


@pytest.fixture
def dead_engine(tmp_path, monkeypatch) -> str:
    """DOCKER_HOST names a socket that nothing listens on."""
    path = tmp_path / "dead.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.close()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return f"unix://{path}"


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A file system of 1 MiB with nothing left on it."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={FULL_BYTES}", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"may not mount a tmpfs here: {mounted.stderr.strip()}")
    try:
        (folder / "filler").write_bytes(b"x" * FULL_BYTES)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


class Server(BaseHTTPRequestHandler):
    """Takes the key `right` alone, and knows the model `here`; below /public, the list of models is for everybody."""

    def do_GET(self) -> None:
        is_public = self.path.startswith("/public")
        self._answer(
            {"object": "list", "data": [{"id": "here", "object": "model", "created": 0, "owned_by": "x"}]},
            is_public=is_public,
        )

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "here":
            choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "length"}
            self._answer({"id": "1", "object": "chat.completion", "created": 0, "model": "here", "choices": [choice]})
        else:
            self._answer({"error": {"message": "no such model", "code": "model_not_found"}}, status=404)

    def _answer(self, content: dict, *, status: int = 200, is_public: bool = False) -> None:
        if not is_public and self.headers.get("Authorization") != "Bearer right":
            status, content = 401, {"error": {"message": "wrong key; ask for another"}}
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}/v1"
    listening.shutdown()
    listening.server_close()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def diagnosed(ran: subprocess.CompletedProcess) -> tuple[dict[str, dict], dict[str, dict], dict]:
    """(findings by name, uses by name, all) of `srft doctor --json`."""
    content = json.loads(ran.stdout)
    by_name = [{entry["name"]: entry for entry in content[key]} for key in ("findings", "uses")]
    return by_name[0], by_name[1], content


# ---- the engine ----


def test_stopped_engine_leaves_the_local_sandbox(srft, dead_engine) -> None:
    findings, uses, content = diagnosed(ran := srft("doctor", "--json"))
    assert findings["engine"]["state"] == "error"
    assert findings["engine"]["found"] == f"none answers at {dead_engine} ([Errno 111] Connection refused)"
    assert findings["engine"]["remedy"].endswith("or do without: --sandbox local")
    assert {"base image", "container", "disk: images of the engine"}.isdisjoint(findings)
    assert uses["collect in Docker"] == {
        "name": "collect in Docker",
        "works": False,
        "stopped_by": "engine",
        "remedy": findings["engine"]["remedy"],
    }
    local_works = findings["local sandbox"]["state"] == "ok" and uses["collect locally"]["works"]
    assert (content["works"], ran.returncode) == (local_works, 0 if local_works else 1)


def test_neither_engine_nor_bubblewrap_is_the_end(srft, dead_engine, tmp_path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("git", "bash"):
        (programs / name).symlink_to(shutil.which(name))
    ran = srft("doctor", "--json", env=os.environ | {"PATH": str(programs)})
    findings, uses, content = diagnosed(ran)
    assert findings["local sandbox"]["remedy"] == (
        "`sudo apt-get install bubblewrap`, or your system's like; or take --sandbox docker"
    )
    assert [name for name, use in uses.items() if use["stopped_by"] in ("engine", "local sandbox")] == [
        "collect in Docker",
        "collect locally",
        "evaluate",
    ]
    assert (content["works"], ran.returncode) == (False, 1)
    assert ran.stderr.splitlines()[-1].startswith(
        "srft: not everything that was asked for works: engine, local sandbox"
    )


def test_what_fetches_images_without_an_engine(tmp_path, monkeypatch) -> None:
    for name in ("skopeo", "umoci"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_oci_programs().found == "the local sandbox fetches them with skopeo and umoci"
    (tmp_path / "umoci").unlink()
    found = check_oci_programs()
    assert (found.state, found.found) == ("warning", "the local sandbox fetches none: no umoci")
    assert found.remedy.startswith("`sudo apt-get install umoci`, or")


def test_a_socket_elsewhere_is_the_remedy(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    (tmp_path / "podman").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "podman" / "podman.sock"))
        remedy = engine_remedy()
    named = {"unix:///var/run/docker.sock", f"unix://{tmp_path}/podman/podman.sock"}
    assert remedy.split("`")[1].removeprefix("export DOCKER_HOST=") in named


def test_a_live_engine_starts_a_container(srft, base_image) -> None:
    findings, uses, _ = diagnosed(srft("doctor", "--json"))
    assert [findings[name]["state"] for name in ("engine", "base image", "container")] == ["ok", "ok", "ok"]
    assert findings["container"]["found"] == "starts and obeys, holds the limits of memory, pids"
    assert uses["view"]["works"]


def test_without_the_base_image_another_is_tried(srft, base_image, monkeypatch) -> None:
    findings, uses, _ = diagnosed(srft("doctor", "--json", env=os.environ | {"SRFT_BASE_IMAGE": "srft/none:1"}))
    assert findings["base image"]["state"] == "warning"
    assert findings["container"]["state"] == "ok"
    assert findings["container"]["found"].startswith("starts and obeys")
    assert "(tried with " in findings["container"]["found"]
    assert uses["collect in Docker"]["works"]


def test_a_container_that_was_not_tried_is_not_known_to_work() -> None:
    missing = Finding("base image", "warning", "no base", "make it")
    nothing = check_container((), missing)
    assert nothing == Finding("container", "warning", "not tried: there is no image", "make it")
    uses = {use.name: use for use in uses_of((missing, nothing))}
    unknown = Use("collect in Docker", works=None, stopped_by="container", remedy="make it")
    assert uses["collect in Docker"] == unknown
    assert uses["evaluate"].works, "the local sandbox grades too"
    broken = Finding("local sandbox", "error", "none", "r")
    assert {use.name: use.works for use in uses_of((missing, nothing, broken))}["evaluate"] is None


def test_an_image_of_others_that_does_not_start_says_nothing_of_the_engine(engine) -> None:
    found = check_container(("srft/none:1",), Finding("base image", "warning", "no base", "make it"))
    assert (found.state, found.remedy) == ("warning", "make it")
    assert found.found.startswith("not known: srft/none:1 does not start: ")


# ---- disk and permissions ----


def test_full_disk(srft, full_disk) -> None:
    findings, uses, content = diagnosed(ran := srft("doctor", "--json", "--run", full_disk / "run"))
    assert findings["disk: runs"]["state"] == "error"
    assert findings["disk: runs"]["found"] == f"0.0 GB free at {full_disk}; at least 2 GB are needed"
    assert findings["disk: runs"]["remedy"] == "make room, or put the run on another disk with --run"
    assert findings["run folder"] == {
        "name": "run folder",
        "state": "error",
        "found": f"{full_disk} cannot be written (No space left on device)",
        "remedy": "name a folder of yours on a disk with room: --run DIR",
    }
    assert not uses["collect locally"]["works"]
    assert (content["works"], ran.returncode) == (False, 1)
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


def test_disk_states(tmp_path, monkeypatch) -> None:
    def state(free_bytes: int) -> str:
        usage = shutil.disk_usage(tmp_path)._replace(free=free_bytes)
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
        return check_disk("runs", tmp_path / "not" / "there", "x").state

    gb = 10**9
    assert [state(free) for free in (20 * gb, 20 * gb - 1, 2 * gb, 2 * gb - 1)] == ["ok", "warning", "warning", "error"]


def test_run_folder_that_is_there_and_one_that_is_not(tmp_path) -> None:
    assert check_run_folder(tmp_path / "a" / "b") == Finding("run folder", "ok", f"{tmp_path} can be written")
    assert list(tmp_path.iterdir()) == []
    file = tmp_path / "file"
    file.touch()
    assert check_run_folder(file / "run").found == f"{file} cannot be written (Not a directory)"


def test_folder_of_somebody_else(tmp_path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make one")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from srft.harness.doctor.machine import check_disk, check_run_folder\n"
        "os.setresuid(65534, 65534, 65534); run = Path(sys.argv[1], 'run')\n"
        "print(check_run_folder(run).found); print(check_disk('runs', run, 'x').name)"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o077:  # pytest's own are closed too
            folder.chmod(0o755)
    ran = subprocess.run([sys.executable, "-c", script, closed], capture_output=True, text=True)
    assert ran.stdout == f"{closed} cannot be written (Permission denied)\ndisk: runs\n", ran.stderr


# ---- endpoints ----


def test_refused_key(srft, server, monkeypatch) -> None:
    monkeypatch.setenv("WRONG", "wrong")
    options = ["--endpoint", f"{server}#here", "--set", "openai.api_key_env=WRONG"]
    findings, uses, content = diagnosed(ran := srft("doctor", "--json", *options))
    assert findings["endpoint"] == {
        "name": "endpoint",
        "state": "error",
        "found": f"model here at {server}: the server refuses the key in WRONG (wrong key; ask for another)",
        "remedy": "with --set openai.api_key_env=NAME name the variable that holds a valid one",
    }
    assert [name for name, use in uses.items() if use["stopped_by"] == "endpoint"] == [
        name for name in ("collect in Docker", "collect locally") if uses[name]["stopped_by"] == "endpoint"
    ]
    assert not uses["collect locally"]["works"]
    assert (content["works"], ran.returncode) == (False, 1)


def test_endpoint_findings(server, monkeypatch) -> None:
    monkeypatch.setenv("RIGHT", "right")
    monkeypatch.delenv("UNSET", raising=False)
    right = OpenAIConfig(api_key_env="RIGHT")
    here, port = f"{server}#here", closed_port()
    assert check_endpoint(here, right) == Finding("endpoint", "ok", f"{here} answers, and takes the key in RIGHT")
    assert check_endpoint(here, OpenAIConfig()) == Finding(
        "endpoint",
        "error",
        f"model here at {server}: the server refuses a request without a key (wrong key; ask for another)",
        "with --set openai.api_key_env=NAME name the variable that holds a valid one",
    )
    unknown = check_endpoint(f"{server}#gone", right)
    assert (unknown.state, unknown.remedy) == ("error", "correct the name or the URL")
    assert unknown.found.endswith("; models there: here")
    assert check_endpoint(here, OpenAIConfig(api_key_env="UNSET")).remedy == (
        f"put the key of {server} there, or leave api_key_env out if it wants none"
    )
    refused = check_endpoint(f"http://127.0.0.1:{port}/v1#x", OpenAIConfig())
    assert (refused.state, refused.remedy) == ("error", "start the server or correct the URL")
    assert check_endpoint(server, right).remedy == f"give {server}#NAME"
    assert check_endpoint("localhost:8000", right).remedy == "give http://HOST:8000/v1#NAME or openai:NAME"


def test_a_public_list_of_models_says_nothing_of_the_key(server, monkeypatch) -> None:
    public = server.replace("/v1", "/public/v1")
    for name, state in (("RIGHT", "ok"), ("WRONG", "error")):
        monkeypatch.setenv(name, name.lower())
        found = check_endpoint(f"{public}#here", OpenAIConfig(api_key_env=name))
        assert found.state == state, found
    assert found.found.endswith("the server refuses the key in WRONG (wrong key; ask for another)")
    without = check_endpoint(f"{public}#here", OpenAIConfig())
    assert without.found == f"{public}#here answers, no key was named"


# ---- models ----


def test_what_becomes_of_runs_of_each_kind(smollm2, qwen3_tokenizer) -> None:
    kinds = ("text", "thinking", "tool calls", "tool calls beside thinking", "several calls a reply")
    whole = [Finding(f"runs of {kind}", "ok", "one row a run") for kind in kinds]
    end = Finding("tokenizer", "ok", "a turn ends with <|im_end|>")
    found = list(check_tokenizer(str(qwen3_tokenizer)))
    assert found == [
        end,
        whole[0],
        Finding(
            "runs of thinking",
            "warning",
            "3 rows for a run of 3 steps: the template rewrites earlier turns",
            "training is right, and takes more tokens; --set thinking=without of srft rows keeps a run whole",
        ),
        *whole[2:],
    ]
    found = list(check_tokenizer(str(smollm2)))
    assert found[:3] == [end, *whole[:2]]
    assert [(one.state, one.found) for one in found[3:]] == [
        ("warning", "the chat template does not write tool calls")
    ] * 3
    assert found[3].remedy.startswith("set rows.calls=xml (or json)")


def test_tokenizers_that_cannot_be_trained_with(tmp_path, smollm2) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(smollm2 / name, tmp_path / name)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": None}))
    (bare,) = check_tokenizer(str(tmp_path))
    assert bare.remedy == "put one into its folder as chat_template.jinja, the same that the server will use"
    (missing,) = check_tokenizer(str(tmp_path / "none"))
    assert (missing.state, missing.remedy) == (
        "error",
        "expected a folder with tokenizer.json and a chat template, or a name on the hub",
    )


def test_vllm_of_a_named_interpreter(monkeypatch, tmp_path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 3.11.7 0.32.0\n")
    python.chmod(0o755)
    monkeypatch.setenv("SRFT_VLLM_PYTHON", str(python))
    assert check_vllm() == Finding("vllm", "ok", f"vllm 0.32.0 of {python}")
    python.write_text("#!/bin/sh\nexit 1\n")
    assert (check_vllm().state, check_vllm().found) == ("error", f"{python} has no vllm")
    monkeypatch.setenv("SRFT_VLLM_PYTHON", str(tmp_path / "gone"))
    assert check_vllm().state == "error"
    assert check_vllm().remedy.endswith("or unset SRFT_VLLM_PYTHON to serve with transformers")


def test_gpu_is_no_error_of_the_machine() -> None:
    import torch

    assert check_gpu().state == ("ok" if torch.cuda.is_available() else "warning")


# ---- what follows ----


def test_uses_that_an_error_stops() -> None:
    def stopped(*names: str) -> list[str]:
        findings = tuple(Finding(name, "error", "f", f"mend {name}") for name in names)
        return [use.name for use in uses_of(findings) if not use.works]

    assert stopped() == []
    assert stopped("engine") == ["collect in Docker"]
    assert stopped("local sandbox") == ["collect locally"]
    assert stopped("container", "local sandbox") == ["collect in Docker", "collect locally", "evaluate"]
    assert stopped("run folder") == [
        "collect in Docker",
        "collect locally",
        "evaluate",
        "train on the CPU",
        "train on a GPU",
    ]
    assert stopped("vllm") == ["serve"]
    assert uses_of((Finding("container", "ok", "f"),))[0] == Use("collect in Docker", works=True)


def test_text(capsys) -> None:
    findings = (Finding("engine", "error", "none answers", "start it"), Finding("cpus", "ok", "2"))
    print_diagnosis(Diagnosis(True, uses_of(findings)[:2], findings))
    assert capsys.readouterr().out == (
        "error    engine  none answers\n"
        "                 -> start it\n"
        "ok       cpus    2\n"
        "\n"
        "does not collect in Docker  engine -> start it\n"
        "works    collect locally\n"
    )
    untried = Finding("container", "warning", "not tried", "make it")
    print_diagnosis(Diagnosis(True, uses_of((untried,))[:2], (untried,)))
    assert "unknown  collect in Docker  container -> make it\n" in capsys.readouterr().out
