"""What stands in issue texts and test patches."""

import pytest

from srft.agent.demonstrator.issue import example, names, visible_tests


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("no block", None),
        ("```\nx = 1\n```", None),
        ("```bash\nls\n```\n```python\nx = 1\n```\n```python\ny = 2\n```", "x = 1"),
        ("A\n\n```python\nfrom a import b\n\nprint(b(1))\n```\nB", "from a import b\n\nprint(b(1))"),
        ("```python\n>>> import a\n>>> a.b(1)\n'x'\n>>> print(2)\n2\n```", "import a\nprint(repr(a.b(1)))\nprint(2)"),
        ("```python\n>>> for x in 'ab':\n...     print(x)\na\nb\n```", "for x in 'ab':\n    print(x)"),
        ("```python\n>>> a.b(\n...   1)\n'x'\n```", "print(repr(a.b(\n  1)))"),
        ("```python\nTraceback (most recent call last):\n```", None),
        ("```python\n>>> 1 +\n```", None),
        ("```python\n>>>x\n```", None),
        ("```python\nx = '```'\n```", "x = '```'"),
    ],
)
def test_the_example(text, script):
    assert example(text) == script


def test_names():
    assert names("`total(1)` is wrong", "total")
    assert names("prices.total is wrong", "total")
    assert not names("subtotal and totals", "total")


def test_visible_tests():
    patch = (
        "diff --git a/t/a.py b/t/a.py\n--- a/t/a.py\n+++ b/t/a.py\n@@ -1 +1,2 @@\n a\n+b\n"
        "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+a\n"
        "--- a/b.py\n+++ b/b.py\n@@ -1 +1 @@\n-a\n+b\n"
    )
    assert visible_tests(patch) == ["t/a.py", "b.py"]
    assert visible_tests("") == []
