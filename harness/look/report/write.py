"""Writing a report: report.html, report.md and report.json, in the run's folder.

    write_report(Path("runs/demo"))          # runs/demo/report.html

The page is the viewer's overview, in one file. The files are replaced whole. The same run gives the same files, byte
for byte, with the same versions of the libraries.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from srft.harness.facts.report import read_report
from srft.harness.look.report.markdown import markdown_page
from srft.harness.look.web.overview import lone_page
from srft.harness.run.store import write_atomic


def write_report(run_path: Path) -> Path:
    """Read the run's files, write its report and return the page's path. Raises InputError, StorageError."""
    report = read_report(run_path)
    page = run_path / "report.html"
    write_atomic(run_path / "report.json", msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    write_atomic(run_path / "report.md", markdown_page(report).encode())
    write_atomic(page, lone_page(report).encode())
    return page
