"""`srft collect`: every episode once, none lost, nothing left behind, whatever happens to it."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import msgspec
import pytest
import yaml

from srft.agent.records import Trajectory
from srft.env.docker.sandbox import LABEL
from srft.harness.run.live import read_live
from tests import tiny
from tests.agent.conftest import ChatServer


def _trajectories(run):
    path = run / "round-000" / "trajectories.jsonl"
    return [msgspec.json.decode(line, type=Trajectory) for line in path.read_bytes().splitlines(keepends=True)]


def _containers(client, *, running=False):
    """The containers of this test's episodes; others may run beside it."""
    containers = client.api.containers(all=not running, filters={"label": [LABEL, "srft.task"]})
    return [container for container in containers if container["Labels"]["srft.task"].startswith("tiny__")]


def _left(client, *, running=False, within_s=20.0):
    """The episodes' containers that are left; a dying one has a moment."""
    deadline = time.monotonic() + within_s
    while left := _containers(client, running=running):
        if time.monotonic() > deadline:
            return left
        time.sleep(0.2)
    return []


@pytest.fixture
def tasks(tmp_path, tiny_image):
    return tiny.write_tasks(tmp_path / "tasks.jsonl", 4)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "replies.yaml"
    path.write_text(
        yaml.safe_dump({"*": tiny.SOLVE} | {f"tiny__tiny-{n}": (tiny.SOLVE, tiny.FAIL)[n % 2] for n in range(64)})
    )
    return path


def test_collect_grades_and_resumes(srft, tasks, script, tmp_path, engine):
    command = (
        "collect",
        "--tasks",
        tasks,
        "--model",
        f"script:{script}",
        "--attempts",
        2,
        "--workers",
        3,
        "--run",
        "run",
    )
    first = srft(*command, "--json")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert (summary["episodes"], summary["finished"], summary["failed"]) == (8, 8, 0)
    evaluation = summary["evaluation"]
    assert {name: evaluation[name] for name in ("tasks", "predictions", "resolved", "unresolved", "resolved_any")} == {
        "tasks": 4,
        "predictions": 8,
        "resolved": 4,
        "unresolved": 4,
        "resolved_any": 2,
    }
    assert evaluation["by_repository"] == {
        "tiny/even": {"predictions": 4, "resolved": 4},
        "tiny/odd": {"predictions": 4, "unresolved": 4},
    }
    told = read_live(tmp_path / "run")
    assert (told.state, told.live.last, told.live.stages) == ("finished", "collect", ())
    trajectories = _trajectories(tmp_path / "run")
    assert {(t.task_id, t.attempt) for t in trajectories} == {
        (f"tiny__tiny-{n}", a) for n in range(4) for a in range(2)
    }
    assert all(t.stop_reason == "submitted" for t in trajectories)
    assert len({t.id for t in trajectories}) == 8
    for name in ("predictions.jsonl", "predictions-1.jsonl"):
        rows = [json.loads(line) for line in (tmp_path / "run" / "round-000" / name).read_text().splitlines()]
        assert len(rows) == 4
        assert "+42" in next(r["model_patch"] for r in rows if r["instance_id"] == "tiny__tiny-0")
    # Four of the eight patches are the same pair of task and patch: each pair is graded once.
    assert len((tmp_path / "run" / "round-000" / "grades.jsonl").read_text().splitlines()) == 4
    again = srft(*command, "--json")
    assert json.loads(again.stdout)["evaluation"] == evaluation
    assert len(_trajectories(tmp_path / "run")) == 8
    by_evaluate = srft("evaluate", "--run", "run", "--json")
    assert json.loads(by_evaluate.stdout) == evaluation
    assert not _left(engine)


def test_a_bad_line_is_done_again_and_no_other(srft, tasks, script, tmp_path):
    command = (
        "collect",
        "--tasks",
        tasks,
        "--model",
        f"script:{script}",
        "--run",
        "run",
        "--set",
        "grading.enabled=false",
    )
    assert srft(*command).returncode == 0
    path = tmp_path / "run" / "round-000" / "trajectories.jsonl"
    first, second, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, second[:-40] + b"\n", *others]))
    again = srft(*command, "--json")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("trajectories.jsonl:2: not a Trajectory of this version of srft") == 1
    lines = path.read_bytes().splitlines(keepends=True)
    assert (len(lines), lines[0], lines[2:4]) == (5, first, others)
    assert msgspec.json.decode(lines[4], type=Trajectory).task_id == json.loads(second)["task_id"]


