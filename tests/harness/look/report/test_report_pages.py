"""The report's pages: one file that needs nothing else, hostile text as text, the same files for the same run."""

import doctest
import json
import re
from html.parser import HTMLParser

import pytest

from srft.harness.facts import episodes, stages
from srft.harness.facts.arms import cell_order
from srft.harness.look import format, tables
from srft.harness.look.report import markdown
from srft.harness.look.report.write import write_report
from srft.harness.look.web import pages, places
from tests.harness.loop_run import LoopRun, critique_of, episode

HOSTILE = "</title><script>alert(1)</script>|`$x$`\x1b[31m<!--]]>"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A run with every kind of figure and names that are not to be trusted; its report is written."""
    path = tmp_path_factory.mktemp("report") / "a run"
    with LoopRun(path) as run:
        run.evaluation(0, "base", {"a-1": [True], "b-1": [False]})
        told = run.add(run.round(1), episode(f"t{HOSTILE}-1", model=HOSTILE, repo=HOSTILE), False)
        run.round(1).critiques.append(critique_of(told, "gm", critic=HOSTILE))
        run.round(1).critiques.append(critique_of(told, "mm", critic="oracle", source="oracle"))
        run.rows(
            1, "srft", runs=1, runs_used=1, rows=1, tokens=9, written_tokens=4, trained_tokens=3, critics=[HOSTILE]
        )
        for seed in (0, 1):
            run.training(1, f"srft.{seed}", [2.0, 1.0, float(seed)], {2: 0.5})
            run.evaluation(1, f"srft.{seed}", {"a-1": [True], "b-1": [seed == 1]}, repo=f"{HOSTILE}{seed}")
        run.stage(1, "serve.srft.0", served_name=HOSTILE)
        run.stage(1, "promote", decision="promoted", cell="srft.1", reason=HOSTILE, rule=HOSTILE)
    (path / "loop.yaml").write_text(json.dumps({"srft": HOSTILE, "loop": {"preset": HOSTILE}}))
    write_report(path)
    return path


class Seen(HTMLParser):
    """Tags with their attributes, and that each is closed."""

    VOID = frozenset({"meta", "img", "source", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def seen(path):
    seen = Seen()
    seen.feed((path / "report.html").read_text())
    return seen


@pytest.mark.parametrize("module", [episodes, format, markdown, pages, places, stages, tables])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def test_cells_are_in_the_arms_order():
    cells = ["srft.10", "oracle", "srft.2", "base", "other"]
    assert sorted(cells, key=cell_order) == ["base", "srft.2", "srft.10", "oracle", "other"]


def test_the_page_needs_nothing_else(path, seen):
    assert seen.open == []
    assert not {"script", "link", "iframe", "object", "img"} & {tag for tag, _ in seen.tags}
    named = ("src", "srcset", "href", "style", "action")
    outside = [value for _, attributes in seen.tags for name, value in attributes.items() if name in named]
    assert [value for value in outside if not value.startswith("#")] == []
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    policy = next(attributes["content"] for tag, attributes in seen.tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "url(" not in (path / "report.html").read_text()


def test_hostile_text_stays_text(path):
    page = (path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page


def test_each_section_of_the_navigation_is_there(seen):
    targets = [attributes["href"][1:] for tag, attributes in seen.tags if tag == "a"]
    ids = {attributes.get("id") for tag, attributes in seen.tags if tag == "section"}
    of_data = ["funnel", "masks", "verdicts", "critics", "endings", "training", "serving", "cost", "drops"]
    assert targets == ["resolved", "arms-1", "promotions", *of_data, "missing", "reproduce"]
    assert set(targets) == ids


def test_a_chart_says_nothing_that_its_row_does_not(path, seen):
    """A chart is a picture beside its figures: hidden from those who listen, and a colour is never all that is said."""
    charts = [attributes for tag, attributes in seen.tags if tag == "svg"]
    assert charts
    assert all(chart["aria-hidden"] == "true" for chart in charts)
    page = (path / "report.html").read_text()
    heads = re.findall(r'<span class="key f-(\w)"></span>([^<]+)</th>', page)
    assert heads[:5] == [("g", "good"), ("r", "recover"), ("u", "unnecessary"), ("m", "mistake"), ("n", "abstained")]


def test_no_raw_keys(path):
    """Names of the run apart, no page prints a key of a file or an unformatted number."""
    text = re.sub(r"<style>.*?</style>|<pre.*?</pre>|<[^>]+>", " ", (path / "report.html").read_text(), flags=re.DOTALL)
    assert re.findall(r"\b[a-z]+_[a-z_]+\b|\d\.\d{5,}", text.replace("tool_error", "")) == []


def test_markdown(path):
    page = (path / "report.md").read_text()
    assert "- Base model: **50.0\u00a0%**" in page
    assert "| unresolved | 1 | 2 | 50.0\u00a0% | 0 | 0 | 50.0\u00a0% | 0 | `gggggmmmmm` |" in page
    assert "- srft.1: 2 `█▄▄` 1" in page
    assert "\x1b" not in page
    assert "<script>" not in re.sub(r"```.*?```", "", page, flags=re.DOTALL).replace("\\<", "")
    tables = [block for block in page.split("\n\n") if block.startswith("| ")]
    for table in tables:
        bars = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(bars)) == 1, table


def test_the_same_run_gives_the_same_files(path):
    names = ["report.html", "report.md", "report.json"]
    before = {name: (path / name).read_bytes() for name in names}
    write_report(path)
    assert {name: (path / name).read_bytes() for name in names} == before


def test_what_is_not_there_is_said(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.add(run.round(0), episode("t-1"), True)
    page = write_report(tmp_path / "run").read_text()
    assert "No labels: no critic has judged these runs" in page
    assert "1 of 1 tasks resolved" in page


def test_an_empty_round(tmp_path):
    with LoopRun(tmp_path / "run") as run:
        run.round(0)
    assert "What is not in this report" in write_report(tmp_path / "run").read_text()


def test_the_command(path, srft):
    said = srft("report", "--run", path)
    assert (said.returncode, said.stdout) == (0, f"{path / 'report.html'}\n"), said.stderr
    printed = json.loads(srft("report", "--run", path, "--json").stdout)
    assert printed == {kind: str(path / f"report.{kind}") for kind in ("html", "md", "json")}
    refused = srft("report", "--run", path.parent / "nothing")
    assert refused.returncode == 2
    assert "no such run directory" in refused.stderr
