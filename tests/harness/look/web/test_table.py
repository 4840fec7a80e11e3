"""Filter, sort, neighbours; masks told from short records equal those of the rows stage."""

import csv
import io

import msgspec
import pytest

from srft.agent.records import Usage
from srft.env.errors import InputError
from srft.harness.look.web.arms import Arms
from srft.harness.look.web.places import Library
from srft.harness.look.web.table import Query, csv_lines, make_table, neighbours
from srft.harness.run.store import JsonLines, Round, Run
from srft.harness.stages.rows import critiques_by_run, run_facts
from srft.train.rows.mask import ARMS, MaskPolicy, left_out, step_weights
from tests.harness.look.web.conftest import ACT, critique
from tests.train.conftest import make_run


def table(run, **query):
    place = Library(run).place("round-000")
    return make_table(place, Arms(place), Query.read({name: str(value) for name, value in query.items()}))


def ids(found):
    return [row.entry.id for row in found.rows]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["abc1", "abc2", "ffff"]),
        ({"outcome": "unresolved"}, ["abc1"]),
        ({"outcome": "unknown"}, ["ffff"]),
        ({"stop": "step_limit"}, ["ffff"]),
        ({"q": "A__B abc2"}, ["abc2"]),
        ({"q": "a__b-1#1"}, ["abc2"]),
        ({"people": "yes"}, []),
        ({"sort": "steps"}, ["abc2", "ffff", "abc1"]),
        ({"sort": "-steps"}, ["abc1", "abc2", "ffff"]),
        ({"sort": "-mistakes"}, ["abc1", "abc2", "ffff"]),
        ({"sort": "time"}, ["abc1", "abc2", "ffff"]),
        ({"sort": "-file"}, ["ffff", "abc2", "abc1"]),
        ({"sort": "-masked", "arm": "srft"}, ["abc1", "abc2", "ffff"]),
        ({"page": 99}, ["abc1", "abc2", "ffff"]),
    ],
)
def test_filters_and_orders(run, query, found):
    assert ids(table(run, **query)) == found


@pytest.mark.parametrize(
    "query",
    [{"sort": "x"}, {"outcome": "x"}, {"people": "x"}, {"page": "0"}, {"page": "-1"}, {"arm": "x"}, {"critic": "x"}],
)
def test_what_is_not_there_is_refused(run, query):
    with pytest.raises(InputError):
        table(run, **query)


def test_a_row(run):
    row = table(run, arm="srft").rows[0]
    assert (row.outcome, row.codes, row.mask.masked, row.by_person) == (False, "gmg", 1, False)
    unknown = table(run, arm="srft").rows[2]
    assert (unknown.codes, unknown.mask.left_out, unknown.mask.masked) == ("-", "outcome_unknown", None)


def test_an_arm_whose_critic_is_not_told(run):
    with Run(run) as opened:
        opened.round(0).critiques.append(critique(make_run(["x"], id="abc2"), "other", ["mistake"]))
    found = table(run, arm="srft")
    assert found.remark == "arm srft: there are labels by judge, other; choose whose it uses"
    assert table(run, arm="srft", critic="other").remark is None


def test_neighbours_follow_the_filter(run):
    place = Library(run).place("round-000")
    near = neighbours(place, Arms(place), Query(sort="-steps"), "abc2")
    assert near == ("abc1", "ffff", 2, 3)
    assert neighbours(place, Arms(place), Query(outcome="resolved"), "abc1") == (None, "abc2", None, 1)


def test_addresses_hold_what_is_not_the_default():
    assert Query(outcome="resolved", page=3).address(page=1) == "outcome=resolved"
    assert Query().address() == ""


def test_costs_and_tokens(tmp_path):
    run = make_run([ACT, "Done."], id="a1")
    usage = Usage(prompt_tokens=10, completion_tokens=2, cost_usd=0.5)
    run = msgspec.structs.replace(run, steps=(msgspec.structs.replace(run.steps[0], usage=usage), run.steps[1]))
    with Run(tmp_path / "run") as opened:
        opened.round(0).trajectories.append(run)
    entry = table(tmp_path / "run").rows[0].entry
    assert (entry.cost_usd, entry.tokens, entry.tool_error) == (0.5, 12, "-g")


def test_a_later_attempt_stands(run):
    with Run(run) as opened:
        opened.round(0).trajectories.append(make_run(["Again."], id="abc9"))
    place = Library(run).place("round-000")
    assert ([entry.id for entry in place.standing], place.superseded) == (["abc2", "ffff", "abc9"], 1)


def test_masks_follow_labels_that_were_replaced(run):
    """A file with as many lines as before, and other verdicts."""
    place = Library(run).place("round-000")
    masks = Arms(place).masks("srft", ("judge",))
    assert masks.of(place.by_id["abc1"]).masked == 1
    labels = place.round.critiques.path
    (labels.parent / "new").write_bytes(labels.read_bytes().replace(b'"mistake"', b'"good"'))
    (labels.parent / "new").rename(labels)
    place.refresh()
    assert masks.of(place.by_id["abc1"]).masked == 0


