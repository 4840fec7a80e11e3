"""A critic's score: hand-made runs, slow references, and published figures."""

import json
import math
from collections import Counter

import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srft.critic.calibrate import Tenth, calibrate
from srft.critic.intervals import jackknife_interval, ratio_interval
from srft.critic.labels.label_sets import JudgedRun, choose, judged_runs, read_predictions, read_truth
from srft.critic.labels.labels import Critique, StepLabel
from srft.env.errors import InputError

LETTERS = {"g": "good", "u": "unnecessary", "m": "mistake", "r": "recover", "-": None}


def labelled(letters):
    """Step -> label, from one letter a step."""
    return {step: StepLabel(step=step, verdict=LETTERS[letter]) for step, letter in enumerate(letters)}


def report(truth, predicted, **options):
    """truth, predicted: letters of each run."""
    names = [str(place) for place in range(len(truth))]
    true = dict(zip(names, map(labelled, truth), strict=True))
    said = dict(zip(names, map(labelled, predicted), strict=True))
    return calibrate(judged_runs(true, {"critic": said}, **options))


def test_hand_made_score():
    # 8 steps, 3 harmful, 3 flagged, 2 hits. First errors: right, missed, neither has one.
    measured = report(["gmmg", "mg", "gu"], ["gmgm", "gg", "rr"])
    score = measured.critics["critic"]
    assert (score.runs, score.steps, score.harmful_steps, score.flagged_steps) == (3, 8, 3, 2)
    assert (score.precision, score.recall, score.f1) == (1 / 2, 1 / 3, 2 / 5)
    assert score.first_error_accuracy == 2 / 3
    assert score.first_error_found == 1 / 2
    assert score.flag_rate == 1 / 4
    # Agreed on 5 of 8; by chance 3/8 * 2/8 + 5/8 * 6/8 = 36/64.
    assert score.kappa == pytest.approx((5 / 8 - 36 / 64) / (1 - 36 / 64))


def test_a_flag_before_the_first_error_is_not_it():
    assert report(["gmg"], ["mmg"]).critics["critic"].first_error_accuracy == 0
    assert report(["ggg"], ["ggm"]).critics["critic"].first_error_accuracy == 0
    assert report(["gmm"], ["gmg"]).critics["critic"].first_error_accuracy == 1


def test_abstaining_is_not_flagging_and_is_counted():
    score = report(["mmg"], ["-m"]).critics["critic"]
    assert (score.abstained_steps, score.flagged_steps, score.recall) == (2, 1, 1 / 2)


def test_steps_and_runs_without_a_true_verdict_are_left_out():
    score = report(["m-g", "--"], ["mmm", "mm"]).critics["critic"]
    assert (score.runs, score.steps, score.precision) == (1, 2, 1 / 2)
    assert score.runs_without_truth == 1


def test_what_does_not_exist_is_none():
    score = report(["gg"], ["gg"]).critics["critic"]
    assert (score.precision, score.recall, score.f1, score.kappa, score.first_error_found) == (None,) * 5
    assert score.intervals["recall"] is None
    assert (score.first_error_accuracy, score.intervals["first_error_accuracy"]) == (1, (pytest.approx(0.025), 1))


def test_unnecessary_counts_where_asked_for():
    score = report(["gum"], ["guu"], harmful=("mistake", "unnecessary")).critics["critic"]
    assert (score.precision, score.recall) == (1, 1)


def test_baselines():
    baselines = report(["gmm", "gg"], ["gmg", "gg"]).baselines
    flag_all, flag_last = baselines["flag_all"], baselines["flag_last"]
    assert (flag_all.precision, flag_all.recall, flag_all.first_error_accuracy) == (2 / 5, 1, 0)
    assert (flag_last.precision, flag_last.recall, flag_last.f1) == (1 / 2, 1 / 2, 1 / 2)
    assert baselines["flag_non_zero_exit"] is None


def test_flag_non_zero_exit_where_exit_codes_are_known():
    failed = {"0": {0: False, 1: True, 2: None}}
    score = report(["gmm"], ["ggg"], failed_tools=failed).baselines["flag_non_zero_exit"]
    assert (score.precision, score.recall, score.abstained_steps) == (1, 1 / 2, 1)


