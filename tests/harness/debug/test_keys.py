"""The line of keys: what a terminal of any width shows."""

import pytest

from srft.harness.debug.keys import COMMANDS, help_text, keys_line


@pytest.mark.parametrize("width", [70, 80, 100, 120])
def test_a_line_fits_and_keeps_what_is_needed(width: int) -> None:
    line = keys_line(width, writing=False).plain
    assert len(line) <= width - 2
    for needed in ("a Take", "e Edit", "t Type", "r Rewind", "x Test", "s Save", "? All keys"):
        assert needed in line


def test_a_wide_line_has_all_that_have_a_word() -> None:
    line = keys_line(200, writing=False).plain
    assert all(one.shown in line for one in COMMANDS)


def test_help_has_every_key_with_what_it_does() -> None:
    text = help_text().plain
    assert all(one.meaning in text for one in COMMANDS)
    assert "?         show this page" in text
