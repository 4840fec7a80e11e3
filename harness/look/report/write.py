"""Writing a report: report.html, report.md with its pictures, and report.json, in the run's folder.

    write_report(Path("runs/demo"))          # runs/demo/report.html

The files are replaced whole. The same run gives the same files, byte for byte, with the same versions of the libraries.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from srft.env.errors import StorageError
from srft.harness.facts.report import read_report
from srft.harness.look.report.figures import draw_figures
from srft.harness.look.report.html import html_page
from srft.harness.look.report.markdown import markdown_page
from srft.harness.run.store import write_atomic

FIGURES_FOLDER = "report-figures"


def write_report(run_path: Path) -> Path:
    """Read the run's files, write its report and return the page's path. Raises InputError, StorageError."""
    report = read_report(run_path)
    figures = draw_figures(report)
    folder = run_path / FIGURES_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        for old in set(folder.glob("*.png")) - {folder / f"{figure.name}.png" for figure in figures}:
            old.unlink()
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror}); make room, then try again") from error
    for figure in figures:
        write_atomic(folder / f"{figure.name}.png", figure.png)
    write_atomic(run_path / "report.json", msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    write_atomic(run_path / "report.md", markdown_page(report, figures, folder=FIGURES_FOLDER).encode())
    page = run_path / "report.html"
    write_atomic(page, html_page(report, figures).encode())
    return page
