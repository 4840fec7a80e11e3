"""The index: read once, kept up with; torn, replaced and damaged files; what an episode came to."""

import os
import sqlite3

import msgspec
import pytest

from srft.env.errors import InputError
from srft.harness.run import file_index
from srft.harness.run import index as index_module
from srft.harness.run.entries import Tally
from srft.harness.run.file_index import FILE_NAME
from srft.harness.run.index import Index, Outcome
from srft.harness.run.predictions import Prediction, keep_predictions
from srft.harness.run.store import Round, Run
from tests.harness.loop_run import critique_of, episode, grade_of


@pytest.fixture
def round_(tmp_path):
    with Run(tmp_path / "run") as run:
        return run.round(0)


def tasks(index):
    return [run.task_id for run in index.standing]


def line(run):
    return msgspec.json.encode(run) + b"\n"


@pytest.fixture
def always_kept(monkeypatch):
    monkeypatch.setattr(file_index, "WORTH_KEEPING_BYTES", 1)


@pytest.fixture
def decoded(monkeypatch):
    """The tasks whose lines were read."""
    seen = []
    shorten = index_module.entry_of
    monkeypatch.setattr(index_module, "entry_of", lambda run, offset: seen.append(run.task_id) or shorten(run, offset))
    return seen


def test_a_run_in_short(round_):
    run = episode("t-1", steps=3)
    odd = msgspec.structs.replace(run.steps[1], exit_code=1, timed_out=True, elided_chars=9, usage=None, token_ids=(1,))
    last = msgspec.structs.replace(run.steps[2], exit_code=None, observation=None, error="format")
    run = msgspec.structs.replace(run, steps=(run.steps[0], odd, last))
    round_.trajectories.append(run)
    (short,) = round_.index().standing
    assert (short.id, short.repo, short.steps, short.failed_tools, short.tool_error) == (
        *(run.id, "practice/t", 3),
        *("011", "gmm"),
    )
    assert (short.format_errors, short.timed_out_steps, short.cut_observations) == (1, 1, 1)
    assert short.usage == Tally(replies=3, unknown=1, prompt_tokens=200, completion_tokens=20)
    assert (short.tokens, short.cost_usd, short.partial) == (220, None, {"token ids": 2})
    assert round_.index().trajectory(short) == run
    assert round_.index().patch(short) == run.patch


def test_appended_lines_are_read_and_a_torn_one_waits(round_, decoded):
    index, path = Index(round_), round_.trajectories.path
    assert (index.refresh(), index.standing) == (False, [])
    path.write_bytes(line(episode("t-1")) + line(episode("t-2"))[:50])
    assert (index.refresh(), tasks(index)) == (True, ["t-1"])
    assert not index.refresh()
    with path.open("ab") as file:
        file.write(line(episode("t-2"))[50:] + line(episode("t-3\u2028")))
    assert (index.refresh(), tasks(index), decoded) == (True, ["t-1", "t-2", "t-3\u2028"], ["t-1", "t-2", "t-3\u2028"])


def test_a_torn_line_that_is_cut_changes_nothing(round_, decoded):
    round_.trajectories.path.write_bytes(line(episode("t-1")) + b'{"torn')
    index = Index(round_)
    index.refresh()
    round_.trajectories.append(episode("t-2"))
    assert (index.refresh(), tasks(index), decoded) == (True, ["t-1", "t-2"], ["t-1", "t-2"])


@pytest.mark.parametrize("others", [["x-1", "x-2", "x-3"], ["x-1"], ["t-1", "x-2"]])
def test_a_replaced_file_is_read_anew(round_, others):
    path, index = round_.trajectories.path, Index(round_)
    path.write_bytes(line(episode("t-1")) + line(episode("t-2")))
    index.refresh()
    (path.parent / "new").write_bytes(b"".join(line(episode(task)) for task in others))
    (path.parent / "new").rename(path)
    assert (index.refresh(), tasks(index)) == (True, others)
    path.unlink()
    assert (index.refresh(), index.standing) == (True, [])


