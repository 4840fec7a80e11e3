"""The report's pages: one file that needs nothing else, hostile text as text, the same files for the same run."""

import base64
import doctest
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from srft.harness.facts.arms import cell_order
from srft.harness.facts import episodes, read_report, stages
from srft.harness.look import format
from srft.harness.look.report import markdown, palette, write_report
from srft.harness.look.report.figures import draw_figures
from srft.harness.look.report.palette import ARMS, DARK, ENDINGS, VERDICTS
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


@pytest.mark.parametrize("module", [episodes, markdown, format, palette, stages])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def test_cells_are_in_the_arms_order():
    cells = ["srft.10", "oracle", "srft.2", "base", "other"]
    assert sorted(cells, key=cell_order) == ["base", "srft.2", "srft.10", "oracle", "other"]


def test_the_page_needs_nothing_else(seen):
    assert seen.open == []
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in seen.tags}
    outside = [
        value
        for _, attributes in seen.tags
        for name, value in attributes.items()
        if name in ("src", "srcset", "href", "style") and not value.startswith(("data:image/svg+xml;base64,", "#"))
    ]
    assert outside == []
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]


def test_hostile_text_stays_text(path):
    page = (path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page


def test_each_picture_has_a_caption_and_words_for_it(path, seen):
    names = [figure.name for figure in draw_figures(read_report(path))]
    assert names == ["resolved", "funnel", "masked", "verdicts", "critics", "endings", "losses-001"]
    assert [attributes["id"] for tag, attributes in seen.tags if tag == "figure"] == [
        f"figure-{name}" for name in ["resolved", "funnel", "masked", "verdicts", "critics", "endings", "losses-001"]
    ]
    assert all(attributes["alt"] for tag, attributes in seen.tags if tag == "img")
    assert len([tag for tag, _ in seen.tags if tag == "figcaption"]) == len(names)


def test_pictures_are_well_formed_and_dark_ones_differ_in_colour_alone(seen):
    drawn = [attributes.get("srcset") or attributes["src"] for tag, attributes in seen.tags if tag in ("source", "img")]
    pictures = [base64.b64decode(uri.partition(",")[2]).decode() for uri in drawn]
    for picture in pictures:
        assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
        assert "script" not in re.sub(r"<text.*?</text>|<!--.*?-->", "", picture, flags=re.DOTALL)
    colours = re.compile(r"#[0-9a-f]{6}")
    for dark, light in zip(pictures[2::4], pictures[3::4], strict=True):
        assert colours.sub("", dark) == colours.sub("", light)
        assert dark != light


def test_every_colour_has_a_dark_partner():
    assert {*ARMS.values(), *VERDICTS.values(), *ENDINGS.values()} <= DARK.keys()


def test_markdown(path):
    page = (path / "report.md").read_text()
    pictures = re.findall(r"\]\((report-figures/[^)]+)\)", page)
    assert len(pictures) == 7
    assert all((path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert "- Base model: **50.0\u00a0%**" in page
    assert "\x1b" not in page
    assert "<script>" not in re.sub(r"```.*?```", "", page, flags=re.DOTALL).replace("\\<", "")
    tables = [block for block in page.split("\n\n") if block.startswith("| ")]
    for table in tables:
        bars = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(bars)) == 1, table


def test_the_same_run_gives_the_same_files(path):
    names = ["report.html", "report.md", "report.json", "report-figures/resolved.png"]
    before = {name: (path / name).read_bytes() for name in names}
    write_report(path)
    assert {name: (path / name).read_bytes() for name in names} == before


def test_a_picture_that_is_no_longer_drawn_is_removed(path):
    (path / "report-figures" / "old.png").write_bytes(b"")
    write_report(path)
    assert not (path / "report-figures" / "old.png").exists()


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
