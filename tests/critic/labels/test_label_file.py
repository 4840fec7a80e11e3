"""Labels from files."""

import gzip
import json

import msgspec
import pyarrow
import pyarrow.parquet
import pytest

from srft.agent.records import Step, Trajectory
from srft.critic.labels.label_file import FileCritic, read_label_lines
from srft.critic.labels.labels import Critique, Evidence, StepLabel
from srft.env.errors import InputError


def trajectory(*, id: str = "t1", task_id: str = "task", attempt: int = 0, roles: str = "suauau"):
    """roles: the first letters of the messages' roles; each assistant message is a step."""
    names = {"s": "system", "u": "user", "a": "assistant"}
    steps = roles.count("a")
    return Trajectory(
        id=id,
        task_id=task_id,
        repo="",
        model="m",
        sampling={},
        scaffold="s",
        prompt="p",
        seed=None,
        attempt=attempt,
        messages=tuple({"role": names[role], "content": ""} for role in roles),
        steps=tuple(Step(index=index, content="") for index in range(steps)),
        patch=None,
        stop_reason="submitted",
    )


@pytest.fixture
def write(tmp_path):
    def write_lines(*lines, name="labels.jsonl"):
        content = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write_lines


def verdicts(critique):
    return [label.verdict for label in critique.labels]


def critique_line(*pairs, critic="judge", trajectory_id="t1"):
    labels = tuple(StepLabel(step=step, verdict=verdict) for step, verdict in pairs)
    critique = Critique(
        trajectory_id=trajectory_id, task_id="task", critic=critic, fingerprint="f", source="model", labels=labels
    )
    return msgspec.json.encode(critique)


def test_simple_lines(write):
    path = write(
        {"trajectory_id": "t1", "labels": [{"step": 1, "verdict": "mistake", "reason": "wrong\u2028file"}]},
        {"task_id": "other", "attempt": 1, "labels": [{"step": 0, "verdict": None}]},
    )
    critic = FileCritic(path)
    critique = critic.judge(trajectory(), Evidence())
    assert verdicts(critique) == [None, "mistake"]
    assert critique.labels[1].reason == "wrong\u2028file"
    assert critique.remarks == {"not_labelled": 1}
    assert (critique.critic, critique.source, critique.fingerprint) == (
        "file:labels.jsonl",
        "human",
        critic.fingerprint,
    )
    assert verdicts(critic.judge(trajectory(id="x", task_id="other", attempt=1), Evidence())) == [None, None]
    assert critic.judge(trajectory(id="x", task_id="other"), Evidence()) is None


def test_the_source_names_the_critic_and_the_content_the_fingerprint(write):
    one = write({"trajectory_id": "t1", "labels": [{"step": 0, "verdict": "good"}]})
    same = write({"trajectory_id": "t1", "labels": [{"step": 0, "verdict": "good"}]}, name="copy.jsonl")
    other = write({"trajectory_id": "t1", "labels": [{"step": 0, "verdict": "recover"}]}, name="other.jsonl")
    oracle = FileCritic(one, source="oracle")
    assert (oracle.name, oracle.source) == ("oracle", "oracle")
    assert FileCritic(one).fingerprint == FileCritic(same).fingerprint
    assert len({FileCritic(one).fingerprint, oracle.fingerprint, FileCritic(other).fingerprint}) == 3


def test_own_critiques_and_the_last_of_a_run_counts(write):
    path = write(critique_line((0, "good"), (1, "good")), critique_line((0, "mistake"), (1, "good")))
    assert verdicts(FileCritic(path).judge(trajectory(), Evidence())) == ["mistake", "good"]


def test_bench_lines_count_messages(write):
    line = {
        "record_id": "task:0",
        "step_labels": {"2": 1, "4": -1, "6": 0, "8": None},
        "explanations": {"steps": {"4": "why"}},
        "dataset": "d",
    }
    critique = FileCritic(write(line, name="a.jsonl.gz")).judge(trajectory(roles="suauauauaua"), Evidence())
    assert verdicts(critique) == ["good", "mistake", "unnecessary", None, None]
    assert critique.labels[1] == StepLabel(step=1, verdict="mistake", reason="why")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", r"labels.jsonl:1: not JSON"),
        (b"[]", r"labels.jsonl:1: expected an object, got list"),
        ({"id": 3}, r"labels.jsonl:1: has neither labels nor step_labels, but id"),
        ({"labels": []}, r"labels.jsonl:1: says of no run"),
        (
            {"trajectory_id": "t", "labels": [{"step": 0, "verdict": "mistaken"}]},
            r"labels.jsonl:1: labels\[0\] has the verdict 'mistaken'; did you mean mistake\?",
        ),
        (
            {"trajectory_id": "t", "labels": [{"step": 0, "verdict": "zzz"}]},
            r"expected good, unnecessary, mistake, recover, or null",
        ),
        ({"trajectory_id": "t", "labels": [{"step": 0, "verdcit": "good"}]}, r"labels.jsonl:1: .*verd"),
        (
            {"trajectory_id": "t", "labels": [{"step": 0, "verdict": "good"}, {"step": 0, "verdict": "good"}]},
            r"labels.jsonl:1: step 0 is labelled twice",
        ),
        ({"record_id": "t", "step_labels": {"2": 2}}, r"labels.jsonl:1: step_labels\[2\] is 2; expected 1, 0, -1"),
        ({"record_id": "t", "step_labels": {"x": 1}}, r"labels.jsonl:1: step_labels has the key 'x'"),
        ({"step_labels": {"2": 1}}, r"labels.jsonl:1: .*record_id"),
    ],
)
def test_a_bad_line_is_named(write, line, message):
    with pytest.raises(InputError, match=message):
        FileCritic(write(line))


