"""The critic of changes, on hand-made runs."""

import msgspec
import pytest

from srft.critic.labels.labels import Evidence
from srft.critic.rules.edits import EditsCritic
from tests.critic.hand_made import bash, edit, trajectory

PATCH = "diff --git a/limits.py b/limits.py\n--- a/limits.py\n+++ b/limits.py\n"
SUBMIT = bash("submit", exit_code=None, observation=None)
LOOK = bash("grep -n -A3 'def clamp' limits.py")
CHANGE = bash(r"sed -i '3c\    return x' limits.py")


def judged(*steps, resolved, patch=PATCH):
    run = msgspec.structs.replace(trajectory(*steps), patch=patch)
    critique = EditsCritic().judge(run, Evidence(resolved=resolved))
    return None if critique is None else [label.verdict for label in critique.labels]


def test_in_an_unresolved_run_what_went_into_the_patch_and_the_submission_are_mistakes():
    assert judged(LOOK, CHANGE, SUBMIT, resolved=False) == ["good", "mistake", "mistake"]
    assert judged(LOOK, CHANGE, SUBMIT, resolved=True) == ["good", "good", "good"]


def test_without_an_outcome_there_is_no_opinion():
    assert judged(LOOK, CHANGE, SUBMIT, resolved=None) is None


@pytest.mark.parametrize(
    "restore",
    ["git checkout -- limits.py", "git checkout .", "git restore /testbed/limits.py", "git stash", "git reset --hard"],
)
@pytest.mark.parametrize("resolved", [True, False])
def test_a_change_that_is_taken_back_was_a_mistake_whatever_the_outcome(restore, resolved):
    verdicts = judged(CHANGE, bash(restore), CHANGE, SUBMIT, resolved=resolved)
    assert verdicts[:2] == ["mistake", "recover"]
    assert verdicts[2:] == (["good", "good"] if resolved else ["mistake", "mistake"])


@pytest.mark.parametrize("command", ["git checkout -- other.py", "git stash list", "git status", "git reset"])
def test_what_takes_nothing_back_is_good(command):
    assert judged(CHANGE, bash(command), SUBMIT, resolved=True) == ["good", "good", "good"]


def test_files_outside_the_patch_are_nobodys_mistake():
    script = bash("cat > /tmp/try.py <<'EOF'\nprint(1)\nEOF")
    assert judged(script, CHANGE, SUBMIT, resolved=False) == ["good", "mistake", "mistake"]
    assert judged(script, SUBMIT, resolved=False, patch="") == ["good", "mistake"]


def test_the_edit_tool_changes_too():
    step = edit(command="replace", path="/testbed/limits.py", old="a", new="b")
    assert judged(step, SUBMIT, resolved=False) == ["mistake", "mistake"]


SPOILT = PATCH + "@@ -1,3 +1,3 @@\n def clamp(x):\n-    return 1\n+    return y\n"


def test_a_change_that_was_written_over_is_nobodys_mistake():
    spoil = bash(r"sed -i '3c\    return y' limits.py")
    assert judged(CHANGE, spoil, SUBMIT, resolved=False, patch=SPOILT) == ["good", "mistake", "mistake"]


def test_where_a_line_of_the_patch_stands_in_no_change_all_are_suspect():
    by_pattern = bash("sed -i 's/return x/return y/' limits.py")
    assert judged(CHANGE, by_pattern, SUBMIT, resolved=False, patch=SPOILT)[:2] == ["good", "mistake"]
    blind = bash("sed -i 's/x/y/' limits.py")
    assert judged(CHANGE, blind, SUBMIT, resolved=False, patch=SPOILT)[:2] == ["mistake", "mistake"]


def test_a_patch_that_only_removes_has_all_changes_of_the_file_as_its_origin():
    removed = PATCH + "@@ -1,2 +1,1 @@\n def clamp(x):\n-    return 1\n"
    assert judged(CHANGE, CHANGE, SUBMIT, resolved=False, patch=removed) == ["mistake", "mistake", "mistake"]
