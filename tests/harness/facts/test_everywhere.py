"""One run, all views: each number is the same wherever it is shown."""

import json
import re

import pytest
from typer.testing import CliRunner

from srft.harness.cli import app
from srft.harness.facts import read_report
from srft.harness.look.format import SPACE, count, dollars, interval_text, percent, seconds_text, share_with_interval
from srft.harness.statistics.statistics import Interval
from tests.harness.facts.one_run import one_run
from tests.harness.look.web.test_app import client_of
from tests.harness.loop_run import LoopRun, critique_of


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return one_run(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def page(path):
    """Asks the viewer for a page."""
    client = client_of(path)
    return lambda address: client.get(address).text


def srft(*arguments):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def report(path):
    srft("report", "--run", path, "--json")
    return json.loads((path / "report.json").read_bytes())


@pytest.fixture(scope="module")
def tables(page):
    """Of the overview: title -> rows of texts."""
    found = {}
    for title, table in re.findall(
        r'<h3>([^<]*)</h3>\n<div class="scroll".*?<tbody>(.*?)</tbody>', page("/"), re.DOTALL
    ):
        rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
        cells = [re.findall(r"<td.*?</td>", row, re.DOTALL) for row in rows]
        found[title] = [[re.sub(r"<[^>]+>", "", cell).strip() for cell in row] for row in cells]
    return found


def evaluations(report):
    """(round, cell, episodes)"""
    return [
        (one["round"], name, cell["evaluation"])
        for one in report["rounds"]
        for name, cell in one["cells"].items()
        if cell["evaluation"]
    ]


def share(one):
    return plain(share_with_interval(one["rate"], one["interval"] and Interval(*one["interval"])))


def plain(text):
    """As a page prints it: its spaces may break."""
    return text.replace(SPACE, " ")


def test_models_of_the_overview(report, tables):
    expected = []
    for number, name, one in evaluations(report):
        graded = one["predictions"] - sum(one["not_graded"].values())
        expected.append([str(number), name, f"{one['resolved']} of {graded}", share(one)])
    assert [row[:4] for row in tables["Models on the held-out tasks"]] == expected


def test_runs_collected(report, tables):
    one = report["rounds"][1]["collection"]
    figures = [count(one["predictions"]), count(one["tasks"]), f"{one['resolved']} of 3", share(one)]
    figures += [count(one["steps"]), dollars(one["spent"]["cost_usd"])]
    assert tables["Runs collected"] == [["round 1", "m", *figures]]


def test_runs_below_a_folder(path, report):
    [run] = srft("runs", path.parent, "--json")["runs"]
    known = [report["rounds"][1]["collection"], *(one for _, _, one in evaluations(report))]
    by_folder = {one["folder"]: one for one in known}
    assert {place["folder"] for place in run["places"]} == by_folder.keys()
    for place in run["places"]:
        one = by_folder[place["folder"]]
        for name in ("tasks", "resolved", "rate", "interval"):
            assert place[name] == one[name]
        assert (place["episodes"], place["not_graded"]) == (one["predictions"], sum(one["not_graded"].values()))


def test_compare(path, report, page):
    """The round's model against the base: in report.json, in `srft compare`, on the page of two places."""
    one = report["rounds"][1]["cells"]["srft"]["against_base"]
    compared = srft("compare", f"{path}:round-000/evaluation/base", path, "--json")
    same = (
        "tasks",
        "difference",
        "interval",
        "p_value",
        "test",
        "shows",
        "gained",
        "lost",
        "first_rate",
        "second_rate",
    )
    assert {name: compared[name] for name in same} == {name: one[name] for name in same}
    assert (compared["better"], compared["worse"]) == (one["only_second"], one["only_first"])
    assert report["headline"]["comparison"] == one
    outcomes = page("/outcomes?left=round-000~base&right=round-001~srft")
    assert plain(percent(one["second_rate"])) in outcomes
    assert f"95 % interval {plain(interval_text(Interval(*one['interval']), signed=True))}" in outcomes


def test_show_and_the_table_say_the_same_outcome(path, report, page):
    """Each episode's outcome and steps, and what they sum up to."""
    for one in (report["rounds"][1]["collection"], *(it for _, _, it in evaluations(report))):
        table = page(f"/table/{one['folder'].replace('/evaluation/', '~')}")
        shown = [
            srft("show", f"{task}#{attempt}", "--run", f"{path}:{one['folder']}", "--json")
            for task, attempt in re.findall(r'<span class="cut">([^<]*)</span><span class="dim">#(\d+)', table)
        ]
        outcomes = [it["resolved"] for it in shown]
        assert len(shown) == one["predictions"] - one["missing"]
        assert (outcomes.count(True), outcomes.count(None)) == (one["resolved"], sum(one["not_graded"].values()))
        assert outcomes.count(False) == one["unresolved"] + one["empty"] + one["not_applied"]
        assert sum(len(it["steps"]) for it in shown) == one["steps"]
        badges = re.findall(r'<span class="badge (ok|bad|open)"', table)
        assert [badges.count(name) for name in ("ok", "bad", "open")] == [
            outcomes.count(value) for value in (True, False, None)
        ]


def test_critics(path, report, tables):
    """Verdicts in report.json, on the page and in calibrate; precision and recall in report.json and in calibrate."""
    by_outcome = srft("calibrate", "--run", path, "--labels", "outcome", "--json")
    told = {one["critic"]: one for one in report["rounds"][1]["judgements"]}
    assert by_outcome.keys() == {"judge", "tool_error"}
    for critic, one in by_outcome.items():
        assert (one["runs"], one["verdicts"]) == (told[critic]["runs"], told[critic]["verdicts"])
    measured = srft("calibrate", "--run", path, "--labels", "human", "--json")["critics"]
    names = ("runs", "steps", "harmful_steps", "flagged_steps", "abstained_steps", "precision", "recall", "f1")
    assert len(report["quality"]) == 2
    for one in report["quality"]:
        of_critic = measured[one["critic"]]
        assert {name: of_critic[name] for name in names} == {name: one[name] for name in names}
        assert {name: of_critic["intervals"][name] for name in one["intervals"]} == one["intervals"]
    rows = {(row[1].partition(" (")[0], row[2]): row[3:5] for row in tables["Verdicts by outcome of the run"]}
    for critic, one in told.items():
        for outcome, verdicts in one["verdicts"].items():
            words = outcome.replace("unknown", "not graded")
            assert rows[critic, words] == [str(one["runs"][outcome]), str(sum(verdicts.values()))]


def test_rows_and_cost(report, tables):
    arms = {row[1]: row for row in tables["Rows by arm"]}
    names = ("rows", "tokens", "written_tokens", "trained_tokens")
    for one in report["rounds"][1]["rows"]:
        assert arms[one["arm"]][3:7] == [count(one[name]) for name in names]
        assert arms[one["arm"]][8] == f"{one['steps_masked']} of {one['steps']}"
    timed = [one for one in report["costs"] if not one["stage"].startswith("serve")]
    all_ = tables["Cost by stage"][-1]
    assert all_[2] == plain(seconds_text(sum(one["wall_s"] or 0 for one in timed)))
    assert all_[4] == count(sum(one["prompt_tokens"] or 0 for one in timed))
    assert all_[7] == dollars(sum(one["cost_usd"] or 0 for one in timed))


def test_of_a_person_only_what_they_labelled_is_counted(tmp_path):
    """A person who labels one step has not abstained from the others; `srft show` says nothing of those either."""
    path = one_run(tmp_path)
    with LoopRun(path) as run:
        labelled = next(one for one in run.round(1).finished() if one.task_id == "t-2")
        run.round(1).critiques.append(critique_of(labelled, "-m--", critic="bo", source="human"))
    report = read_report(path)
    [bo] = [one for one in report.rounds[1].judgements if one.critic == "bo"]
    assert bo.verdicts == {"unresolved": {"mistake": 1}}
    assert not [one for one in report.drops if one.stage == "critique by bo" and one.reason == "abstained"]
    steps = srft("show", "t-2#0", "--run", path, "--round", "1", "--json")["steps"]
    said = [[one["critic"] for one in step["verdicts"]] for step in steps]
    assert ["bo" in critics for critics in said] == [False, True, False, False]
