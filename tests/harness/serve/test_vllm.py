"""vLLM as a managed process. What needs a real one is slow, and skips where no interpreter has it."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest

from srft.agent.models.contract import ContextOverflow
from srft.agent.models.openai import OpenAIConfig
from srft.env.errors import InputError, ModelError
from srft.harness.serve import ServeConfig, start_server
from srft.harness.serve.probe import StaleWeights, expected_logprobs, probe
from srft.harness.serve.server import check_native, choose_kind
from srft.harness.serve.vllm import VllmServer, find_vllm
from srft.harness.stages.models import open_model
from tests import tiny
from tests.harness.serve.conftest import random_model
from tests.harness.serve.test_probe import nudged
from tests.harness.serve.test_tool_calls import HERMES, XML
from tests.train.conftest import CHATML


def stand_in(folder: Path, script: str) -> str:
    """An interpreter that runs a script whatever it is asked to run."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{script}' \"$@\"\n")
    path.chmod(0o755)
    return str(path)


def test_a_process_that_ends_is_an_error_with_its_last_lines(base, tmp_path):
    config = ServeConfig(kind="vllm", vllm_python=stand_in(tmp_path, 'print("no room"); exit(3)'))
    log = tmp_path / "logs" / "serve.log"
    for _ in range(2):  # the second time, the log of the first is not shown again
        with pytest.raises(ModelError) as caught:
            start_server(base, name="a", config=config, log=log)
        assert str(caught.value) == f"vLLM ended with 3 before it answered; the last lines of {log}:\nno room"


def test_a_process_that_never_answers_is_ended(base, tmp_path):
    script = f'import os, time; open("{tmp_path}/pid", "w").write(str(os.getpid())); time.sleep(300)'
    config = ServeConfig(kind="vllm", vllm_python=stand_in(tmp_path, script), start_timeout_s=2)
    with pytest.raises(ModelError, match=r"does not answer at http://127\.0\.0\.1:\d+ after 2 s; raise"):
        start_server(base, name="a", config=config, log=tmp_path / "serve.log")
    assert not Path("/proc", (tmp_path / "pid").read_text()).exists()


def command_of(tmp_path, folder, **settings) -> list[str]:
    """What a vLLM process is started with."""
    script = f'import json, sys; json.dump(sys.argv, open("{tmp_path}/argv", "w")); exit(3)'
    config = ServeConfig(kind="vllm", vllm_python=stand_in(tmp_path, script), **settings)
    with pytest.raises(ModelError, match="vLLM ended with 3"):
        start_server(folder, name="a", config=config, log=tmp_path / "serve.log")
    return json.loads((tmp_path / "argv").read_text())


def value_of(command: list[str], option: str) -> str | None:
    return command[command.index(option) + 1] if option in command else None


@pytest.mark.parametrize(
    ("template", "settings", "parser"),
    [
        (CHATML, {}, None),
        (HERMES, {}, "hermes"),
        (XML, {}, "qwen3_coder"),
        (CHATML, {"tool_call_parser": "pythonic"}, "pythonic"),
        (HERMES, {"tool_call_parser": "pythonic"}, "pythonic"),
    ],
)
def test_tools_are_parsed_as_the_template_writes_them(tmp_path, template, settings, parser):
    folder = random_model(tmp_path / "model", seed=1, template=template)
    command = command_of(tmp_path, folder, **settings)
    assert value_of(command, "--tool-call-parser") == parser
    assert ("--enable-auto-tool-choice" in command) == (parser is not None)


def test_as_many_requests_as_asked_for_else_vllms_own_number(base, tmp_path):
    assert value_of(command_of(tmp_path, base), "--max-num-seqs") is None
    assert value_of(command_of(tmp_path, base, batch=64), "--max-num-seqs") == "64"


