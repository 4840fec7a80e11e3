"""Labelling in the browser: a mode that is switched on, queues, undo, answers that come late."""

import pytest

from srft.harness.run.store import Run
from tests.harness.look.web.conftest import ACT, PATCH, critique
from tests.train.conftest import make_run

pytestmark = pytest.mark.slow


def test_a_verdict_is_taken_back(run, served, page):
    page.go(f"{served(run)}/run/round-000/abc1#step-1")
    page.press("L")
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


OWN = "return [...document.querySelectorAll('.step')].map((step) => step.dataset.own)"


def test_a_queue_of_labels_and_undo(run, served, page):
    """Through mistakes, disagreements and unlabelled steps, over runs; several labels undone, also in another run."""
    with Run(run) as opened:
        of_first = make_run([ACT, "Wrong.", "Done."], id="abc1", patch=PATCH)
        opened.round(0).critiques.append(critique(of_first, "other", ["unnecessary", "mistake", "good"]))
    address = served(run, "--as", "anna")
    page.go(f"{address}/run/round-000/abc1")
    page.press("M")
    assert page.run("return location.hash") == "#step-1"
    page.press("D")
    page.wait("return location.hash === '#step-0'")  # the only disagreement: from the beginning again
    page.press("z", "g", "u", "x")
    assert page.all(".pick[aria-pressed=true]") == []
    page.press("L")
    assert "Labelling as anna" in page.find("#labelling").text
    assert page.run("return document.querySelector('[data-count=unlabelled]').innerText") == "3"
    page.shots("labelling")
    page.press("U")
    page.find("#go-on").click()
    page.press("m")  # step 1, and on to step 2
    page.wait("return document.querySelector('#agreed').innerText.includes('judge 1 of 1 the same')")
    page.press("u")  # the next unlabelled one is in the next run
    page.wait("return document.title.startsWith('a__b-1#1') && document.querySelector('.step.current')")
    assert page.find("#labelling").is_displayed()
    page.find("#go-on").click()
    page.press("m")
    page.wait("return document.querySelector('#step-0 .p-m').ariaPressed === 'true'")
    assert page.find("#undo-count").text == "3"
    page.press("z")
    page.wait("return document.querySelector('#step-0 .p-m').ariaPressed === 'false'")
    page.press("z")
    page.wait("return document.title.startsWith('a__b-1#0') && location.hash === '#step-2'")
    assert page.run(OWN) == ["", "mistake", ""]
    page.find("[data-do=undo]").click()
    page.wait("return document.querySelector('#step-1 .p-m').ariaPressed === 'false'")
    page.press("c")
    page.press("Why?")
    page.press("\ue009\ue007")
    page.wait("return document.querySelector('#step-1 .given')?.innerText.includes('Why?')")
    page.press("\ue00c", "z")
    page.wait("return !document.querySelector('#step-1 .given')?.innerText.includes('Why?')")
    page.press("g")
    page.wait("return document.querySelector('#step-1 .p-g').ariaPressed === 'true'")
    page.press("L")
    assert not page.find("#labelling").is_displayed()
    page.browser.refresh()
    assert page.run(OWN) == ["", "good", ""]
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
    page.press("L", "m", "j")
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
