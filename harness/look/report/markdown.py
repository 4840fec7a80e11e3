"""report.md: the same report for a terminal, a pull request or an archive; its pictures lie beside it as PNG files.

markdown_page(report, draw_figures(report), folder="report-figures")
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import jinja2
import yaml

from srft.harness.facts.records import Report
from srft.harness.look.format import printable
from srft.harness.look.report.figures import Figure
from srft.harness.look.report.html import TEMPLATES
from srft.harness.look.report.opening import cards, kind_sentence, verdict_sentences
from srft.harness.look.report.sections import Table, sections

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def markdown_page(report: Report, figures: Sequence[Figure], *, folder: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"escaped": escaped, "table": table, "fenced": fenced}
    return environment.get_template("report.md").render(
        report=report,
        kind=kind_sentence(report),
        cards=cards(report),
        verdicts=verdict_sentences(report),
        sections=sections(report),
        figures={figure.name: figure for figure in figures},
        folder=folder,
        settings=yaml.safe_dump(report.origin.settings, sort_keys=False, allow_unicode=True),
    )


def escaped(text: object) -> str:
    """Text that Markdown shows as it is, on one line.

    >>> escaped("a|b_c <i>")
    'a\\\\|b\\\\_c \\\\<i\\\\>'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split(" ")).replace("\n", " "))


def fenced(text: str) -> str:
    """A code block that its text cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"


def table(one: Table) -> str:
    """A table; the figures stand to the right."""
    head = "| " + " | ".join(escaped(name.removeprefix(">")) for name in one.columns) + " |"
    rule = "|" + "|".join("---:" if name.startswith(">") else "---" for name in one.columns) + "|"
    rows = []
    for place, row in enumerate(one.rows):
        cells = [escaped(cell) for cell in row]
        if place in one.strong:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([head, rule, *rows])
