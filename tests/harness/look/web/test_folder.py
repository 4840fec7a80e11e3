"""A folder of runs in the browser: the list, two compared, each run below its own address; what is no such folder."""

import re

import pytest

from srft.env.errors import InputError
from srft.harness.look.web.folder_app import Shelf, make_folder_app
from srft.harness.look.web.guard import Access
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.store import Run
from tests.harness.look.web.conftest import SCRIPT, client_of
from tests.harness.loop_run import LoopRun, episode


@pytest.fixture
def folder(tmp_path):
    """runs/deep/one (base 1 of 2, srft 2 of 2), runs/two~ (base 0 of 2), runs/broken, runs/new (no episodes yet)."""
    with LoopRun(tmp_path / "runs" / "deep" / "one") as run:
        run.evaluation(0, "base", {"a-1": [False], "a-2": [True]})
        run.add(run.round(1), episode("b-1", model="teacher"), resolved=True)
        run.evaluation(1, "srft", {"a-1": [True], "a-2": [True]})
    with LoopRun(tmp_path / "runs" / "two~") as run:
        run.evaluation(0, "base", {"a-1": [False], "a-2": [False]})
    (tmp_path / "runs" / "broken" / "round-000").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "round-000" / "trajectories.jsonl").write_text('{"id": 7}\n')
    with Run(tmp_path / "runs" / "new") as run:
        run.round(0)
    return tmp_path / "runs"


@pytest.fixture
def client(folder):
    access = Access.here(8117)
    shelf = Shelf(folder, person="human", open_viewer=lambda run: Viewer(run))
    return client_of(make_folder_app(shelf, access=access), access)


def names(page):
    return re.findall(r'<td class="main"><a href="/at/([^"]+)/"', page)


def test_the_list_sorted_and_filtered(client):
    page = client.get("/?sort=name").text
    assert names(page) == ["broken", "deep~.one", "new", "two~~"]
    assert "100 %" in page  # of srft, not of the base
    assert "not a Trajectory" in page  # the broken one's reason, in its row
    assert names(client.get("/?sort=-score").text)[:2] == ["deep~.one", "two~~"]
    assert names(client.get("/?sort=score").text)[:2] == ["two~~", "deep~.one"]
    assert names(client.get("/?q=DEEP").text) == ["deep~.one"]
    assert names(client.get("/?model=base").text) == ["two~~"]
    assert names(client.get("/?state=running").text) == []
    assert client.get("/?sort=zzz").status_code == 400


def test_a_run_below_its_address_links_and_labels_below_it_too(client):
    for address in ("/at/deep~.one/", "/at/deep~.one/table/round-001~srft", "/at/two~~/table/round-000~base"):
        page = client.get(address).text
        assert "All runs" in page
        links = set(re.findall(r'(?:href|src|action)="(/[^"]*)"', page))
        assert all(link == "/" or link.startswith("/at/") for link in links), links
        asked = {
            link.replace("&amp;", "&") for link in links if not link.endswith("/outcomes")
        }  # which wants two places
        assert {link: client.get(link).status_code for link in asked} == dict.fromkeys(asked, 200)
    run = re.search(r'href="(/at/deep~\.one/run/[^"]+)"', client.get("/at/deep~.one/table/round-001~srft").text)[1]
    page = client.get(run).text
    token = re.search(r'name="srft-token" content="([^"]+)"', page)[1]
    word = {"place": "round-001~srft", "run": run.rpartition("/")[2], "step": 0, "verdict": "mistake"}
    assert client.post("/at/deep~.one/labels", json=word, headers={"x-srft-token": token}).status_code == 200
    assert client.post("/at/deep~.one/labels", json=word).status_code == 403


def test_what_is_not_there(client):
    for address in ("/at/nothing/", "/at/deep/", f"/at/{SCRIPT}/", "/at/deep~.one/zzz"):
        answer = client.get(address)
        assert (answer.status_code, SCRIPT in answer.text) == (404, False), address
    broken = client.get("/at/broken/")
    assert (broken.status_code, "cannot be read" in broken.text) == (200, True)  # its own pages say what is damaged
    assert client.get("/").status_code == 200
    assert "no trajectories in it" in client.get("/at/new/").text


def test_two_runs_are_compared(client):
    page = client.get("/compare?left=two~~&right=deep~.one").text
    assert "deep/one minus two~: +100.0 points" in page
    assert re.findall(r">(gained|lost)<", page) == ["gained", "gained"]
    assert 'href="/at/deep~.one/table/round-001~srft?q=a-1"' in page
    assert client.get("/compare?left=two~~&right=new").status_code == 400
    assert client.get("/compare?left=two~~&right=zzz").status_code == 404


def test_a_run_that_is_added_or_grows_is_seen(client, folder, monkeypatch):
    monkeypatch.setattr("srft.harness.look.runs.WALK_EVERY_S", 0.0)
    first = client.get("/version").json()
    assert client.get("/version").json() == first
    with LoopRun(folder / "three") as run:
        run.add(run.round(0), episode("b-1"), resolved=True)
    second = client.get("/version").json()
    assert second != first
    assert "three" in names(client.get("/").text)
    with LoopRun(folder / "three") as run:
        run.add(run.round(0), episode("b-2"), resolved=False)
    assert client.get("/version").json() != second
    assert "50.0 %" in client.get("/?q=three").text


def test_what_is_no_folder_of_runs_is_said_exactly(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("")
    for path, said in (
        (tmp_path / "runz", r"runz: no such folder; name a run, or the folder that your runs are in"),
        (tmp_path / "full" / "notes.txt", r"notes.txt: a file, not a folder"),
        (tmp_path / "empty", r"empty: the folder is empty; name a run, or a folder with runs in it"),
        (tmp_path / "full", r"full: no run directories in it or below it"),
        (folder / "two~" / "round-000", r"round-000: a round, not a run; name the run that it belongs to, .*two~"),
        (folder / "twoo", r"twoo: no such folder; .* did you mean .*two~"),
    ):
        with pytest.raises(InputError, match=said):
            Shelf(path, person="human", open_viewer=lambda run: Viewer(run))
