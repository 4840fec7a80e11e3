"""From a run directory to a model, on the command line: critique, rows, train."""

import json
from pathlib import Path

import msgspec
import pytest

from srft.critic.labels.labels import Critique, StepLabel
from srft.harness.run.store import Run
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, make_run
from tests.train.training import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "base", byte_tokenizer(CHATML))


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """Four runs on two repositories: one resolved, one with a failed command, one that the world ended."""
    act = "I look.\n```bash\nls\n```"
    folder = tmp_path / "run"
    with Run(folder) as run:
        round_ = run.round(0)
        for number, (repo, resolved, stop_reason) in enumerate(
            [
                ("a/b", True, "submitted"),
                ("a/b", False, "submitted"),
                ("c/d", None, "submitted"),
                ("c/d", None, "infra_error"),
            ]
        ):
            made = make_run(
                [act, act, f"Done {number}."],
                task_id=f"{repo.replace('/', '__')}-{number}",
                repo=repo,
                id=f"run-{number}",
                recorded_resolved=resolved,
                stop_reason=stop_reason,
            )
            failing = msgspec.structs.replace(made.steps[1], exit_code=1)
            round_.trajectories.append(msgspec.structs.replace(made, steps=(made.steps[0], failing, *made.steps[2:])))
    return folder


def critique_line(run_id: str, critic: str, verdict: str, source: str = "model") -> Critique:
    labels = tuple(StepLabel(step=step, verdict=verdict) for step in range(3))
    return Critique(trajectory_id=run_id, task_id="t", critic=critic, fingerprint="f", source=source, labels=labels)


def label(folder: Path, *critiques: Critique) -> None:
    with Run(folder) as run:
        for critique in critiques:
            run.round(0).critiques.append(critique)


def test_rows_of_every_arm_and_a_model(srft, run_folder, base):
    judged = srft("critique", "--run", run_folder, "--critic", "tool_error", "--json")
    assert judged.returncode == 0, judged.stderr
    made = srft("rows", "--run", run_folder, "--tokenizer", base, "--arm", "all,resolved,srft,tool_error", "--json")
    assert made.returncode == 0, made.stderr
    arms = json.loads(made.stdout)
    assert {arm: (it["runs_used"], it["steps_masked"], it["left_out"]) for arm, it in arms.items()} == {
        "all": (3, 0, {"infra_error": 1}),
        "resolved": (1, 0, {"infra_error": 1, "outcome_unknown": 1, "unresolved": 1}),
        "srft": (2, 1, {"infra_error": 1, "outcome_unknown": 1}),
        "tool_error": (2, 1, {"infra_error": 1, "outcome_unknown": 1}),
    }
    recipe = ["--set", "steps=2", "--set", "compute=float32", "--set", "held_out=0"]
    trained = srft("train", "--run", run_folder, "--arm", "srft", "--model", base, *recipe, "--json")
    assert trained.returncode == 0, trained.stderr
    told = json.loads(trained.stdout)
    assert (told["figures"]["steps"], told["task_ids"]) == (2, ["a__b-0", "a__b-1"])
    assert (run_folder / "round-000" / "model" / "srft" / "model.safetensors").is_file()
    assert "step 2/2  loss" in trained.stderr
    assert "trained tokens/s" in trained.stderr


@pytest.mark.slow
def test_rows_are_made_again_when_something_they_are_made_of_has_changed(srft, run_folder, base):
    label(run_folder, critique_line("run-1", "judge", "good"))
    command = ("rows", "--run", run_folder, "--tokenizer", base, "--json")

    def new(*options: str) -> bool:
        return json.loads(srft(*command, *options).stdout)["srft"]["new"]

    assert [new(), new()] == [True, False]
    assert [new("--max-tokens", "999"), new("--set", "policy.mistake=0.5")] == [True, True]
    label(run_folder, critique_line("run-1", "judge", "mistake"))
    assert [new("--set", "policy.mistake=0.5"), new("--set", "policy.mistake=0.5")] == [True, False]


