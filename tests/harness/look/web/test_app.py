"""The server's answers: pages, refusals, labels; everything an agent wrote is escaped and inert."""

import html
import re

import msgspec
import pytest
import yaml
from fastapi.testclient import TestClient

from srft.harness.look.report.write import write_report
from srft.harness.look.web.app import make_app
from srft.harness.look.web.guard import POLICY
from srft.harness.look.web.overview import Overviews
from srft.harness.look.web.places import Library
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.store import Round, Run
from tests.harness.look.web.conftest import ACT, HOSTILE, SCRIPT, critique
from tests.train.conftest import make_run

EVERYWHERE = ["/", "/table/round-000", "/run/round-000/abc1?arm=srft", "/tokens/round-000/abc1", "/nothing"]


def client_of(run, **options):
    return TestClient(make_app(Viewer(run, **options)), base_url="http://127.0.0.1:8117", raise_server_exceptions=True)


@pytest.fixture
def client(run):
    return client_of(run)


def token(client):
    return re.search(r'name="srft-token" content="([^"]+)"', client.get("/").text)[1]


@pytest.mark.parametrize("address", EVERYWHERE)
def test_every_page_has_the_policy_and_no_style_or_script_inside(client, address):
    answer = client.get(address)
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(
        r"<script(?! src=\"/static/view\.js\")|<style|\sstyle=|\son\w+=|https?://(?!www\.w3\.org)", answer.text
    )


@pytest.mark.parametrize(
    ("address", "status", "text"),
    [
        ("/", 200, "50.0 %"),
        ("/table/round-000?outcome=unresolved", 200, "1 of 3"),
        ("/run/round-000/abc1", 200, "+a = 2"),
        ("/run/round-000/abc1?arm=srft", 200, "1 of 3 steps masked"),
        ("/run/round-000/zzzz", 404, "no such run"),
        ("/run/round-009/abc1", 404, "no such round or evaluation"),
        ("/table/round-000?sort=zzz", 400, "expected one of file"),
        ("/tokens/round-000/abc1", 200, "srft rows --run"),
        ("/contrast?place=round-000&left=abc1&right=abc2&arm=srft&against=all", 200, "1 of 3 steps masked"),
        ("/outcomes?left=round-000&right=round-000", 200, "0 worse"),
        ("/text/round-000/abc1?part=content&step=1", 200, "Wrong."),
        ("/text/round-000/abc1?part=content&step=9", 404, "there is none"),
        ("/text/round-000/abc1?part=patch", 200, "+a = 2"),
        ("/text/round-000/abc1?part=fix", 404, "there is none"),
        ("/static/..%2fapp.py", 404, "no page"),
        ("/static/app.py", 404, "no file"),
    ],
)
def test_pages(client, address, status, text):
    answer = client.get(address)
    assert (answer.status_code, text in answer.text) == (status, True if text != "33.3" else "33.3" in answer.text)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8117", "127.0.0.1.evil.example", "", "[::2]"])
def test_another_name_for_this_machine_is_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8117", "localhost:8117", "LOCALHOST", "[::1]:8117"])
def test_this_machine_is_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


