"""`srft critique`: every run judged once, none lost, nothing asked twice, whatever happens to it."""

import json
import re
import signal
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from srft.agent.records import Action, Step, Trajectory
from srft.critic.judge import answers
from srft.critic.judge.config import JudgeConfig
from srft.critic.labels.labels import Critique, Evidence, StepLabel, effective_labels, evidence_id
from srft.env.errors import InputError, ModelError
from srft.env.grading.grade import Grade, patch_hash
from srft.harness.run.store import Run
from srft.harness.stages.critique import CritiqueConfig, critique, standing
from tests import tiny
from tests.agent.conftest import ChatServer

FAILS = (400, {"error": {"message": "no such luck"}})


class Always(list):
    """Answers without end: what `answer(request)` gives, or a good step 0 and a bad step 1."""

    def __init__(self, server, answer=None, *, delay_s=0.0):
        super().__init__()
        self.server, self.answer, self.delay_s = server, answer or (lambda request: says("good", "mistake")), delay_s

    def pop(self, place=-1):
        time.sleep(self.delay_s)
        return self.answer(self.server.requests[-1])


def says(*verdicts):
    entries = [{"step": s, "reason": "So.", "verdict": v, "confidence": 0.5} for s, v in enumerate(verdicts)]
    message = {"role": "assistant", "content": json.dumps({"steps": entries})}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice], "usage": usage}
    return (200, body)


@pytest.fixture
def server():
    server = ChatServer()
    server.answers = Always(server)
    yield server
    server.close()


def trajectory(number, **changes):
    """A run of two steps on the task tiny__tiny-<number>; even ones are recorded as resolved."""
    steps = tuple(Step(index=index, content=f"Step {index}.", observation="seen") for index in range(2))
    given = {
        "id": f"id-{number}", "task_id": f"tiny__tiny-{number}", "repo": "tiny/tiny", "model": "m", "sampling": {},
        "scaffold": "s", "prompt": "p", "seed": 0, "attempt": 0, "steps": steps, "patch": f"+{number}\n",
        "messages": ({"role": "user", "content": f"Task {number}."},), "stop_reason": "submitted",
        "recorded_resolved": number % 2 == 0,
    }  # fmt: skip
    return Trajectory(**{**given, **changes})


def lines(path):
    return path.read_bytes().split(b"\n")[:-1]


def critiques(run):
    path = run / "round-000" / "labels.jsonl"
    return [msgspec.json.decode(line, type=Critique) for line in lines(path)] if path.exists() else []


def stage(run, server, *, stop=None, **settings):
    judge = settings.pop("judge", {})
    config = {"critic": f"{server.url}#tiny", "judge": {"openai": {"max_retries": 0}} | judge} | {
        "workers": 1, "outcome": "all"
    } | settings  # fmt: skip
    with Run(run) as opened:
        return critique(msgspec.convert(config, CritiqueConfig), opened, stop=stop or threading.Event())


def command(path, server, *further):
    """`srft critique` of all runs by the server's judge."""
    return ("critique", "--run", path, "--critic", f"{server.url}#tiny", "--outcome", "all", *further)


def test_judges_all_and_the_second_time_nothing(srft, server, run):
    path = run(*map(trajectory, range(4)))
    critique_all = command(path, server, "--workers", 3, "--json")
    first = srft(*critique_all)
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert {key: summary[key] for key in ("critic", "trajectories", "judged", "resumed", "failed", "without")} == {
        "critic": "judge", "trajectories": 4, "judged": 4, "resumed": 0, "failed": 0, "without": 0
    }  # fmt: skip
    assert summary["runs"] == {"resolved": 2, "unresolved": 2}
    assert summary["verdicts"] == {
        "resolved": {"good": 2, "mistake": 2},
        "unresolved": {"good": 2, "mistake": 2},
    }
    spent = summary["spent"]
    assert (spent["calls"], spent["prompt_tokens"], spent["completion_tokens"]) == (4, 400, 80)
    assert (spent["cost_usd"], spent["cached_tokens"]) == (None, None)
    assert {told.trajectory_id for told in critiques(path)} == {f"id-{number}" for number in range(4)}
    assert all([label.verdict for label in told.labels] == ["good", "mistake"] for told in critiques(path))
    again = srft(*critique_all)
    assert again.returncode == 0
    second = json.loads(again.stdout)
    assert (second["judged"], second["resumed"], second["spent_now"]["calls"]) == (0, 4, 0)
    assert (second["verdicts"], second["spent"]) == (summary["verdicts"], spent)
    assert (len(server.requests), len(critiques(path))) == (4, 4)