def test_a_persons_verdict_wins(srft, run_folder, base):
    label(
        run_folder,
        critique_line("run-1", "person", "good", source="human"),
        critique_line("run-1", "judge", "mistake"),
    )
    made = json.loads(srft("rows", "--run", run_folder, "--tokenizer", base, "--json").stdout)
    assert made["srft"]["steps_masked"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arm", "srft"], "labels by judge, other; say with --critic"),
        (["--arm", "srft", "--critic", "nobody"], "no labels by nobody; there are some by judge, other"),
        (["--arm", "some"], "--arm some: choose all, human"),
        (["--overlong", "shrink"], "overlong"),
        (["--set", "policy.mistakes=1"], "did you mean policy.mistake?"),
        (["--set", "policy.mistake=-1"], "policy.mistake"),
    ],
)
def test_bad_input_is_one_sentence(srft, run_folder, base, options, message):
    label(run_folder, critique_line("run-1", "judge", "good"), critique_line("run-1", "other", "good"))
    made = srft("rows", "--run", run_folder, "--tokenizer", base, *options)
    assert made.returncode == 2
    assert message in made.stderr
    assert "Traceback" not in made.stderr


@pytest.mark.slow
def test_what_is_evaluated_on_is_not_trained_on(srft, run_folder, base, tmp_path):
    row = dict.fromkeys(("problem_statement", "patch", "test_patch", "image", "eval_script", "log_parser"), "")
    row |= {"eval_type": "pass_and_fail", "FAIL_TO_PASS": "[]", "PASS_TO_PASS": "[]"}
    row |= dict.fromkeys(("image", "eval_script", "log_parser"), "x")

    def tasks(name: str, instance_id: str, repo: str) -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(row | {"instance_id": instance_id, "repo": repo}))
        return path

    same, near, other = tasks("same", "a__b-0", "a/b"), tasks("near", "a__b-99", "a/b"), tasks("other", "x__y-1", "x/y")
    command = ("rows", "--run", run_folder, "--tokenizer", base, "--arm", "all", "--evaluation")
    assert "1 of the 1 evaluation tasks are trained on (a__b-0)" in srft(*command, same).stderr
    assert "1 repositories of the evaluation tasks are trained on (a/b)" in srft(*command, near).stderr
    assert srft(*command, near, "--set", "contamination=instance").returncode == 0
    assert srft(*command, other).returncode == 0
    refused = srft("train", "--run", run_folder, "--model", base, "--evaluation", same)
    assert (refused.returncode, "trained on (a__b-0)" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_commands_without_what_they_need(srft, run_folder, tmp_path, base):
    with Run(tmp_path / "empty") as run:
        run.round(0)
    refused = srft("rows", "--run", tmp_path / "empty", "--tokenizer", base)
    assert (refused.returncode, "no trajectories in it; collect or import some first" in refused.stderr) == (2, True)
    refused = srft("train", "--run", run_folder, "--model", base)
    assert (refused.returncode, "no rows in" in refused.stderr, "srft rows --run" in refused.stderr) == (2, True, True)
    assert "one of qwen2.5-coder" in srft("train", "--run", run_folder, "--recipe", "nine").stderr


def test_the_recorded_runs_are_refused_for_an_evaluation_on_verified(srft, shared_data, base, tmp_path):
    """The recorded runs are on SWE-bench Verified: nothing trained on them is evaluated on it."""
    recorded = shared_data / "trajectories" / "gemini3pro_mini_verified.jsonl.gz"
    tasks = shared_data / "verified_pypi" / "verified_pypi.jsonl"
    if not recorded.is_file() or not tasks.is_file():
        pytest.skip("the recorded runs are not there")
    assert srft("import", recorded, "--run", tmp_path / "run").returncode == 0
    refused = srft("rows", "--run", tmp_path / "run", "--tokenizer", base, "--arm", "all", "--evaluation", tasks)
    assert refused.returncode == 2
    assert "45 of the 86 evaluation tasks are trained on" in refused.stderr
