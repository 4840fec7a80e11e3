"""The report's facts from a run's files: hand-made runs, exact figures."""

import json

import msgspec
import pytest

from srft.env.errors import InputError
from srft.harness.facts import Report, read_report
from srft.harness.facts.records import Drop, FunnelStep
from srft.harness.look.report.write import write_report
from srft.harness.statistics.paired import compare_models
from srft.harness.statistics.statistics import Interval, wilson_interval
from tests.harness.loop_run import LoopRun, critique_of, episode, grade_of

BASE = {"b-1": [False], "b-2": [True], "b-3": [False], "c-1": [False]}
TRAINED = {"b-1": [True], "b-2": [True], "b-3": [True], "c-1": [False]}
WORSE = {"b-1": [False], "b-2": [False], "b-3": [False], "c-1": [False]}


@pytest.fixture
def path(tmp_path):
    """A loop of two rounds: round 1 promoted, round 2 rolled back."""
    path = tmp_path / "demo"
    with LoopRun(path) as run:
        run.evaluation(0, "base", BASE)
        run.stage(0, "serve.base", kind="transformers", probe={"max_difference": 0.001})
        run.stage(0, "evaluate.base", 9.0, tasks=4, predictions=4, resolved=1, interval=[0.0, 0.7])
        collect(run)
        run.rows(
            1,
            "srft",
            runs=5,
            runs_used=3,
            rows=3,
            tokens=1000,
            written_tokens=400,
            trained_tokens=300,
            steps=8,
            steps_masked=2,
            left_out={"outcome_unknown": 1},
            dropped={"nothing_trained": 1},
            remarks={"steps_cut": 3},
            critics=["judge"],
        )
        run.training(1, "srft", [2.0, 1.0], {2: 0.5})
        run.evaluation(1, "srft", TRAINED)
        run.stage(1, "collect", 60.0)
        run.stage(1, "train.srft", 40.0)
        decided = {"difference": 0.5, "interval": [-0.1, 0.9], "bound": 0.8, "rule": "r", "reason": "better"}
        run.stage(1, "promote", decision="promoted", cell="srft", before=0.25, after=0.75, **decided)
        run.evaluation(2, "srft", WORSE)
        run.stage(2, "promote", decision="rolled back", cell="srft", before=0.75, after=0.0, rule="r", reason="worse")
    (path / "loop.yaml").write_text(
        "srft: 0.1.0\nversions: {torch: 2.13.0}\nloop: {preset: demo, model: 'http://me:secret@host/v1#m'}\n"
    )
    return path


def collect(run):
    """Round 1: five episodes on four tasks, one of them done again, one ended by infrastructure."""
    round_ = run.round(1)
    run.add(round_, episode("t-1", steps=3, text="first"), graded=False)
    resolved = run.add(round_, episode("t-1", steps=3), True)
    failed = run.add(round_, episode("t-2", steps=4), False)
    empty = episode("t-2", attempt=1, steps=2, patch="", stop_reason="format_errors")
    round_.trajectories.append(empty)
    round_.grades.append(grade_of(empty, False, outcome="empty"))
    run.add(round_, episode("t-3", steps=5, stop_reason="infra_error", patch=None), graded=False)
    ungraded = run.add(round_, episode("t-4", steps=2), None)
    for told in (
        critique_of(resolved, "ggg"),
        critique_of(failed, "gmmm"),
        critique_of(failed, "gm-u"),  # the last word counts
        critique_of(empty, "m-"),
        critique_of(resolved, "ggg", critic="oracle", source="oracle"),
        critique_of(failed, "gmmg", critic="oracle", source="oracle"),
        critique_of(ungraded, "gg", critic="oracle", source="oracle"),
    ):
        round_.critiques.append(told)


def test_headline(path):
    report = read_report(path)
    assert report.kind == "loop"
    headline = report.headline
    assert (headline.base.resolved, headline.base.tasks, headline.base.interval) == (1, 4, wilson_interval(1, 4))
    assert (headline.trained.resolved, headline.cell, headline.round, headline.promoted) == (3, "srft", 1, True)
    paired = compare_models({k: [v[0]] for k, v in BASE.items()}, {k: [v[0]] for k, v in TRAINED.items()})
    comparison = headline.comparison
    assert (comparison.difference, comparison.interval, comparison.p_value) == (0.5, paired.interval, 0.5)
    assert (comparison.gained, comparison.lost, comparison.tasks, comparison.unpaired) == (["b-1", "b-3"], [], 4, 0)