def test_random_is_the_exact_expectation():
    # Rate 2/6. Run "gm" is right when only the second is flagged first; "gggg" when nothing is.
    score = report(["gm", "gggg"], ["gm", "mggg"]).critics["critic"].random
    assert score.flag_rate == pytest.approx(1 / 3)
    assert score.precision == pytest.approx(1 / 6)
    assert score.recall == pytest.approx(1 / 3)
    assert score.kappa == pytest.approx(0)
    assert score.first_error_accuracy == pytest.approx((2 / 3 * 1 / 3 + (2 / 3) ** 4) / 2)


def test_position_profile():
    profile = report(["gggggggggm", "m"], ["mggggggggm", "g"]).critics["critic"].profile
    assert profile[0] == Tenth(steps=1, harmful_rate=0, flag_rate=1, recall=None)
    assert profile[5] == Tenth(steps=2, harmful_rate=1 / 2, flag_rate=0, recall=0)
    assert profile[9] == Tenth(steps=1, harmful_rate=1, flag_rate=1, recall=1)
    # With the run's true length the labelled step's place is its own.
    long = report(["m"], ["m"], lengths={"0": 100}).critics["critic"].profile
    assert (long[0].steps, long[5].steps) == (1, 0)


def test_intervals_are_over_runs():
    """Each run is all right or all wrong: 100 steps of two runs say no more than two coins."""
    score = report(["m" * 50] * 2, ["m" * 50, "g" * 50]).critics["critic"]
    assert score.recall == 1 / 2
    assert score.intervals["recall"] == ratio_interval(numpy.array([50, 0.0]), numpy.array([50, 50.0]))
    low, high = score.intervals["recall"]
    assert (low, high) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    assert score.intervals["kappa"] is None


def test_the_interval_of_kappa_leaves_out_each_run_once():
    truth, said = ["mgmg", "mmgg", "gggm"], ["mggg", "mgmg", "gmgm"]
    whole = report(truth, said).critics["critic"]
    without = [
        report(*([run for place, run in enumerate(side) if place != out] for side in (truth, said)))
        .critics["critic"]
        .kappa
        for out in range(3)
    ]
    assert whole.intervals["kappa"] == pytest.approx(jackknife_interval(whole.kappa, numpy.array(without)))


def test_intervals_hold_the_true_figures():
    """Of 40 runs in 200 experiments: 92 % at least; a bootstrap over runs was at 90 %, over 10 runs at 85 %."""
    random = numpy.random.default_rng(0)

    def drawn(runs):
        for _ in range(runs):
            harmful = random.random(random.integers(5, 30)) < random.beta(0.8, 4)
            flagged = random.random(len(harmful)) < numpy.where(harmful, random.beta(2, 2), random.beta(1, 9))
            yield "".join("gm"[int(one)] for one in harmful), "".join("gm"[int(one)] for one in flagged)

    names = ("precision", "recall", "f1", "kappa", "flag_rate")
    many = report(*zip(*drawn(6000), strict=True)).critics["critic"]
    held = Counter()
    for _ in range(200):
        intervals = report(*zip(*drawn(40), strict=True)).critics["critic"].intervals
        held.update(name for name in names if intervals[name][0] <= getattr(many, name) <= intervals[name][1])
    assert {name: held[name] / 200 >= 0.92 for name in names} == dict.fromkeys(names, True), held


def test_votes():
    label = StepLabel(step=0, verdict="mistake", votes={"mistake": 2, "abstained": 1})
    agreed = StepLabel(step=1, verdict="good", votes={"good": 3})
    judged = judged_runs({"r": labelled("mg")}, {"critic": {"r": {0: label, 1: agreed}}})
    assert judged.runs["critic"][0].votes == ((2, 3), (0, 3))
    votes = calibrate(judged).critics["critic"].votes
    # Agreement (1/3 + 1) / 2; by chance (2/6)**2 + (4/6)**2.
    assert votes.fleiss_kappa == pytest.approx((2 / 3 - 5 / 9) / (4 / 9))
    assert (votes.steps, votes.mean_pairwise_kappa) == (2, None)
    assert report(["mg"], ["mg"]).critics["critic"].votes is None