def test_an_edit_that_keeps_the_length_is_seen(round_, always_kept):
    path, index = round_.trajectories.path, Index(round_)
    path.write_bytes(line(episode("t-1")) + line(episode("t-2")) + line(episode("t-3")))
    index.refresh()
    content = path.read_bytes().replace(b'"task_id":"t-2"', b'"task_id":"x-2"')
    with path.open("r+b") as file:  # the same inode, the same size, the same last line
        file.write(content)
    os.utime(path, ns=(1, 1))
    for found in (index, Index(round_)):
        found.refresh()
        assert tasks(found) == ["t-1", "x-2", "t-3"]


def test_what_cannot_be_read_is_counted_by_all_readers(round_):
    good = line(episode("t-1"))
    deep = b'{"id": ' + b"[" * 100_000 + b"\n"
    round_.trajectories.path.write_bytes(good + good.replace(b'"steps"', b'"stps"') + b"\xff\n\n" + deep)
    index = round_.index()
    assert tasks(index) == ["t-1"]
    reasons = index.damaged["trajectories.jsonl"]
    assert [reason.split(":")[1] for reason in reasons] == ["2", "3", "4", "5"]
    assert len(list(round_.trajectories.read())) == len(list(round_.finished())) == 1


def test_a_file_of_which_no_line_can_be_read_is_refused(round_):
    round_.grades.path.write_bytes(b'{"of": "another version"}\n')
    with pytest.raises(InputError, match=r"grades\.jsonl:1: .*no line of the file can be read"):
        round_.index()


def test_the_index_is_kept_used_and_grown(round_, always_kept, decoded):
    path = round_.trajectories.path
    path.write_bytes(line(episode("t-1")) + b"{}\n" + line(episode("t-2")))
    Round(round_.path).index()
    assert (round_.path / FILE_NAME).is_file()
    decoded.clear()
    for number in (3, 4):
        with path.open("ab") as file:
            file.write(line(episode(f"t-{number}")))
        again = Round(round_.path).index()
        assert len(again.damaged["trajectories.jsonl"]) == 1
    assert (tasks(again), decoded) == (["t-1", "t-2", "t-3", "t-4"], ["t-3", "t-4"])
    assert again.trajectory(again.standing[3]) == episode("t-4")


def test_small_files_have_no_index_on_disk(round_):
    round_.trajectories.append(episode("t-1"))
    round_.index()
    assert not (round_.path / FILE_NAME).exists()


@pytest.mark.parametrize("spoil", ["junk", "another schema", "an older version", "a damaged entry", "a directory"])
def test_an_index_that_does_not_fit_is_made_again(round_, always_kept, decoded, spoil, monkeypatch):
    path = round_.path / FILE_NAME
    round_.trajectories.append(episode("t-1"))
    round_.index()
    if spoil == "junk":
        path.write_bytes(b"junk" * 5000)
    elif spoil == "another schema":
        path.unlink()
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE file(name, extent)")
            other.execute("INSERT INTO file VALUES ('trajectories.jsonl', '[9]')")
    elif spoil == "a damaged entry":
        with sqlite3.connect(path) as index:
            index.execute("UPDATE entry SET content = '[1]'")
    elif spoil == "an older version":
        monkeypatch.setattr(file_index, "_VERSION", 2)
    else:
        path.unlink()
        path.mkdir()
    for _ in range(2):
        assert tasks(Round(round_.path).index()) == ["t-1"]
    decoded.clear()
    assert tasks(Round(round_.path).index()) == ["t-1"]
    assert decoded == (["t-1"] if spoil == "a directory" else [])  # it is on disk again


def test_two_readers_bring_one_index_up_to_date(round_, always_kept, decoded):
    one, other = Index(round_), Index(Round(round_.path))
    for number in range(4):
        round_.trajectories.append(episode(f"t-{number}"))
        (one, other)[number % 2].refresh()
    one.refresh()
    decoded.clear()
    assert tasks(Round(round_.path).index()) == ["t-0", "t-1", "t-2", "t-3"]
    assert decoded == []