def test_native_calls_that_nobody_would_read_are_refused_before_anything_is_done(base, tmp_path):
    vllm, here = ServeConfig(kind="vllm", vllm_python=stand_in(tmp_path, "")), ServeConfig(kind="transformers")
    hermes, xml = (random_model(tmp_path / name, seed=1, template=it) for name, it in (("h", HERMES), ("x", XML)))
    for folder, config in ((hermes, vllm), (hermes, here), (xml, vllm)):
        check_native(folder, config)
    for folder in (base, xml):
        with pytest.raises(
            InputError, match=r"cannot read back\. Collect with format backtick, xml or json, or serve it with"
        ):
            check_native(folder, here)
    with pytest.raises(InputError, match=r"Name the parser in serve\.tool_call_parser, or take format backtick"):
        check_native(base, vllm)
    check_native(base, msgspec.structs.replace(vllm, tool_call_parser="hermes"))
    with pytest.raises(InputError, match=r"format native: .*base: this model's chat template writes no tool calls"):
        open_model(f"local:{base}", format="native")


FULL = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.send_response(400)
        self.end_headers()
        words = "You passed 9 input tokens. However, the model\'s context length is only 8 tokens."
        self.wfile.write(json.dumps({"error": {"message": words}}).encode())

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def test_a_full_context_is_known_in_any_words(base, tmp_path):
    (tmp_path / "server.py").write_text(FULL)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/server.py "$@"\n')
    python.chmod(0o755)
    config = ServeConfig(kind="vllm", vllm_python=str(python), start_timeout_s=30)
    server = start_server(base, name="a", config=config, log=tmp_path / "serve.log")
    try:
        with pytest.raises(ContextOverflow, match="context length is only 8 tokens"):
            server.logprobs([1, 2, 3])
        assert server.model.config.tokenizer == str(base), "sampled ids are noted with this vocabulary"
    finally:
        server.close()