@pytest.mark.parametrize("arm", ARMS)
def test_masks_are_those_of_the_rows_stage(shared_data, tmp_path, arm):
    from srft.agent.importing.importers import read_runs

    file = shared_data / "trajectories" / "gemini3pro_mini_verified.jsonl.gz"
    runs = [run for _, run in zip(range(40), read_runs(file), strict=False)]
    with Run(tmp_path / "run") as opened:
        round_ = opened.round(0)
        for run in runs:
            round_.trajectories.append(run)
            verdicts = ("good", "mistake", None, "recover", "unnecessary")
            round_.critiques.append(
                critique(run, "judge", [verdicts[(step.index * 7 + len(run.id)) % 5] for step in run.steps])
            )
        round_.critiques.append(critique(runs[0], "anna", ["mistake"] * len(runs[0].steps), source="human"))
        round_.critiques.append(critique(runs[1], "true", ["mistake"] * len(runs[1].steps), source="oracle"))
    place = Library(tmp_path / "run").place("round-000")
    masks = Arms(place).masks(arm, ())
    critiques = critiques_by_run(Round(tmp_path / "run" / "round-000"))
    for run in JsonLines(place.round.trajectories.path, type(runs[0])).read():
        facts = run_facts(run, run.recorded_resolved, critiques.get(run.id, []), ["judge"], arm)
        mask, policy = masks.of(place.by_id[run.id]), MaskPolicy(arm=arm)
        assert mask.left_out == left_out(facts, policy)
        if mask.left_out is None:
            assert mask.weight_S.tolist() == step_weights(facts, policy).tolist()


@pytest.fixture
def several(tmp_path):
    """one: model-a, 2 steps, 1 dollar, 10 s; two: model-b, another repository, 1 step; three: nothing known."""
    usage = Usage(cost_usd=1.0)
    one = make_run(["a ValidationError", "Done."], id="one", task_id="a__b-1", model="model-a", repo="a/b")
    one = msgspec.structs.replace(
        one, wall_s=10.0, steps=(msgspec.structs.replace(one.steps[0], usage=usage), one.steps[1])
    )
    two = make_run(["a NameError"], id="two", task_id="c__d-2", model="model-b", repo="c/d")
    three = make_run(["x", "y", "z"], id="three", task_id="=e__f-3", model="", repo="")
    with Run(tmp_path / "several") as opened:
        for run in (one, two, three):
            opened.round(0).trajectories.append(run)
        opened.round(0).critiques.append(critique(one, "judge", ["mistake", "mistake"]))
        opened.round(0).critiques.append(critique(two, "judge", ["good"]))
    return tmp_path / "several"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"model": "model-a"}, ["one"]),
        ({"repo": "c/d"}, ["two"]),
        ({"repo": "–"}, ["three"]),
        ({"q": "c/d"}, ["two"]),
        ({"steps": "2-"}, ["one", "three"]),
        ({"steps": "-1"}, ["two"]),
        ({"steps": "2-3"}, ["one", "three"]),
        ({"steps": "1"}, ["two"]),
        ({"cost": "0.5 - 1"}, ["one"]),
        ({"cost": "-5"}, ["one"]),
        ({"time": "10"}, ["one"]),
        ({"mistakes": "2-", "arm": "srft"}, ["one"]),
        ({"mistakes": "0", "arm": "srft"}, ["two"]),
        ({"sort": "-model"}, ["two", "one", "three"]),
        ({"sort": "repo"}, ["one", "two", "three"]),
        ({"text": "NameError"}, ["two"]),
        ({"text": "a"}, ["one", "two"]),
        ({"text": "a", "steps": "2-"}, ["one"]),
    ],
)
def test_filters_on_figures_and_texts(several, query, found):
    place = Library(several).place("round-000")
    place.search.update()
    assert ids(make_table(place, Arms(place), Query.read(query))) == found


@pytest.mark.parametrize("given", [{"steps": "many"}, {"cost": "1-2-3"}, {"time": "--"}, {"text": "?!"}])
def test_what_is_no_range_is_refused(several, given):
    with pytest.raises(InputError, match=f"{next(iter(given))} "):
        table(several, **given)


def test_rows_show_where_their_texts_hold_it(several):
    place = Library(several).place("round-000")
    unread = make_table(place, Arms(place), Query(text="validation"))
    assert (unread.rows, unread.reach.is_whole) == ([], False)
    place.search.update()
    found = make_table(place, Arms(place), Query(text="validation"))
    assert (found.reach.is_whole, [one.step for one in found.rows[0].excerpts]) == (True, [0])
    assert neighbours(place, Arms(place), Query(text="a"), "one") == (None, "two", 1, 2)


def test_the_filtered_table_as_csv(several):
    place = Library(several).place("round-000")
    lines = "".join(csv_lines(place, Arms(place), Query(arm="srft", sort="-steps")))
    assert next(iter(csv.DictReader(io.StringIO(lines))))["task"] == "'=e__f-3"  # no formula for a spreadsheet
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(lines))}
    assert list(rows) == ["three", "one", "two"]
    told = {name: rows["one"][name] for name in ("model", "repository", "steps", "mistakes", "cost_usd", "wall_s")}
    assert told == {
        "model": "model-a",
        "repository": "a/b",
        "steps": "2",
        "mistakes": "2",
        "cost_usd": "1.0",
        "wall_s": "10.0",
    }
    assert (rows["three"]["mistakes"], rows["one"]["verdicts"]) == ("", "mm")