def test_the_table(srft, server, run):
    path = run(*map(trajectory, range(3)))
    shown = srft(*command(path, server, "--set", "judge.information=outcome"))
    assert shown.returncode == 0, shown.stderr
    for words in (
        "Verdicts of judge (shown: outcome)",
        "2 (50.0%)",
        "3 judged, 0 on file before",
        "3 calls, 300 prompt",
    ):
        assert words in shown.stdout


def test_a_failure_costs_one_run_and_is_tried_again(srft, server, run):
    path = run(*map(trajectory, range(4)))
    server.answers = Always(server, lambda request: FAILS if "Task 2." in str(request) else says("good", "good"))
    command = (
        "critique",
        "--run",
        path,
        "--critic",
        f"{server.url}#tiny",
        "--outcome",
        "all",
        "--workers",
        1,
        "--json",
    )
    failed = srft(*command)
    assert failed.returncode == 1
    assert "1 of 4 runs failed: the same command again tries them" in failed.stderr
    assert "Traceback" not in failed.stderr
    summary = json.loads(failed.stdout)
    assert (summary["judged"], summary["failed"]) == (3, 1)
    assert list(summary["failures"]) == ["tiny__tiny-2 attempt 0"]
    assert "no such luck" in summary["failures"]["tiny__tiny-2 attempt 0"]
    assert [told.trajectory_id for told in critiques(path)] == ["id-0", "id-1", "id-3"]
    server.answers, asked = Always(server), len(server.requests)
    assert srft(*command).returncode == 0
    assert len(server.requests) - asked == 1
    assert critiques(path)[3].trajectory_id == "id-2"


def test_twelve_failures_in_a_row_stop(server, run):
    path = run(*map(trajectory, range(20)))
    server.answers = Always(server, lambda request: FAILS)
    summary = stage(path, server)
    assert (summary.failed, len(server.requests), summary.complete, summary.cancelled) == (12, 12, False, False)
    assert "the critic failed on 12 runs in a row" in summary.reason
    # Failures with a success between them are no row.
    server.answers = Always(server, lambda request: FAILS if "Task 1" not in str(request) else says("good", "good"))
    assert stage(path, server).reason is None


ODD = {
    "an answer in no shape": (200, [1, 2]),
    "content as a number": (200, {"choices": [{"index": 0, "message": {"content": 5}, "finish_reason": "stop"}]}),
    "a failure inside the choice": (
        200,
        {"choices": [{"error": {"code": 502}, "finish_reason": "error", "message": {}}]},
    ),
    "no verdict": says(),
    "no message": (200, {"choices": [{"index": 0}]}),
    "html": (200, b"<html>busy</html>", {"Content-Type": "text/html"}),
}


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_answer_costs_one_run(server, run, odd):
    path = run(*map(trajectory, range(4)))
    server.answers = Always(server, lambda request: ODD[odd] if "Task 0." in str(request) else says("good", "mistake"))
    summary = stage(path, server)
    assert (summary.judged, summary.failed, summary.complete) == (3, 1, False)
    assert list(summary.failures) == ["tiny__tiny-0 attempt 0"]
    assert [told.trajectory_id for told in critiques(path)] == ["id-1", "id-2", "id-3"]


def test_a_fault_of_ours_costs_one_run_and_is_named(server, run, monkeypatch):
    """Whatever an answer makes the reading of it raise."""
    path = run(*map(trajectory, range(3)))
    read = answers.read_answer

    def reads(text, **asked):
        return read(text, **asked) if "mistake" not in text else text.nowhere

    monkeypatch.setattr("srft.critic.judge.judge.read_answer", reads)
    server.answers = Always(server, lambda request: says("good", "mistake" if "Task 0." in str(request) else "good"))
    summary = stage(path, server)
    assert (summary.judged, summary.failed) == (2, 1)
    assert "a fault of srft" in summary.failures["tiny__tiny-0 attempt 0"]
    assert "AttributeError" in summary.failures["tiny__tiny-0 attempt 0"]


