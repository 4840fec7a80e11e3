"""report.md: the same report for a terminal, a pull request or an archive; its charts are text.

markdown_page(report)
"""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import yaml

from srft.harness.facts.records import Report
from srft.harness.look.format import printable
from srft.harness.look.report.opening import cards, kind_sentence, verdict_sentences
from srft.harness.look.report.sections import sections
from srft.harness.look.tables import Curves, Table, cell_of, chart_text, curve_text

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def markdown_page(report: Report) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"escaped": escaped, "table": table, "curves": curves, "fenced": fenced}
    return environment.get_template("report.md").render(
        report=report,
        kind=kind_sentence(report),
        cards=cards(report),
        verdicts=verdict_sentences(report),
        sections=sections(report),
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
        cells = []
        for cell in map(cell_of, row):
            text = escaped(cell.text)
            text = f"**{text}**" if text and place in one.strong else text
            cells.append(f"{text} `{chart_text(cell.chart)}`".strip() if cell.chart else text)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([head, rule, *rows, *_key(one)])


def _key(one: Table) -> list[str]:
    """What the letters of its charts stand for."""
    return ["", ", ".join(f"`{letter}` {escaped(name)}" for name, letter in one.letters.items())] if one.letters else []


def curves(one: Curves) -> str:
    top = max((value for curve in one.curves for _, value in curve.points), default=0.0)
    return "\n".join(
        f"- {escaped(curve.label)}: {curve.points[0][1]:.3g} `{curve_text(curve, top=top)}` {curve.points[-1][1]:.3g}"
        for curve in one.curves
    )
