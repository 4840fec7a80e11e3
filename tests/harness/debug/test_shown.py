"""A session's records as texts."""

from srft.critic.labels.labels import Critique, StepLabel
from srft.env.grading.grade import Grade, NamedTests
from srft.harness.debug.shown import critique_text, grade_text


def test_the_critics_word_on_the_selected_step_comes_first():
    labels = (StepLabel(step=0, verdict="good"), StepLabel(step=1, verdict="mistake", reason="wrong\x1b[2J file"))
    told = Critique(trajectory_id="t", task_id="k", critic="judge", fingerprint="f", source="rule", labels=labels)
    whole = "step 0  good  \nstep 1  mistake  wrong␛[2J file\n"
    assert critique_text(told, step=1).plain == f"judge\nstep 1  mistake  wrong␛[2J file\n\nthe whole run\n{whole}"
    assert critique_text(told, step=-1).plain == f"judge\n{whole}"


def test_the_failing_test_and_its_assertion_come_before_the_log():
    tests = NamedTests(passed=("t.py::test_a",), failed=("t.py::test_b",))
    grade = Grade(
        instance_id="k", grader="g", key="h", outcome="unresolved", resolved=False, wall_s=1.0, fail_to_pass=tests,
        pass_to_pass=NamedTests(passed=("t.py::test_c",), failed=()),
    )  # fmt: skip
    log = "+ set -x\n+ : '>>>>> Start Test Output'\n____ test_b ____\nE   assert 1 == 2\nt.py:3: AssertionError\n"
    assert grade_text(grade, log=log).plain == (
        "unresolved  1.0 s\n"
        "failed: t.py::test_b\n"
        "    t.py:3: AssertionError\n"
        "    assert 1 == 2\n"
        "FAIL_TO_PASS: 1 passed, 1 failed\n"
        "PASS_TO_PASS: 1 passed, 0 failed\n"
        "\nthe end of the tests' output\n"
        "____ test_b ____\nE   assert 1 == 2\nt.py:3: AssertionError"
    )
