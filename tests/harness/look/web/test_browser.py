"""Clicked through in headless Chromium: pages, keys, labels, the export from file://, a hostile run that stays text.

Screenshots are written below pytest's temporary folder, or below SRFT_SCREENSHOTS.
"""

import os
import time
from pathlib import Path

import pytest

from srft.harness.look.web.export import export_pages
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.store import Run
from srft.harness.stages.rows import RowsConfig, make_rows
from tests.harness.look.web.conftest import KEYS
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML

pytestmark = pytest.mark.slow

SIZES = ((1440, 900), (1100, 800))


class Page:
    """A browser's page. shot: a picture of it, in a file."""

    def __init__(self, browser, folder):
        self.browser, self.folder = browser, folder
        browser.get("about:blank")  # a page of an earlier test asks its viewer, which is gone, for changes
        browser.get_log("browser")  # what it left

    def go(self, address):
        base = "/".join(address.split("/")[:3])
        if base in KEYS:
            self.browser.get(KEYS.pop(base))  # answered with a cookie
        self.browser.get(address)
        return self

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def press(self, *keys):
        for key in keys:
            self.browser.switch_to.active_element.send_keys(key)

    def run(self, script):
        return self.browser.execute_script(script)

    def wait(self, script):
        """Until the script gives something true."""
        end_s = time.monotonic() + 20
        while not (found := self.run(script)):
            assert time.monotonic() < end_s, script
            time.sleep(0.05)
        return found

    def shot(self, name, *, dark=False, size=SIZES[0]):
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        path = self.folder / f"{name}-{size[0]}-{'dark' if dark else 'light'}.png"
        assert self.browser.save_screenshot(str(path))
        overflows = self.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflows == 0, f"{path.name}: wider than the window by {overflows} px"

    def shots(self, name):
        for size in SIZES:
            for dark in (False, True):
                self.shot(name, dark=dark, size=size)
        self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def complaints(self):
        """What the console says."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture
def page(browser, tmp_path):
    folder = Path(os.environ.get("SRFT_SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return Page(browser, folder)


@pytest.fixture
def with_rows(run, tmp_path):
    byte_tokenizer(CHATML).save_pretrained(tmp_path / "tokenizer")
    with Run(run) as opened:
        make_rows(RowsConfig(tokenizer=str(tmp_path / "tokenizer")), opened.round(0))
    return run


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
    page.press("k", "j", "g")
    page.wait("return document.querySelector('#step-1 .p-g').ariaPressed === 'true'")
    assert page.find("#step-1 .verdict").text == "good"
    assert "f-g" in page.find(".cell[href='#step-1']").get_attribute("class")
    assert "0 of 3 steps masked" in page.find("#said").text
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
    page.wait("return document.title.startsWith('a__b-1#0')")
    page.press("/")
    page.press("wrong\n")
    page.wait("return document.querySelector('#hits').textContent === '1 hit'")
    assert page.run("return location.hash") == "#step-1"
    page.press("\ue00c")
    page.press("?")
    assert page.run("return document.querySelector('#keys').open")
    page.shot("keys")
    assert page.complaints() == []


def test_a_verdict_is_taken_back(run, served, page):
    page.go(f"{served(run)}/run/round-000/abc1#step-1")
    for key in ("x", None):
        page.press("g")
        page.wait("return document.querySelector('#step-1 .verdict').innerText === 'good'")
        page.press(key) if key else page.find("#step-1 [data-do=take-back]").click()
        page.wait("return document.querySelector('#step-1 .verdict').innerText === 'mistake'")
    assert page.all(".pick[aria-pressed=true]") == []
    page.press("?")
    assert "take your verdict on the step back" in page.find("#keys").text
    page.press("\ue00c")
    page.shot("taken-back")
    assert page.complaints() == []


SLOWED = """
window.answers = 0;
const fetched = window.fetch;
window.fetch = async (...asked) => {
  const answer = await fetched(...asked);
  await new Promise((resolve) => setTimeout(resolve, 400));
  setTimeout(() => (window.answers += 1), 50);
  return answer;
};
"""


def test_a_slow_answer_moves_nobody_and_keeps_a_draft(run, served, page):
    page.go(f"{served(run)}/run/round-000/abc1#step-0")
    page.run(SLOWED)
    page.press("m", "j")
    page.wait("return window.answers === 1")
    assert page.run(
        "return [...document.querySelectorAll('.current, .cell.here')].map((one) => one.id || one.hash)"
    ) == [
        "#step-1",
        "step-1",
    ]
    page.press("m", "c")
    page.press("wrong g")
    page.wait("return window.answers === 2")
    assert page.run("return document.activeElement.value") == "wrong g"
    page.press("uess")
    page.find("#step-1 .p-u").click()
    page.wait("return window.answers === 3")
    assert page.find("#step-1 textarea").get_attribute("value") == "wrong guess"
    assert page.run("return document.activeElement.dataset.verdict") == "unnecessary"
    page.find("#step-1 textarea").send_keys("\ue009\ue007")  # Ctrl+Enter
    page.wait("return window.answers === 4")
    assert not page.find("#step-1 textarea").is_displayed()
    page.press("g", "m")
    page.wait("return window.answers === 6")
    page.browser.refresh()
    pressed = "return [...document.querySelectorAll('.pick[aria-pressed=true]')].map((one) => one.dataset.verdict)"
    assert page.run(pressed) == ["mistake", "mistake"]
    assert "wrong guess" in page.find("#step-1 .given").text
    assert page.complaints() == []


def test_the_other_pages(with_rows, served, page):
    address = served(with_rows)
    page.go(f"{address}/tokens/round-000/abc1?arm=srft").shots("tokens")
    assert "Wrong." in page.find(".tok.masked[title]").text.replace("\n", "")
    page.go(f"{address}/contrast?place=round-000&left=abc1&right=abc2&arm=srft&against=all").shots("contrast")
    assert len(page.all(".sides[id]")) == 3
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
        ours = r"/(view|live|table)\.js(\?v=[0-9a-f]{12})?$/"
        assert page.run(f"return [...document.scripts].every((script) => {ours}.test(script.src))"), one
        assert not page.run(
            "return /[\\x00-\\x08\\x0b-\\x1f\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText)"
        )
        checked += 1
    assert checked == len(addresses) >= 10
    page.go(next(one for one in addresses if "/run/" in one and one.startswith("http") and "script" in one))
    page.shots("hostile")
    assert [line for line in page.complaints() if "Content Security Policy" in line or "script" in line.lower()] == []


def test_a_hostile_report_runs_nothing_from_its_file(run, tmp_path, page):
    script = "<script>window.hit=1</script><svg onload=window.hit=1></svg>"
    harm = f"{script}<a id=go href='javascript:void(window.hit=1)'>go</a>"
    (run / "report.html").write_text(f"{harm}<!doctype html><html><head>{harm}</head><p>Figures</p>")
    export_pages(Viewer(run), tmp_path / "pages", arm=None)
    for path, expected in ((run, 1), (tmp_path / "pages", None)):  # the first shows that it would
        page.go((path / "report.html").as_uri())
        page.run("document.querySelector('#go').click()")
        assert page.find("p").text == "Figures"
        time.sleep(0.2)
        assert page.run("return window.hit") == expected
    assert page.run("return document.compatMode") == "CSS1Compat"


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
    page.press("j", "m")
    page.wait("return document.querySelector('#step-0 .p-m').ariaPressed === 'true'")
    page.press("\ue00c")
    page.browser.refresh()
    assert page.find("#step-0 .p-m").get_attribute("aria-pressed") == "true"
    page.go(f"{address}/table/round-000?q=sympy&arm=srft")
    page.find("tbody a").click()
    page.run("document.querySelector('#patch').scrollIntoView()")
    page.shots("recorded-patch")
    assert page.complaints() == []
