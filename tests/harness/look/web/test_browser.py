"""Clicked through in headless Chromium: pages, keys, labels, the export from file://, a hostile run that stays text.

Screenshots are written below pytest's temporary folder, or below SRFT_SCREENSHOTS.
"""

import pytest

from srft.harness.look.report.write import write_report
from srft.harness.look.web.export import export_pages
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.store import Round, Run
from tests.harness.facts.one_run import one_run
from tests.harness.look.web.conftest import ACT, PATCH, critique
from tests.train.conftest import make_run

pytestmark = pytest.mark.slow


def test_click_through_label_reload(with_rows, served, page):
    address = served(with_rows)
    page.go(f"{address}/").shots("overview")
    page.find("a[href^='/table/']").click()
    page.shots("table")
    page.find("input[name=q]").send_keys("a__b\n")
    page.wait("return document.querySelectorAll('tbody tr').length === 2")
    page.find("tbody a").click()
    page.wait("return document.title.startsWith('a__b-1#0')")
    page.shots("run")

    page.press("j", "j")
    assert page.run("return location.hash") == "#step-1"
    page.press("k", "j", "g", "m", "x", "c")  # labelling is off: a stray key labels nothing, and says so
    page.wait("return !document.querySelector('#notice').hidden")
    assert page.all(".pick[aria-pressed=true]") == []
    page.press("L", "g")
    page.wait("return document.querySelector('#step-1 .p-g').ariaPressed === 'true'")
    assert page.find("#step-1 .verdict").text == "good"
    assert "f-g" in page.find(".cell[href='#step-1']").get_attribute("class")
    assert "1 of 3 steps masked" in page.find("#said").text  # the rows are as they were
    assert "Made again, the rows would mask 0 of 3 steps" in page.find("#said").text
    assert "0/1" in page.find("#said").text
    page.press("c")
    page.press("It was <b>right</b>.")
    page.press("\ue009\ue007")  # Ctrl+Enter
    page.wait("return document.querySelector('#step-1 .given')?.innerText.includes('It was <b>right</b>.')")
    page.press("j", "m")
    page.wait("return document.querySelector('#step-2 .p-m').ariaPressed === 'true'")
    page.shots("labelled")

    page.go(f"{address}/run/round-000/abc1#step-1")
    assert page.find("#step-1 .p-g").get_attribute("aria-pressed") == "true"
    assert "It was <b>right</b>." in page.find("#step-1").text
    assert "current" in page.find("#step-1").get_attribute("class")
    page.press("n")
    page.wait("return document.title.startsWith('a__b-1#1')")
    page.press("p")
    page.wait("return document.title.startsWith('a__b-1#0') && document.readyState === 'complete'")
    page.press("/")
    page.press("done\n")
    page.wait("return document.querySelector('#hits').textContent === '1 of 1'")
    assert page.find(".step.current").get_attribute("id") == "step-2"
    page.press("\ue00c")
    page.press("?")
    assert page.run("return document.querySelector('#keys').open")
    page.shot("keys")
    assert page.complaints() == []


def test_finding_looks_at_texts_alone(run, served, page):
    with Run(run) as opened:
        texts = [f"{ACT}\nA **judge** said good. Good!", "Good." + "\n\nx" * 40 + "\n\nhidden good", "Done."]
        trajectory = make_run(texts, id="find", task_id="f__f-1")
        opened.round(0).trajectories.append(trajectory)
        opened.round(0).critiques.append(critique(trajectory, "judge", ["good", "good", "good"]))
    page.go(f"{served(run)}/run/round-000/find")
    page.press("/")
    page.press("Good")
    page.wait("return document.querySelector('#hits').textContent === '4 hits'")  # not the verdicts, nor the buttons
    assert page.run("return CSS.highlights.get('find').size") == 4
    steps = []
    for keys in ("\n", "\n", "\n", "\n", "\n", "\ue008\n", "\ue008\n"):
        page.find("#find").send_keys(keys)
        steps.append((page.find("#hits").text, page.find(".step.current").get_attribute("id")))
        page.find("#find").send_keys("\ue000") if "\ue008" in keys else None
    numbers = [f"{number} of 4" for number in (1, 2, 3, 4, 1, 4, 3)]
    assert steps == list(zip(numbers, [f"step-{step}" for step in (0, 0, 1, 1, 0, 1, 1)], strict=True))
    assert page.run("return document.querySelector('#step-1 details').open")
    page.shot("found")
    page.find("#find").clear()
    page.find("#find").send_keys("judge said")  # across the markup
    page.wait("return document.querySelector('#hits').textContent === '1 hit'")
    assert page.complaints() == []