def test_a_line_without_a_verdict_is_no_judgement(server, run):
    """As an earlier version left them: the same command asks again."""
    path = run(trajectory(0), trajectory(1))
    stage(path, server)
    labels = path / "round-000" / "labels.jsonl"
    labels.write_bytes(labels.read_bytes().replace(b'"verdict":"good"', b'"verdict":null', 1).replace(
        b'"verdict":"mistake"', b'"verdict":null', 1
    ))  # fmt: skip
    asked = len(server.requests)
    summary = stage(path, server)
    assert (summary.resumed, summary.judged, len(server.requests) - asked) == (1, 1, 1)
    assert summary.verdicts == {"resolved": {"good": 1, "mistake": 1}, "unresolved": {"good": 1, "mistake": 1}}


def test_a_bad_line_costs_that_line(server, run):
    path = run(*map(trajectory, range(3)))
    round_ = path / "round-000"
    kept = lines(round_ / "trajectories.jsonl")
    broken = kept[1].replace(b'"content":"Step 0."', b'"content":null')
    (round_ / "trajectories.jsonl").write_bytes(b"\n".join([kept[0], broken, kept[2], kept[2][:40]]) + b"\n")
    assert stage(path, server).judged == 2
    with (round_ / "labels.jsonl").open("ab") as file:
        file.write(b'{"schema_version":1,"traj\n')
    summary = stage(path, server)
    assert (summary.resumed, summary.judged, summary.complete) == (2, 0, True)


def test_a_killed_command_loses_nothing(server, run, tmp_path):
    path = run(*map(trajectory, range(10)))
    server.answers = Always(server, delay_s=0.3)
    command = [
        sys.executable, "-m", "srft.harness.cli", "critique", "--run", path, "--critic", f"{server.url}#tiny",
        "--outcome", "all", "--workers", "2",
    ]  # fmt: skip
    labels = path / "round-000" / "labels.jsonl"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not (labels.exists() and len(lines(labels)) >= 3):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = lines(labels)
    assert 3 <= len(kept) < 10
    with labels.open("ab") as file:
        file.write(b'{"schema_version":1,"trajectory_id":"id-9","torn')  # what a kill in the middle of a write leaves
    asked = len(server.requests)
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert lines(labels)[: len(kept)] == kept
    assert sorted(told.trajectory_id for told in critiques(path)) == [f"id-{number}" for number in range(10)]
    assert len(server.requests) - asked == 10 - len(kept)


def test_stopping_keeps_what_is_done(server, run):
    path = run(*map(trajectory, range(5)))
    stop = threading.Event()

    def answer(request):
        if "Task 1." in str(request):
            stop.set()
        return says("good", "good")

    server.answers = Always(server, answer)
    summary = stage(path, server, stop=stop)
    assert (summary.judged, summary.cancelled, summary.complete) == (2, True, False)
    assert stage(path, server).judged == 3


def test_stopping_does_not_wait_for_a_server(server, run):
    path = run(*map(trajectory, range(3)))
    stop = threading.Event()

    def answer(request):
        threading.Timer(0.2, stop.set).start()
        return 503, {}, {"Retry-After": "500"}

    server.answers = Always(server, answer)
    summary = stage(path, server, stop=stop, judge={"openai": {}})
    assert (summary.judged, summary.failed, summary.cancelled) == (0, 0, True)


def test_another_judge_judges_anew(server, run):
    path = run(trajectory(0))
    stage(path, server)
    summary = stage(path, server, judge={"information": "outcome", "name": "informed"})
    assert (summary.judged, summary.critic) == (1, "informed")
    assert [(told.critic, told.information) for told in critiques(path)] == [
        ("judge", "outcome_if_known"), ("informed", "outcome")
    ]  # fmt: skip
    # Another address of the same model is the same judge.
    other = ChatServer()
    assert stage(path, other).resumed == 1
    other.close()


def test_what_is_left_out_is_said(server, run):
    ended = trajectory(8, stop_reason="infra_error", recorded_resolved=None)
    path = run(*map(trajectory, range(4)), ended, trajectory(9, steps=(), recorded_resolved=None))
    summary = stage(path, server, outcome="unresolved")
    assert (summary.judged, summary.runs) == (2, {"unresolved": 2})
    assert summary.skipped == {"resolved": 2, "ended by infrastructure": 1, "no steps": 1}
    one = stage(path, server, only=["tiny__tiny-2"])
    assert (one.judged, one.skipped) == (1, {"not named by --only": 5})
    with pytest.raises(InputError, match="no run on tiny__tiny-77; check the ids given to --only"):
        stage(path, server, only=["tiny__tiny-77"])


