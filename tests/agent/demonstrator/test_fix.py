"""Patches as edits, and the commands that make them, run with the real bash and sed."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srft.agent.demonstrator.fix import Definition, Edit, edit_command, read_fix
from srft.env.errors import InputError
from tests.agent import demonstrated

HEADER = "--- a/x.py\n+++ b/x.py\n"

LINE = st.text(
    st.one_of(
        st.sampled_from(" \t'\"\\&/;{}$`!\r#n01é\u2028"),
        st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]),
    ),
    max_size=12,
)


def run(command, folder):
    subprocess.run(["bash", "-c", command], cwd=folder, check=True)


def text_of(lines):
    return "".join(line + "\n" for line in lines)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_an_edit_comes_out_to_the_byte(tmp_path_factory, data):
    before = data.draw(st.lists(LINE, min_size=1, max_size=5))
    start = data.draw(st.integers(0, len(before)))
    end = data.draw(st.integers(start, len(before)))
    new = data.draw(st.lists(LINE, min_size=0 if end > start else 1, max_size=3))
    folder = tmp_path_factory.mktemp("edit")
    path = data.draw(st.sampled_from(["x.py", "a b/it's $x.py", "-x.py"]))
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_bytes(text_of(before).encode())
    run(edit_command(Edit(start + 1, tuple(before[start:end]), tuple(new)), path=path), folder)
    assert (folder / path).read_bytes() == text_of([*before[:start], *new, *before[end:]]).encode()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "-c", "+d", "@@ -1 +1 @@", "--- a/x", "\\ e", "it's", ""]), max_size=12),
    st.lists(st.sampled_from(["a", "b", "-c", "+d", "@@ -1 +1 @@", "+++ b/x", "\\ e", "&/\\", ""]), max_size=12),
    st.integers(0, 3),
)
def test_the_edits_of_a_patch_make_its_change(tmp_path_factory, before, after, context):
    before, after = ["first", *before], ["first", *after]
    patch = demonstrated.patch_of(text_of(before), text_of(after), path="x.py", context=context)
    if before == after:
        with pytest.raises(InputError, match="no changed lines"):
            read_fix(patch, where="t")
        return
    fix = read_fix(patch, where="t")
    folder = tmp_path_factory.mktemp("fix")
    (folder / "x.py").write_text(text_of(before))
    for edit in reversed(fix.edits):
        run(edit_command(edit, path=fix.path), folder)
    assert (folder / "x.py").read_text() == text_of(after)
    assert all(before[number - 1] == line for number, line in fix.shown.items())


def test_a_patch_of_several_places():
    hunks = "@@ -1,3 +1,2 @@ class A:\n-a\n b\n-c\n+d\n@@ -9,0 +9,2 @@\n+e\n+f\n"
    patch = f"diff --git a/x.py b/x.py\nindex 1..2 100644\n{HEADER}{hunks}"
    fix = read_fix(patch, where="t")
    assert fix.path == "x.py"
    assert fix.edits == (Edit(1, ("a",), ()), Edit(3, ("c",), ("d",)), Edit(10, (), ("e", "f")))
    assert fix.shown == {1: "a", 2: "b", 3: "c"}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("", "no changed lines"),
        (HEADER, "no changed lines"),
        ("--- a/x.py\n+++ b/y.py\n@@ -1 +1 @@\n-a\n+b\n", "no changed lines of a file that stays"),
        ("--- /dev/null\n+++ b/x.py\n@@ -0,0 +1 @@\n+a\n", "expected a/PATH and b/PATH"),
        (f'{HEADER}@@ -1 +1 @@\n-a\n+b\n--- "a/y\\303.py"\n', "more than one file"),
        (f"new file mode 100644\n{HEADER}@@ -1 +1 @@\n-a\n+b\n", "'new file mode 100644'"),
        ("diff --git a/x b/x\nGIT binary patch\n", "GIT binary patch"),
        (f"{HEADER}@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n", "no newline"),
        (f"{HEADER}@@ -1 +1 @@\n-a\n+b\0\n", "NUL"),
        (f"{HEADER}@@ -1,3 +1,3 @@\n-a\n+b\n", "ends before"),
        (f"{HEADER}@@ -1,2 +1,2 @@\n-a\n+b\nx\n", "ends before"),
    ],
)
def test_patches_that_are_refused(patch, message):
    with pytest.raises(InputError, match=message) as raised:
        read_fix(patch, where="flask__flask-1")
    assert str(raised.value).startswith("flask__flask-1: ")


def test_a_last_line_without_newline_may_be_shown():
    patch = f"{HEADER}@@ -1,2 +1,2 @@\n-a\n+b\n c\n\\ No newline at end of file\n"
    assert read_fix(patch, where="t").edits == (Edit(1, ("a",), ("b",)),)


@pytest.mark.parametrize(
    ("before", "after", "function"),
    [
        ("def f():\n    return 1\n", "def f():\n    return 2\n", Definition("f", 1)),
        ("def f(a=1):\n    return 1\n", "def f(a=2):\n    return 1\n", Definition("f", 1)),
        ("async def f():\n    x = 1\n", "async def f():\n    x = 1\n    return x\n", Definition("f", 1)),
        ("a = 1\n", "a = 2\n", None),
        (
            "def f():\n    pass\n    pass\n    pass\n    return 1\n",
            "def f():\n    pass\n    pass\n    pass\n    return 2\n",
            None,
        ),
        ("def f():\n    return 1\ndef g():\n    return 1\n", "def f():\n    return 2\ndef g():\n    return 2\n", None),
    ],
)
def test_the_function_around_a_fix(before, after, function):
    assert read_fix(demonstrated.patch_of(before, after), where="t").function == function
