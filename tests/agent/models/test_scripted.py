"""Models that reply from a file."""

import pytest

from srft.agent.importing.importers import read_runs
from srft.agent.models.contract import Reply, well_formed
from srft.agent.models.scripted import ReplayModel, ScriptedModel, ScriptExhausted
from srft.env.errors import InputError, ModelError


def said(episode, count):
    return [episode.reply([]).content for _ in range(count)]


def test_each_episode_has_its_own_place_and_an_attempt_its_own_script():
    model = ScriptedModel({"t": ["a", " b\n"], "t#1": [Reply(content="c", reasoning="r")]})
    first, again, second = (model.for_episode("t", attempt, 7) for attempt in (0, 0, 1))
    assert said(first, 2) == ["a", " b\n"]
    assert said(again, 1) == ["a"]
    assert second.reply([]) == Reply(content="c", reasoning="r")


def test_a_script_that_runs_out_is_the_users_to_mend():
    episode = ScriptedModel(["a"]).for_episode("t", 0, None)
    said(episode, 1)
    with pytest.raises(ScriptExhausted, match="t#0 has 1 replies and was asked for one more") as error:
        episode.reply([])
    assert not isinstance(error.value, ModelError)


@pytest.mark.parametrize(
    ("name", "text", "replies"),
    [
        ("s.yaml", "t:\n- a\n- |\n  b\n", ["a", "b\n"]),
        ("s.yaml", "- a\n- {content: b, finish_reason: length}\n", ["a", "b"]),
        ("s.jsonl", '{"u": ["x"]}\n\n{"t": ["a", "b\u2028c"]}\n', ["a", "b\u2028c"]),
    ],
)
def test_load(tmp_path, name, text, replies):
    (tmp_path / name).write_text(text)
    assert said(ScriptedModel.load(tmp_path / name).for_episode("t", 0, None), 2) == replies


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.yaml", "t: [1]", "s.yaml: t: expected a list of replies"),
        ("s.yaml", "text", "s.yaml: expected task ids with lists of replies, got str"),
        ("s.yaml", "t: [", "s.yaml: not YAML"),
        ("s.jsonl", '{"t": ["a"]}\n{"t"', "s.jsonl:2: not JSON"),
    ],
)
def test_a_wrong_script_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        ScriptedModel.load(tmp_path / name)
    assert message in str(error.value)


def test_half_a_surrogate_pair_does_not_reach_the_files(tmp_path):
    (tmp_path / "s.jsonl").write_text(
        r"""{"t": ["a\ud83db", {"content": "", "reasoning": "\ud83d", "tool_calls": [
        {"id": "c\ud83d", "function": {"name": "bash", "arguments": "{}"}}]}]}""".replace("\n", "")
    )
    episode = ScriptedModel.load(tmp_path / "s.jsonl").for_episode("t", 0, None)
    assert episode.reply([]) == Reply(content="a\ufffdb", finish_reason="stop")
    call = {"id": "c\ufffd", "function": {"name": "bash", "arguments": "{}"}}
    assert episode.reply([]) == Reply(content="", reasoning="\ufffd", tool_calls=(call,))
    assert ReplayModel({"t": ["\ud83d"]}, name="\udcff").for_episode("t", 0, None).name == "\ufffd"


def test_a_task_without_a_script():
    with pytest.raises(InputError, match="no replies for u, attempt 0; add a key u or u#0"):
        ScriptedModel({"t": []}).for_episode("u", 0, None)


def test_replay_gives_the_recorded_replies_to_the_character(recorded_runs):
    model = ReplayModel.load(recorded_runs)
    count = 0
    for run in read_runs(recorded_runs):
        episode = model.for_episode(run.task_id, 0, None)
        assert said(episode, len(run.steps)) == [step.content for step in run.steps]
        count += len(run.steps)
    assert count == 10222
    with pytest.raises(InputError, match="attempt 1"):
        model.for_episode(run.task_id, 1, None)


def test_well_formed():
    assert well_formed("a\ud83db\ud83d\ude00é") == "a\ufffdb\U0001f600é"