def grade_of(trajectory, *, log_path=None, **changes):
    given = {
        "instance_id": trajectory.task_id, "resolved": False, "outcome": "unresolved", "timed_out": False,
        "fail_to_pass": None, "pass_to_pass": None, "log_path": log_path, "wall_s": 1.0, "grader": "g", "key": "k",
        "patch_hash": patch_hash(trajectory.patch), "detail": None,
    }  # fmt: skip
    return Grade(**{**given, **changes})


@pytest.mark.parametrize(
    ("information", "words"),
    [
        ("outcome", "no outcome is known of 1 (tiny__tiny-1 attempt 0): grade them (srft evaluate --run"),
        ("test_log", "no outcome is known of 1 (tiny__tiny-1 attempt 0)"),
        ("gold_patch", "where the tasks lie is not on file; give --tasks"),
    ],
)
def test_missing_evidence_is_said_before_anything_is_asked(server, run, information, words):
    path = run(trajectory(0), trajectory(1, recorded_resolved=None))
    with pytest.raises(InputError) as error:
        stage(path, server, judge={"information": information})
    assert words in str(error.value)
    assert server.requests == []
    assert critiques(path) == []


def test_a_rule_that_goes_by_outcomes_leaves_out_the_runs_without_one(run):
    def by_edits(path):
        with Run(path) as opened:
            return critique(CritiqueConfig(critic="edits"), opened, stop=threading.Event())

    path = run(trajectory(0, recorded_resolved=None))
    with pytest.raises(InputError, match="no outcome is known of 1"):
        by_edits(path)
    run(trajectory(1), trajectory(2))
    summary = by_edits(path)
    assert (summary.judged, summary.skipped) == (2, {"outcome unknown": 1})


def test_an_imported_verdict_has_no_test_log(server, run):
    path = run(trajectory(0))
    with pytest.raises(
        InputError, match=r"no test log is known of 1 \(tiny__tiny-0 attempt 0\): .* an imported verdict has no log"
    ):
        stage(path, server, judge={"information": "test_log"})


def test_grades_and_test_logs_are_shown(server, run):
    first, empty = trajectory(0), trajectory(1, patch="")
    path = run(first, empty)
    log = path / "round-000" / "logs" / "tiny__tiny-0" / "k" / "test_output.txt"
    log.parent.mkdir(parents=True)
    log.write_text("+ git checkout\n: '>>>>> Start Test Output'\nFAILED test_answer\n: '>>>>> End Test Output'\n+ git")
    with Run(path) as opened:
        # The grade wins over the record; the run was graded in another place than it lies now.
        opened.round(0).grades.append(grade_of(first, log_path="elsewhere/logs/tiny__tiny-0/k/test_output.txt"))
        opened.round(0).grades.append(grade_of(empty, outcome="empty"))
    assert stage(path, server, judge={"information": "test_log"}).runs == {"unresolved": 2}
    shown = [request["messages"][1]["content"] for request in server.requests]
    assert "Not resolved" in shown[0]
    assert re.search(r"<test_log-\w{4}>\nFAILED test_answer\n", shown[0])
    assert "git checkout" not in shown[0]
    assert re.search(r"<test_log-(\w{4})>\nNo test was run \(empty\)\.\n</test_log-\1>", shown[1])


def test_the_reference_fix_comes_from_the_tasks(server, run, tmp_path):
    path = run(trajectory(0), trajectory(1))
    tasks = tiny.write_tasks(tmp_path / "tasks.jsonl", 1)
    with pytest.raises(InputError, match=r"no reference fix is known of 1 \(tiny__tiny-1 attempt 0\)"):
        stage(path, server, judge={"information": "gold_patch"}, tasks=str(tasks))
    tasks = tiny.write_tasks(tmp_path / "tasks.jsonl", 2)
    assert stage(path, server, judge={"information": "gold_patch"}, tasks=str(tasks)).judged == 2
    assert re.search(r"<reference_fix-\w{4}>\n--- a/answer\.txt", server.requests[0]["messages"][1]["content"])