def test_reading_with_keys_and_copying(with_rows, served, page):
    address = served(with_rows)
    page.go(f"{address}/run/round-000/abc1")
    page.press("\ue004")  # Tab
    assert page.run("return document.activeElement.textContent") == "Skip to the first step"
    page.press("\n")
    assert page.run("return location.hash") == "#step-0"
    assert page.find(".issue").text.startswith("The issue\nThe total is wrong.")
    assert page.find("#step-0 .verdict").text == "good"
    assert [cell.text for cell in page.all(".cell")] == ["g", "m", "g"]
    assert page.find("#step-0 .observation").text.replace("Copy", "").strip() == "0"
    assert "exit code 0" in page.find("#step-0").text
    assert "returncode" not in page.find("#step-0").text
    page.run("navigator.clipboard.writeText = (text) => ((window.copied = text), Promise.resolve())")
    for selector, text in ((".command.run", "ls"), (".diff", PATCH.rstrip("\n"))):
        page.run(f"document.querySelector('{selector}').closest('.text, .copied').querySelector('.copy').click()")
        page.wait("return window.copied !== undefined")
        assert page.run("return window.copied") == text
        page.run("window.copied = undefined")
    page.go(f"{address}/table/round-000")
    page.press("j", "j", "k", "j")
    assert page.run("return document.activeElement.closest('tr') === document.querySelectorAll('tbody tr')[1]")
    page.press("\n")
    page.wait("return document.title.startsWith('a__b-1#1')")
    assert page.complaints() == []


def test_from_a_changed_task_to_its_two_runs(run, served, page):
    """One click; what differs first, with what was seen; what is the same is folded below."""
    other = run / "round-000" / "evaluation" / "tuned"
    other.mkdir(parents=True)
    tuned = make_run(
        [ACT, "Right.", "Done."], ["<returncode>0</returncode>\n0", "seen"], id="t", recorded_resolved=True
    )
    Round(other).trajectories.append(tuned)
    page.go(f"{served(run)}/outcomes?left=round-000&right=round-000~tuned").shots("outcomes")
    page.find("tbody a[href^='/contrast']").click()
    page.wait("return document.title.startsWith('Side by side')")
    page.shots("changed")
    heads = [head.text.partition("\n")[0] for head in page.all(".heads h2")]
    assert heads == ["a__b-1#0 round 0", "a__b-1#0 round 0, evaluation of tuned"]
    assert [side.find_element("css selector", ".prose").text for side in page.all(".sides[id] .beside")] == [
        "Wrong.",
        "Right.",
    ]
    assert "seen" in page.find(".sides[id]").text
    assert not page.find("#same .beside").is_displayed()
    page.find("a[href='#same']").click()
    page.find("#same summary").click()
    assert "I look." in page.find("#same .beside").text
    page.press("j", "\n")
    page.wait("return document.title.startsWith('a__b-1#0') && location.hash === '#step-1'")
    assert page.complaints() == []


def test_the_other_pages(with_rows, served, page):
    address = served(with_rows)
    page.go(f"{address}/tokens/round-000/abc1?arm=srft").shots("tokens")
    assert "Wrong." in page.find(".tok.masked[title]").text.replace("\n", "")
    page.go(f"{address}/contrast?place=round-000&left=abc1&right=abc2&arm=srft&against=all").shots("contrast")
    assert len(page.all(".sides[id]")) == 3
    page.go(f"{address}/contrast?place=round-000&left=a__b-1%230&right=a__b-1%230&arm=srft&against=all").shots("arms")
    assert [side.find_element("css selector", ".number").text for side in page.all(".sides[id]")] == ["1"]
    assert page.find("#same summary").text.endswith("2 steps are the same on both sides")
    page.go(f"{address}/table/round-000?q=nothing").shots("empty")
    page.go(f"{address}/run/round-000/abc1#patch").shots("patch")
    page.press("t")
    assert page.run("return document.documentElement.dataset.theme") in ("light", "dark")
    page.run("localStorage.clear()")
    assert page.complaints() == []


def test_the_export_opens_from_its_files(with_rows, tmp_path, page):
    export_pages(Viewer(with_rows), tmp_path / "pages", arm="srft")
    page.go((tmp_path / "pages" / "index.html").as_uri())
    assert page.run("return getComputedStyle(document.querySelector('.panel')).borderRadius") == "8px"
    page.shot("export-overview")
    page.find("a[href*='table']").click()
    page.find("#find").send_keys("ffff")
    assert len([row for row in page.all("tbody tr") if row.is_displayed()]) == 0  # ids stand in titles alone
    page.find("#find").clear()
    page.find("#find").send_keys("c__d")
    assert len([row for row in page.all("tbody tr") if row.is_displayed()]) == 1
    page.go((tmp_path / "pages" / "round-000" / "run" / "abc1.html").as_uri())
    page.press("j", "j")
    assert page.run("return location.hash") == "#step-1"
    assert page.all(".pick") == []
    page.shot("export-run")
    page.find("a[href*='tokens']").click()
    assert page.find(".tok.masked[title]").text
    assert page.complaints() == []


