"""The rows stage without the command line: whose labels an arm uses, whose outcomes, and when rows are made again."""

import json
from pathlib import Path

import msgspec
import pytest

from srft.agent.records import Action
from srft.critic.labels.labels import Critique, StepLabel
from srft.critic.rules.rules import ToolErrorCritic
from srft.env.errors import InputError
from srft.env.grading.grade import Grade, patch_hash
from srft.harness.run.store import Round, Run
from srft.harness.stages.rows import RowsConfig, make_rows
from srft.train.rows.mask import MaskPolicy
from srft.train.rows.rows import RowSettings, RowTable
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, TRIMS, make_run

ACT = "I look.\n```bash\nls\n```"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer(CHATML).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def round_(tmp_path):
    with Run(tmp_path / "run") as run:
        yield run.round(0)


def add(round_: Round, name: str, *, resolved: bool | None = False, failed: int | None = None, **changes):
    """A run of three steps; the command of step `failed` has ended with 1."""
    changes = {"id": name, "task_id": f"a__b-{name}", "recorded_resolved": resolved, "patch": "p"} | changes
    made = make_run([ACT, ACT, f"Done {name}."], **changes)
    steps = [msgspec.structs.replace(step, exit_code=int(step.index == failed)) for step in made.steps]
    round_.trajectories.append(msgspec.structs.replace(made, steps=tuple(steps)))


def judge(round_: Round, run_id: str, mistake: int, *, critic: str = "judge", source: str = "model") -> None:
    labels = tuple(StepLabel(step=n, verdict="mistake" if n == mistake else "good") for n in range(3))
    round_.critiques.append(
        Critique(trajectory_id=run_id, task_id="t", critic=critic, fingerprint="f", source=source, labels=labels)
    )


def grade(round_: Round, task_id: str, resolved: bool | None, patch: str = "p") -> None:
    round_.grades.append(
        Grade(
            instance_id=task_id,
            resolved=resolved,
            outcome="resolved" if resolved else "unresolved",
            wall_s=1.0,
            grader="g",
            key="k",
            patch_hash=patch_hash(patch),
        )
    )


def masked(rows) -> dict[str, list[int]]:
    """Run -> its steps that carry no loss, of every run in the rows."""
    return {
        row.run_id: sorted({int(s) for s in row.step_index if s >= 0 and not row.weights[row.step_index == s].any()})
        for row in RowTable.open(rows.folder)
    }


def test_whose_labels_an_arm_uses(round_, tokenizer):
    for name in ("judged", "seen", "known", "bare"):
        add(round_, name, failed=1)
    judge(round_, "judged", 0)
    judge(round_, "judged", 1, critic="other")
    judge(round_, "seen", 2, critic="anna", source="human")
    judge(round_, "known", 1, critic="truth", source="oracle")
    arms = ("all", "srft", "unresolved_masked", "human", "oracle", "tool_error", "all")
    made = make_rows(RowsConfig(tokenizer=tokenizer, arms=arms, critics=("judge",)), round_)
    assert {arm: masked(rows) for arm, rows in made.items()} == {
        "all": {"bare": [], "judged": [], "known": [], "seen": []},
        "srft": {"judged": [0], "seen": [2]},
        "unresolved_masked": {"judged": [0], "seen": [2]},
        "human": {"seen": [2]},
        "oracle": {"known": [1]},
        "tool_error": {name: [1] for name in ("bare", "judged", "known", "seen")},
    }
    assert {arm: rows.manifest.left_out for arm, rows in made.items() if rows.manifest.left_out} == {
        "srft": {"unlabelled": 2},
        "unresolved_masked": {"unlabelled": 2},
        "human": {"unlabelled": 3},
        "oracle": {"unlabelled": 3},
    }
    assert {arm: rows.manifest.arm for arm, rows in made.items()} == {arm: arm for arm in arms}
    assert made["srft"].folder == round_.path / "rows" / "srft"
    assert made["srft"].manifest.critics == ["judge"]
    both = make_rows(RowsConfig(tokenizer=tokenizer, critics=("judge", "other")), round_)["srft"]
    assert masked(both) == {"judged": [0, 1], "seen": [2]}


@pytest.mark.parametrize("source", ["model", "rule"])
def test_the_only_critic_need_not_be_named(round_, tokenizer, source):
    add(round_, "one")
    judge(round_, "one", 1, critic="only", source=source)
    judge(round_, "one", 0, critic="truth", source="oracle")
    (made,) = make_rows(RowsConfig(tokenizer=tokenizer), round_).values()
    assert (masked(made), made.manifest.critics) == ({"one": [1]}, ["only"])


