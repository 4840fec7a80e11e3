"""The critic that knows the reference fix, on hand-made runs."""

import msgspec
import pytest

from srft.agent.importing.importers import read_runs
from srft.critic.labels.labels import Evidence, evidence_id
from srft.critic.rules.milestones import LIKE_SHARE, MilestonesCritic, likeness, places
from tests.critic.hand_made import bash, edit, trajectory

FIX = """diff --git a/pkg/limits.py b/pkg/limits.py
--- a/pkg/limits.py
+++ b/pkg/limits.py
@@ -8,5 +8,5 @@ def clamp(value, low, high):
     # both ends belong to it
     if value < low:
-        return high
+        return low
     return min(value, high)
     # of them all
"""
RIGHT = FIX
OTHERWISE = FIX.replace("+        return low", "+        raise RangeError(value, 'out of its bounds')")
ELSEWHERE = FIX.replace("-8,5 +8,5", "-80,5 +80,5")
OTHER_FILE = FIX.replace("pkg/limits.py", "pkg/other.py")
LINES = "     8\t    # both ends belong to it\n     9\t    if value < low:\n    10\t        return high\n"

FIND = bash("grep -rn clamp .", observation="./pkg/limits.py:7:def clamp(value, low, high):")
READ = bash("cat -n pkg/limits.py", observation=LINES)
CHANGE = bash(r"sed -i '10c\        return low' pkg/limits.py", observation="")
CHECK = bash("cd /testbed && python -m pytest -q", observation="3 passed")
SUBMIT = bash("submit", exit_code=None, observation=None)


def judged(*steps, patch, fix=FIX):
    run = msgspec.structs.replace(trajectory(*steps), patch=patch)
    return MilestonesCritic().judge(run, Evidence(gold_patch=fix))


def verdicts(*steps, patch, fix=FIX):
    return [label.verdict for label in judged(*steps, patch=patch, fix=fix).labels]


def test_a_run_that_does_as_the_fix_reaches_every_milestone():
    critique = judged(FIND, READ, CHANGE, CHECK, SUBMIT, patch=RIGHT)
    assert [label.verdict for label in critique.labels] == ["good"] * 5
    assert critique.remarks == {"milestones": 5, "reached": 5}
    assert [label.reason for label in critique.labels] == [
        "finds pkg/limits.py",
        "reads the lines of pkg/limits.py that are to be changed",
        "changes pkg/limits.py where it is to be changed",
        "checks the change",
        "hands in changes as the fix makes them",
    ]
    assert (critique.information, critique.source) == ("fix_alone", "rule")


@pytest.mark.parametrize("patch", [ELSEWHERE, OTHER_FILE])
def test_a_change_where_the_fix_has_none_is_a_mistake_and_so_is_its_submission(patch):
    change = CHANGE if patch is ELSEWHERE else bash(r"sed -i '10c\        return low' pkg/other.py", observation="")
    critique = judged(FIND, READ, change, CHECK, SUBMIT, patch=patch)
    assert [label.verdict for label in critique.labels] == ["good", "good", "mistake", "good", "mistake"]
    assert critique.remarks == {"milestones": 5, "reached": 2}


def test_the_right_place_otherwise_than_the_fix_is_half_sure():
    step = bash("python - <<'E'\n# pkg/limits.py\nraise RangeError(value, 'out of its bounds')\nE", observation="")
    critique = judged(READ, step, SUBMIT, patch=OTHERWISE)
    assert [(label.verdict, label.confidence) for label in critique.labels[1:]] == [("mistake", 0.5)] * 2


def test_a_change_that_brings_more_than_the_fix_is_not_as_the_fix():
    """A slip beside the right value: the tokens of the fix are all there."""
    slip = FIX.replace("+        return low", "+        return min(low, value)")
    step = bash(r"sed -i '10c\        return min(low, value)' pkg/limits.py", observation="")
    assert verdicts(READ, step, SUBMIT, patch=slip) == ["good", "mistake", "mistake"]


def test_a_change_that_git_takes_back_was_a_mistake():
    back = bash("git checkout -- pkg/limits.py", observation="")
    assert verdicts(CHANGE, back, CHANGE, SUBMIT, patch=RIGHT) == ["mistake", "recover", "good", "good"]


def test_a_change_that_did_not_last_and_a_script_that_tries_something():
    twice = edit(command="str_replace", path="/testbed/pkg/limits.py", old_str="return high", new_str="return 0")
    script = bash("cat > test_try.py <<'E'\nprint(1)\nE", observation="")
    assert verdicts(twice, script, CHANGE, SUBMIT, patch=RIGHT)[:3] == ["unnecessary", "good", "good"]


