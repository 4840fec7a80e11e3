"""The action's pane: what reaches the terminal of a command that means to deceive who approves it."""

import asyncio
import unicodedata

import pytest
from textual.app import App, ComposeResult

from srft.harness.debug.action import ActionPane

UNSAFE = "a\x1b]0;OWNED\x07b\x9b2Jc\u202edcba\u200b\u2066e\x7f"


class Panes(App):
    def compose(self) -> ComposeResult:
        yield ActionPane(read_only=True, soft_wrap=True)


def drawn(show) -> tuple[list[str], str]:
    """(the lines that textual sends to a terminal of 40 columns, the pane's text)."""

    async def draw() -> tuple[list[str], str]:
        app = Panes()
        async with app.run_test(size=(40, 12)) as pilot:
            pane = app.query_one(ActionPane)
            show(pane)
            await pilot.pause()
            return [pane.render_line(y).text.rstrip() for y in range(8)], pane.text

    return asyncio.run(draw())


@pytest.mark.parametrize("show", [ActionPane.read, ActionPane.write])
def test_nothing_reaches_the_terminal_that_it_would_obey(show):
    lines, _ = drawn(lambda pane: show(pane, UNSAFE))
    text = "".join(lines)
    assert not [character for character in text if unicodedata.category(character) in ("Cc", "Cf")]
    assert "␛]0;OWNED␇" in text


def test_what_is_edited_stays_as_it_is_column_for_column():
    lines, text = drawn(lambda pane: pane.write(UNSAFE))
    assert text == UNSAFE
    assert lines[0] == "a␛]0;OWNED␇b�2Jc�dcba��e␡"


def test_the_end_of_a_command_is_not_pushed_out_of_sight():
    """By characters that count as no column wide."""
    lines, _ = drawn(lambda pane: pane.read("ls " + "\x1b" * 60 + "; rm -rf x"))
    assert "rm -rf x" in " ".join(lines)


def test_a_plain_command_is_shown_as_it_is():
    lines, text = drawn(lambda pane: pane.read("echo 'naïve 你好' |\n\tcat"))
    assert text == "echo 'naïve 你好' |\n\tcat"
    assert "echo 'naïve 你好' |" in lines[0]
