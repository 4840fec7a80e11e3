"""What a critique costs: planned to the token, kept below a ceiling, halved by batch files."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from srft.critic.judge.config import JudgeConfig
from srft.critic.judge.tokens import estimate
from srft.env.errors import InputError, ModelError
from srft.harness.run.store import Run
from srft.harness.stages.batch import Batch, BatchConfig, Refused
from srft.harness.stages.ceiling import Ceiling
from srft.harness.stages.critique import CritiqueConfig, critique, plan_critique
from srft.harness.stages.critique_plan import Cost
from tests.agent.conftest import ChatServer
from tests.harness.stages.test_critique import FAILS, Always, critiques, says, trajectory

PRICES = {"usd_per_million_prompt": 100.0, "usd_per_million_completion": 1000.0}


def config(server, *, openai=None, **settings):
    judge = {"openai": {"max_retries": 0, **(openai or {})}, **settings.pop("judge", {})}
    given = {"critic": f"{server.url}#tiny", "judge": judge, "workers": 1, "outcome": "all"} | settings
    return msgspec.convert(given, CritiqueConfig)


def judged(run, settings, *, stop=None):
    with Run(run) as opened:
        return critique(settings, opened, stop=stop or threading.Event())


def planned(run, settings):
    with Run(run) as opened:
        return plan_critique(settings, opened)


@pytest.fixture
def server():
    server = ChatServer()
    server.answers = Always(server)
    yield server
    server.close()


def counted(request):
    return sum(estimate(message["content"]) + 5 for message in request["messages"]) + 3


def test_a_plan_is_what_is_sent(server, run):
    path = run(*map(trajectory, range(4)), trajectory(5, stop_reason="infra_error", steps=()))
    plan = planned(path, config(server, openai=PRICES, judge={"votes": 2}))
    assert server.requests == []
    assert (plan.runs, plan.steps, plan.resumed) == ({"resolved": 2, "unresolved": 2}, 8, 0)
    assert (plan.skipped, plan.failing) == ({"ended by infrastructure": 1}, {})
    judged(path, config(server, judge={"votes": 2}))
    assert plan.cost == Cost(
        calls=len(server.requests),
        prompt_tokens=sum(map(counted, server.requests)),
        reply_tokens=8 * (250 + 2 * 90),
    )
    usd = (plan.cost.prompt_tokens * 100 + plan.cost.reply_tokens * 1000) / 1e6
    assert (plan.usd, plan.usd_by_batch) == (pytest.approx(usd), pytest.approx(usd / 2))
    assert plan.hours == pytest.approx((plan.cost.prompt_tokens / 5000 + plan.cost.reply_tokens / 50) / 3600)
    after = planned(path, config(server, judge={"votes": 2}))
    assert (after.runs, after.resumed, after.cost, after.usd) == ({}, 4, Cost(), None)


def test_a_plan_of_runs_that_do_not_fit(server, run):
    long = trajectory(1, steps=tuple(msgspec.structs.replace(step, index=index, observation="y " * 2500)
                                     for index, step in enumerate(trajectory(1).steps * 4)))  # fmt: skip
    path = run(long, trajectory(3), trajectory(5, messages=({"role": "user", "content": "t"},), steps=long.steps))
    windows = {"context_tokens": 10_000, "chars_per_token": 2.0}
    plan = planned(path, config(server, judge=windows))
    assert (plan.cost.windowed, plan.cost.calls > 4, plan.cost.cut, plan.failing) == (2, True, 0, {})
    plan = planned(path, config(server, judge={"context_tokens": 25_000, "chars_per_token": 2.0}))
    assert (plan.cost.windowed, plan.cost.calls, plan.cost.cut) == (0, 3, 16)
    plan = planned(path, config(server, judge={"context_tokens": 4_000, "chars_per_token": 2.0}))
    assert list(plan.failing) == [f"tiny__tiny-{number} attempt 0" for number in (1, 3, 5)]
    assert "no room for even one step" in plan.failing["tiny__tiny-1 attempt 0"]


def test_a_plan_needs_no_server_no_key_and_writes_nothing(srft, run):
    path = run(trajectory(0), trajectory(1), trajectory(2, recorded_resolved=None))
    before = sorted(path.rglob("*"))
    command = ("critique", "--run", path, "--critic", "http://127.0.0.1:9/v1#m", "--plan")
    done = srft(*command, "--set", "judge.openai.api_key_env=NOWHERE")
    assert done.returncode == 0, done.stderr
    for words in (
        "1 unresolved",
        "1 (resolved)",
        "counted by an estimate",
        "not known: set judge.openai.usd_per_million",
    ):
        assert words in " ".join(done.stdout.replace("│", " ").split())
    assert "1 runs have no outcome: no arm that masks trains on them before they are graded" in done.stdout
    assert sorted(path.rglob("*")) == before
    plan = json.loads(srft(*command, "--json", "--outcome", "all").stdout)
    assert (plan["runs"], plan["cost"]["calls"]) == ({"resolved": 1, "unresolved": 1, "unknown": 1}, 3)


def test_a_rule_costs_nothing(server, run):
    plan = planned(run(trajectory(0)), config(server, critic="tool_error"))
    assert (plan.runs, plan.cost) == ({"resolved": 1}, Cost())


def priced(usd):
    status, body = says("good", "mistake")
    return status, {**body, "usage": {**body["usage"], "cost": usd}}


def test_a_ceiling_is_kept_and_raised(server, run):
    """The estimate of a run is 430 reply tokens and its prompt."""
    path = run(*map(trajectory, range(6)))
    one = planned(path, config(server, openai=PRICES)).usd / 6
    server.answers = Always(server, lambda request: priced(one / 2))
    summary = judged(path, config(server, openai=PRICES, max_usd=one * 0.9))
    assert (summary.judged, server.requests) == (0, [])
    assert summary.reason.startswith("max_usd: USD 0.0000 of ")
    assert summary.reason.endswith("raise it and give the same command again")
    # By the prices of the configuration 100 prompt and 20 reply tokens cost 0.03.
    summary = judged(path, config(server, openai=PRICES, max_usd=one + 0.07))
    assert (summary.judged, summary.spent_now.cost_usd, summary.cancelled) == (3, pytest.approx(0.09), False)
    summary = judged(path, config(server, openai=PRICES, max_usd=one + 0.07))
    assert (summary.judged, summary.resumed) == (0, 3)  # what was spent before counts
    assert judged(path, config(server, openai=PRICES, max_usd=one + 10.0)).complete


def test_workers_together_keep_a_ceiling(server, run):
    path = run(*map(trajectory, range(6)))
    one = planned(path, config(server, openai=PRICES)).usd / 6
    server.answers = Always(server, delay_s=0.2)
    summary = judged(path, config(server, openai=PRICES, max_usd=one * 1.5, workers=6))
    assert summary.spent_now.cost_usd <= one * 1.5
    assert summary.judged >= 1


def test_a_ceiling_by_what_the_server_says(server, run):
    path = run(*map(trajectory, range(6)))
    server.answers = Always(server, lambda request: priced(1.0))
    summary = judged(path, config(server, max_usd=3.5, workers=4))
    assert (summary.judged, summary.spent.cost_usd) == (3, 3.0)


def test_a_ceiling_that_nobody_can_keep_is_said(server, run):
    path = run(*map(trajectory, range(3)))
    summary = judged(path, config(server, max_usd=5.0))
    assert summary.judged == 1
    assert "neither the server nor the configuration says what a call costs" in summary.reason


def test_runs_that_fail_cost_too(server, run):
    path = run(*map(trajectory, range(4)))
    one = planned(path, config(server, openai=PRICES)).usd / 4
    server.answers = Always(server, lambda request: says())
    summary = judged(path, config(server, openai=PRICES, max_usd=one + 0.05))
    # 2 calls of 0.03 a run: the second run is begun at 0.06 of which it is not known how it ends
    assert (summary.failed, summary.spent_now.calls, summary.spent_now.cost_usd) == (1, 2, pytest.approx(0.06))
    assert summary.reason.startswith("max_usd: USD 0.06")


def test_the_command_says_why_it_stopped(srft, server, run):
    path = run(*map(trajectory, range(3)))
    server.answers = Always(server, lambda request: priced(1.0))
    command = ("critique", "--run", path, "--critic", f"{server.url}#tiny", "--outcome", "all", "--max-usd")
    done = srft(*command, "1.5")
    assert done.returncode == 1
    assert "max_usd: USD 1.0000 of 1.5 are spent, and the next run would cost about 1.0000; raise it" in done.stderr
    assert srft(*command, "10").returncode == 0


def test_a_ceiling_reserves_what_is_under_way():
    runs = [trajectory(number) for number in range(3)]
    ceiling = Ceiling(2.5, spent=0.5, estimate=lambda one: 1.0)
    assert [ceiling.refuses(one) is None for one in runs] == [True, True, False]
    assert "2.0000 are under way" in ceiling.refuses(runs[2])
    assert ceiling.waits(runs[2])
    ceiling.ended("id-0", 0.2)
    ceiling.ended("id-1", 0.2)
    assert (ceiling.waits(runs[2]), ceiling.refuses(runs[2])) == (False, None)
    ceiling.begin()
    assert ceiling.refuses(runs[0]) is None


# ---------------------------------------------------------------------------------------------------------- batches


class BatchServer:
    """OpenAI's batch API over a real socket: files, batches, and their answers when `finish` is called.

    answer(body) -> (status, body) of one request; `None` leaves it unanswered (expired).
    """

    def __init__(self):
        self.files, self.batches, self.requests, self.refusals = {}, {}, [], []
        self.answer = lambda body: says("good", "mistake")
        self.finishes_at_once = True
        self.status = "completed"
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.requests.append(("GET", self.path))
                if self.path.endswith("/models"):
                    return self._say({"object": "list", "data": [{"id": "tiny", "object": "model"}]})
                if found := re.fullmatch(r"/v1/files/(.+)/content", self.path):
                    return self._say(server.files[found[1]])
                if found := re.fullmatch(r"/v1/batches/(.+)", self.path):
                    if server.finishes_at_once:
                        server.finish(found[1])
                    return self._say(server.batches[found[1]])
                return self._say({"object": "list", "data": list(server.batches.values()), "has_more": False})

            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests.append(("POST", self.path))
                if server.refusals:
                    return self._say(*server.refusals.pop(0))
                if self.path == "/v1/files":
                    assert b'name="purpose"\r\n\r\nbatch' in content
                    body = (
                        content.partition(b"application/octet-stream\r\n\r\n")[2]
                        or content.partition(b'.jsonl"\r\n')[2].partition(b"\r\n\r\n")[2]
                    )
                    name = f"file-{len(server.files)}"
                    server.files[name] = body.partition(b"\r\n--")[0]
                    return self._say({"id": name, "object": "file", "purpose": "batch"})
                asked = json.loads(content)
                assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
                name = f"batch-{len(server.batches)}"
                server.batches[name] = {"id": name, "object": "batch", "status": "in_progress", **asked}
                return self._say(server.batches[name])

            def _say(self, body, status=200):
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def finish(self, name):
        batch = self.batches[name]
        if batch["status"] != "in_progress":
            return
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].split(b"\n"):
            if not line:
                continue
            request = json.loads(line)
            assert (request["method"], request["url"]) == ("POST", "/v1/chat/completions")
            answered = self.answer(request["body"])
            if answered is None:
                bad.append({"custom_id": request["custom_id"], "response": None, "error": {"code": "batch_expired"}})
                continue
            status, body = answered
            line = {"custom_id": request["custom_id"], "response": {"status_code": status, "body": body}, "error": None}
            (good if status == 200 else bad).append(line)
        for kind, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                self.files[f"{name}-{kind}"] = "\n".join(map(json.dumps, lines)).encode()
                batch[kind] = f"{name}-{kind}"
        batch["status"] = self.status

    def asked(self, number):
        """The bodies of the n-th batch's requests."""
        lines = self.files[self.batches[f"batch-{number}"]["input_file_id"]].split(b"\n")
        return [json.loads(line)["body"] for line in lines if line]