def test_a_hostile_run_executes_nothing(hostile, served, tmp_path, page):
    address = served(hostile)
    page.go(f"{address}/")
    checked = 0
    addresses = [f"{address}/table/round-000"]
    export_pages(Viewer(hostile), tmp_path / "pages", arm=None)
    addresses += [path.as_uri() for path in sorted((tmp_path / "pages").rglob("*.html"))]
    addresses += [path.as_uri() for path in sorted((tmp_path / "pages").rglob("*.txt"))]
    page.go(addresses[0])
    for link in page.all("tbody a"):
        run = link.get_attribute("href")
        addresses += [run, f"{run.partition('?')[0]}?arm=srft", run.replace("/run/", "/tokens/")]
        addresses += [f"{run.replace('/run/', '/text/').partition('?')[0]}?part=content&step=0"]
        addresses += [f"{address}/contrast?place=round-000&left={run.rpartition('/')[2]}"]
    for one in addresses:
        page.go(one)
        page.run("for (const fold of document.querySelectorAll('details')) fold.open = true")
        assert page.run(
            "return window.hit === undefined && !document.querySelector('[onerror], [onload], main img')"
        ), one
        own = r"/\/(view|live|table)\.js(\?v=\w+)?$/"
        assert page.run(f"return [...document.scripts].every((script) => {own}.test(script.src))"), one
        assert not page.run(
            "return /[\\x00-\\x08\\x0b-\\x1f\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText)"
        )
        checked += 1
    assert checked == len(addresses) >= 10
    page.go(next(one for one in addresses if "/run/" in one and one.startswith("http") and "script" in one))
    page.shots("hostile")
    assert [line for line in page.complaints() if "Content Security Policy" in line or "script" in line.lower()] == []


def test_a_hostile_report_runs_nothing_and_needs_nothing(hostile, page):
    page.go(write_report(hostile).as_uri())
    assert page.run("return window.hit") is None
    assert page.run("return document.compatMode") == "CSS1Compat"
    assert page.run("return performance.getEntriesByType('resource').length") == 0
    assert page.complaints() == []


def test_overview_and_report_look_alike_on_narrow_screens_and_in_the_dark(tmp_path, served, page):
    """One sheet for both; a curve is drawn for each training; nothing is wider than a telephone."""
    run = one_run(tmp_path)
    style = "return [...document.querySelectorAll('.facts-head h1, .figures td, .panel, .card-trained')].slice(0, 9)"
    style += ".map(one => getComputedStyle(one)).map(one => one.color + one.fontSize).sort().join()"
    seen = {}
    for name, address in (("figures", f"{served(run)}/"), ("report", write_report(run).as_uri())):
        page.go(address)
        for dark in (False, True):
            for size in ((1440, 900), (420, 900)):
                page.shot(name, dark=dark, size=size)
            seen[name, dark] = page.run(style)
        assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 23)"
        assert len(page.all(".curves polyline")) == 8
        assert page.all("iframe") == []
        assert page.complaints() == []
    assert (seen["figures", False], seen["figures", True]) == (seen["report", False], seen["report", True])
    assert seen["report", False] != seen["report", True]
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_recorded_runs(shared_data, served, tmp_path, page):
    """The real ones, with a rule's labels."""
    from srft.agent.importing.importers import read_runs
    from srft.critic.labels.labels import Evidence
    from srft.critic.rules.rules import ToolErrorCritic

    with Run(tmp_path / "recorded") as opened:
        round_ = opened.round(0)
        for run in read_runs(shared_data / "trajectories" / "gemini3pro_mini_verified.jsonl.gz"):
            round_.trajectories.append(run)
            round_.critiques.append(ToolErrorCritic().judge(run, Evidence()))
    tasks = shared_data / "verified_pypi" / "verified_pypi.jsonl"
    address = served(tmp_path / "recorded", "--tasks", str(tasks))
    page.go(f"{address}/").shots("recorded-overview")
    page.go(f"{address}/table/round-000?arm=srft&sort=-masked").shots("recorded-table")
    assert len(page.all("tbody tr")) == 100
    page.find("tbody a").click()
    page.wait("return document.querySelectorAll('.step').length > 5")
    page.shots("recorded-run")
    page.press("L", "j", "m")
    page.wait("return document.querySelector('#step-0 .p-m').ariaPressed === 'true'")
    page.press("\ue00c")
    page.browser.refresh()
    assert page.find("#step-0 .p-m").get_attribute("aria-pressed") == "true"
    page.go(f"{address}/table/round-000?q=sympy&arm=srft")
    page.find("tbody a").click()
    page.run("document.querySelector('#patch').scrollIntoView()")
    page.shots("recorded-patch")
    assert page.complaints() == []
