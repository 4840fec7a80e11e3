"""Pages as files: all links lead to files that are there, nothing leads out, hostile names stay in the folder."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import msgspec
import pytest

from srft.env.errors import InputError
from srft.harness.look.web.export import export_pages
from srft.harness.look.web.viewer import Viewer
from srft.harness.run.store import Run
from tests import tiny
from tests.harness.look.web.conftest import SCRIPT
from tests.train.conftest import make_run


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
    assert (written.runs, len(written.problems), dead_links(tmp_path / "out" / "pages")) == (1, 2, [])
    assert SCRIPT not in (tmp_path / "out" / "pages" / "index.html").read_text()
    (text,) = (tmp_path / "out").rglob("*.observation.txt")
    assert text.read_text().startswith("\ufeff<script>")
    assert "\x1b" not in text.read_text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pages"]


def test_a_run_that_cannot_be_read_is_left_out_everywhere(run, tmp_path):
    trajectories = run / "round-000" / "trajectories.jsonl"
    trajectories.write_bytes(trajectories.read_bytes().replace(b'"id":"abc2"', b'"new_field":1,"id":"abc2"'))
    written = export_pages(Viewer(run), tmp_path / "pages", arm="srft")
    assert (written.runs, len(written.problems)) == (2, 1)
    assert re.match(r"left out: .*trajectories\.jsonl:2: not a Trajectory .*new_field", written.problems[0])
    assert dead_links(tmp_path / "pages") == []
    assert "2 trajectories" in (tmp_path / "pages" / "round-000" / "table.html").read_text()
    overview = (tmp_path / "pages" / "index.html").read_text()
    assert "1 line cannot be read and is left out" in overview
    assert "new_field" in overview


def test_of_long_patches_the_whole_text_is_a_click_away(run, tmp_path):
    """More lines than a page holds, and a line that is too long for it."""
    for name, change in (("many", "+x\n" * 4_000), ("wide", f"+{'x' * 5_000}\n")):
        patch = f"diff --git a/a.py b/a.py\n@@ -1 +1 @@\n{change}"
        with Run(run) as opened:
            opened.round(0).trajectories.append(make_run(["Hm."], id=name, task_id=f"{name}__{name}-0", patch=patch))
    tasks = tiny.write_tasks(tmp_path / "tasks.jsonl", 1)
    (task,) = (json.loads(line) for line in tasks.read_text().splitlines())
    tasks.write_text(json.dumps({**task, "instance_id": "wide__wide-0", "patch": "+y\n" * 4_000}) + "\n")
    export_pages(Viewer(run, tasks=str(tasks)), tmp_path / "pages", arm=None)
    assert dead_links(tmp_path / "pages") == []
    folder = tmp_path / "pages" / "round-000"
    assert "1,002 more lines: open the whole text" in (folder / "run" / "many.html").read_text()
    assert "lines cut: open the whole text" in (folder / "run" / "wide.html").read_text()
    assert (folder / "text" / "many.patch.txt").read_text().count("+x\n") == 4_000
    assert "x" * 5_000 in (folder / "text" / "wide.patch.txt").read_text()
    assert (folder / "text" / "wide.fix.txt").read_text().count("+y\n") == 4_000
    assert not (folder / "text" / "abc1.patch.txt").exists()


def test_credentials_are_in_no_file(run, tmp_path):
    """In messages, commands, observations, patches, long texts, the configuration and the report."""
    key = "sk-proj-4f9a8b7c6d5e4f3a2b1c0d9e"
    told = f"curl -H 'Authorization: Bearer {key}' https://me:{key}@host/"
    (run / "run.yaml").write_text(f"collect:\n  api_key: {key}\n  model: https://me:pass-word@host/v1#m\n")
    (run / "report.html").write_text(f"<p>{told}</p>")
    patch = f"diff --git a/a.py b/a.py\n@@ -1 +1 @@\n+{told}\n" + "+x\n" * 4_000
    with Run(run) as opened:
        trajectory = make_run([told, f"{told}\n```bash\n{told}\n```"], [f"{told}\n" * 3_000], id="leaky", patch=patch)
        opened.round(0).trajectories.append(msgspec.structs.replace(trajectory, task_id="l__l-1", detail=told))
    written = export_pages(Viewer(run), tmp_path / "pages", arm=None)
    assert written.credentials > 6_000
    for path in (tmp_path / "pages").rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            assert key not in text, path
            assert "pass-word" not in text, path
    assert dead_links(tmp_path / "pages") == []


def test_some_tasks_alone(run, tmp_path):
    export_pages(Viewer(run, only=frozenset(["c__d-2"])), tmp_path / "pages", arm=None)
    assert [path.name for path in (tmp_path / "pages" / "round-000" / "run").iterdir()] == ["ffff.html"]
    overview = (tmp_path / "pages" / "index.html").read_text()
    assert ("a__b-1" in overview, "0 of 0" in overview) == (False, True)
    assert dead_links(tmp_path / "pages") == []


def test_a_report_that_came_with_the_run_is_left_out(run, tmp_path):
    (run / "report.html").write_text(f"Planted {SCRIPT}")
    export_pages(Viewer(run), tmp_path / "pages", arm=None)
    assert not (tmp_path / "pages" / "report.html").exists()
    assert "Planted" not in (tmp_path / "pages" / "index.html").read_text()


def test_a_folder_that_is_there_is_left_alone(run, tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        export_pages(Viewer(run), tmp_path / "pages", arm=None)
    assert (tmp_path / "pages" / "mine.txt").read_text() == "mine"