def test_agreement_between_critics():
    truth = {"r": labelled("mgmg"), "only_a": labelled("m")}
    said = {"a": {"r": labelled("mmgg"), "only_a": labelled("m")}, "b": {"r": labelled("mgmg")}}
    judged = judged_runs(truth, said)
    measured = calibrate(judged)
    assert (measured.agreement.runs, measured.agreement.steps) == (1, 4)
    assert measured.agreement.mean_pairwise_kappa == 0
    assert measured.agreement.fleiss_kappa == pytest.approx(0)
    assert judged.without_verdicts == {"a": 0, "b": 1}
    assert measured.critics["b"].runs_without_verdicts == 1


def test_a_critic_without_a_judged_run_is_refused():
    with pytest.raises(InputError, match="b has no verdicts on any of the runs"):
        calibrate(judged_runs({"r": labelled("m")}, {"b": {"x": labelled("m")}}))


def slow_f1(pairs):
    hits = sum(true and said for true, said in pairs)
    precision = hits / said if (said := sum(said for _, said in pairs)) else None
    recall = hits / true if (true := sum(true for true, _ in pairs)) else None
    if precision is None or recall is None:
        return None if precision is recall else 0.0
    return 0.0 if hits == 0 else 2 / (1 / precision + 1 / recall)


def slow_first_error(pairs):
    first = [next((place for place, pair in enumerate(pairs) if pair[side]), None) for side in (0, 1)]
    return first[0] == first[1]


RUNS = st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12), min_size=1, max_size=6)


@given(RUNS)
def test_scores_are_their_definitions(runs):
    truth = ["".join("gm"[true] for true, _ in run) for run in runs]
    said = ["".join("gm"[flagged] for _, flagged in run) for run in runs]
    score = report(truth, said).critics["critic"]
    expected = slow_f1([pair for run in runs for pair in run])
    assert score.f1 == (None if expected is None else pytest.approx(expected))
    assert score.first_error_accuracy == pytest.approx(sum(map(slow_first_error, runs)) / len(runs))
    for value in score.intervals.values():
        assert value is None or not any(map(math.isnan, value))


