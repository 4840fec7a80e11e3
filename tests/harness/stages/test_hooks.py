"""Hooks: a real command and a real webhook are told of each stage and each failure, and never stop a run."""

import http.server
import json
import os
import threading
from typing import ClassVar

import pytest

from srft.env.errors import InputError
from srft.harness.stages.hooks import Hooks, HooksConfig
from tests.train.conftest import make_run


@pytest.fixture
def webhook():
    """posted: the bodies that came; url: its address. /refuse answers 500."""

    class Handler(http.server.BaseHTTPRequestHandler):
        posted: ClassVar[list[dict]] = []

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.posted.append(json.loads(body))
            self.send_response(500 if self.path == "/refuse" else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    Handler.posted = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.url, server.posted = f"http://127.0.0.1:{server.server_address[1]}", Handler.posted
        yield server
        server.shutdown()


def test_a_critique_tells_a_command_and_a_webhook(run, srft, tmp_path, webhook):
    made = run(make_run(["I look.\n```bash\nls\n```"], recorded_resolved=False))
    sets = ("--set", "hooks.command=cat >>told.jsonl; echo >>told.jsonl", "--set", "hooks.url=$SRFT_TEST_HOOK")
    done = srft(
        "critique", "--run", made, "--critic", "tool_error", *sets, env={**os.environ, "SRFT_TEST_HOOK": webhook.url}
    )
    assert done.returncode == 0, done.stderr
    (told,) = map(json.loads, (tmp_path / "told.jsonl").read_text().splitlines())
    assert (told["event"], told["stage"], told["round"], told["run"]) == ("stage", "critique", "round-000", str(made))
    assert (told["figures"]["judged"], told["figures"]["critic"]) == (1, "tool_error")
    assert told["text"].startswith("run, round-000: critique ended after 0:00:")
    assert webhook.posted == [told]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"command": "echo no such channel >&2; exit 3"}, "hooks.command (stage): exit code 3 (no such channel)"),
        ({"command": "sleep 60", "timeout_s": 0.2}, "hooks.command (stage): not ended after 0.2 s, so it was killed"),
        ({"url": "http://user:secret@127.0.0.1:9/token"}, "hooks.url (stage): http://127.0.0.1 cannot be reached"),
        ({"url": "$SRFT_NOT_SET"}, "hooks.url (stage): $SRFT_NOT_SET is not an address"),
    ],
)
def test_a_hook_that_fails_is_reported_and_stops_nothing(config, said, tmp_path, logged):
    Hooks(HooksConfig(**config), tmp_path).stage("collect", tmp_path, wall_s=1.0, figures={})
    assert len(logged) == 1
    assert logged[0].startswith(said)
    assert logged[0].endswith("; the run continues\n")
    assert "secret" not in logged[0]


def test_a_webhook_that_refuses_is_reported(webhook, tmp_path, logged):
    Hooks(HooksConfig(url=f"{webhook.url}/refuse"), tmp_path).finished()
    assert "hooks.url (finished): http://127.0.0.1 answers 500" in logged[0]


def test_a_failure_is_told_and_passes_on_and_a_stop_is_no_failure(webhook, tmp_path):
    hooks = Hooks(HooksConfig(url=webhook.url), tmp_path)
    with pytest.raises(InputError, match="no such model"), hooks.failures():
        raise InputError("no such model")
    with pytest.raises(KeyError), hooks.failures(but=(KeyError,)):
        raise KeyError
    hooks.stopped("budget.usd is spent")
    told = [(one["event"], one["reason"]) for one in webhook.posted]
    assert told == [("failure", "no such model"), ("stopped", "budget.usd is spent")]


def test_an_address_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"hooks\.url"):
        HooksConfig(url="file:///etc/passwd")