def test_a_rule_needs_no_server(srft, run):
    steps = tuple(Step(index=index, content="x", exit_code=index, observation="seen") for index in range(2))
    path = run(trajectory(0, steps=steps))
    done = srft("critique", "--run", path, "--critic", "tool_error", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["critic"], summary["verdicts"]) == ("tool_error", {"resolved": {"good": 1, "mistake": 1}})
    assert summary["spent"]["calls"] == 0


def test_labels_of_a_file(srft, run, tmp_path):
    path = run(trajectory(0), trajectory(1))
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"trajectory_id": "id-1", "labels": [{"step": 1, "verdict": "mistake"}]}\n')
    done = srft("critique", "--run", path, "--critic", f"file:{labels}", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["judged"], summary["without"]) == (1, 1)
    assert summary["verdicts"] == {"unresolved": {"abstained": 1, "mistake": 1}}
    assert [told.source for told in critiques(path)] == ["human"]


def test_a_judge_in_a_file_and_set(srft, server, run, tmp_path):
    path = run(trajectory(0))
    judge = tmp_path / "judge.yaml"
    judge.write_text(f"model: {server.url}#tiny\ninformation: outcome\nopenai:\n  temperature: 0.5\n")
    done = srft(
        "critique",
        "--run",
        path,
        "--critic",
        judge,
        "--outcome",
        "all",
        "--set",
        "judge.seed=9",
        "--set",
        "workers=1",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["information"] == "outcome"
    assert (server.requests[0]["seed"], server.requests[0]["temperature"]) == (9, 0.5)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--run", "nowhere", "--critic", "tool_error"), 2, "nowhere: no such run directory; check --run"),
        (("--run", "run", "--critic", "gpt-5"), 2, "--critic gpt-5: not a critic. Give tool_error"),
        (("--run", "run", "--critic", "nowhere.yaml"), 2, "nowhere.yaml: cannot be read"),
        (("--run", "run", "--critic", "tool_error", "--round", "3"), 2, "no round 3; check --round: there is round 0"),
        (("--run", "run", "--critic", "judge", "--set", "judge.vote=3"), 2, "did you mean judge.votes?"),
        (("--run", "run"), 2, "--critic is missing, for example --critic http://localhost:8000/v1#NAME"),
        (("--run", "run", "--critic", "http://127.0.0.1:9/v1#m", "--outcome", "all"), 1, "no server answers there"),
    ],
)
def test_bad_input_is_one_sentence(srft, run, arguments, code, words):
    run(trajectory(0))
    done = srft("critique", *arguments)
    said = [line for line in done.stderr.split("\n") if line.startswith("srft: ")]
    assert (done.returncode, len(said)) == (code, 1), done.stderr
    assert words in said[0]
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_said_before_anything_is_begun(server, run):
    path = run(trajectory(0))
    server.close()
    with pytest.raises(ModelError, match="no server answers there"):
        stage(path, server)
    assert critiques(path) == []


def test_the_config_names_its_defaults():
    config = msgspec.convert({"critic": "judge"}, CritiqueConfig)
    assert (config.judge, config.workers, config.outcome, config.max_usd) == (JudgeConfig(), 4, "auto", None)


def by_file(run, file, critic="file"):
    with Run(run) as opened:
        return critique(CritiqueConfig(critic=f"{critic}:{file}"), opened, stop=threading.Event())


def effective(run, run_id="id-0", critics=("oracle",)):
    of_run = [told for told in critiques(run) if told.trajectory_id == run_id]
    return {step: label.verdict for step, label in effective_labels(of_run, critics=critics).items()}


def write_labels(path, **runs):
    """run -> {step: verdict}"""
    entries = {
        run: [{"step": step, "verdict": verdict} for step, verdict in labels.items()] for run, labels in runs.items()
    }
    text = "".join(json.dumps({"trajectory_id": run, "labels": labels}) + "\n" for run, labels in entries.items())
    path.write_text(text)


@pytest.mark.parametrize("critic", ["oracle", "file"])
def test_what_was_asked_for_last_counts_also_when_it_was_asked_before(run, tmp_path, critic):
    path, file = run(trajectory(0)), tmp_path / "labels.jsonl"
    for verdict, judged, resumed in (("mistake", 1, 0), ("good", 1, 0), ("mistake", 0, 1), ("mistake", 0, 1)):
        write_labels(file, **{"id-0": {0: verdict, 1: "good"}})
        summary = by_file(path, file, critic)
        assert (summary.judged, summary.resumed, summary.verdicts["resolved"][verdict]) == (
            judged,
            resumed,
            1 + (verdict == "good"),
        )
        assert effective(path) == {0: verdict, 1: "good"}
    assert len(critiques(path)) == 3


