"""Patches as text: the files that they change, and their reverse."""

import subprocess

from hypothesis import given
from hypothesis import strategies as st

from srft.env.tasks.dialects import patch_text
from tests.env.tasks.dialects.test_dialects import TEST_PATCH


def test_files_of_a_patch_are_told_from_its_lines():
    patch = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- a/not\n+++ b/not\n one\n"
    assert patch_text.changed_files(patch) == [("x", "x")]
    assert patch_text.changed_files(TEST_PATCH)[1:] == [
        (None, "tests/test_new.py"),
        ("tests/data.json", "tests/data.json"),
        ("tests/test_old.py", None),
    ]


def test_the_reverse_of_a_patch():
    patch = """\
diff --git a/old.py b/new.py
similarity index 90%
rename from old.py
rename to new.py
index 1111111..2222222 100644
--- a/old.py
+++ b/new.py
@@ -1,4 +1,3 @@ def f():
 keep
-a
-b
+c
 keep
@@ -10 +9 @@
-end
\\ No newline at end of file
+END
\\ No newline at end of file
diff --git a/gone.py b/gone.py
deleted file mode 100644
index 3333333..0000000
--- a/gone.py
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/run b/run
old mode 100644
new mode 100755
"""
    assert (
        patch_text.reverse(patch)
        == """\
diff --git a/new.py b/old.py
similarity index 90%
rename from new.py
rename to old.py
index 2222222..1111111 100644
--- a/new.py
+++ b/old.py
@@ -1,3 +1,4 @@ def f():
 keep
-c
+a
+b
 keep
@@ -9 +10 @@
-END
\\ No newline at end of file
+end
\\ No newline at end of file
diff --git a/gone.py b/gone.py
new file mode 100644
index 0000000..3333333
--- /dev/null
+++ b/gone.py
@@ -0,0 +1 @@
+x
diff --git a/run b/run
old mode 100755
new mode 100644
"""
    )
    assert patch_text.reverse(patch_text.reverse(patch)) == patch


LINES = st.lists(
    st.sampled_from(["a", "b", "-- a/x", "++ b/x", "@@ -1 +1 @@", "", "\\", "x\r", "y\u2028z"]), max_size=6
)


@given(old=LINES, new=LINES, ends=st.tuples(st.booleans(), st.booleans()))
def test_git_undoes_what_a_reversed_patch_undoes(tmp_path_factory, old, new, ends):
    """git makes a patch; its reverse, applied by git, gives the old file back to the byte."""
    folder = tmp_path_factory.mktemp("diff")
    texts = ["\n".join(lines) + ("\n" if end and lines else "") for lines, end in zip((old, new), ends, strict=True)]
    for name, text in zip(("old", "new"), texts, strict=True):
        (folder / name).write_bytes(text.encode())
    made = subprocess.run(["git", "diff", "--no-index", "old", "new"], cwd=folder, capture_output=True, check=False)
    if not made.stdout:
        assert texts[0] == texts[1]
        return
    patch = made.stdout.decode().replace("b/new", "b/old")
    (folder / "old").write_bytes(texts[1].encode())
    applied = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"], cwd=folder, input=patch_text.reverse(patch).encode(), check=False
    )
    assert applied.returncode == 0
    assert (folder / "old").read_bytes() == texts[0].encode()