@pytest.fixture
def chat_server():
    server = ChatServer()
    yield server
    server.close()


def completion(content, *, choice, **more):
    said = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop", **choice}
    return {"id": "c1", "object": "chat.completion", "choices": [said], **more}


def test_odd_replies_cost_no_later_stage_anything(srft, tasks, tmp_path, chat_server):
    """A NaN in one reply, costs as an object, ids in a list of lists: all else stands, and the report counts it."""
    good, bad = ({"logprobs": {"content": [{"token": "x", "logprob": value}]}} for value in (-0.5, float("nan")))
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "cost": {"total_cost": 0.06}}
    said = [
        completion(tiny.SOLVE[0], choice=bad),
        completion(tiny.SOLVE[-1], choice=good),
        completion(tiny.SOLVE[0], choice={**good, "token_ids": [[1, 2]], "finish_reason": 0}),
        completion([{"type": "text", "text": tiny.SOLVE[-1]}], choice=good, usage=usage),
    ]
    chat_server.answers = [(200, body) for body in said]
    command = ("--model", f"{chat_server.url}#tiny", "--workers", 1, "--set", "grading.enabled=false")
    done = srft("collect", "--tasks", tasks, "--only", "tiny__tiny-0,tiny__tiny-1", "--run", "run", *command)
    assert done.returncode == 0, done.stderr
    for name in ("log-probabilities", "token ids", "finish_reason"):
        assert done.stderr.count(f"an answer has {name} in no usable shape") == 1
    assert {trajectory.stop_reason for trajectory in _trajectories(tmp_path / "run")} == {"submitted"}
    assert srft("critique", "--run", "run", "--critic", "tool_error").returncode == 0
    assert srft("report", "--run", "run").returncode == 0
    report = (tmp_path / "run" / "report.md").read_text()
    assert "| replies | without usable log-probabilities, which other replies of the run have | 1 |" in report
    assert "0.06" in report


def test_another_configuration_is_refused(srft, tasks, script):
    command = ("collect", "--tasks", tasks, "--model", f"script:{script}", "--run", "run", "--only", "tiny__tiny-0")
    assert srft(*command).returncode == 0
    changed = srft(*command, "--seed", 7)
    assert changed.returncode == 2
    assert "this run was begun with another seed" in changed.stderr
    assert srft(*command, "--attempts", 2, "--workers", 1).returncode == 0