def test_a_judge_asked_with_other_settings_and_again_costs_nothing_more(server, run):
    path = run(trajectory(1))
    for votes in (1, 2, 1):
        summary = stage(path, server, judge={"votes": votes})
    assert (len(server.requests), summary.judged, summary.resumed, summary.spent_now.calls) == (3, 0, 1, 0)
    assert (summary.spent.calls, summary.spent.prompt_tokens) == (1, 100)
    first, _, last = critiques(path)
    assert (last.fingerprint, last.labels, last.calls, last.usage) == (first.fingerprint, first.labels, 0, None)


def test_a_run_that_a_label_file_has_no_more_is_not_labelled_by_it(run, tmp_path):
    path, file = run(trajectory(0), trajectory(1)), tmp_path / "labels.jsonl"
    write_labels(file, **{"id-0": {0: "mistake"}, "id-1": {0: "mistake"}})
    by_file(path, file)
    write_labels(file, **{"id-1": {0: "mistake"}})
    by_file(path, file)
    assert (effective(path), effective(path, "id-1")) == ({}, {0: "mistake"})
    assert by_file(path, file).judged == 0


def test_a_label_file_leaves_a_persons_labels_alone(run, tmp_path):
    path, file = run(trajectory(0)), tmp_path / "labels.jsonl"
    with Run(path) as opened:
        person = Critique(
            trajectory_id="id-0",
            task_id="tiny__tiny-0",
            critic="human",
            fingerprint="f",
            source="human",
            labels=(StepLabel(step=0, verdict=None), StepLabel(step=1, verdict="mistake")),
        )
        opened.round(0).critiques.append(person)
    write_labels(file, **{"id-0": {0: "recover", 1: "good"}})
    by_file(path, file)
    assert effective(path) == {0: "recover", 1: "mistake"}


def regrade(run, resolved):
    with Run(run) as opened:
        graded = Grade(
            instance_id="tiny__tiny-1",
            resolved=resolved,
            outcome="resolved" if resolved else "unresolved",
            wall_s=1.0,
            grader="g",
            key="k",
            patch_hash=patch_hash("+1\n"),
        )
        opened.round(0).grades.append(graded)


def test_another_outcome_is_judged_anew(server, run):
    path = run(trajectory(1))
    regrade(path, True)
    for resolved, asked in ((True, 1), (False, 2), (True, 2), (False, 2)):
        regrade(path, resolved)
        stage(path, server, judge={"information": "outcome"})
        assert len(server.requests) == asked
        assert critiques(path)[-1].evidence == evidence_id(Evidence(resolved=resolved), "outcome")
    assert stage(path, server, judge={"information": "none"}).judged == 1  # one that is shown nothing
    regrade(path, True)
    assert stage(path, server, judge={"information": "none"}).judged == 0


def test_the_outcome_is_shown_where_it_is_known(server, run):
    """And a run is judged again when it becomes known."""
    path = run(trajectory(1, recorded_resolved=None), trajectory(3))
    assert stage(path, server).judged == 2
    assert stage(path, server).judged == 0
    regrade(path, False)
    assert stage(path, server).judged == 1
    shown = [request["messages"][1]["content"].count("Not resolved: ") for request in server.requests]
    assert shown == [0, 1, 1]
    assert [told.evidence for told in critiques(path)] == ["", *[evidence_id(Evidence(resolved=False), "outcome")] * 2]


@pytest.mark.parametrize(
    ("critic", "outcome", "judged"),
    [
        ("judge", "auto", ["id-1", "id-2"]), ("judge", "unresolved", ["id-1", "id-2"]),
        ("judge", "all", ["id-0", "id-1", "id-2"]), ("tool_error", "auto", ["id-0", "id-1", "id-2"]),
        ("tool_error", "unresolved", ["id-1", "id-2"]),
    ],
)  # fmt: skip
def test_a_judge_reads_what_is_not_resolved_unless_asked(server, run, critic, outcome, judged):
    path = run(trajectory(0), trajectory(1), trajectory(2, recorded_resolved=None))
    critic = f"{server.url}#tiny" if critic == "judge" else critic
    summary = stage(path, server, critic=critic, outcome=outcome)
    assert [told.trajectory_id for told in critiques(path)] == judged
    assert summary.skipped == ({} if len(judged) == 3 else {"resolved": 1})