def test_a_run_twice_is_refused(write):
    line = {"trajectory_id": "t1", "labels": [{"step": 0, "verdict": "good"}]}
    with pytest.raises(InputError, match=r"labels.jsonl:2: the run t1 is already in .*labels.jsonl:1; keep one"):
        FileCritic(write(line, line))
    with pytest.raises(InputError, match=r"by judge; keep the lines of one critic"):
        FileCritic(write(critique_line((0, "good")), critique_line((0, "good"), critic="exploit")))


def test_steps_that_are_not_there_are_named(write):
    simple = write({"trajectory_id": "t1", "labels": [{"step": 2, "verdict": "good"}]})
    with pytest.raises(InputError, match=r"labels.jsonl:1: labels step 2, but the run t1 has the steps 0 to 1"):
        FileCritic(simple).judge(trajectory(), Evidence())
    bench = write({"record_id": "t1", "step_labels": {"3": 1}})
    with pytest.raises(InputError, match=r"labels message 3, which is no assistant message .* those are 2, 4"):
        FileCritic(bench).judge(trajectory(roles="suaua"), Evidence())


def test_messages_of_a_demonstration_are_no_steps(write):
    run = msgspec.structs.replace(trajectory(roles="suaua"), steps=(Step(index=0, content=""),), demo_messages=3)
    path = write({"record_id": "t1", "step_labels": {"4": -1}})
    assert verdicts(FileCritic(path).judge(run, Evidence())) == ["mistake"]


def test_messages_that_are_no_steps_cannot_be_counted(write):
    run = msgspec.structs.replace(trajectory(), steps=(Step(index=0, content=""),))
    with pytest.raises(InputError, match=r"2 assistant messages for 1 steps"):
        FileCritic(write({"record_id": "t1", "step_labels": {"2": 1}})).judge(run, Evidence())


def test_files_that_cannot_be_read(tmp_path, write):
    with pytest.raises(InputError, match=r"none.jsonl: cannot be read \(No such file"):
        FileCritic(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"labels.jsonl: has no labels"):
        FileCritic(write(b""))
    damaged = tmp_path / "a.jsonl.gz"
    damaged.write_bytes(gzip.compress(b'{"record_id": "a", "step_labels": {}}\n' * 9)[:-9])
    with pytest.raises(InputError, match=r"a.jsonl.gz:\d+: the gzip file is damaged"):
        list(read_label_lines(damaged))


TRACED = {
    "traj_id": "mini-gpt-1",
    "agent": "mini-SWE-agent",
    "model": "OpenAI/GPT-5",
    "task_name": "django__django-1",
    "solved": False,
    "step_count": 4,
    "stages": [{"stage_id": 1, "start_step_id": 1, "end_step_id": 4}],
    "incorrect_stages": [
        {"stage_id": 1, "incorrect_step_ids": [2], "unuseful_step_ids": [1, 2], "steps": [{"action": "ls"}]},
        {"stage_id": 2, "incorrect_step_ids": [4], "unuseful_step_ids": None, "reasoning": "wrong file"},
    ],
}
"""A row of CodeTraceBench, made up, with its columns."""


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "text"])
def test_code_trace_bench(tmp_path, kind):
    row = TRACED if kind != "text" else {**TRACED, "incorrect_stages": json.dumps(TRACED["incorrect_stages"])}
    path = tmp_path / f"bench.{'parquet' if kind == 'parquet' else 'jsonl'}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row) + "\n")
    [line] = read_label_lines(path)
    # Steps are counted from 1 there; a step that is in both lists is a mistake.
    assert [line.labels[step].verdict for step in range(4)] == ["unnecessary", "mistake", "good", "mistake"]
    assert line.labels[3].reason == "wrong file"
    assert (line.run, line.task, line.model, line.steps) == ("mini-gpt-1", "django__django-1", "OpenAI/GPT-5", 4)