def test_rounds_are_a_list_and_round_0_is_the_base_model(path):
    write_report(path)
    content = json.loads((path / "report.json").read_bytes())
    assert content["schema_version"] == 1
    assert [one["round"] for one in content["rounds"]] == [0, 1, 2]
    assert [one["evaluation_of"] for one in content["rounds"]] == ["base", "srft", "srft"]
    evaluations = [one["evaluation"] for one in content["rounds"]]
    assert [(one["tasks"], one["predictions"], one["resolved"]) for one in evaluations] == [
        (4, 4, 1),
        (4, 4, 3),
        (4, 4, 0),
    ]
    assert evaluations[1]["interval"] == list(wilson_interval(3, 4))
    assert [one["promotion"] and one["promotion"]["decision"] for one in content["rounds"]] == [
        None,
        "promoted",
        "rolled back",
    ]
    promotion = content["rounds"][1]["promotion"]
    assert (promotion["difference"], promotion["interval"]) == (0.5, [-0.1, 0.9])
    page = (path / "report.md").read_text().replace("\u00a0", " ")
    assert "| promoted | srft | 25.0 % | 75.0 % | +50.0 (−10.0 to +90.0) | r | better |" in page
    assert "it cannot tell their recipes apart" in page
    assert msgspec.json.decode((path / "report.json").read_bytes(), type=Report) == read_report(path)


def test_collection(path):
    one = read_report(path).rounds[1].collection
    assert (one.tasks, one.predictions, one.done_again, one.finished) == (4, 5, 1, 4)
    assert (one.resolved, one.unresolved, one.empty, one.graded) == (1, 1, 1, 3)
    assert one.not_graded == {"ended by infrastructure": 1, "the grader failed": 1}
    assert one.rate == 0.5  # of the two tasks with verdicts: 1 and 0
    assert one.stop_reasons == {
        "resolved": {"submitted": 1},
        "unresolved": {"submitted": 1, "format_errors": 1},
        "not_graded": {"infra_error": 1, "submitted": 1},
    }
    assert (one.steps, one.finished_steps, one.spent.prompt_tokens, one.wall_s) == (16, 11, 1900, 10.0)
    assert one.by_repository == {"practice/t": (3, 1)}


def test_funnel(path):
    rows = read_report(path).rounds[1].funnel
    assert [(step.name, step.unit, step.count, step.lost) for step in rows] == [
        ("tasks", "tasks", 4, {}),
        ("episodes", "episodes", 5, {}),
        ("finished", "episodes", 4, {"ended by infrastructure": 1}),
        ("graded", "episodes", 3, {"the grader failed": 1}),
        ("resolved", "episodes", 1, {"unresolved": 1, "empty": 1}),
        ("steps", "steps", 11, {"of episodes that were not finished": 5}),
        ("labelled", "steps", 7, {"run not judged": 2, "critic abstained": 2}),
        ("in rows", "steps", 8, {"behind the cut of a long row": 3}),
        ("trained", "steps", 6, {"weight 0": 2}),
        ("given to the arm", "runs", 5, {}),
        ("used", "runs", 3, {"outcome_unknown": 1, "no row left": 1}),
        ("rows", "rows", 3, {"nothing_trained": 1}),
        ("in rows", "tokens", 1000, {}),
        ("written by the model", "tokens", 400, {"context: shown, not written": 600}),
        ("trained", "tokens", 300, {"masked": 100}),
    ]


def test_verdicts_by_outcome(path):
    judge, oracle = read_report(path).rounds[1].judgements
    assert (judge.critic, judge.runs, judge.not_judged) == ("judge", {"resolved": 1, "unresolved": 2}, 1)
    assert judge.verdicts == {
        "resolved": {"good": 3},
        "unresolved": {"good": 1, "mistake": 2, "abstained": 2, "unnecessary": 1},
    }
    assert oracle.verdicts["unknown"] == {"good": 2}


