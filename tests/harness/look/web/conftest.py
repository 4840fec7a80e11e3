"""Runs to look at, made by hand; a browser, where one is installed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fastapi.testclient import TestClient

from srft.critic.labels.labels import Critique, StepLabel
from srft.env.grading.grade import Grade, NamedTests, patch_hash
from srft.harness.run.store import Run
from srft.harness.stages.rows import RowsConfig, make_rows
from tests.train.byte_tokenizer import byte_tokenizer
from tests.train.conftest import CHATML, make_run

ACT = "I look.\n```bash\nls\n```"
PATCH = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-a = 1\n+a = 2\n"

SCRIPT = "<script>window.hit=1</script><img src=x onerror='window.hit=1'>"
HOSTILE = f"{SCRIPT}\x1b]0;owned\x07\x1b[31mred\u202eevil\u2066\"'><svg onload=window.hit=1></pre></details>{{{{7*7}}}}"


def critique(run, critic, verdicts, source="model", **changes):
    labels = tuple(StepLabel(step=number, verdict=verdict, **changes) for number, verdict in enumerate(verdicts))
    return Critique(
        trajectory_id=run.id, task_id=run.task_id, critic=critic, fingerprint=critic, source=source, labels=labels
    )


def grade_of(run, resolved):
    named = ("t.py::test_a",)
    return Grade(
        instance_id=run.task_id,
        resolved=resolved,
        outcome="resolved" if resolved else "unresolved",
        fail_to_pass=NamedTests(passed=named) if resolved else NamedTests(failed=named),
        pass_to_pass=NamedTests(passed=("t.py::test_b",)),
        wall_s=1.5,
        grader="swebench 5",
        key=f"{run.id}",
        patch_hash=patch_hash(run.patch),
    )


@pytest.fixture
def run(tmp_path) -> Path:
    """Three runs: abc1 (unresolved, by its grade) and abc2 (resolved) on a__b-1, ffff (unknown) on c__d-2."""
    first = msgspec.structs.replace(make_run([ACT, "Wrong.", "Done."], id="abc1", patch=PATCH), wall_s=75.0)
    second = make_run([ACT], id="abc2", attempt=1, recorded_resolved=True)
    third = make_run(["Hm."], id="ffff", task_id="c__d-2", stop_reason="step_limit")
    with Run(tmp_path / "run") as opened:
        round_ = opened.round(0)
        for trajectory in (first, second, third):
            round_.trajectories.append(trajectory)
        round_.grades.append(grade_of(first, False))
        round_.critiques.append(critique(first, "judge", ["good", "mistake", "good"], reason="So."))
        round_.critiques.append(critique(second, "judge", ["good"]))
    return tmp_path / "run"


@pytest.fixture
def hostile(tmp_path) -> Path:
    """Everything that an agent, a critic or a file can hold, hostile: markup, escapes, bidi marks, 5 MB, bad UTF-8."""
    long = "x" * 5_000_000
    run = make_run(
        [f"{HOSTILE}\n```bash\n{HOSTILE}\n```", f"say {HOSTILE}", "Done."],
        [f"{HOSTILE}\n{long}", HOSTILE],
        id=f"../{SCRIPT}",
        task_id=f"a__b-{SCRIPT}",
        model=HOSTILE,
        patch=f"diff --git a/{HOSTILE} b/{HOSTILE}\n@@ -1 +1 @@\n-{HOSTILE}\n+{HOSTILE}\n",
        recorded_resolved=False,
        detail=HOSTILE,
    )
    bad = msgspec.json.encode(make_run(["BAD BYTES", "Done."], id="bytes", task_id="e__f-3"))
    with Run(tmp_path / "hostile") as opened:
        round_ = opened.round(0)
        round_.trajectories.append(run)
        round_.critiques.append(critique(run, HOSTILE, ["mistake", "good", None], reason=HOSTILE))
        with round_.trajectories.path.open("ab") as file:
            file.write(bad.replace(b"BAD BYTES", b"bad \xff\xfe bytes \\ud800 half") + b"\n")
            file.write(b'{"id": "deep", "steps": ' + b"[" * 100_000 + b"\n")
    return tmp_path / "hostile"


KEYS: dict[str, str] = {}
"""Address of a viewer -> the same with its key."""


def client_of(app, access, **options) -> TestClient:
    """Asks an app as a browser does that was given the whole address."""
    cookies = {access.cookie: access.secret}
    return TestClient(app, base_url=f"http://127.0.0.1:{access.port}", cookies=cookies, **options)


@pytest.fixture
def served(tmp_path) -> Iterator:
    """served(run) starts `srft view` and gives its address, without its key; a `Page` gives that by itself."""
    processes = []

    def start(path: Path, *arguments: str) -> str:
        command = [
            sys.executable,
            "-m",
            "srft.harness.cli",
            "view",
            str(path),
            "--no-browser",
            "--port",
            "0",
            *arguments,
        ]
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("http://127.0.0.1:"):
            process.kill()
            raise AssertionError(process.communicate()[1])
        address = line.split()[0]
        base = address.partition("/?")[0]
        KEYS[base] = address
        return base

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Headless Chromium, dialogs and console watched."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium; the extra dev has it")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium with its chromedriver; Debian's packages are chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


SIZES = ((1440, 900), (420, 860))


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
