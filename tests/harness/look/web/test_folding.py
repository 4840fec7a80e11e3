"""Long texts and diffs."""

from hypothesis import given
from hypothesis import strategies as st

from srft.harness.look.web.folding import DiffLine, Part, diff, folded, parts


def test_short_texts_stay_whole():
    assert folded("a\nb\n") == ("a\nb", "", "", 0, 2, 4, True)


def test_the_middle_is_folded():
    text = folded("\n".join(map(str, range(30))), head=2, tail=1)
    assert (text.head, text.tail, text.hidden_lines) == ("0\n1", "29", 27)
    assert text.middle.split("\n") == [str(number) for number in range(2, 29)]


def test_long_lines_are_cut_and_long_texts_left_out():
    assert folded("x" * 5_000_000).head == "x" * 1000 + " … 5,000,000 characters"
    text = folded("y\n" * 50_000, head=2, tail=1)
    assert (text.head, text.middle, text.tail, text.hidden_lines, text.is_whole) == ("y\ny", "", "y", 49_997, False)


@given(st.lists(st.text(alphabet="ab", max_size=3), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 9))
def test_nothing_is_lost(rows, head, tail):
    text = folded("\n".join(rows), head=head, tail=tail)
    together = "\n".join(part for part in (text.head, text.middle, text.tail) if part or text.hidden_lines)
    if text.hidden_lines:
        assert together.split("\n") == "\n".join(rows).rstrip("\n").split("\n")
    else:
        assert text.head == "\n".join(rows).rstrip("\n")
    assert text.is_whole


def test_prose_and_blocks():
    assert list(parts("Look.\n\n```bash\nls\n```\nThen:\n```\nx\n```")) == [
        Part("Look.", None),
        Part("ls", "bash"),
        Part("Then:", None),
        Part("x", "text"),
    ]
    assert list(parts("```python\nopen")) == [Part("open", "python")]
    assert list(parts("")) == [Part("", None)]


def test_a_diff():
    found = diff("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-- old\n++ new\n same\n")
    assert [line.kind for line in found.lines] == ["file", "file", "file", "hunk", "del", "add", "same"]
    assert found.lines[4] == DiffLine("del", "-- old")
    assert (found.files, found.added, found.deleted) == (["x"], 1, 1)