@pytest.fixture
def batches():
    server = BatchServer()
    yield server
    server.http.shutdown()
    server.http.server_close()


def by_batch(server, **settings):
    batch = {"enabled": True, "poll_s": 0.02} | settings.pop("batch", {})
    return config(server, batch=batch, **settings)


def verdicts(run):
    return {told.trajectory_id: [label.verdict for label in told.labels] for told in critiques(run)}


def test_a_batch_judges_all_at_half_the_price(batches, run):
    path = run(*map(trajectory, range(3)))
    settings = by_batch(batches, judge={"openai": PRICES, "thinking_tokens": 9})
    summary = judged(path, settings)
    assert (summary.judged, summary.waiting, summary.complete) == (3, 0, True)
    assert verdicts(path) == {f"id-{number}": ["good", "mistake"] for number in range(3)}
    assert summary.spent.cost_usd == pytest.approx(3 * 0.03 / 2)
    assert len(batches.batches) == 1
    for body in batches.asked(0):
        assert body["model"] == "tiny"
        assert body["seed"] == 0
        assert "max_tokens" not in body
        assert body["max_completion_tokens"] > 0
        assert "prefixItems" not in json.dumps(body["response_format"])  # what OpenAI's strict schemas know
    # They are on file for the same judge asked one by one, too.
    again = judged(path, msgspec.structs.replace(settings, batch=BatchConfig()))
    assert (again.judged, again.resumed, len(batches.batches)) == (0, 3, 1)