def test_the_same_again_is_unnecessary_and_with_another_answer_it_is_not():
    other = bash("cat -n pkg/limits.py", observation=LINES.replace("high", "low"))
    assert verdicts(READ, READ, other, SUBMIT, patch=RIGHT)[:3] == ["good", "unnecessary", "good"]


def test_a_change_by_a_script_that_was_run_is_there_at_the_end():
    script = bash("python fix_it.py", observation="")
    critique = judged(READ, script, SUBMIT, patch=RIGHT)
    assert [label.verdict for label in critique.labels] == ["good", "good", "good"]
    assert critique.remarks == {"milestones": 5, "reached": 4}  # nothing was run behind the change


def test_of_changes_of_tests_and_of_half_a_fix_nothing_is_said():
    two = FIX + FIX.replace("limits.py", "more.py")
    tests = FIX.replace("pkg/limits.py", "tests/test_limits.py")
    step = bash("sed -i 's/a/return low/' tests/test_limits.py", observation="")
    assert verdicts(CHANGE, step, SUBMIT, patch=RIGHT + tests, fix=two) == ["good", None, None]


@pytest.mark.parametrize("fix", [None, "", "no diff", FIX.replace("pkg/limits.py", "tests/test_limits.py")])
def test_without_a_fix_there_is_no_opinion(fix):
    run = trajectory(READ, SUBMIT)
    assert MilestonesCritic().judge(run, Evidence(gold_patch=fix)) is None


@pytest.mark.parametrize(
    "patch", [None, "", "diff --git a/x\n@@ -1 +1 @@ broken\n", "Binary files a/x and b/x differ\n"]
)
def test_a_patch_that_is_none_hands_in_nothing_right(patch):
    assert verdicts(READ, SUBMIT, patch=patch) == ["good", "mistake"]


def test_the_outcome_counts_for_nothing():
    run = msgspec.structs.replace(trajectory(READ, CHANGE, SUBMIT), patch=RIGHT)
    critics = [MilestonesCritic().judge(run, Evidence(resolved=it, gold_patch=FIX)) for it in (True, False, None)]
    assert critics[0] == critics[1] == critics[2]
    assert evidence_id(Evidence(resolved=True, gold_patch=FIX), "fix_alone") == evidence_id(
        Evidence(gold_patch=FIX), "fix_alone"
    )
    assert evidence_id(Evidence(gold_patch=FIX), "fix_alone") != evidence_id(
        Evidence(gold_patch=RIGHT[1:]), "fix_alone"
    )


def test_a_step_that_reaches_two_milestones_is_told_by_the_first():
    critique = judged(READ, SUBMIT, patch="")
    assert critique.labels[0].reason == "finds pkg/limits.py"


def test_places_of_a_patch():
    [place] = places(FIX)
    assert (place.path, place.first, place.last, place.added) == ("pkg/limits.py", 10, 10, ("return low",))
    assert "return high" in place.old
    insertion = "--- a/a.py\n+++ b/a.py\n@@ -3,2 +3,3 @@\n one line\n+a new one\n two line\n"
    assert [(one.first, one.last, one.added) for one in places(insertion)] == [(3, 4, ("a new one",))]
    two = "--- a/a.py\n+++ b/a.py\n@@ -1,3 +1,3 @@\n-old first\n+new first\n between\n-old last\n+new last\n"
    assert [(one.first, one.last) for one in places(two)] == [(1, 1), (3, 3)]
    new = "--- /dev/null\n+++ b/a.py\n@@ -0,0 +1,1 @@\n+import os\n"
    assert [(one.path, one.old) for one in places(new)] == [("a.py", ())]


def test_likeness_is_a_share_of_the_fixs_tokens():
    [place] = places(FIX)
    assert likeness(place, places(FIX)) == 1
    assert likeness(place, []) == 0
    assert likeness(place, places(OTHERWISE)) == 0 < LIKE_SHARE  # the removed line alone is the same
    removal = "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,1 @@\n-import os\n import re\n"
    assert [dict(one.tokens) for one in places(removal)] == [{"-import": 1, "-os": 1}]


def test_the_recorded_runs(shared_data, verified_tasks):
    """Of the runs whose fix is at hand, the resolved ones come further."""
    path = shared_data / "trajectories" / "gemini3pro_mini_verified.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    shares = {True: [], False: []}
    for run in read_runs(path):
        if run.task_id in verified_tasks:
            critique = MilestonesCritic().judge(run, Evidence(gold_patch=verified_tasks[run.task_id].patch))
            shares[run.recorded_resolved].append(critique.remarks.get("reached", 0) / critique.remarks["milestones"])
    assert (len(shares[True]), len(shares[False])) == (34, 11)
    means = {resolved: sum(found) / len(found) for resolved, found in shares.items()}
    assert means[True] > 0.75 > 0.5 > means[False]