@pytest.mark.parametrize(
    ("critics", "named", "arms", "message"),
    [
        ([], (), ("srft",), "no labels; say with --critic whose labels the arm uses"),
        (["b", "a"], (), ("all", "random"), "labels by a, b; say with --critic"),
        (["b", "a"], ("c", "a", "d"), ("srft",), "no labels by c, d; there are some by a, b: name one"),
        ([], ("c",), ("srft",), "no labels by c; there are some by nobody: name one"),
    ],
)
def test_critics_that_cannot_be_chosen(round_, tokenizer, critics, named, arms, message):
    add(round_, "one")
    for critic in critics:
        judge(round_, "one", 0, critic=critic)
    with pytest.raises(InputError) as error:
        make_rows(RowsConfig(tokenizer=tokenizer, critics=named, arms=arms), round_)
    assert str(error.value).startswith(f"{round_.critiques.path}: {message}")


def test_arms_of_other_labels_need_no_critic(round_, tokenizer):
    add(round_, "one")
    made = make_rows(RowsConfig(tokenizer=tokenizer, arms=("all", "tool_error", "human", "oracle")), round_)
    assert {arm: rows.manifest.rows for arm, rows in made.items()} == {
        "all": 1,
        "tool_error": 1,
        "human": 0,
        "oracle": 0,
    }
    assert made["all"].manifest.critics == []


def test_outcomes_are_those_of_the_grades_and_else_the_recorded_ones(round_, tokenizer):
    add(round_, "solved", resolved=None)
    add(round_, "recorded", resolved=True)
    add(round_, "overruled", resolved=True)
    add(round_, "ungraded", resolved=None)
    add(round_, "patched", resolved=None, patch="q")
    grade(round_, "a__b-solved", True)
    grade(round_, "a__b-overruled", False)
    grade(round_, "a__b-ungraded", None)
    grade(round_, "a__b-patched", True)  # of another patch
    made = make_rows(RowsConfig(tokenizer=tokenizer, arms=("resolved",)), round_)["resolved"]
    assert list(masked(made)) == ["recorded", "solved"]
    assert made.manifest.left_out == {"unresolved": 1, "outcome_unknown": 2}


def test_runs_come_by_task_and_attempt_and_the_last_of_an_episode_counts(round_, tokenizer):
    for name, task_id, attempt in (("b0", "b", 0), ("a1", "a", 1), ("old", "a", 0), ("a0", "a", 0)):
        add(round_, name, task_id=task_id, attempt=attempt)
    made = make_rows(RowsConfig(tokenizer=tokenizer, arms=("all",)), round_)["all"]
    assert list(masked(made)) == ["a0", "a1", "b0"]


def test_runs_and_labels_of_earlier_rounds_go_in(tmp_path, tokenizer):
    with Run(tmp_path / "run") as run:
        first, second = run.round(1), run.round(2)
        add(first, "first")
        add(second, "second")
        judge(first, "first", 0)
        judge(second, "second", 1)
        config = RowsConfig(tokenizer=tokenizer)
        made = make_rows(config, second, earlier=[first])["srft"]
        assert (masked(made), made.folder) == ({"first": [0], "second": [1]}, second.path / "rows" / "srft")
        assert not make_rows(config, second, earlier=[first])["srft"].is_new
        assert masked(make_rows(config, second)["srft"]) == {"second": [1]}


def test_a_round_without_runs(round_, tokenizer):
    with pytest.raises(InputError) as error:
        make_rows(RowsConfig(tokenizer=tokenizer), round_)
    assert str(error.value) == f"{round_.trajectories.path}: no runs; collect or import some first"
    assert not (round_.path / "rows").exists()


def task_file(path: Path, instance_id: str, repo: str) -> str:
    row = dict.fromkeys(("problem_statement", "patch", "test_patch"), "") | {"instance_id": instance_id, "repo": repo}
    row |= dict.fromkeys(("image", "eval_script", "log_parser"), "x") | {"eval_type": "pass_and_fail"}
    path.write_text(json.dumps(row | {"FAIL_TO_PASS": "[]", "PASS_TO_PASS": "[]"}))
    return str(path)


