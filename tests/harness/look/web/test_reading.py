"""Texts made readable, and still harmless: Markdown, colours, wrappers, the issue."""

import html
import re

import pytest
from markupsafe import Markup

from srft.harness.look.web.folding import diff, folded
from srft.harness.look.web.reading import (
    code,
    issue_of,
    language_of_output,
    markdown,
    output,
    painted,
    prose,
    unwrapped,
)
from tests.harness.look.web.conftest import HOSTILE


def text_in(markup):
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_markdown_is_rendered_and_nothing_in_it_acts():
    assert markdown("**Look** at `a.py`:\n\n- one\n- two") == Markup(
        "<p><strong>Look</strong> at <code>a.py</code>:</p>\n<ul>\n<li>one</li>\n<li>two</li>\n</ul>\n"
    )
    assert markdown("a\nb") == "<p>a<br />\nb</p>\n"
    for harm in (HOSTILE, "[x](javascript:alert(1))", "![x](http://e/x.png)", "<http://e>", "[a]: http://e\n\n[a]"):
        shown = markdown(harm)
        assert not re.search(
            r"<(?!/?(p|br|code|pre|strong|em)\b)|href|src=|[\x00-\x08\x1b\u202e]", text_of_tags(shown)
        ), harm
    assert markdown("```python\nif x < 1: pass\n```").startswith('<pre><code class="language-python"><span class="y-')


def text_of_tags(markup):
    """The tags alone, and the control characters."""
    return "".join(re.findall(r"<[^>]*>|[\x00-\x08\x1b\u202e]", markup))


def test_long_prose_is_folded_between_paragraphs_and_not_in_a_block():
    text = "\n".join(["```", *["", "x = 1"] * 20, "```", "", "End.", *["more"] * 9])
    shown = prose(text, lines=10)
    assert (shown.head.count("x = 1"), shown.rest_lines, shown.is_whole) == (20, 10, True)
    assert "End." in shown.rest
    assert prose("short").rest is None
    assert prose("x\n\n" * 40_000).is_whole is False


@pytest.mark.parametrize("language", ["bash", "mswea_bash_command", "python", "no-such-language", None])
def test_code_keeps_its_text_in_every_language(language):
    text = "cat <<'EOF' > a.py\nx = '<script>'\n\n\nEOF\npython a.py && echo \"$x\"\n" + "\n".join(
        f"y{n}" for n in range(40)
    )
    plain = folded(text, head=4, tail=3)
    shown = code(plain, language)
    for part in ("head", "middle", "tail"):
        assert text_in(Markup("{}").format(getattr(shown, part))) == getattr(plain, part)
    assert isinstance(shown.head, Markup) == (language not in ("no-such-language", None))


def test_a_diff_in_colours_keeps_its_lines():
    patch = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n def f():\n"
    patch += '-    return "<b>"\n+    return 1\n'
    lines = painted(diff(patch))
    assert [line.kind for line in lines] == ["file"] * 3 + ["hunk", "same", "del", "add"]
    assert [text_in(line.text) for line in lines] == patch.rstrip("\n").split("\n")
    assert '<span class="y-k">return</span>' in lines[-1].text
    assert [text_in(line.text) for line in painted(diff("not a diff <b>"))] == ["not a diff <b>"]


@pytest.mark.parametrize(
    ("text", "bare", "notes"),
    [
        ("<returncode>0</returncode>\n<output>\nhi\nthere\n</output>", "hi\nthere", ("exit code 0",)),
        ("<returncode>-1</returncode>\n<output>\n</output>", "", ("exit code -1",)),
        ("<returncode>1</returncode>\nplain", "plain", ("exit code 1",)),
        (
            "<returncode>0</returncode>\n<warning>\nToo long.\n</warning>\n<output_head>\na\n</output_head>\n"
            "<elided_chars>\n90 characters elided\n</elided_chars>\n<output_tail>\nz\n</output_tail>",
            "a\n… 90 characters elided …\nz",
            ("exit code 0", "longer than the agent was shown"),
        ),
        ("out\n[exit code 2]", "out", ("exit code 2",)),
        ("[exit code 0]", "", ("exit code 0",)),
        (
            "/w\n[The command completed with exit code 0.]\n[Current working directory: /w]\n[Python interpreter: /p]\n"
            "[Command finished with exit code 0]",
            "/w",
            ("exit code 0", "in /w"),
        ),
        ("OBSERVATION:\n12: def f", "12: def f", ()),
        ("1:a\n(Open file: /p/a.py)\n(Current directory: /p)\nbash-$", "1:a", ("open: /p/a.py", "in /p")),
        ("no wrapper <output> here", "no wrapper <output> here", ()),
        ("<output>\nhalf", "<output>\nhalf", ()),
        ("", "", ()),
    ],
)
def test_wrappers_become_notes(text, bare, notes):
    assert unwrapped(text) == (bare, notes)


def test_the_language_of_what_a_command_printed():
    assert language_of_output("git diff", "diff --git a/a b/a") == "diff"
    assert language_of_output("cd /x && cat src/a.py", "import os") == "py"
    assert language_of_output("sed -n '1,5p' a.py", "import os") == "py"
    assert language_of_output("cat a.py | grep x", "import os") is None
    assert language_of_output("ls", "a.py") is None
    shown, notes = output("<returncode>0</returncode>\n<output>\nimport os\n</output>", "cat a.py")
    assert (text_in(shown.head), notes, isinstance(shown.head, Markup)) == ("import os", ("exit code 0",), True)


@pytest.mark.parametrize(
    ("content", "issue"),
    [
        ("Do.\n<issue>\nIt breaks.\n</issue>\nA way that works: ...", "It breaks."),
        (
            "<pr_description>\nConsider the following PR description:\nIt breaks.\n</pr_description>\n<instructions>",
            "It breaks.",
        ),
        ("Here's the issue text:\nISSUE:\nIt breaks.\n\nINSTRUCTIONS:\nNow", "It breaks."),
        ([{"type": "text", "text": "Fix <issue>it</issue>"}], "it"),
        ("Fix the bug.", "Fix the bug."),
    ],
)
def test_the_issue(content, issue):
    assert issue_of([{"role": "system", "content": "<issue>no</issue>"}, {"role": "user", "content": content}]) == issue
    assert issue_of([{"role": "system", "content": "x"}]) is None