def test_what_an_answer_misses_comes_into_the_next_batch(batches, run):
    path = run(*map(trajectory, range(3)))

    def answer(body):
        if "Task 1." in str(body) and len(body["messages"]) == 2:
            return says("good")
        status, said = says("good", "mistake")
        return status, json.loads(json.dumps(said))

    batches.answer = answer
    summary = judged(path, by_batch(batches))
    assert (summary.judged, summary.remarks["repairs"]) == (3, 1)
    assert [len(batches.asked(number)) for number in range(2)] == [3, 1]
    told = next(told for told in critiques(path) if told.trajectory_id == "id-1")
    assert (told.calls, told.usage.prompt_tokens) == (2, 200)


def test_what_expired_or_failed_is_asked_again_and_what_was_refused_is_not(batches, run):
    path = run(*map(trajectory, range(4)))
    tries = {"Task 0.": [None, (500, {"error": {"message": "busy"}})], "Task 1.": [FAILS] * 9, "Task 2.": [None] * 9}

    def answer(body):
        left = next((left for task, left in tries.items() if task in str(body)), [])
        return left.pop(0) if left else says("good", "mistake")

    batches.answer = answer
    summary = judged(path, by_batch(batches))
    assert (summary.judged, summary.failed, sorted(verdicts(path))) == (2, 2, ["id-0", "id-3"])
    assert "no such luck" in summary.failures["tiny__tiny-1 attempt 0"]
    assert "batch_expired" in summary.failures["tiny__tiny-2 attempt 0"]
    assert [len(batches.asked(number)) for number in range(3)] == [4, 2, 2]