def _start(tmp_path, tasks, script, *, attempts, log):
    return subprocess.Popen(
        [sys.executable, "-m", "srft.harness.cli", "collect", "--tasks", tasks, "--model", f"script:{script}",
         "--attempts", str(attempts), "--workers", "3", "--run", "run", "--json"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=log, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(kills, tmp_path, tasks, engine):
    """Every episode once, none lost, no container left."""
    slow = ["```bash\nsleep 0.4\n```", *tiny.SOLVE]
    script = tmp_path / "replies.yaml"
    script.write_text(yaml.safe_dump({f"tiny__tiny-{n}": slow for n in range(4)}))
    rng = random.Random(kills)
    with (tmp_path / "log").open("w") as log:
        for _ in range(kills):
            process = _start(tmp_path, tasks, script, attempts=6, log=log)
            time.sleep(rng.uniform(1.5, 5.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
            # One that was made and not started yet is the next command's to remove.
            assert not _left(engine, running=True)
        process = _start(tmp_path, tasks, script, attempts=6, log=log)
        stdout, _ = process.communicate(timeout=300)
    assert process.returncode == 0, (tmp_path / "log").read_text()
    assert json.loads(stdout)["evaluation"]["resolved"] == 24
    episodes = [(t.task_id, t.attempt) for t in _trajectories(tmp_path / "run")]
    assert sorted(episodes) == [(f"tiny__tiny-{n}", a) for n in range(4) for a in range(6)]
    assert not _left(engine)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c(presses, tmp_path, tasks, engine):
    """Once: the steps under way are finished. Twice: at once. Nothing half-done is kept, and no container."""
    script = tmp_path / "replies.yaml"
    long = ["```bash\nsleep 3; echo finished >done.txt\n```"] * 5 + tiny.SOLVE
    script.write_text(yaml.safe_dump({f"tiny__tiny-{n}": long for n in range(4)}))
    with (tmp_path / "log").open("w") as log:
        process = _start(tmp_path, tasks, script, attempts=1, log=log)
        deadline = time.monotonic() + 60
        while not _containers(engine, running=True) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.5)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        process.wait(timeout=60)
    assert process.returncode == 130
    assert "finishing the steps under way" in (tmp_path / "log").read_text()
    path = tmp_path / "run" / "round-000" / "trajectories.jsonl"
    assert not path.exists() or path.read_bytes() == b""
    assert not _left(engine)


def _refused(process, *words):
    """One sentence, on stderr, exit code not zero, and no traceback."""
    said = [line for line in process.stderr.splitlines() if line.startswith("srft: ")]
    assert process.returncode != 0, process.stdout
    assert "Traceback" not in process.stderr, process.stderr
    assert len(said) == 1, process.stderr
    for word in words:
        assert word in said[0], said[0]


def test_bad_input_is_one_sentence(srft, tasks, script, tmp_path):
    def run(**changes):
        options = {"tasks": tasks, "model": f"script:{script}", "run": "run"} | changes
        return srft("collect", *(part for name, value in options.items() for part in (f"--{name}", value)))

    rows = [tiny.row(0), tiny.row(1)]
    del rows[1]["repo"]
    missing = tmp_path / "missing.jsonl"
    missing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    unreadable = tmp_path / "unreadable.jsonl"
    unreadable.write_text(json.dumps(tiny.row(0)) + '\n{"instance_id": "x"\n')
    old = tmp_path / "old.jsonl"
    old.write_text(json.dumps({k: v for k, v in tiny.row(0).items() if k not in {"eval_script", "image"}}) + "\n")
    _refused(run(set="atempts=2"), "unknown key atempts", "did you mean attempts?")
    _refused(run(tasks=missing), "missing.jsonl:2", "missing column repo")
    _refused(run(tasks=unreadable), "unreadable.jsonl:2", "not a JSON object")
    _refused(run(tasks=old), "old.jsonl:1", "eval_script", "swebench-5 release")
    _refused(run(tasks="nowhere.jsonl"), "nowhere.jsonl: no such file")
    _refused(run(model="gpt-5"), "--model gpt-5: not a model. Give http://HOST/v1#NAME")
    _refused(run(model="script:nowhere.yaml"), "nowhere.yaml")
    _refused(run(model="http://127.0.0.1:9/v1#m"), "http://127.0.0.1:9/v1")
    _refused(run(only="tiny__tiny-99"), "no task tiny__tiny-99; did you mean tiny__tiny-")
    _refused(run(sandbox="vm"), "sandbox.kind")
    _refused(run(format="yaml"), "format")


def test_a_missing_image_is_said_and_the_rest_is_collected(srft, script, tmp_path, tiny_image):
    rows = [tiny.row(0), tiny.row(1) | {"image": "srft/no-such-image:latest"}]
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = srft("collect", "--tasks", tasks, "--model", f"script:{script}", "--run", "run", "--set", "infra_retries=0")
    _refused(done, "the same command again")
    assert "srft/no-such-image:latest" in done.stderr
    reasons = {t.task_id: t.stop_reason for t in _trajectories(tmp_path / "run")}
    assert reasons == {"tiny__tiny-0": "submitted", "tiny__tiny-1": "infra_error"}


def test_no_engine_is_one_sentence(srft, tasks, script):
    process = srft(
        "collect", "--tasks", tasks, "--model", f"script:{script}", "--run", "run", "--sandbox", "docker",
        env=os.environ | {"DOCKER_HOST": "unix:///nowhere/docker.sock"},
    )  # fmt: skip
    _refused(process, "no container engine answers", "--sandbox local")


def test_a_full_disk_keeps_what_was_collected(srft, tasks, tmp_path, engine):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here (that needs root)")
    script = tmp_path / "replies.yaml"
    chatty = [f"{'x' * 9000}\n```bash\ntrue\n```"] * 3 + tiny.SOLVE
    script.write_text(yaml.safe_dump({f"tiny__tiny-{n}": chatty for n in range(4)}))
    command = (
        "collect",
        "--tasks",
        tasks,
        "--model",
        f"script:{script}",
        "--attempts",
        3,
        "--no-grade",
        "--run",
        disk / "run",
    )
    try:
        full = srft(*command)
        _refused(full, "No space left", "make room")
        kept = _trajectories(disk / "run")
        assert kept
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        assert srft(*command).returncode == 0
        after = _trajectories(disk / "run")
        assert after[: len(kept)] == kept
        assert len({(t.task_id, t.attempt) for t in after}) == len(after) == 12
    finally:
        subprocess.run(["umount", disk], check=True)
