"""In headless Chromium: pages that follow their run, keys in the table, search in texts, a folder of runs, exports."""

import subprocess
import sys

import pytest

from srft.harness.look.web.export import export_pages
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.store import Round, Run
from tests.harness.look.web.conftest import ACT
from tests.harness.look.web.test_live import AT_WORK
from tests.harness.loop_run import LoopRun, episode
from tests.train.conftest import make_run

pytestmark = pytest.mark.slow


def test_pages_follow_the_run_and_ask_nothing_while_nobody_sees_them(run, served, page):
    address = served(run)
    page.go(f"{address}/table/round-000")
    assert page.run("return document.querySelectorAll('tr[data-row]').length") == 3
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", AT_WORK, str(run), "new__task-7"], stdin=pipe, stdout=pipe) as worker:
        try:
            page.wait("return document.querySelector('#live')?.textContent.includes('new__task-7')")
            page.shots("live-table")
            round_ = run / "round-000"
            Round(round_).trajectories.append(make_run([ACT], id="new1", task_id="n__n-1"))
            page.wait("return document.querySelectorAll('tr[data-row]').length === 4")
            page.go(f"{address}/").wait("return document.querySelector('#live').textContent.includes('new__task-7')")
            page.shots("live-overview")
        finally:
            worker.kill()
    page.wait("return document.querySelector('#live').textContent.includes('Run the same command to resume')")
    assert not page.run("return document.querySelector('#live').textContent.includes('new__task-7')")
    page.shots("live-stopped")

    asked = "return performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/version')).length"
    hide = "Object.defineProperty(document, 'hidden', { value: %s, configurable: true });"
    page.run((hide % "true") + "document.dispatchEvent(new Event('visibilitychange'))")
    before = page.run(asked)
    page.browser.set_script_timeout(10)
    page.browser.execute_async_script("setTimeout(arguments[0], 4500)")
    assert page.run(asked) == before
    page.run((hide % "false") + "document.dispatchEvent(new Event('visibilitychange'))")
    page.wait(f"return (() => {{ {asked} }})() > {before}")
    assert page.complaints() == []


def test_keys_filters_and_search_in_texts(run, served, page):
    with Run(run) as opened:
        seen = ["django.core.exceptions.ValidationError: enter a whole number"]
        for number in range(3):
            made = make_run([ACT, "Done."], seen, id=f"v{number}", task_id=f"v__v-{number}", model="other", repo="v/v")
            opened.round(0).trajectories.append(made)
    page.go(f"{served(run)}/table/round-000")
    page.shots("table-filters")
    page.press("j", "j", "j", "k")
    page.wait("return document.querySelector('tr.here a').title.startsWith('a__b-1#1')")
    page.press("\ue007")
    page.wait("return document.title.startsWith('a__b-1#1')")
    page.browser.back()
    page.find("input[name=text]").send_keys('"exceptions ValidationError" whole\n')
    page.wait("return document.querySelectorAll('tr[data-row]').length === 3")
    assert {mark.text for mark in page.all("mark")} == {"exceptions.ValidationError", "whole"}
    page.shots("table-search")
    page.find(".found a").click()
    page.wait("return document.title.startsWith('v__v-0') && location.hash === '#step-0'")
    page.press("n")
    page.wait("return document.title.startsWith('v__v-1')")  # the next of those found
    assert page.complaints() == []


def test_a_folder_of_runs_and_two_compared(tmp_path, served, page):
    for name, verdicts in (("base", [False, False, True]), ("srft-seed-0", [True, True, True])):
        with LoopRun(tmp_path / "runs" / "june" / name) as run:
            run.evaluation(0, "base", {f"a-{n}": [verdict] for n, verdict in enumerate(verdicts)})
            run.add(run.round(1), episode("b-1", model="teacher"), resolved=True)
    (tmp_path / "runs" / "broken" / "round-000").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "round-000" / "trajectories.jsonl").write_text("{}\n")
    page.go(f"{served(tmp_path / 'runs')}/")
    page.shots("runs")
    assert page.find("#compare").get_attribute("disabled")
    for box in page.all("input[name=pick]"):
        box.click()
    page.find("#compare").click()
    page.wait("return document.title.includes('against')")
    page.shots("runs-compared")
    assert len(page.all("tr[data-row]")) == 2
    page.find("tr[data-row] a").click()
    page.wait("return location.pathname.startsWith('/at/june~.')")
    page.press("j", "\ue007")
    page.wait("return location.pathname.includes('/run/')")
    assert page.complaints() == []


def test_an_export_sorts_and_filters_without_a_server(run, tmp_path, page):
    export_pages(Viewer(run), tmp_path / "pages", arm=None)
    page.go((tmp_path / "pages" / "round-000" / "table.html").as_uri())
    page.shots("export-table")
    rows = "[...document.querySelectorAll('tr[data-row]')].filter((row) => !row.hidden)"
    shown = f"return {rows}.map((row) => row.cells[5].textContent)"
    steps = page.find("th:nth-child(6) button")
    steps.click()
    assert page.run(shown) == ["1", "1", "3"]
    steps.click()
    assert page.run(shown) == ["3", "1", "1"]
    page.run(
        "const one = document.querySelector('select'); one.value = 'resolved'; one.dispatchEvent(new Event('change'))"
    )
    assert page.run(shown) == ["1"]
    assert page.complaints() == []