def test_which_interpreter(monkeypatch, tmp_path):
    monkeypatch.delenv("SRFT_VLLM_PYTHON", raising=False)
    named = ServeConfig(vllm_python=stand_in(tmp_path, ""))
    assert (find_vllm(named), choose_kind(named)) == (named.vllm_python, "vllm")
    monkeypatch.setenv("SRFT_VLLM_PYTHON", sys.executable)
    assert find_vllm(ServeConfig()) == sys.executable
    monkeypatch.setenv("SRFT_VLLM_PYTHON", "/no/such/python")
    with pytest.raises(InputError, match="SRFT_VLLM_PYTHON /no/such/python: no interpreter there"):
        find_vllm(ServeConfig())
    assert choose_kind(ServeConfig(kind="transformers")) == "transformers"


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that imports vllm."""
    found = find_vllm(ServeConfig())
    if found is None:
        pytest.skip("no vLLM here; SRFT_VLLM_PYTHON names an interpreter that has it")
    return found


@pytest.fixture(scope="module")
def vllm(python, smollm2, tmp_path_factory):
    log = tmp_path_factory.mktemp("vllm") / "serve.log"
    config = ServeConfig(kind="vllm", vllm_python=python, dtype="float32", max_model_len=2048, cache_gib=1, batch=8)
    sampling = OpenAIConfig(temperature=0, max_tokens=16)
    server = VllmServer(smollm2, name="base", config=config, sampling=sampling, log=log)
    yield server
    server.close()


@pytest.mark.slow
def test_it_serves_what_is_in_the_folder_and_the_probe_catches_its_silent_reload(vllm, smollm2, tmp_path):
    reply = vllm.model.reply([{"role": "user", "content": "What is the capital of France?"}])
    assert reply.content == "The capital of France is Paris."
    assert len(reply.token_ids) == len(reply.logprobs)
    assert probe(vllm, expected_logprobs(smollm2)).verdict == "served"

    trained = nudged(smollm2, tmp_path / "trained", by=0.2, parts=("mlp", "embed_tokens"))
    request = {"method": "reload_weights", "kwargs": {"weights_path": str(trained)}}
    vllm._post("/collective_rpc", request)  # answers 200, and is wrong where embeddings are tied
    with pytest.raises(StaleWeights):
        probe(vllm, expected_logprobs(trained), base=expected_logprobs(smollm2))

    vllm.load(trained, name="trained")
    found = probe(vllm, expected_logprobs(trained), base=expected_logprobs(smollm2))
    assert (found.verdict, round(found.moved, 2)) == ("served", 1.0)
    assert vllm.model.name == "trained"
    process = vllm._process
    vllm.close()
    assert process.poll() is not None


@pytest.mark.slow
def test_adapters_are_loaded_at_run_time_under_fresh_names(python, smollm2, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        folders.append(tmp_path / f"adapter-{seed}")
        get_peft_model(AutoModelForCausalLM.from_pretrained(smollm2), config).save_pretrained(str(folders[-1]))
        AutoTokenizer.from_pretrained(smollm2).save_pretrained(folders[-1])
    config = ServeConfig(kind="vllm", vllm_python=python, dtype="float32", max_model_len=1024)
    server = start_server(folders[0], name="one", config=config, log=tmp_path / "serve.log")
    try:
        assert probe(server, expected_logprobs(folders[0]), base=expected_logprobs(smollm2)).verdict == "served"
        pid = server.pid
        server.load(folders[1], name="two")
        assert server.pid == pid  # without a restart
        assert probe(server, expected_logprobs(folders[1]), base=expected_logprobs(folders[0])).verdict == "served"
        with pytest.raises(InputError, match="used before"):
            server.load(folders[0], name="one")
    finally:
        server.close()


@pytest.mark.slow
def test_one_real_evaluation_over_srft_serve(python, smollm2, tmp_path, tiny_image):
    """As a user does it: `srft serve`, then `srft collect` with two tasks in containers, graded."""
    environment = {**os.environ, "SRFT_VLLM_PYTHON": python}
    command = [sys.executable, "-m", "srft.harness.cli"]
    serve = [*command, "serve", "--model", str(smollm2), "--name", "smol", "--kind", "vllm", "--json"]
    server = subprocess.Popen(
        [*serve, "--set", "serve.max_model_len=4096"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    try:
        said = json.loads(server.stdout.readline())
        assert (said["model"], said["kind"], said["pid"]) == ("smol", "vllm", server.pid)
        tasks = tiny.write_tasks(tmp_path / "tasks.jsonl", 2)
        collect = [
            *command,
            "collect",
            "--tasks",
            str(tasks),
            "--model",
            f"{said['url']}#smol",
            "--run",
            "run",
            "--json",
        ]
        settings = ["episode.steps=2", "openai.max_tokens=48", "openai.temperature=0"]
        for setting in settings:
            collect += ["--set", setting]
        ran = subprocess.run(collect, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=500)
        assert ran.returncode == 0, ran.stderr
        summary = json.loads(ran.stdout)
        assert (summary["episodes"], summary["finished"], summary["failed"]) == (2, 2, 0)
        lines = (tmp_path / "run" / "round-000" / "trajectories.jsonl").read_bytes().rstrip(b"\n").split(b"\n")
        steps = [step for line in lines for step in json.loads(line)["steps"]]
        assert all(step["token_ids"] and step["logprobs"] for step in steps)
    finally:
        server.terminate()
        assert server.wait(60) == 0


@pytest.mark.slow
def test_no_orphan_after_a_kill_of_its_owner(python, smollm2, tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from srft.harness.serve import ServeConfig, start_server\n"
        f"config = ServeConfig(kind='vllm', vllm_python={python!r}, max_model_len=512)\n"
        f"server = start_server({str(smollm2)!r}, name='a', config=config, log=Path('serve.log'))\n"
        "print(server.url, flush=True); time.sleep(300)"
    )
    already = vllm_processes()
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    url = owner.stdout.readline().strip().removesuffix("/v1")
    with urllib.request.urlopen(url + "/health", timeout=10) as answer:
        assert answer.status == 200
    assert vllm_processes() - already
    owner.kill()
    owner.wait()
    until_s = time.monotonic() + 60
    while vllm_processes() - already:
        assert time.monotonic() < until_s
        time.sleep(0.5)


def vllm_processes() -> set[str]:
    """The ids of all processes whose command line speaks of vLLM."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"vllm" in path.read_bytes().lower():
                found.add(path.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