def test_what_is_evaluated_on_is_not_trained_on(tmp_path, tokenizer):
    with Run(tmp_path / "run") as run:
        first, second = run.round(1), run.round(2)
        add(first, "first", repo="c/d")
        add(second, "second")
        other = task_file(tmp_path / "other.jsonl", "x__y-1", "x/y")
        near = task_file(tmp_path / "near.jsonl", "c__d-9", "c/d")
        same = task_file(tmp_path / "same.jsonl", "a__b-first", "x/y")

        def make(*evaluation: str, **more) -> int:
            config = RowsConfig(tokenizer=tokenizer, arms=("all",), evaluation=evaluation, **more)
            return make_rows(config, second, earlier=[first])["all"].manifest.rows

        with pytest.raises(InputError, match=r"1 repositories of the evaluation tasks are trained on \(c/d\)"):
            make(other, near)
        with pytest.raises(InputError, match=r"1 of the 1 evaluation tasks are trained on \(a__b-first\)"):
            make(same, contamination="instance")
        assert [make(other, near, contamination="instance"), make(other)] == [2, 2]


# ---- made again ----


def made_new(config: RowsConfig, round_: Round) -> bool:
    (rows,) = make_rows(config, round_).values()
    return rows.is_new


@pytest.mark.parametrize(
    "change",
    [
        {"rows": RowSettings(max_tokens=999)},
        {"policy": MaskPolicy(mistake=0.5)},
        {"template": {"a": 1}},
        {"thinking": "recorded"},
        {"rows": RowSettings(calls="xml")},
        {"critics": ("other",)},
    ],
)
def test_another_configuration_makes_other_rows(round_, tokenizer, change):
    add(round_, "one")
    judge(round_, "one", 0)
    judge(round_, "one", 1, critic="other")
    config = RowsConfig(tokenizer=tokenizer, critics=("judge",))
    changed = msgspec.structs.replace(config, **change)
    assert [made_new(c, round_) for c in (config, config, changed, changed, config)] == [True, False, True, False, True]


def test_another_tokenizer_makes_other_rows(round_, tokenizer, tmp_path):
    add(round_, "one")
    byte_tokenizer(TRIMS).save_pretrained(tmp_path / "other")
    config = RowsConfig(tokenizer=tokenizer, arms=("all",))
    changed = msgspec.structs.replace(config, tokenizer=str(tmp_path / "other"))
    assert [made_new(c, round_) for c in (config, changed, changed)] == [True, True, False]


def rewrite(round_: Round, **changes) -> None:
    """Stores the runs anew, with another first step or other fields of a run."""
    runs = list(round_.trajectories.read())
    round_.trajectories.path.unlink()
    for run in runs:
        in_step = {name: value for name, value in changes.items() if hasattr(run.steps[0], name)}
        of_run = {name: value for name, value in changes.items() if name not in in_step}
        steps = (msgspec.structs.replace(run.steps[0], **in_step), *run.steps[1:])
        round_.trajectories.append(msgspec.structs.replace(run, steps=steps, **of_run))


@pytest.mark.parametrize(
    "changes",
    [
        {"reasoning": "Hm."},
        {"token_ids": (5, 6)},
        {"prompt_token_ids": (5, 6)},
        {"finish_reason": "length"},
        {"exit_code": 2},
        {"timed_out": True},
        {"error": "format"},
        {"id": "two"},
        {"patch": "another"},
        {"stop_reason": "step_limit"},
        {"recorded_resolved": True},
        {"tools": ({"type": "function", "function": {"name": "bash"}},)},
        {"action": Action(tool="bash", arguments={"command": "ls -l"}, format="backtick")},
        {"demo_messages": 1},
        {"prompt_shared": 3},
        {"repo": "a/another"},
        {"tool_calls": ({"id": "1", "type": "function", "function": {"name": "bash", "arguments": "{}"}},)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_runs_make_other_rows(round_, tokenizer, changes):
    add(round_, "one")
    config = RowsConfig(tokenizer=tokenizer, arms=("tool_error",))
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]
    rewrite(round_, **changes)
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]


def test_other_labels_and_grades_make_other_rows(round_, tokenizer):
    add(round_, "one")
    judge(round_, "one", 0)
    config = RowsConfig(tokenizer=tokenizer)
    assert made_new(config, round_)
    judge(round_, "one", 1)
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]
    grade(round_, "a__b-one", True)
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]
    grade(round_, "a__b-one", False)
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]


def test_a_label_makes_anew_the_rows_of_the_arms_that_use_it(round_, tokenizer):
    add(round_, "one")
    add(round_, "two", resolved=True)
    judge(round_, "one", 0)
    config = RowsConfig(
        tokenizer=tokenizer, arms=("all", "resolved", "srft", "tool_error", "human"), critics=("judge",)
    )

    def made():
        return {arm for arm, rows in make_rows(config, round_).items() if rows.is_new}

    assert made() == set(config.arms)
    judge(round_, "one", 1, critic="exploit", source="rule")
    assert made() == set()
    judge(round_, "one", 2)
    assert made() == {"srft"}
    judge(round_, "one", 0, critic="anna", source="human")
    assert made() == {"srft", "human"}
    judge(round_, "two", 1, critic="anna", source="human")  # of a resolved run, which all of them train whole
    assert made() == set()
    judge(round_, "gone", 1)
    assert made() == set()


