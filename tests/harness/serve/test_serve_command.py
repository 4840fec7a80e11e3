"""`srft serve` as a user runs it: healthy when it says so, ended by SIGTERM."""

import json
import signal
import subprocess
import sys
import urllib.request

from srft.agent.models.openai import OpenAIConfig, OpenAIModel


def test_it_serves_until_it_is_told_to_end(base, tmp_path):
    command = [sys.executable, "-m", "srft.harness.cli", "serve", "--model", str(base), "--kind", "transformers"]
    server = subprocess.Popen(
        [*command, "--json", "--set", "serve.dtype=float32"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        said = json.loads(server.stdout.readline())
        assert said == {"url": said["url"], "model": "base", "kind": "transformers", "pid": server.pid}
        with urllib.request.urlopen(said["url"].removesuffix("/v1") + "/health", timeout=10) as answer:
            assert answer.status == 200
        model = OpenAIModel(OpenAIConfig(base_url=said["url"], name="base", temperature=0, max_tokens=5))
        assert 1 <= len(model.reply([{"role": "user", "content": "x"}]).token_ids) <= 5
    finally:
        server.send_signal(signal.SIGTERM)
        _, stderr = server.communicate(timeout=60)
    assert server.returncode == 0, stderr


def test_wrong_options_say_what_to_do(srft, tmp_path):
    ran = srft("serve", "--model", tmp_path)
    assert ran.returncode == 2
    assert "no model there; expected a folder with config.json" in ran.stderr
    ran = srft("serve", "--model", tmp_path, "--set", "serve.dtyp=float32")
    assert ran.returncode == 2
    assert "unknown key serve.dtyp; did you mean serve.dtype?" in ran.stderr
