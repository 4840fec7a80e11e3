"""The colours of charts and page: told apart by colour-blind readers (after M. Okabe and K. Ito), for light and dark.

    ARMS["srft"], recoloured(svg)          # '#0072b2', the same picture for a dark page

Charts are drawn once, for a light page; the dark one is the same drawing with each colour exchanged for its partner.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

INK, MUTED, GRID = "#1c2128", "#5a6572", "#dfe3e8"
BLUE, ORANGE, GREEN, RED = "#0072b2", "#d08700", "#008a66", "#c9480a"
PURPLE, SKY, OLIVE, GREY = "#a9568f", "#4ea5d9", "#857a12", "#88929e"
PALE = "#c3cad2"

DARK = {
    INK: "#e8eaed",
    MUTED: "#a3adb9",
    GRID: "#323941",
    BLUE: "#4aa8e0",
    ORANGE: "#eeaa3c",
    GREEN: "#3fbf98",
    RED: "#f5824d",
    PURPLE: "#d591bd",
    SKY: "#8fd0f5",
    OLIVE: "#c5ba4e",
    GREY: "#8e98a4",
    PALE: "#525b65",
}
"""Light colour -> the one on a dark page."""

ARMS = {
    "base": GREY,
    "all": SKY,
    "resolved": ORANGE,
    "unresolved_masked": RED,
    "srft": BLUE,
    "random": PURPLE,
    "tool_error": OLIVE,
    "human": INK,
    "oracle": GREEN,
}
VERDICTS = {"good": GREEN, "recover": SKY, "unnecessary": ORANGE, "mistake": RED, "abstained": PALE}
ENDINGS = {
    "submitted": BLUE,
    "step_limit": ORANGE,
    "token_limit": OLIVE,
    "context_limit": PURPLE,
    "wall_limit": GREEN,
    "cost_limit": SKY,
    "format_errors": RED,
    "infra_error": GREY,
    "cancelled": PALE,
}

_OTHERS = (PURPLE, OLIVE, RED, GREEN, SKY, ORANGE)
_HEX = re.compile(r"#[0-9a-f]{6}")


def arm_colour(arm: str, arms: Sequence[str] = ()) -> str:
    """An arm's colour; one that has none of its own gets one by its place."""
    if arm in ARMS:
        return ARMS[arm]
    others = [name for name in arms if name not in ARMS]
    return _OTHERS[others.index(arm) % len(_OTHERS)] if arm in others else GREY


def recoloured(svg: str) -> str:
    """The drawing for a dark page.

    >>> recoloured('<path style="stroke: #0072b2"/>')
    '<path style="stroke: #4aa8e0"/>'
    """
    return _HEX.sub(lambda found: DARK.get(found[0], found[0]), svg)
