"""A critic of one's own, from labels to verdicts: rows, training, and the critique of other runs with it."""

import json
import threading

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from srft.critic.distil import FormConfig
from srft.critic.judge.config import JudgeConfig
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.errors import InputError
from srft.harness.commands.rows import rows as rows_command
from srft.harness.run.store import Run
from srft.harness.run.trained import rows_on_file
from srft.harness.stages.critic_rows import CriticRowsConfig, make_critic_rows
from srft.harness.stages.critics import open_critic
from srft.harness.stages.critique import CritiqueConfig, critique
from srft.harness.stages.rows import RowsConfig, make_rows
from srft.harness.stages.train import TrainConfig, rows_to_train, train
from srft.train.fit.recipe import Recipe
from srft.train.rows.rows import RowSettings, RowTable
from tests.agent.conftest import ChatServer
from tests.tiny import write_tasks
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, make_run
from tests.train.training import tiny_model

LETTERS = {"g": "good", "u": "unnecessary", "m": "mistake", "r": "recover", "-": None}
ACT = "I look.\n```bash\nls\n```"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "base", byte_tokenizer(CHATML))


def add_runs(folder, *told, start=0, resolved: bool | None = False):
    """A run of three steps for each (critic, source, letters), with these labels; without where it is `None`."""
    with Run(folder) as run:
        for number, one in enumerate(told, start):
            made = make_run(
                [ACT, ACT, "Done."], task_id=f"a__b-{number}", id=f"run-{number}", recorded_resolved=resolved
            )
            run.round(0).trajectories.append(made)
            if one is not None:
                run.round(0).critiques.append(line(f"run-{number}", *one))
    return folder


def line(run_id, critic, source, letters):
    labels = tuple(StepLabel(step=step, verdict=LETTERS[letter]) for step, letter in enumerate(letters))
    return Critique(trajectory_id=run_id, task_id="t", critic=critic, fingerprint="f", source=source, labels=labels)


def rows(folder, base, **settings):
    config = CriticRowsConfig(tokenizer=str(base), **settings)
    with Run(folder) as run:
        return make_critic_rows(config, run.round(0))


def replies(made):
    """What the rows train, as text."""
    table = RowTable.open(made.folder)
    tokenizer = byte_tokenizer(CHATML)
    return [tokenizer.decode(row.input_ids[row.weights > 0]) for row in table]


def test_rows_are_questions_with_the_labels_as_replies(tmp_path, base):
    folder = add_runs(tmp_path / "run", ("oracle", "oracle", "gm-"), ("oracle", "oracle", "---"), None)
    made = rows(folder, base)
    assert replies(made) == ["0 good\n1 mistake<|im_end|>"]
    assert made.manifest.left_out == {"unlabelled": 2}
    assert (made.manifest.runs, made.manifest.runs_used, made.manifest.task_ids) == (3, 1, ["a__b-0"])
    assert (made.manifest.arm, made.manifest.critics, made.manifest.form) == ("critic", ["oracle"], FormConfig())
    assert not rows(folder, base).is_new
    assert rows(folder, base, form=FormConfig(reasons=True)).is_new


@pytest.mark.parametrize("overlong", ["cut", "drop", "slide"])
def test_a_row_that_is_too_long_is_dropped_whatever_the_rule(tmp_path, base, overlong):
    folder = add_runs(tmp_path / "run", ("oracle", "oracle", "gmg"))
    made = rows(folder, base, rows=RowSettings(max_tokens=100, overlong=overlong))
    assert (made.manifest.rows, sum(made.manifest.dropped.values())) == (0, 1)


def test_a_new_label_makes_them_again(tmp_path, base):
    folder = add_runs(tmp_path / "run", ("judge", "model", "ggg"))
    assert replies(rows(folder, base)) == ["0 good\n1 good\n2 good<|im_end|>"]
    with Run(folder) as run:
        run.round(0).critiques.append(line("run-0", "edits", "rule", "mmm"))
    with pytest.raises(InputError, match="labels by edits, judge; say with --critic whose labels are learned"):
        rows(folder, base)
    assert not rows(folder, base, labels=("judge",)).is_new  # the other's labels are not in them
    with Run(folder) as run:
        run.round(0).critiques.append(line("run-0", "anna", "human", "-m-"))
    assert replies(rows(folder, base, labels=("judge", "human"))) == ["0 good\n1 mistake\n2 good<|im_end|>"]
    assert replies(rows(folder, base)) == ["1 mistake<|im_end|>"]  # people alone, where nobody is named
    with pytest.raises(InputError, match=r"no labels by bob; there are some by human, edits, judge"):
        rows(folder, base, labels=("bob",))


def test_runs_of_unknown_outcome_need_a_form_that_does_not_tell_it(tmp_path, base):
    folder = add_runs(tmp_path / "run", ("oracle", "oracle", "gmg"), resolved=None)
    with pytest.raises(InputError, match=r"no run has labels of oracle to learn from \(left out: 1 outcome_unknown\)"):
        rows(folder, base)
    assert rows(folder, base, form=FormConfig(information="none")).manifest.rows == 1