def test_a_command_that_ended_goes_on_with_what_was_submitted(batches, run):
    path = run(*map(trajectory, range(2)))
    batches.finishes_at_once = False
    submitted = judged(path, by_batch(batches, batch={"until": "submitted"}))
    assert (submitted.waiting, submitted.judged, submitted.complete) == (2, 0, False)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    waited = judged(path, by_batch(batches), stop=stop)
    assert (waited.judged, waited.cancelled) == (0, True)
    batches.finish("batch-0")
    assert judged(path, by_batch(batches, batch={"until": "submitted"})).judged == 2
    assert len(batches.batches) == 1


def test_nothing_is_submitted_twice(batches, run):
    """The command ends behind each of: upload, creation."""
    path = run(trajectory(1))
    batches.finishes_at_once = False
    judged(path, by_batch(batches, batch={"until": "submitted"}))
    state = next(path.rglob("batches.json"))
    kept = json.loads(state.read_bytes())
    assert kept["files"][0]["batch_id"] == "batch-0"
    kept["files"][0]["batch_id"] = None  # created, and not written down
    state.write_text(json.dumps(kept))
    batches.finishes_at_once = True
    assert judged(path, by_batch(batches)).judged == 1
    assert (len(batches.batches), sum(asked == ("POST", "/v1/files") for asked in batches.requests)) == (1, 1)


