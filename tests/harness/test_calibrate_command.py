"""`srft calibrate`, on published labels and on a run's own."""

import json

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from srft.agent.records import Action, Step, Trajectory
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.errors import InputError
from srft.harness.commands.calibrate import calibrate
from srft.harness.run.store import Run

LETTERS = {"g": "good", "u": "unnecessary", "m": "mistake", "-": None}


@pytest.fixture
def command():
    """Runs the command in this process; gives what it printed on stdout."""
    app = typer.Typer()
    app.command()(calibrate)

    def invoke(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return invoke


@pytest.fixture
def step_labels(shared_data):
    folder = shared_data / "step_labels"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def trajectory(id_, exit_codes):
    action = Action(tool="bash", arguments={"command": "true"}, format="backtick")
    return Trajectory(
        id=id_,
        task_id=f"task-{id_}",
        repo="",
        model="m",
        sampling={},
        scaffold="s",
        prompt="p",
        seed=None,
        attempt=0,
        messages=(),
        steps=tuple(
            Step(index=index, content="", action=action, observation="", exit_code=code)
            for index, code in enumerate(exit_codes)
        ),
        patch=None,
        stop_reason="submitted",
    )


def critique(id_, letters, *, critic, source):
    labels = tuple(StepLabel(step=step, verdict=LETTERS[letter]) for step, letter in enumerate(letters))
    return Critique(
        trajectory_id=id_, task_id=f"task-{id_}", critic=critic, fingerprint="f", source=source, labels=labels
    )


@pytest.fixture
def run_path(tmp_path):
    """Two judged runs, of which one has true labels: three steps, two of them harmful."""
    with Run(tmp_path / "run") as run:
        round_ = run.round(0)
        for id_ in "ab":
            round_.trajectories.append(trajectory(id_, [0, 1, 0]))
            round_.critiques.append(critique(id_, "mmm", critic="judge", source="model"))
            round_.critiques.append(critique(id_, "gmg", critic="judge", source="model"))
        round_.critiques.append(critique("a", "mmm", critic="oracle", source="oracle"))
        round_.critiques.append(critique("a", "gmm", critic="human", source="human"))
    return run.path


def test_one_critic_as_json(command, step_labels):
    said = command(
        "--labels", step_labels, "--predictions", step_labels / "apb_critics", "--critic", "Qwen3-8B-Thinking", "--json"
    )
    measured = json.loads(said)
    figures = [round(measured[name], 3) for name in ("precision", "recall", "f1", "kappa", "first_error_accuracy")]
    assert figures == [0.642, 0.260, 0.370, 0.228, 0.460]
    assert (measured["steps"], measured["runs"], measured["critic"]) == (8509, 1000, "Qwen3-8B-Thinking")
    low, high = measured["intervals"]["recall"]
    assert low < measured["recall"] < high
    assert sorted(measured["baselines"]) == ["flag_all", "flag_last", "flag_non_zero_exit", "random"]
    assert measured["baselines"]["flag_non_zero_exit"] is None


def test_all_critics_as_json(command, step_labels):
    said = command("--labels", step_labels, "--predictions", step_labels / "apb_critics", "--json")
    measured = json.loads(said)
    assert sorted(measured) == ["agreement", "baselines", "critics", "ideals", "pairs", "people"]
    assert {name: round(one["f1"], 3) for name, one in measured["critics"].items()} == {
        "DeepSeek-V3.2-Thinking": 0.636,
        "Gemini-3-Flash-Preview-Thinking": 0.766,
        "Llama-3.3-70B-Instruct": 0.239,
        "Qwen3-8B-Thinking": 0.370,
    }
    assert command("--labels", step_labels, "--predictions", step_labels / "apb_critics", "--json") == said


def test_the_table_says_what_recall_means(command, step_labels):
    human, critic = (
        step_labels / "apb_human_tau2.jsonl",
        step_labels / "apb_critics" / "Qwen3-8B-Thinking.tau2.jsonl.gz",
    )
    said = command("--labels", human, "--predictions", critic)
    assert "with Qwen3-8B-Thinking, SRFT will mask 24.0 % of the harmful steps (266 of 1,110)" in said
    assert "Flag non-zero exit: no exit codes are known" in said


def test_a_runs_own_labels(command, run_path):
    measured = json.loads(command("--run", run_path, "--labels", "human", "--critic", "judge", "--json"))
    assert (measured["runs"], measured["steps"], measured["harmful_steps"]) == (1, 3, 2)
    assert (measured["precision"], measured["recall"]) == (1, 0.5)
    assert measured["runs_without_truth"] == 1
    by_exit_code = measured["baselines"]["flag_non_zero_exit"]
    assert (by_exit_code["precision"], by_exit_code["recall"]) == (1, 0.5)


def test_a_run_against_a_file(command, run_path, tmp_path):
    file = tmp_path / "labels.jsonl"
    lines = [{"task_id": f"task-{id_}", "labels": [{"step": 1, "verdict": "unnecessary"}]} for id_ in "ab"]
    file.write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    options = ("--run", run_path, "--labels", file, "--json")
    judge = json.loads(command(*options))["critics"]["judge"]
    assert (judge["runs"], judge["steps"], judge["harmful_steps"], judge["precision"]) == (2, 2, 0, 0)
    judge = json.loads(command(*options, "--harmful", "mistake, unnecessary"))["critics"]["judge"]
    assert (judge["harmful_steps"], judge["precision"]) == (2, 1)


def test_one_critic_under_two_prompts_is_two(command, run_path):
    with Run(run_path) as run:
        other = msgspec.structs.replace(critique("a", "mmm", critic="judge", source="model"), fingerprint="g")
        run.round(0).critiques.append(other)
    measured = json.loads(command("--run", run_path, "--labels", "human", "--json"))
    assert {name: one["recall"] for name, one in measured["critics"].items()} == {"judge@f": 0.5, "judge@g": 1}
    [pair] = measured["pairs"]
    assert (pair["first"], pair["second"], pair["differences"]["recall"][0]) == ("judge@f", "judge@g", -0.5)
    last = json.loads(command("--run", run_path, "--labels", "human", "--critic", "judge", "--json"))
    assert last["recall"] == 1
    first = json.loads(command("--run", run_path, "--labels", "human", "--critic", "judge@f", "--json"))
    assert first["recall"] == 0.5


def test_two_people_and_what_a_critic_was_trained_on(command, run_path, capfd):
    with Run(run_path) as run:
        run.round(0).critiques.append(critique("a", "g-m", critic="anna", source="human"))
        trained = critique("a", "ggm", critic="own", source="model")
        run.round(0).critiques.append(msgspec.structs.replace(trained, remarks={"trained_on_this_task": 1}))
    measured = json.loads(command("--run", run_path, "--labels", "human", "--critic", "own", "--json"))
    assert measured["people"] == [
        {"first": "human", "second": "anna", "runs": 1, "steps": 2, "kappa": 1.0, "interval": None}
    ]
    said = command("--run", run_path, "--labels", "human", "--critic", "own")
    assert "human and anna agree with kappa 1.000 on 2 steps of 1 run." in said


def test_critics_beside_outcomes(command, tmp_path):
    with Run(tmp_path / "run") as run:
        for place, (id_, letters) in enumerate({"a": "ggg", "b": "gmm", "c": "ggu", "d": "mmm"}.items()):
            made = msgspec.structs.replace(trajectory(id_, [0, 1, 0]), recorded_resolved=place % 2 == 0)
            run.round(0).trajectories.append(made)
            run.round(0).critiques.append(critique(id_, letters, critic="judge", source="model"))
            run.round(0).critiques.append(critique(id_, "ggg", critic="lenient", source="rule"))
    found = json.loads(command("--run", run.path, "--labels", "outcome", "--json"))
    assert {name: one["separation"]["auc"] for name, one in found.items()} == {"judge": 1, "lenient": 0.5}
    assert found["judge"]["verdicts"]["unresolved"] == {"good": 1, "mistake": 5}
    # Of 12 steps the rule calls 4 a mistake, the judge 5, both 2.
    assert found["judge"]["agreement"] == pytest.approx((7 / 12 - (20 + 56) / 144) / (1 - (20 + 56) / 144))
    said = command("--run", run.path, "--labels", "outcome")
    assert "lenient: kappa with tool_error 0.000" in said
    assert "it does not tell resolved runs from unresolved ones here, so do not mask by it." in said
    with Run(run.path) as opened:
        for id_, reached in {"a": 1, "b": 3, "c": 2, "d": 4}.items():
            told = critique(id_, "ggg", critic="milestones", source="rule")
            opened.round(0).critiques.append(
                msgspec.structs.replace(told, remarks={"milestones": 4, "reached": reached})
            )
    found = json.loads(command("--run", run.path, "--labels", "outcome", "--critic", "milestones", "--json"))
    assert found["milestones"]["separation"]["auc"] == 0  # by its milestones: the unresolved runs came further
    with pytest.raises(InputError, match="no verdicts by nobody on any of its runs"):
        command("--run", run.path, "--labels", "outcome", "--critic", "nobody")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--labels", "human", "--critic", "juge"],
            r"--critic juge: no such critic; did you mean judge\? Known: judge",
        ),
        (["--labels", "human", "--predictions", "x"], "--run and --predictions exclude each other"),
        (
            ["--labels", "human", "--harmful", "bad"],
            "--harmful bad: expected some of good, unnecessary, mistake, recover",
        ),
        ([], "--labels is missing"),
    ],
)
def test_what_is_asked_wrongly(command, run_path, options, message):
    with pytest.raises(InputError, match=message):
        command("--run", run_path, *options)


def test_what_is_not_there(command, tmp_path):
    with pytest.raises(InputError, match=r"not a run directory \(it has no round-000\)"):
        command("--run", tmp_path, "--labels", "human")
    with Run(tmp_path / "run") as run:
        run.round(0).trajectories.append(trajectory("a", [0]))
    with pytest.raises(InputError, match="no true labels for any of its runs"):
        command("--run", run.path, "--labels", "human")
    run.round(0).critiques.append(critique("a", "g", critic="human", source="human"))
    with pytest.raises(InputError, match="no critic has judged it yet"):
        command("--run", run.path, "--labels", "human")