def test_they_stand_beside_the_arms_and_are_none(tmp_path, base):
    folder = add_runs(tmp_path / "run", ("oracle", "oracle", "gmg"))
    made = rows(folder, base)
    with Run(folder) as run:
        round_ = run.round(0)
        assert rows_to_train(round_, None) == rows_to_train(round_, "critic") == made.folder
        make_rows(RowsConfig(tokenizer=str(base), arms=("all",)), round_)
        assert list(rows_on_file(round_)) == ["all"]
        with pytest.raises(InputError, match="rows exist for the arms all, critic"):
            rows_to_train(round_, None)


def test_tasks_that_are_evaluated_on_are_refused(tmp_path, base):
    folder = add_runs(tmp_path / "run", ("oracle", "oracle", "gmg"))
    tasks = write_tasks(tmp_path / "tasks.jsonl", 1)
    tasks.write_text(tasks.read_text().replace("tiny__tiny-0", "a__b-0"))
    with pytest.raises(InputError, match="a__b-0"):
        rows(folder, base, evaluation=(str(tasks),), contamination="instance")


def trained_on(folder, base, *, steps):
    """A critic trained on four runs of the tasks a__b-0 to a__b-3, of which one task is held out."""
    add_runs(folder, *[("oracle", "oracle", "gmg")] * 4)
    made = rows(folder, base)
    recipe = Recipe(compute="float32", pack_tokens=512, steps=steps, learning_rate=1e-2, warmup_steps=1, held_out=0.2)
    out = folder / "round-000" / "model" / "critic"
    trained = train(TrainConfig(rows=made.folder, model=str(base), out=out, recipe=recipe))
    assert trained.form == FormConfig()
    return out, trained


@pytest.fixture(scope="module")
def learned(tmp_path_factory, base):
    """A critic of one step's training, which says nothing that can be read."""
    return trained_on(tmp_path_factory.mktemp("learned") / "run", base, steps=1)


def judged(folder, critic, **judge):
    config = CritiqueConfig(critic=f"local:{critic}", judge=msgspec.convert(judge, JudgeConfig), workers=2)
    with Run(folder) as run:
        summary = critique(config, run, stop=threading.Event())
        return summary, list(run.round(0).critiques.read())


def test_a_trained_critic_is_asked_in_this_process(tmp_path, learned):
    critic, _ = learned
    folder = add_runs(tmp_path / "run", None)
    summary, told = judged(folder, critic)
    assert (summary.judged, summary.failed, summary.critic, told) == (0, 1, "critic", [])
    [failure] = summary.failures.values()
    assert "no verdict on any of the 3 steps" in failure


@pytest.mark.slow
def test_a_critic_that_learned_its_labels_by_heart_gives_them_in_this_process(tmp_path, base):
    critic, trained = trained_on(tmp_path / "learned", base, steps=60)
    seen = next(name for name in trained.task_ids if name not in trained.held_out_tasks)
    folder = add_runs(tmp_path / "run", None, None, start=int(seen.rpartition("-")[2]))
    summary, told = judged(folder, critic)
    assert (summary.judged, summary.failed) == (2, 0)
    assert [[label.verdict for label in one.labels] for one in told] == [["good", "mistake", "good"]] * 2
    assert all(0 < label.confidence <= 1 for one in told for label in one.labels)
    again, _ = judged(folder, critic)
    assert (again.judged, again.resumed, again.remarks["questions"]) == (0, 2, 2)


def test_a_trained_critic_may_be_served_elsewhere(tmp_path, learned):
    critic, trained = learned
    seen = next(name for name in trained.task_ids if name not in trained.held_out_tasks)
    folder = add_runs(tmp_path / "run", None, start=int(seen.rpartition("-")[2]))
    server = ChatServer()
    try:
        message = {"role": "assistant", "content": "0 good\n1 recover\n2 mistake"}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        server.answers.append(
            (
                200,
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": "tiny",
                    "choices": [choice],
                    "usage": usage,
                },
            )
        )
        summary, [told] = judged(folder, critic, model=f"{server.url}#tiny", name="own")
        asked = server.requests[-1]
    finally:
        server.close()
    assert [label.verdict for label in told.labels] == ["good", "recover", "mistake"]
    assert told.remarks["trained_on_this_task"] == 1
    assert (told.critic, told.usage.prompt_tokens, summary.failed) == ("own", 100, 0)
    assert asked["messages"][1]["content"].endswith("Verdicts of the steps 0, 1, 2:")
    assert (asked["temperature"], asked["max_tokens"]) == (0.0, FormConfig().reply_tokens)


def test_a_model_that_is_no_critic_is_refused(tmp_path, base):
    with pytest.raises(InputError, match=r"no critic that srft trained \(its training.json is not there\)"):
        open_critic(f"local:{base}")


def test_on_the_command_line(srft, tmp_path, base):
    folder = add_runs(tmp_path / "run", ("oracle", "oracle", "gmg"))
    made = srft("rows", "--run", folder, "--tokenizer", base, "--for", "critic", "--set", "form.steps=2", "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)["critic"]
    assert (told["rows"], told["critics"], told["form"]["steps"]) == (2, ["oracle"], 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--for", "critic", "--arm", "srft"], "--for critic and --arm srft exclude each other"),
        (["--for", "judge"], "--for judge: expected critic"),
    ],
)
def test_what_is_asked_wrongly(options, message):
    app = typer.Typer()
    app.command()(rows_command)
    result = CliRunner().invoke(app, options)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