@pytest.mark.parametrize(
    ("change", "verdicts"),
    [
        ({"incorrect_stages": [], "solved": True}, ["good"] * 4),
        ({"incorrect_stages": [], "solved": False}, []),
        ({"incorrect_stages": None, "solved": None}, []),
        ({"incorrect_stages": "", "solved": None}, []),
    ],
)
def test_a_failed_run_without_a_fault_was_labelled_by_nobody(tmp_path, change, verdicts):
    (tmp_path / "bench.jsonl").write_text(json.dumps(TRACED | change))
    [line] = read_label_lines(tmp_path / "bench.jsonl")
    assert [label.verdict for label in line.labels.values()] == verdicts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_count": 3}, "bench.jsonl:1: incorrect_stages: incorrect_step_ids has 4; the run has steps 1 to 3"),
        (
            {"incorrect_stages": [{"stage_id": 1, "unuseful_step_ids": [0]}]},
            "unuseful_step_ids has 0; the run has steps 1 to 4",
        ),
        ({"incorrect_stages": "[{"}, "bench.jsonl:1: incorrect_stages: "),
        ({"step_count": -1}, "bench.jsonl:1: .*step_count"),
        ({"incorrect_stages": [{"incorrect_step_ids": ["2"]}]}, "incorrect_step_ids"),
    ],
)
def test_a_bad_row_of_code_trace_bench_is_named(tmp_path, change, message):
    (tmp_path / "bench.jsonl").write_text(json.dumps(TRACED | change))
    with pytest.raises(InputError, match=message):
        list(read_label_lines(tmp_path / "bench.jsonl"))


def test_code_trace_bench_on_runs(tmp_path):
    other = TRACED | {"traj_id": "mini-claude-1", "model": "Anthropic/Claude", "incorrect_stages": [], "solved": True}
    (tmp_path / "one.jsonl").write_text(json.dumps(TRACED))
    (tmp_path / "two.jsonl").write_text(json.dumps(TRACED) + "\n" + json.dumps(other))
    run = trajectory(task_id="django__django-1", roles="suauauaua")
    one, two = (FileCritic(tmp_path / name) for name in ("one.jsonl", "two.jsonl"))
    assert verdicts(one.judge(run, Evidence())) == ["unnecessary", "mistake", "good", "mistake"]
    assert verdicts(two.judge(msgspec.structs.replace(run, model="claude"), Evidence())) == ["good"] * 4
    assert verdicts(two.judge(msgspec.structs.replace(run, id="mini-claude-1"), Evidence())) == ["good"] * 4
    assert two.judge(msgspec.structs.replace(run, task_id="other"), Evidence()) is None
    with pytest.raises(InputError, match="2 labelled runs are on the task django__django-1, and which of them"):
        two.judge(run, Evidence())
    with pytest.raises(InputError, match=r"labels 4 steps, but the run t1 \(django__django-1\) has 2"):
        one.judge(trajectory(task_id="django__django-1", roles="suaua"), Evidence())


def test_a_damaged_parquet_file_is_named(tmp_path):
    (tmp_path / "bench.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"bench\.parquet: not a readable parquet file"):
        list(read_label_lines(tmp_path / "bench.parquet"))
    with pytest.raises(InputError, match=r"gone\.parquet: cannot be read"):
        list(read_label_lines(tmp_path / "gone.parquet"))


def test_published_labels_on_their_own_runs(shared_data):
    folder = shared_data / "step_labels"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    critic = FileCritic(folder / "apb_human_hotpotqa.jsonl")
    counts: dict[str | None, int] = {}
    with gzip.open(folder / "apb_trajectories_hotpotqa.jsonl.gz", "rb") as lines:
        for line in lines:
            run = json.loads(line)
            messages = tuple(run["messages"])
            steps = sum(message["role"] == "assistant" for message in messages)
            known = msgspec.structs.replace(
                trajectory(task_id=f"{run['data_source']}:{run['query_index']}", attempt=run["sample_index"]),
                messages=messages,
                steps=tuple(Step(index=index, content="") for index in range(steps)),
            )
            for verdict in verdicts(critic.judge(known, Evidence())):
                counts[verdict] = counts.get(verdict, 0) + 1
    human = [
        label.verdict
        for line in read_label_lines(folder / "apb_human_hotpotqa.jsonl")
        for label in line.labels.values()
    ]
    assert counts == {verdict: human.count(verdict) for verdict in ("good", "unnecessary", "mistake")}
