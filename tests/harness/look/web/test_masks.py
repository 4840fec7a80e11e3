"""What pages say of masks is what the rows on file hold, whatever the labels say by now; and the same everywhere."""

import re

import msgspec
import pytest

from srft.harness.look.web.app import make_app
from srft.harness.look.web.guard import Access
from srft.harness.look.web.people import Person
from srft.harness.look.web.places import Library
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.store import Run
from srft.harness.run.trained import open_rows, trained_of
from srft.harness.stages.rows import RowsConfig, make_rows
from srft.train.rows.rows import RowSettings
from tests.harness.look.web.conftest import ACT, PATCH, client_of, critique
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, DROPS_THINKING, make_run


def rows(run, tmp_path, *, number=0, template=CHATML, **config):
    byte_tokenizer(template).save_pretrained(tmp_path / "tokenizer")
    with Run(run) as opened:
        config = RowsConfig(tokenizer=str(tmp_path / "tokenizer"), **config)
        return make_rows(config, opened.round(number))


def get(run, address):
    access = Access.here(8117)
    return client_of(make_app(Viewer(run), access=access), access).get(address).text


def badges(page):
    """Of each step the words on its badges."""
    return [
        [re.sub(r"\s+", " ", words) for words in re.findall(r'<span class="weight[^>]*>([^<]*)</span>', article)]
        for article in page.split("<article ")[1:]
    ]


@pytest.fixture
def long(run, tmp_path):
    """abc1 and a longer run of thinking steps whose row ends before its last two steps."""
    trajectory = make_run([ACT, "One more.", "Wrong " + "x" * 90, "Last."], id="long", task_id="e__f-3")
    steps = [msgspec.structs.replace(step, reasoning="**Hm.**") for step in trajectory.steps]
    trajectory = msgspec.structs.replace(trajectory, steps=tuple(steps), recorded_resolved=False)
    with Run(run) as opened:
        opened.round(0).trajectories.append(trajectory)
        opened.round(0).critiques.append(critique(trajectory, "judge", ["good", "mistake", "mistake", "good"]))
    whole = rows(run, tmp_path)["srft"].manifest.longest_row
    rows(run, tmp_path, rows=RowSettings(max_tokens=whole - 60), arms=("srft", "all"))
    return run


def test_steps_behind_the_cut(long):
    page = get(long, "/run/round-000/long?arm=srft")
    no_thinking = "thinking not trained: it is in no row"
    assert badges(page) == [["trained", no_thinking], ["masked"], ["cut"], ["cut"]]
    assert re.findall(r'class="(?:step|cell) [vf]-\w([^"]*)"', page) == 2 * ["", " masked", " in-no-row", " in-no-row"]
    assert "1 of 4 steps masked, 2 cut" in page
    assert "2 to 3: in no row" in page
    of_run = trained_of(open_rows(Library(long).place("round-000").round, "srft"), "long")
    assert (of_run.in_rows, of_run.trained) == ({0, 1}, {0})
    tokens = get(long, "/tokens/round-000/long?arm=srft")
    assert "steps 0 to 1" in tokens
    assert "Steps 2 to 3: in no row" in tokens
    assert [badge[0] for badge in badges(get(long, "/run/round-000/long?arm=all"))] == ["trained"] * 2 + ["cut"] * 2
    overview = " ".join(re.sub(r"<[^>]+>", " ", get(long, "/")).split())
    for arm in ("all", "srft"):
        assert f"rows.{arm} remark thinking left out 4 0 rows.{arm} remark steps cut 2" in overview


def test_labels_that_are_newer_than_the_rows(long):
    place = Library(long).place("round-000")
    assert 'id="stale"' not in get(long, "/run/round-000/long")
    Person("anna").label(place, place.by_id["long"], step=1, verdict="good")
    page = get(long, "/run/round-000/long")
    assert (
        badges(page)[1]
        == ["masked", "trained once the rows are made again", "thinking not trained: it is in no row"][:2]
    )
    assert "1 of 4 steps masked, 2 cut" in page
    for address in ("/run/round-000/long", "/tokens/round-000/long?arm=srft", "/"):
        assert f"srft rows --run {long} --tokenizer" in get(long, address), address
    assert "The rows of srft in round 0 are older than 1 run or its labels" in get(long, "/")
    assert 'id="stale"' not in get(long, "/run/round-000/long?arm=all")
    assert "masked" in get(long, "/tokens/round-000/long?arm=srft").partition("step 1")[2]


def test_runs_that_are_in_no_row(long):
    page = get(long, "/run/round-000/ffff?arm=srft")
    assert badges(page) == [[]]
    assert "leaves this run out: its outcome is not known" in page
    assert "It leaves the run out: its outcome is not known." in get(long, "/tokens/round-000/ffff?arm=srft")
    with Run(long) as opened:
        later = make_run([ACT, "Wrong."], id="later", task_id="l__l-1", recorded_resolved=False)
        opened.round(0).trajectories.append(later)
        opened.round(0).critiques.append(critique(later, "judge", ["good", "mistake"]))
    page = get(long, "/run/round-000/later?arm=srft")
    assert badges(page) == [["would be trained"], ["would be masked"]]
    assert "Not in rows yet: they are older than this run." in page
    assert "if rows were made now: 1 of 2 steps masked" in page
    assert "Not in rows yet: this is what the arm random would do. Make its rows: srft rows" in get(
        long, "/run/round-000/later?arm=random&critic=judge"
    )


def test_rows_of_a_later_round_and_of_one_step_each(run, tmp_path):
    replies = ["<think>a</think>One.", "<think>b</think>Two.", "<think>c</think>Three."]
    trajectory = make_run(replies, id="split", recorded_resolved=False, patch=PATCH)
    with Run(run) as opened:
        opened.round(1).trajectories.append(trajectory)
        opened.round(1).critiques.append(critique(trajectory, "judge", ["good", "mistake", "good"]))
    rows(run, tmp_path, number=1, template=DROPS_THINKING)
    assert badges(get(run, "/run/round-001/split")) == [["trained"], ["masked"], ["trained"]]
    tokens = get(run, "/tokens/round-001/split")
    assert re.findall(r"steps (\d) to (\d) ·", tokens) == [("0", "0"), ("2", "2")]
    place = Library(run).place("round-001")
    Person("anna").label(place, place.by_id["split"], step=0, verdict="mistake")
    page = get(run, "/run/round-001/split")
    assert badges(page)[0] == ["trained", "masked once the rows are made again"]
    assert f"srft rows --run {run} --round 1 --tokenizer" in page


def test_a_table_shows_what_is_on_file(long):
    def shares():
        table = get(long, "/table/round-000?arm=srft")
        return re.findall(r'<td class="r"[^>]*>(?:<span[^>]*>)?([\d.]+ %|outcome_unknown)', table)

    before = shares()
    assert before == ["33.3 %", "0.0 %", "outcome_unknown", "25.0 %"]
    place = Library(long).place("round-000")
    Person("anna").label(place, place.by_id["abc1"], step=1, verdict="good")
    assert shares() == before
