"""Pages as files: all links lead to files that are there, nothing leads out, hostile names stay in the folder."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from srft.env.errors import InputError
from srft.harness.view.export import export_pages
from srft.harness.view.viewer import Viewer


def dead_links(folder: Path) -> list[str]:
    dead = []
    for page in folder.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#]+)', page.read_text()):
            if not (page.parent / unquote(link).partition("?")[0]).resolve().is_file():
                dead.append(f"{page.relative_to(folder)}: {link}")
    return dead


def test_every_link_leads_to_a_file(run, tmp_path):
    written = export_pages(Viewer(run), tmp_path / "pages", arm="srft")
    assert (written.runs, written.problems) == (3, [])
    assert dead_links(tmp_path / "pages") == []
    page = (tmp_path / "pages" / "round-000" / "run" / "abc1.html").read_text()
    assert "1 of 3 steps masked" in page
    assert "srft-token" not in page
    assert "<form" not in page.replace('<form method="dialog">', "")


def test_hostile_names_and_long_texts(hostile, tmp_path):
    written = export_pages(Viewer(hostile), tmp_path / "out" / "pages", arm=None)
    assert (written.runs, dead_links(tmp_path / "out" / "pages")) == (2, [])
    (text,) = (tmp_path / "out").rglob("*.observation.txt")
    assert text.read_text().startswith("\ufeff<script>")
    assert "\x1b" not in text.read_text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pages"]


def test_some_tasks_alone(run, tmp_path):
    export_pages(Viewer(run, only=frozenset(["c__d-2"])), tmp_path / "pages", arm=None)
    assert [path.name for path in (tmp_path / "pages" / "round-000" / "run").iterdir()] == ["ffff.html"]
    assert dead_links(tmp_path / "pages") == []


def test_a_folder_that_is_there_is_left_alone(run, tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        export_pages(Viewer(run), tmp_path / "pages", arm=None)
    assert (tmp_path / "pages" / "mine.txt").read_text() == "mine"
