"""The app's keys. What is shown of them fits the last line of a terminal of 80 columns."""

from textual.binding import Binding

KEYS: tuple[Binding, ...] = (
    Binding("a", "approve", "Take"),
    Binding("e", "edit", "Edit"),
    Binding("t", "write", "Type"),
    Binding("n", "ask", "Ask"),
    Binding("r", "rewind", "Rewind"),
    Binding("f", "forks", "Fork"),
    Binding("d", "diff", "Diff"),
    Binding("x", "tests", "Test"),
    Binding("c", "critic", "Critic"),
    Binding("l", "label", "Label"),
    Binding("s", "save", "Save"),
    Binding("o", "open", "Open", show=False),
    Binding("j,down", "select(1)", "Next step", show=False),
    Binding("k,up", "select(-1)", "Step before", show=False),
    # No priority: it waits behind the letters that were typed before it.
    Binding("f2,ctrl+s", "do_it", "Do it", key_display="F2"),
    Binding("escape", "leave", "Leave"),
    Binding("q", "quit", "Quit", show=False),
    Binding("ctrl+c,ctrl+q", "quit_at_once", "Quit", show=False, priority=True),
)

WHILE_WRITING = {"do_it", "leave"}
"""What holds while an action is written; the keys of all others are then letters of it."""

OWN_ACTIONS = {binding.action.partition("(")[0] for binding in KEYS} - {"quit_at_once"}