def test_a_label_by_post(client, run):
    word = {"place": "round-000", "run": "abc1", "step": 1, "verdict": "good", "arm": "srft"}
    answer = client.post("/labels", json=word, headers={"x-srft-token": token(client)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["code"] == "g"
    assert 'data-verdict="good" aria-pressed="true"' in answer.json()["step"]
    assert "0/1" in answer.json()["said"]
    assert "0 of 3 steps masked" in answer.json()["said"]
    assert 'aria-pressed="true"' in client.get("/run/round-000/abc1").text
    assert "1 of 3" in client.get("/table/round-000?people=yes").text


@pytest.mark.parametrize(
    "headers",
    [
        {"x-srft-token": "guess"},
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_label_from_elsewhere_is_refused(client, run, headers):
    word = {"place": "round-000", "run": "abc1", "step": 1, "verdict": "good"}
    headers = {"x-srft-token": token(client), **headers} if headers else headers
    assert client.post("/labels", json=word, headers=headers).status_code == 403
    assert b"human" not in (run / "round-000" / "labels.jsonl").read_bytes()


@pytest.mark.parametrize(
    "word",
    [
        b"",
        b"[]",
        b'{"place":"round-000"}',
        b'{"place":"round-000","run":"abc1","step":1,"verdict":"bad"}',
        b"x" * 70_000,
    ],
)
def test_what_is_no_label_is_refused(client, word):
    answer = client.post("/labels", content=word, headers={"x-srft-token": token(client)})
    assert (answer.status_code, "error" in answer.json()) == (400, True)


def test_a_hostile_run_is_text(hostile):
    client = client_of(hostile)
    table = client.get("/table/round-000").text
    address = re.search(r'href="(/run/round-000/[^"]*script[^"]*)"', table)[1].replace("&amp;", "&")
    pages = [client.get("/").text, table, client.get(address).text, client.get(address + "?arm=srft").text]
    for page in pages:
        assert SCRIPT not in page
        assert "<img" not in page
        assert not re.search("[\x00-\x08\x0b-\x1f\u202e\u2066]", page)
        assert ">49<" not in page
    assert "␛]0;owned␇␛[31mred⟨U+202E⟩evil" in pages[2]
    assert len(pages[2]) < 300_000
    whole = client.get(address.replace("/run/", "/text/") + "?part=observation&step=0")
    assert (whole.headers["content-type"], len(whole.text) > 5_000_000) == ("text/plain; charset=utf-8", True)
    assert "\x1b" not in whole.text
    assert HOSTILE not in whole.text
    # Not UTF-8, nested too deep: no stage can read them either.
    assert "2 lines cannot be read and are left out" in pages[0]


def test_a_run_that_grows_is_followed(client, run):
    assert "3 trajectories" in client.get("/table/round-000").text
    line = msgspec.json.encode(make_run([ACT], id="new1", task_id="n__n-1")) + b"\n"
    path = run / "round-000" / "trajectories.jsonl"
    with path.open("ab") as file:
        file.write(line[:50])
        file.flush()
        assert "3 trajectories" in client.get("/table/round-000").text
        file.write(line[50:])
    assert "4 trajectories" in client.get("/table/round-000").text
    with Run(run) as opened:
        opened.round(1).trajectories.append(make_run(["x"], id="later"))
    assert "round 1" in client.get("/").text


def test_a_critic_that_a_round_does_not_know_is_left_out_with_a_remark(run, client):
    with Run(run) as opened:
        opened.round(1).trajectories.append(make_run([ACT], id="later", task_id="l__l-1"))
    assert "critic=judge" in client.get("/table/round-000?critic=judge").text  # where the choice of rounds leads
    for address in ("table/round-001", "run/round-001/later", "tokens/round-001/later"):
        answer = client.get(f"/{address}?critic=judge&arm=srft")
        assert (answer.status_code, "critic=judge" in answer.text) == (200, False)
        assert ("No labels by judge in round 1" in answer.text) == (not address.startswith("tokens"))


def test_side_by_side_keeps_the_critic(run, client):
    with Run(run) as opened:
        opened.round(0).critiques.append(critique(make_run(["x"], id="abc2"), "other", ["mistake"]))
    address = "/contrast?place=round-000&amp;left=a__b-1%230&amp;right=a__b-1%231"
    address += "&amp;arm=srft&amp;against=srft&amp;critic=judge"
    assert address in client.get("/run/round-000/abc1?arm=srft&critic=judge").text
    beside = client.get(address.replace("&amp;", "&")).text
    assert ("choose whose it uses" in beside, "1 of 3 steps masked" in beside) == (False, True)
    assert '<option value="judge" selected>' in beside
    unchosen = client.get("/contrast?place=round-000&left=abc1&right=abc2&arm=srft").text
    assert ("choose whose it uses" in unchosen, '<select name="critic">' in unchosen) == (True, True)
    assert "No labels by nobody in round 0" in client.get("/contrast?place=round-000&left=abc1&critic=nobody").text


def test_from_a_changed_task_to_its_two_runs(run, client):
    """One click; runs by name and attempt; what differs first, with what was seen; what is the same folded."""
    other = run / "round-000" / "evaluation" / "tuned"
    seen = ["<returncode>0</returncode>\n0", "other <output>"]
    better = make_run([ACT, "Right.", "Done."], seen, id="best", recorded_resolved=True)
    with Run(run) as opened:
        opened.round(0).trajectories.append(make_run([ACT], id="abc3", attempt=2, recorded_resolved=False))
    other.mkdir(parents=True)
    Round(other).trajectories.append(better)
    page = client.get("/outcomes?left=round-000&right=round-000~tuned").text
    assert "1 tasks better" in page
    assert "0 of 0" not in page
    address = html.unescape(re.search(r'href="(/contrast[^"]*)">side by side', page)[1])
    assert address == "/contrast?place=round-000&left=a__b-1%230&right=a__b-1%230&other=round-000~tuned"
    beside = client.get(address).text
    assert '1 step differs; <a href="#same">2 are the same' in beside
    assert beside.index("Right.") < beside.index("other &lt;output&gt;") < beside.index("2 steps are the same on both")
    assert beside.index("2 steps are the same") < beside.index("I look.")
    assert (beside.count("I look."), 'value="a__b-1#0"' in beside, 'value="best"' in beside) == (1, True, False)
    assert "left=a__b-1%230&amp;right=a__b-1%230&amp;other=round-000~tuned" in client.get("/run/round-000/abc1").text
    assert client.get("/contrast?place=round-000&left=a__b-1&right=nothing").status_code == 404


def test_two_arms_of_one_run_are_shown_once(run, client):
    page = client.get("/contrast?place=round-000&left=a__b-1%230&right=a__b-1%230&arm=srft&against=all").text
    assert "1 step differs" in page  # the mistake, which srft masks
    assert (page.count("Wrong."), page.count("I look."), page.count("Done.")) == (1, 1, 1)
    differing = page.partition("step-0")[2].partition("</details>")[0]
    assert re.search(r"srft</span>.*would be masked.*all</span>.*would be trained", differing, re.DOTALL)


def test_the_next_step_of_a_queue(client):
    def following(kind, after=-1, run="abc1", **query):
        asked = {"kind": kind, "after": after, **query}
        return client.get(f"/next/round-000/{run}", params=asked)

    assert following("mistake").json() == {"run": "abc1", "step": 1, "href": "/run/round-000/abc1#step-1"}
    assert following("unlabelled", 2).json()["href"] == "/run/round-000/abc2#step-0"
    assert following("unlabelled", 2, outcome="unresolved").json()["href"] == (
        "/run/round-000/abc1?outcome=unresolved#step-0"
    )
    assert following("disagreement").json() == {"run": None, "step": None, "href": None}
    assert following("x").status_code == 400


def test_labels_say_nothing_of_the_other_steps(run, client):
    word = {"place": "round-000", "run": "abc1", "step": 1, "verdict": "good"}
    client.post("/labels", json=word, headers={"x-srft-token": token(client)})
    rows = re.findall(r"<td[^>]*>human \(a person\)</td>(.*?)</tr>", client.get("/").text, re.DOTALL)
    assert [re.findall(r">([^<]*)</td>", row)[:4] for row in rows] == [["unresolved", "1", "1", "100 %"]]


def test_a_report_from_elsewhere_is_not_shown(run):
    """The page shows the run's own figures; a file that came with the run is never passed on."""
    (run / "report.html").write_text("<p>Planted</p>")
    client = client_of(run)
    assert client.get("/report").status_code == 404
    page = client.get("/").text
    assert ("<iframe" in page, "Planted" in page) == (False, False)


def test_the_overview_has_the_figures_of_the_report(run):
    """The same sections, made from the same record; where runs lie is linked here alone."""
    page = client_of(run).get("/").text
    write_report(run)
    report = (run / "report.html").read_text()

    def figures(text):
        body = text[text.index('<div class="facts-sections">') : text.rindex("</section>")]
        return re.sub(r'<a href="/table[^>]*>([^<]*)</a>', r"\1", body)

    assert figures(page) == figures(report)
    assert '<a href="/table/round-000">round 0</a>' in page
    assert 'href="/' not in report


def test_figures_follow_the_run(run, client):
    assert "1 of 2" in client.get("/").text
    with Run(run) as opened:
        opened.round(0).trajectories.append(make_run([ACT], id="new1", task_id="n__n-1", recorded_resolved=True))
    assert "2 of 3" in client.get("/").text
    (run / "round-000" / "stages.json").write_text("{")
    broken = client.get("/").text
    assert ("not a stages file" in broken, "/table/round-000" in broken) == (True, True)


def test_old_figures_are_called_old_until_the_new_ones_are_read(run):
    overviews = Overviews(Library(run))
    assert (overviews.make().is_old, overviews.make().report.rounds[0].collection.tasks) == (False, 2)
    with Run(run) as opened:
        opened.round(0).trajectories.append(make_run([ACT], id="new1", task_id="n__n-1", recorded_resolved=True))
    soon = overviews.make(wait_s=0)
    assert soon.is_old == (soon.report.rounds[0].collection.tasks == 2)
    later = overviews.make(wait_s=None)
    assert (later.is_old, later.report.rounds[0].collection.tasks) == (False, 3)


def test_the_outcomes_of_two_places_are_those_of_compare(client):
    page = client.get("/outcomes?left=round-000&right=round-000").text
    assert ("B minus A: 0.0 points" in page, "Resolved, 1 task" in page) == (True, True)


def test_the_fix_comes_from_the_tasks(run, tmp_path):
    from tests import tiny

    tasks = tiny.write_tasks(tmp_path / "tasks.jsonl", 1)
    with Run(run) as opened:
        opened.round(0).trajectories.append(make_run([ACT], id="tiny1", task_id="tiny__tiny-0"))
    client = client_of(run, tasks=str(tasks))
    assert "+42" in client.get("/run/round-000/tiny1").text
    assert "has no task a__b-1" in client.get("/run/round-000/abc1").text
    assert "give --tasks" in client_of(run).get("/run/round-000/tiny1").text


def test_of_tasks_that_a_loop_made_the_fix_is_found_where_the_run_lies_now(run):
    from tests import tiny

    config = {"collect": {"tasks": "runs/gone/practice/train.jsonl", "model": "demonstrator"}}
    (run / "run.yaml").write_text(yaml.safe_dump(config))
    with Run(run) as opened:
        opened.round(0).trajectories.append(make_run([ACT], id="tiny1", task_id="tiny__tiny-0"))
    assert "give --tasks" in client_of(run).get("/run/round-000/tiny1").text
    (run / "practice").mkdir()
    tiny.write_tasks(run / "practice/train.jsonl", 1)
    assert "+42" in client_of(run).get("/run/round-000/tiny1").text


def test_a_log_elsewhere_is_not_read(run):
    from tests.harness.look.web.conftest import grade_of

    secret = run.parent / "secret.txt"
    secret.write_text("SECRET")
    trajectory = make_run([ACT], id="log1", task_id="l__l-1", patch="x\n")
    with Run(run) as opened:
        opened.round(0).trajectories.append(trajectory)
        graded = msgspec.structs.replace(grade_of(trajectory, True), log_path="logs/../../../secret.txt")
        opened.round(0).grades.append(graded)
    client = client_of(run)
    assert "SECRET" not in client.get("/run/round-000/log1").text
    assert client.get("/text/round-000/log1?part=log").status_code == 404