def write_lines(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def folders(tmp_path):
    """True labels in a folder with another file, predictions of two critics, one over two sets."""
    for name in ("labels", "critics"):
        (tmp_path / name).mkdir()
    write_lines(tmp_path / "labels" / "human.jsonl", *({"record_id": id_, "step_labels": {"1": -1}} for id_ in "ab"))
    write_lines(tmp_path / "labels" / "runs.jsonl", {"messages": [], "step_labels": {}})
    for set_, id_ in (("x", "a"), ("y", "b")):
        line = {"record_id": id_, "dataset": set_, "step_labels": {"1": -1}}
        write_lines(tmp_path / "critics" / f"Big-1.5.{set_}.jsonl", line)
    write_lines(tmp_path / "critics" / "Small.jsonl", {"record_id": "a", "step_labels": {"1": 1}})
    return tmp_path


def test_folders_of_labels(folders):
    truth = read_truth(folders / "labels")
    assert (sorted(truth.runs), truth.passed_over, truth.counted_in) == (["a", "b"], ("runs.jsonl",), "messages")
    predictions = read_predictions(folders / "critics", truth)
    assert {name: sorted(runs) for name, runs in predictions.critics.items()} == {"Big-1.5": ["a", "b"], "Small": ["a"]}
    assert sorted(choose(predictions, "Big-1.5.x")["Big-1.5.x"]) == ["a"]
    assert list(choose(predictions, None)) == ["Big-1.5", "Small"]
    with pytest.raises(InputError, match=r"--critic Smal: no such critic; did you mean Small\? Known: Big-1.5, Small"):
        choose(predictions, "Smal")


def test_labels_that_do_not_fit_are_refused(folders):
    truth = read_truth(folders / "labels")
    steps = folders / "steps.jsonl"
    write_lines(steps, {"trajectory_id": "a", "labels": [{"step": 0, "verdict": "good"}]})
    with pytest.raises(InputError, match=r"steps.jsonl:1: counts steps, the true labels count messages"):
        read_predictions(steps, truth)
    twice = folders / "twice.jsonl"
    write_lines(twice, *[{"record_id": "a", "step_labels": {"1": 1}}] * 2)
    with pytest.raises(InputError, match=r"twice.jsonl:2: the run a is already in"):
        read_truth(twice)
    with pytest.raises(InputError, match=r"twice.jsonl:2: twice already judged a"):
        read_predictions(twice, truth)
    empty = folders / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no file with labels in this folder"):
        read_truth(empty)


@pytest.mark.parametrize(("last", "counts"), [("mistake", "mistake"), (None, "good")])
def test_a_person_wins_over_an_oracle_until_all_is_taken_back(tmp_path, last, counts):
    said = [("oracle", "oracle", "good"), ("anna", "human", "mistake"), ("anna", "human", last)]
    lines = [
        Critique(
            trajectory_id="r",
            task_id="t",
            critic=critic,
            fingerprint="f",
            source=source,
            labels=(StepLabel(step=0, verdict=verdict),),
        )
        for critic, source, verdict in said
    ]
    (tmp_path / "labels.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    assert read_truth(tmp_path / "labels.jsonl").runs["r"][0].verdict == counts


def test_a_judged_run():
    judged = judged_runs({"r": labelled("gm-u")}, {"critic": {"r": labelled("m-mm")}})
    assert judged.runs["critic"] == [
        JudgedRun(
            id="r",
            harmful=(False, True, False),
            flagged=(True, None, True),
            places=(1 / 6, 1 / 2, 5 / 6),
            votes=(None, None, None),
        )
    ]


def test_only_the_first_step_of_a_streak_is_harmful_by_the_other_reading():
    measured = report(["gmmgm"], ["gmmmg"])
    score = measured.critics["critic"]
    assert (score.precision, score.recall) == (2 / 3, 2 / 3)
    assert (score.starts.harmful_steps, score.starts.precision, score.starts.recall) == (2, 1 / 3, 1 / 2)
    propagating, not_propagating = measured.ideals["propagating"], measured.ideals["not_propagating"]
    assert (propagating.labelled.f1, propagating.starts.precision, propagating.starts.recall) == (1, 2 / 3, 1)
    assert (not_propagating.starts.f1, not_propagating.labelled.precision, not_propagating.labelled.recall) == (
        1,
        1,
        2 / 3,
    )
    assert score.starts.first_error_accuracy == score.first_error_accuracy == 1


def test_a_pair_is_compared_on_the_runs_of_both():
    truth = {name: labelled("mgmg") for name in "abc"}
    said = {
        "judge@one": {"a": labelled("mgmg"), "b": labelled("mggg")},
        "judge@two": {"a": labelled("mmgg"), "b": labelled("mggg"), "c": labelled("gggg")},
    }
    [pair] = calibrate(judged_runs(truth, said)).pairs
    assert (pair.first, pair.second, pair.runs) == ("judge@one", "judge@two", 2)
    assert (pair.disagreed, pair.first_right) == (2, 2)
    difference, interval = pair.differences["recall"]
    assert difference == pytest.approx(3 / 4 - 2 / 4)
    # Without a: 1/2 - 1/2; without b: 1 - 1/2.
    assert interval == pytest.approx(jackknife_interval(1 / 4, numpy.array([0, 1 / 2])))
    assert pair.differences["precision"][0] == pytest.approx(1 - 2 / 3)


def test_a_pair_without_a_shared_run_has_no_difference():
    said = {"x": {"a": labelled("m")}, "y": {"b": labelled("m")}}
    [pair] = calibrate(judged_runs({"a": labelled("m"), "b": labelled("m")}, said)).pairs
    assert (pair.runs, pair.differences, pair.disagreed) == (0, {}, 0)


def test_people_agree_on_the_steps_that_both_labelled():
    people = {
        "anna": {"r": labelled("mgmg-"), "only": labelled("m")},
        "ben": {"r": labelled("mmgg"), "s": labelled("g")},
    }
    judged = judged_runs({"r": labelled("mgmg")}, {"c": {"r": labelled("mgmg")}})
    [pair] = calibrate(judged, people=people).people
    assert (pair.first, pair.second, pair.runs, pair.steps, pair.kappa) == ("anna", "ben", 1, 4, 0)
    assert calibrate(judged).people == ()
    apart = {"anna": {"r": labelled("m--")}, "ben": {"r": labelled("-gm")}}
    [pair] = calibrate(judged, people=apart).people
    assert (pair.runs, pair.steps, pair.kappa) == (0, 0, None)


def test_what_two_people_said_of_one_run_is_put_together(tmp_path):
    """The second one's line must not hide the first one's."""
    said = [("anna", "mg--"), ("ben", "-m-r"), ("anna", "mgu-"), ("cora", "----")]
    lines = [
        Critique(
            trajectory_id="r",
            task_id="t",
            critic=name,
            fingerprint="f",
            source="human",
            labels=tuple(labelled(letters).values()),
        )
        for name, letters in said
    ]
    (tmp_path / "labels.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    truth = read_truth(tmp_path / "labels.jsonl")
    # Of step 1 anna spoke last.
    assert {step: label.verdict for step, label in truth.runs["r"].items()} == {
        0: "mistake",
        1: "good",
        2: "unnecessary",
        3: "recover",
    }
    assert list(truth.people) == ["ben", "anna", "cora"]


def test_runs_that_nobody_labelled_are_counted(tmp_path):
    rows = [
        {"traj_id": name, "step_count": 2, "incorrect_stages": [], "solved": solved}
        for name, solved in (("a", 1), ("b", 0))
    ]
    write_lines(tmp_path / "bench.jsonl", *({**row, "solved": bool(row["solved"])} for row in rows))
    truth = read_truth(tmp_path / "bench.jsonl")
    assert (sorted(truth.runs), truth.unlabelled) == (["a", "b"], 1)
    judged = judged_runs(truth.runs, {"c": {"a": labelled("gg"), "b": labelled("gg")}})
    assert [run.id for run in judged.runs["c"]] == ["a"]


def test_published_figures(shared_data):
    folder = shared_data / "step_labels"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    truth = read_truth(folder)
    assert truth.passed_over == ("apb_trajectories_hotpotqa.jsonl.gz",)
    measured = calibrate(judged_runs(truth.runs, read_predictions(folder / "apb_critics", truth).critics))
    figures = {
        name: (f"{one.precision:.2f} {one.recall:.2f} {one.f1:.3f} {one.first_error_accuracy:.3f}", one.abstained_steps)
        for name, one in measured.critics.items()
    }
    assert figures == {
        "Gemini-3-Flash-Preview-Thinking": ("0.83 0.71 0.766 0.658", 9),
        "DeepSeek-V3.2-Thinking": ("0.84 0.51 0.636 0.596", 3),
        "Qwen3-8B-Thinking": ("0.64 0.26 0.370 0.460", 54),
        "Llama-3.3-70B-Instruct": ("0.80 0.14 0.239 0.421", 225),
    }
    flag_all = measured.baselines["flag_all"]
    assert (flag_all.runs, flag_all.steps, flag_all.harmful_steps) == (1000, 8509, 2710)
    assert f"{flag_all.precision:.2f} {flag_all.recall:.0f} {flag_all.f1:.3f}" == "0.32 1 0.483"
    # A judge that calls only each streak's first step a mistake obeys a rule of its own and finds 30 % of these.
    by_rule = measured.ideals["not_propagating"].labelled
    assert f"{by_rule.precision:.0f} {by_rule.recall:.3f} {by_rule.f1:.3f}" == "1 0.299 0.460"
    other = measured.ideals["propagating"].starts
    assert f"{other.precision:.3f} {other.recall:.0f} {other.f1:.3f}" == "0.299 1 0.460"
