"""Issue texts: the symptom, never the place."""

import doctest

from srft.env.practice import issue_text as module
from srft.env.practice.issue_text import issue_text
from srft.env.practice.symptom import Symptom

SHOWN = Symptom(
    test="test_purse.py::test_total",
    check="assert purse.total() == 35",
    message="AssertionError: assert 30 == 35",
    code="from purse import Purse\n\nprint(Purse([5]).total())\n",
    call="Purse([5]).total()",
    got="-5",
    expected="5",
)


def test_the_docstrings_tell_the_truth() -> None:
    assert doctest.testmod(module).failed == 0


def test_the_lines_and_both_results_are_told() -> None:
    text = issue_text(SHOWN, project="purse", seed=0)
    assert "```python\nfrom purse import Purse\n\nprint(Purse([5]).total())\n```" in text
    assert "`-5`" in text
    assert "`5`" in text


def test_seeds_vary_the_words() -> None:
    assert issue_text(SHOWN, project="purse", seed=3) == issue_text(SHOWN, project="purse", seed=3)
    assert len({issue_text(SHOWN, project="purse", seed=seed) for seed in range(20)}) > 10


def test_without_lines_the_check_is_told() -> None:
    symptom = Symptom(test=SHOWN.test, check=SHOWN.check, message=SHOWN.message)
    text = issue_text(symptom, project="purse", seed=0)
    assert text.startswith("Total: this does not hold\n")
    assert "```\nassert purse.total() == 35\n```" in text
    assert "```\nAssertionError: assert 30 == 35\n```" in text
    assert "```python" not in text


def test_a_test_whose_name_says_nothing() -> None:
    text = issue_text(Symptom(test="t.py::test_6", check="", message=""), project="purse", seed=0)
    assert text.startswith("A check of purse does not hold\n")