def test_a_rule_that_sees_the_outcome_judges_anew_too(run):
    edit = Step(
        index=0,
        content="I edit.",
        action=Action(tool="bash", arguments={"command": "sed -i s/41/42/ a.py"}, format="backtick"),
        observation="",
        exit_code=0,
    )
    patch = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-return 41\n+return 42\n"
    path = run(trajectory(0, steps=(edit,), patch=patch, recorded_resolved=True))
    with Run(path) as opened:
        first = critique(CritiqueConfig(critic="edits"), opened, stop=threading.Event())
    path = run(trajectory(0, steps=(edit,), patch=patch, recorded_resolved=False))
    with Run(path) as opened:
        second = critique(CritiqueConfig(critic="edits"), opened, stop=threading.Event())
    assert (first.verdicts, second.verdicts) == ({"resolved": {"good": 1}}, {"unresolved": {"mistake": 1}})


def test_what_a_critique_stands_on(run, tmp_path):
    path, file = run(trajectory(0)), tmp_path / "labels.jsonl"
    config = CritiqueConfig(critic=f"file:{file}")

    def stands():
        with Run(path) as opened:
            return standing(config, opened.round(0))

    write_labels(file, **{"id-0": {0: "mistake"}})
    first = stands()
    by_file(path, file)
    assert stands() == first
    write_labels(file, **{"id-0": {0: "good"}})
    second = stands()
    assert (second.key != first.key, second.is_last_word) == (True, True)
    by_file(path, file)
    write_labels(file, **{"id-0": {0: "mistake"}})
    assert stands() == (first.key, False)


FIX = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,1 +1,1 @@\n-x = 1\n+x = 2\n"


def test_milestones_need_a_fix_and_no_outcome(tmp_path, run):
    """Runs on tasks without a fix at hand are without an opinion, and one that nobody graded is judged too."""
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(tiny.row(number) | {"patch": FIX}) + "\n" for number in range(2)))
    path = run(trajectory(0, patch=FIX), trajectory(1, patch="", recorded_resolved=None), trajectory(2))
    with Run(path) as opened:
        with pytest.raises(InputError, match="the reference fixes are wanted, and where the tasks lie is not on file"):
            critique(CritiqueConfig(critic="milestones"), opened, stop=threading.Event())
        config = CritiqueConfig(critic="milestones", tasks=str(tasks))
        summary = critique(config, opened, stop=threading.Event())
        assert (summary.judged, summary.without, summary.failed, summary.information) == (2, 1, 0, "fix_alone")
        told = {one.trajectory_id: one for one in opened.round(0).critiques.read()}
        assert {run: one.labels[1].verdict for run, one in told.items()} == {"id-0": "good", "id-1": "mistake"}
        # Another fix is other evidence.
        tasks.write_text(tasks.read_text().replace("x = 2", "y = 3"))
        again = critique(config, opened, stop=threading.Event())
        assert (again.judged, again.resumed) == (2, 0)


def test_address_and_key_of_the_environment_are_used_told_and_kept_nowhere(srft, server, run, monkeypatch):
    path = run(trajectory(0))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    judged = ("critique", "--run", path, "--critic", "openai:tiny", "--outcome", "all", "--verbose")
    first = srft(*judged)
    assert first.returncode == 0, first.stderr
    used = f"model tiny at {server.url}: its address from OPENAI_BASE_URL and its key from OPENAI_API_KEY"
    assert used in " ".join(first.stderr.split())
    assert set(server.keys) == {"Bearer sk-secret"}
    # Another address on resume is the same judge; an address in the configuration wins.
    other = ChatServer()
    other.answers = Always(other)
    run(trajectory(1))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    second = srft(*judged[:4], f"{other.url}#tiny", *judged[5:], "--json")
    other.close()
    assert (json.loads(second.stdout)["judged"], json.loads(second.stdout)["resumed"]) == (1, 1), second.stderr
    written = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert b"sk-secret" not in written + (first.stdout + first.stderr + second.stderr).encode()
    assert b"127.0.0.1:9" not in written
