"""Reasons that repeat the reference fix."""

import pytest

from srft.critic.judge.leak import LeakGuard

PATCH = """\
diff --git a/stats/mean.py b/stats/mean.py
--- a/stats/mean.py
+++ b/stats/mean.py
@@ -1,4 +1,6 @@
 def mean(xs):
-    return sum(xs) / len(xs)
+    if is_empty_iterable(xs):
+        return 0
+    return sum(xs) / max(len(xs), 1)

 x = 1
diff --git a/stats/new.py b/stats/new.py
--- /dev/null
+++ b/stats/new.py
@@ -0,0 +1,2 @@
+--- a line that looks like a header
+previous = 3
"""
SEEN = "def mean(xs):\n    return sum(xs) / len(xs)\n"


@pytest.fixture(scope="module")
def guard():
    return LeakGuard(PATCH)


@pytest.mark.parametrize(
    "reason",
    [
        "It should `return sum(xs)/max(len(xs), 1)` instead.",
        "Misses the case\nthat `return sum( xs ) / max( len(xs),1 )` covers.",
        "It needs sum(xs) / max(len(xs), 1) here.",  # 8 tokens in a row, not the whole line
        "Does not call is_empty_iterable.",
        "The fix belongs in stats/mean.py.",
        "Leaves out --- a line that looks like a header.",
    ],
)
def test_what_only_the_fix_has(guard, reason):
    assert guard.leaks(reason, seen=SEEN)


@pytest.mark.parametrize(
    "reason",
    [
        "Reads the function and finds the division.",
        "Keeps `return sum(xs) / len(xs)`, which fails for the empty list.",  # a removed line
        "The previous edit stays.",  # a plain word
        "It must return 0.",  # a line, but too short to be peculiar
    ],
)
def test_what_is_no_quotation(guard, reason):
    assert not guard.leaks(reason, seen=SEEN)


def test_what_the_run_itself_has_seen_or_written_is_no_leak(guard):
    reason = "Writes `return sum(xs) / max(len(xs), 1)` in stats/mean.py."
    assert guard.leaks(reason, seen=SEEN)
    seen = SEEN + "cat > stats/mean.py\n    return sum(xs)/max(len(xs), 1)\n"
    assert not guard.leaks(reason, seen=seen)
    assert guard.leaks(reason + " is_empty_iterable is missing.", seen=seen)


def test_a_patch_without_lines_guards_nothing():
    assert not LeakGuard("").leaks("is_empty_iterable", seen="")