def test_of_a_critic_that_judged_a_run_twice_the_last_word_counts_in_all_figures(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        told = run.add(run.round(0), episode("t-1", steps=2), False)
        for verdicts, remarks in (("mm", {"repaired": 3, "window": 1}), ("gm", {"repaired": 1})):
            run.round(0).critiques.append(critique_of(told, verdicts, remarks=remarks, calls=2))
    [judge] = read_report(tmp_path / "run").rounds[0].judgements
    assert (judge.verdicts, judge.remarks) == ({"unresolved": {"good": 1, "mistake": 1}}, {"repaired": 1})
    assert judge.calls == 4  # both were paid for


def test_quality_of_the_critic(path):
    [one] = read_report(path).quality
    # Two runs have both: ggg against ggg, gmmg against gm-u. One flag, right; two mistakes, one of them found.
    assert (one.critic, one.truth, one.runs, one.steps) == ("judge", {"oracle": 2}, 2, 7)
    assert (one.harmful_steps, one.flagged_steps, one.abstained_steps) == (2, 1, 1)
    assert (one.precision, one.recall, one.f1) == (1.0, 0.5, 2 / 3)
    assert (one.runs_without_verdicts, one.runs_without_truth) == (1, 1)
    assert one.flag_all == {"precision": 2 / 7, "recall": 1.0, "f1": 4 / 9}


def test_a_person_wins_over_the_oracle(path):
    with LoopRun(path) as run:
        failed = next(one for one in run.round(1).finished() if one.task_id == "t-2")
        run.round(1).critiques.append(critique_of(failed, "--g-", critic="human", source="human"))
    [one] = read_report(path).quality
    assert (one.truth, one.harmful_steps, one.recall) == ({"oracle": 1, "human": 1}, 1, 1.0)


def test_every_drop_is_counted(path):
    drops = read_report(path).drops
    expected = [
        ("collect", "episodes", "not graded: ended by infrastructure", 1),
        ("collect", "episodes", "done again: an earlier line stands in the file too", 1),
        ("collect", "patches", "empty; not resolved", 1),
        ("critique by judge", "runs", "not judged", 1),
        ("critique by judge", "steps", "abstained", 2),
        ("rows.srft", "runs", "outcome unknown", 1),
        ("rows.srft", "rows", "nothing trained", 1),
        ("rows.srft", "steps", "in the rows with weight 0", 2),
    ]
    for stage, what, reason, count in expected:
        assert Drop(round=1, stage=stage, what=what, reason=reason, count=count) in drops


def test_practice_drops(path):
    (path / "practice").mkdir()
    source = {"version": "1", "fingerprint": "f", "mutants": 9, "not_called": 1, "unreliable_tests": 2, "tried": 8}
    content = {
        "schema_version": 1,
        "finished": True,
        "settings": {"seed": 0},
        "missing": 1,
        "kinds": {"comparison": 2},
        "sources": {
            "ledger": {**source, "kept": 1, "dropped": {"flaky": 2, "no test sees it": 5}},
            "matrix": {**source, "kept": 1, "dropped": {"no test sees it": 7}},
        },
        "tasks": [
            {"instance_id": "a", "part": part, "family": "f", "kind": kind, "path": "p", "line": 1, "function": "g"}
            for part, kind in (("train", "comparison"), ("train", "comparison"), ("test", "slice"))
        ],
    }
    (path / "practice" / "practice.json").write_text(json.dumps(content))
    report = read_report(path)
    assert [(one.stage, one.what, one.reason, one.count) for one in report.drops[:5]] == [
        ("practice", "mutants", "in a function that no test calls: not tried", 2),
        ("practice", "mutants", "flaky", 2),
        ("practice", "mutants", "no test sees it", 12),
        ("practice", "tests", "do not end the same each time", 4),
        ("practice", "tasks", "asked for and not found", 1),
    ]
    assert list(report.practice.tasks.items()) == [("train", {"comparison": 2}), ("test", {"slice": 1})]
    assert "Tasks by kind of bug" in write_report(path).read_text()


def test_what_was_set_aside_is_in_no_figure(path):
    for name in ("evaluation", "model"):
        folder = path / "round-001" / name
        (folder / "srft").rename(folder / ".srft.0123456789abcdef")
    report = read_report(path)
    one = report.rounds[1]
    assert (one.evaluation, one.cells) == (None, {})
    assert one.set_aside == [f"round-001/{name}/.srft.0123456789abcdef" for name in ("evaluation", "model")]
    reason = "set aside: made from other inputs than there are now"
    assert Drop(round=1, stage="all", what="folders", reason=reason, count=2) in report.drops


def test_an_unfinished_stage_is_named(tmp_path):
    with LoopRun(tmp_path) as run:
        run.evaluation(0, "base", BASE)
        run.stage(0, "serve.base")
    report = read_report(tmp_path)
    assert report.rounds[0].unfinished == ["evaluate.base"]
    sentence = "Round 0: evaluate.base is not finished; what it has left so far is in the figures."
    assert sentence in report.missing


def test_a_seed_without_a_number_is_the_first(tmp_path):
    """The loop names the first seed's cell by the arm alone."""
    with LoopRun(tmp_path) as run:
        for cell, resolved in (("all", False), ("all.1", False), ("srft", True), ("srft.1", False)):
            run.evaluation(1, cell, {"a-1": [resolved]})
    [pair] = read_report(tmp_path).rounds[0].arm_comparisons
    assert (pair.first, pair.second, pair.seeds, pair.difference) == ("all", "srft", (2, 2), 0.5)


def test_costs(path):
    costs = {(one.round, one.stage): one for one in read_report(path).costs}
    assert costs[1, "collect"].wall_s == 60.0
    assert (costs[1, "collect"].summed_s, costs[1, "collect"].completion_tokens) == (10.0, 190)
    assert (costs[1, "train.srft"].wall_s, costs[1, "train.srft"].trained_on_tokens) == (40.0, 1000)
    assert costs[0, "evaluate.base"].wall_s == 9.0
    assert costs[0, "serve.base"].wall_s == 1.0


def test_origin_hides_users_of_urls(path):
    origin = read_report(path).origin
    assert origin.command == f"srft loop --config {path}/loop.yaml --run {path}-again"
    assert origin.settings["loop"]["model"] == "http://host/v1#m"
    assert origin.versions == {"srft": "0.1.0", "torch": "2.13.0"}
    assert origin.graders == ["swebench 5.0.2"]


def test_missing_attempts_count_as_not_resolved(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.evaluation(0, "base", {"a-1": [True], "a-2": [None]})
        run.stage(0, "evaluate.base", tasks=4)
    one = read_report(tmp_path / "run").rounds[0].evaluation
    assert (one.tasks, one.predictions, one.missing, one.resolved) == (4, 4, 2, 1)
    assert one.not_graded == {"the grader failed": 1}
    assert (one.graded, one.rate, one.interval) == (3, 1 / 3, wilson_interval(1, 3))


def test_arms_with_seeds(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.evaluation(0, "base", {"a-1": [False], "a-2": [False]})
        run.evaluation(1, "srft.0", {"a-1": [True], "a-2": [False]})
        run.evaluation(1, "srft.1", {"a-1": [True], "a-2": [True]})
        run.evaluation(1, "all.0", {"a-1": [False], "a-2": [False]})
        run.evaluation(1, "all.1", {"a-1": [True], "a-2": [False]})
    report = read_report(tmp_path / "run")
    one = report.rounds[1]
    assert one.evaluation_of == "srft.1"
    all_, srft = one.arms
    assert (srft.arm, srft.seeds, srft.resolved, srft.predictions, srft.rate) == ("srft", 2, 3, 4, 0.75)
    assert srft.seed_rates == {"srft.0": 0.5, "srft.1": 1.0}
    assert srft.against_base.difference == 0.75
    assert (srft.interval, srft.against_base.p_value) == (None, None)
    assert all_.rate == 0.25
    [pair] = one.arm_comparisons
    assert (pair.first, pair.second, pair.seeds, pair.difference) == ("all", "srft", (2, 2), 0.5)
    assert (pair.only_first, pair.only_second, pair.p_value, pair.interval) == (0, 2, None, None)
    assert report.headline.chosen_among == 4
    write_report(tmp_path / "run")
    page = (tmp_path / "run" / "report.md").read_text().replace("\u00a0", " ")
    assert "2 seeds of srft against 2 seeds of all: too few to tell the recipe from its luck" in page
    assert "| all | srft | 2 and 2 | 2 | +50.0 | – | 2 | 0 |" in page


def test_a_base_model_alone(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.evaluation(0, "base", BASE)
    report = read_report(tmp_path / "run")
    assert report.headline is None
    assert "No comparison of a trained model with the base model: only one of them was evaluated." in report.missing


def test_nothing_was_promoted(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.evaluation(0, "base", BASE)
        run.evaluation(1, "srft", WORSE)
        run.stage(1, "promote", decision="rolled back", cell="srft", before=0.25, after=0.0)
    headline = read_report(tmp_path / "run").headline
    assert (headline.promoted, headline.trained.resolved, headline.comparison.lost) == (False, 0, ["b-2"])


def test_a_collection_alone(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.add(run.round(0), episode("t-1", steps=1), True)
    (tmp_path / "run" / "run.yaml").write_text("collect: {tasks: T, model: 'script:a b', attempts: 2}\n")
    report = read_report(tmp_path / "run")
    assert (report.kind, report.headline, report.rounds[0].evaluation) == ("collection", None, None)
    run = tmp_path / "run"
    assert report.origin.command == f"srft collect --config {run}/run.yaml --run {run}-again"
    assert [text.partition(":")[0] for text in report.missing] == [
        "No evaluation on held-out tasks",
        "No labels",
        "No token rows",
        "No training",
        "No times by the clock",
        "No money",
    ]
    labelled = next(step for step in report.rounds[0].funnel if step.name == "labelled")
    assert labelled == FunnelStep(name="labelled", unit="steps", count=None, lost={})


def test_imported_runs_keep_their_recorded_verdicts(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.add(run.round(0), episode("t-1", recorded_resolved=True), graded=False)
        run.add(run.round(0), episode("t-2", recorded_resolved=False), graded=False)
    report = read_report(tmp_path / "run")
    assert (report.kind, report.rounds[0].collection.rate) == ("import", 0.5)


def test_grades_without_runs(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.round(0).grades.append(grade_of(episode("a__b-1"), None))
        run.round(0).grades.append(grade_of(episode("a__b-1"), True))
        run.round(0).grades.append(grade_of(episode("a__b-2"), False))
    report = read_report(tmp_path / "run")
    one = report.rounds[0].collection
    assert (report.kind, one.tasks, one.predictions, one.resolved) == ("grading", 2, 2, 1)
    assert one.by_repository == {"a/b": (2, 1)}
    assert "No trajectories: patches were graded here without the runs they come from." in report.missing


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("round-000/trajectories.jsonl", '{"id": 1}\n', r"trajectories.jsonl:1: not a Trajectory .*`str`"),
        ("round-000/rows/srft/rows.json", "{", r"rows/srft/rows.json: cannot be read"),
        ("round-000/stages.json", '{"stages": []}', r"stages.json: not a stages file"),
        ("loop.yaml", "- 1\n", r"loop.yaml: expected a mapping"),
        (
            "round-000/stages.json",
            '{"stages": {"promote": {"key": "k", "finished_at": "", "wall_s": 1, "figures": {"decision": 3}}}}',
            r"stages.json: the stage promote: .*decision",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "round-000").mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_report(tmp_path)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such run directory"):
        read_report(tmp_path / "nothing")
    with pytest.raises(InputError, match="not a run directory"):
        read_report(tmp_path)


def test_a_torn_last_line_is_passed_over(path):
    before = read_report(path)
    with (path / "round-001" / "trajectories.jsonl").open("ab") as file:
        file.write(b'{"id": "half')
    assert read_report(path) == before


def test_the_recorded_runs(shared_data, tmp_path):
    """The 246 recorded runs, imported: the verdicts and steps that their own report has."""
    from srft.harness.run.store import Run
    from srft.harness.stages.import_runs import import_runs

    files = sorted(shared_data.glob("trajectories/*gemini3pro*mini*.jsonl.gz"))
    if not files:
        pytest.skip("the recorded runs are not here")
    with Run(tmp_path / "run") as run:
        imported = import_runs(files, run)
    one = read_report(tmp_path / "run").rounds[0].collection
    assert (one.predictions, one.resolved, one.unresolved) == (imported.added, imported.resolved, imported.unresolved)
    assert one.steps == imported.steps
    assert one.interval == Interval(*wilson_interval(imported.resolved, imported.added))