def test_a_rule_that_changed_its_mind_makes_other_rows(round_, tokenizer, monkeypatch):
    add(round_, "one", failed=1)
    config = RowsConfig(tokenizer=tokenizer, arms=("tool_error",))
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]
    monkeypatch.setattr(ToolErrorCritic, "_label", lambda self, step: StepLabel(step=step.index, verdict="good"))
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]


@pytest.mark.parametrize("version", ["train.rows.render.RENDER_VERSION", "harness.stages.rows.ROWS_VERSION"])
def test_another_version_makes_other_rows(round_, tokenizer, monkeypatch, version):
    add(round_, "one")
    config = RowsConfig(tokenizer=tokenizer, arms=("all",))
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]
    monkeypatch.setattr(f"srft.{version}", 99)
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]


def test_the_order_in_which_workers_were_ready_makes_no_other_rows(round_, tokenizer):
    for name in ("one", "two"):
        add(round_, name)
        judge(round_, name, 0)
        judge(round_, name, 1, critic="other")
        judge(round_, name, 2, critic="anna", source="human")
        grade(round_, f"a__b-{name}", False)
    config = RowsConfig(tokenizer=tokenizer, critics=("judge",))
    assert made_new(config, round_)
    for lines in (round_.trajectories, round_.critiques, round_.grades):
        lines.path.write_bytes(b"".join(reversed(lines.path.read_bytes().splitlines(keepends=True))))
    assert not made_new(config, round_)


def test_only_what_is_missing_is_made(round_, tokenizer):
    add(round_, "one")
    config = RowsConfig(tokenizer=tokenizer, arms=("all",))
    make_rows(config, round_)
    both = make_rows(msgspec.structs.replace(config, arms=("tool_error", "all")), round_)
    assert {arm: rows.is_new for arm, rows in both.items()} == {"tool_error": True, "all": False}
    assert both["all"].manifest == RowTable.open(round_.path / "rows" / "all").manifest


@pytest.mark.parametrize("damage", [b"{}", b"not JSON", None])
def test_damaged_rows_are_made_again(round_, tokenizer, damage):
    add(round_, "one")
    config = RowsConfig(tokenizer=tokenizer, arms=("all",))
    made_new(config, round_)
    file = round_.path / "rows" / "all" / "rows.json"
    file.unlink() if damage is None else file.write_bytes(damage)
    assert [made_new(config, round_), made_new(config, round_)] == [True, False]


def test_the_configuration_unless_said_otherwise():
    assert msgspec.to_builtins(RowsConfig(tokenizer="t")) == {
        "tokenizer": "t",
        "arms": ("srft",),
        "critics": (),
        "template": {},
        "thinking": None,
        "policy": msgspec.to_builtins(MaskPolicy()),
        "rows": msgspec.to_builtins(RowSettings()),
        "evaluation": (),
        "contamination": "repository",
    }
    for wrong in ({}, {"tokenizer": "t", "arms": []}, {"tokenizer": "t", "arm": ["all"]}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, RowsConfig)
    with pytest.raises(AttributeError):
        RowsConfig(tokenizer="t").thinking = "empty"
    with pytest.raises(TypeError):
        RowsConfig("t")


def test_of_a_tasks_runs_as_many_of_each_outcome_as_asked_for(tmp_path, tokenizer):
    with Run(tmp_path / "run") as run:
        rounds = [run.round(1), run.round(2)]
        for number, round_ in enumerate(rounds, start=1):
            for attempt, resolved in enumerate((True, True, False, None)):
                add(round_, f"{number}{attempt}", task_id="a__b-1", attempt=attempt, resolved=resolved)
        add(rounds[0], "other", task_id="a__b-2", resolved=True)
        add(rounds[1], "ended", task_id="a__b-2", resolved=True, stop_reason="infra_error")

        def runs(per_task: int | None) -> tuple[list[str], dict[str, int]]:
            config = RowsConfig(tokenizer=tokenizer, arms=("all",), rows=RowSettings(per_task=per_task))
            rows = make_rows(config, rounds[1], earlier=rounds[:1])["all"]
            return [row.run_id for row in RowTable.open(rows.folder)], rows.manifest.left_out

        assert runs(1) == (["other", "20", "22", "23"], {"per_task": 5, "infra_error": 1})
        assert runs(3) == (["10", "12", "13", "other", "20", "21", "22", "23"], {"per_task": 1, "infra_error": 1})
        assert runs(None)[1] == {"infra_error": 1}
