"""Tables in the terminal.

    print_table(console_for_tables(), table)
    print_line(console, "of 86 tasks")

Spaces that do not break are plain ones here, so that what is printed can be searched for.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from srft.harness.look.format import SPACE, printable
from srft.harness.look.tables import Cell, Table, cell_of, chart_text

PLAIN_WIDTH = 150
"""Where stdout is no terminal: no figure is cut."""


def console_for_tables() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def print_table(console: Console, table: Table) -> None:
    drawn = RichTable(title=table.title or None)
    for name in table.columns:
        drawn.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for place, row in enumerate(table.rows):
        if place in table.breaks:
            drawn.add_section()
        drawn.add_row(*(_text(cell_of(cell)) for cell in row), style="bold" if place in table.strong else None)
    console.print(drawn)


def _text(cell: Cell) -> Text:
    chart = "" if cell.chart is None else f"{'  ' if cell.text else ''}{chart_text(cell.chart)}"
    return Text(f"{_plain(cell.text)}{chart}")


def print_line(console: Console, line: str) -> None:
    console.print(Text(_plain(line)), soft_wrap=True, highlight=False)


def _plain(text: str) -> str:
    return str(printable(text)).replace(SPACE, " ")