def test_an_episode_that_was_done_again_is_the_last_one(round_):
    for run in (episode("t-1", text="first"), episode("t-2"), episode("t-1")):
        round_.trajectories.append(run)
    index = round_.index()
    assert tasks(index) == ["t-2", "t-1"]
    assert [task for task, _ in index.episodes] == ["t-1", "t-2"]
    assert index.episodes["t-1", 0].id == episode("t-1").id
    assert [run.task_id for run in round_.finished(in_order=True)] == ["t-1", "t-2"]


@pytest.mark.parametrize(
    ("changes", "grades", "outcome", "resolved"),
    [
        ({}, [], ("not_graded", "no grade on file"), None),
        ({}, [None], ("not_graded", "the grader failed"), None),
        ({}, [True, None], ("resolved", None), True),
        ({}, [True, False], ("unresolved", None), False),
        ({"recorded_resolved": True}, [None], ("resolved", None), True),
        ({"recorded_resolved": True}, [False], ("unresolved", None), False),
        ({"stop_reason": "infra_error"}, [True], ("not_graded", "ended by infrastructure"), None),
        (
            {"stop_reason": "infra_error", "recorded_resolved": False},
            [],
            ("not_graded", "ended by infrastructure"),
            None,
        ),
        ({"stop_reason": "cancelled"}, [False], ("not_graded", "cancelled"), None),
    ],
)
def test_outcomes(round_, changes, grades, outcome, resolved):
    run = episode("t-1", **changes)
    round_.trajectories.append(run)
    for verdict in grades:
        round_.grades.append(grade_of(run, verdict))
    index = round_.index()
    assert index.outcome(index.standing[0]) == Outcome(*outcome)
    assert index.outcome(index.standing[0]).resolved is resolved


def test_an_episode_that_the_world_ended_does_not_take_the_verdict_on_another_without_a_patch(round_):
    ended, empty = episode("t-1", stop_reason="infra_error", patch=None), episode("t-1", attempt=1, patch=None)
    round_.trajectories.append(ended)
    round_.trajectories.append(empty)
    round_.grades.append(grade_of(empty, False, outcome="empty"))
    index = round_.index()
    assert [index.outcome(run).name for run in index.standing] == ["not_graded", "empty"]
    assert index.attempts_by_task() == {"t-1": [False]}


def test_what_critics_said(round_):
    run = episode("t-1", steps=3)
    told = [critique_of(run, "gm-"), critique_of(run, "g", critic="anna", source="human")]
    for one in told:
        round_.critiques.append(one)
    index = round_.index()
    assert [(one.critic, one.verdicts, one.codes) for one in index.told(run.id)] == [
        ("judge", "gm-", "gm-"),
        ("anna", "g", "g"),
    ]
    assert index.critiques_of(run.id) == told
    assert index.told(run.id)[0].critique() == told[0]
    assert index.critics == {"judge": "model", "anna": "human"}


def test_of_patches_without_runs_the_last_one_graded_stands(round_):
    for text, resolved in (("v1", False), ("v2", True)):
        round_.grades.append(grade_of(episode("t-1", text=text), resolved))
    index = round_.index()
    assert (index.attempts_by_task(), index.episodes, index.standing) == ({"t-1": [True]}, {}, [])


def test_of_patches_without_runs_those_of_the_predictions_stand(round_):
    first, second = episode("t-1", text="v1"), episode("t-1", text="v2")
    for run, resolved in ((first, False), (second, True)):
        round_.grades.append(grade_of(run, resolved))

    def keep(**patches):
        made = {task: Prediction(instance_id=task, model_patch=patch) for task, patch in patches.items()}
        keep_predictions(round_, made, asked=patches.keys())
        return round_.index().attempts_by_task()

    assert keep(**{"t-1": first.patch}) == {"t-1": [False]}  # as it was before: nothing is graded again
    assert keep(**{"t-2": "new"}) == {"t-1": [False], "t-2": []}
    keep_predictions(round_, {}, asked=["t-1"])
    assert round_.index().attempts_by_task() == {"t-2": []}
