"""report.html: one file that needs nothing else, for light and dark, screen and paper.

    html_page(report, draw_figures(report))

All text that comes from a run is escaped by the template; pictures are data URIs, so that nothing in them can reach the
page. No script.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2
import yaml

from srft.harness.facts.records import Report
from srft.harness.look.format import printable
from srft.harness.look.report.figures import Figure
from srft.harness.look.report.opening import cards, kind_sentence, verdict_sentences
from srft.harness.look.report.palette import recoloured
from srft.harness.look.report.sections import sections

TEMPLATES = Path(__file__).parent / "templates"


def html_page(report: Report, figures: Sequence[Figure]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        report=report,
        style=(TEMPLATES / "report.css").read_text(),
        kind=kind_sentence(report),
        cards=cards(report),
        verdicts=verdict_sentences(report),
        sections=sections(report),
        figures={figure.name: figure for figure in figures},
        uri=svg_uri,
        dark=recoloured,
        settings=yaml.safe_dump(report.origin.settings, sort_keys=False, allow_unicode=True),
    )


def svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