def test_a_file_that_is_submitted_by_hand(batches, run):
    path = run(*map(trajectory, range(2)))
    written = judged(path, by_batch(batches, batch={"until": "written"}))
    assert (written.waiting, batches.requests) == (2, [])
    requests = next(path.rglob("requests-001.jsonl"))
    assert requests.parent.parent == path / "round-000" / "batch"
    answers = [
        {"custom_id": json.loads(line)["custom_id"], "response": {"status_code": 200, "body": says("good", "good")[1]}}
        for line in requests.read_bytes().split(b"\n")[:-1]
    ]
    assert judged(path, by_batch(batches, batch={"until": "written"})).waiting == 2
    requests.with_name("answers-001.jsonl").write_text("\n".join(map(json.dumps, answers)))
    assert judged(path, by_batch(batches, batch={"until": "written"})).judged == 2


def test_large_batches_are_split(batches, run):
    path = run(*map(trajectory, range(5)))
    assert judged(path, by_batch(batches, batch={"max_requests": 2})).judged == 5
    assert [len(batches.asked(number)) for number in range(3)] == [2, 2, 1]
    size = len(next(path.rglob("requests-001.jsonl")).read_bytes()) / 2 / (1 << 20)
    other = {"max_mib": size * 3.5}
    assert judged(path, by_batch(batches, judge={"seed": 1}, batch=other)).judged == 5
    assert [len(batches.asked(number)) for number in (3, 4)] == [3, 2]


def test_a_batch_keeps_a_ceiling(batches, run):
    path = run(*map(trajectory, range(4)))
    one = planned(path, by_batch(batches, openai=PRICES)).usd_by_batch / 4
    refused = judged(path, by_batch(batches, openai=PRICES, max_usd=one * 0.5))
    assert (refused.judged, batches.batches, refused.reason[:18]) == (0, {}, "max_usd: USD 0.000")
    # What two runs are expected to cost is submitted; they cost less, so the other two follow.
    summary = judged(path, by_batch(batches, openai=PRICES, max_usd=one * 2.5))
    assert [len(batches.asked(number)) for number in range(2)] == [2, 2]
    assert (summary.judged, summary.reason) == (4, None)


def test_a_batch_that_fails_is_one_sentence(batches, run):
    path = run(trajectory(1))
    batches.status = "failed"
    with pytest.raises(ModelError, match=r"batch batch-0 failed \(no reason given\); correct that, remove .*batch"):
        judged(path, by_batch(batches))
    other = run(trajectory(1, id="id-9"))
    batches.refusals = [({"error": {"message": "no such API"}}, 404)]
    with pytest.raises(ModelError, match=r"cannot be submitted to .*no such API.*or ask without --batch"):
        judged(other, by_batch(batches, judge={"seed": 3}))


def test_what_no_batch_goes_with(batches, run, tmp_path):
    path = run(trajectory(1))
    with pytest.raises(InputError, match="tool_error asks no server; leave out --batch"):
        judged(path, by_batch(batches, critic="tool_error"))
    with pytest.raises(InputError, match="a batch is asked from one machine"):
        judged(path, by_batch(batches, ray={"address": "auto"}))
    folder = tmp_path / "batch"
    folder.mkdir()
    (folder / "batches.json").write_text("{")
    with pytest.raises(InputError, match=r"batches\.json: cannot be read .* remove"):
        Batch(folder, BatchConfig())


def test_a_refusal_on_file_is_the_clients_error():
    refused = Refused(400, {"error": {"message": "Too long.", "code": "context_length_exceeded"}})
    assert (refused.status_code, refused.code, refused.body["message"]) == (400, "context_length_exceeded", "Too long.")
    assert Refused(429, "busy").body == "busy"


def test_a_batch_from_the_command_line(srft, batches, run):
    path = run(trajectory(1))
    command = ("critique", "--run", path, "--critic", f"{batches.url}#tiny", "--batch")
    written = srft(*command, "--set", "batch.until=written")
    assert (written.returncode, "1 runs wait for a batch" in written.stdout) == (0, True), written.stderr
    done = srft(*command, "--set", "batch.poll_s=0.05", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["judged"] == 1


def test_the_settings_of_cost_do_not_change_the_judge():
    plain = JudgeConfig(model="http://a/v1#m")
    assert plain.settings() == msgspec.structs.replace(plain, stream=True, cache_control=True).settings()
