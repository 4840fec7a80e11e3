"""Which lines of a test log say what failed."""

import pytest

from srft.harness.debug.failures import why

PYTEST = """\
+ set -x
+ source /opt/venv/bin/activate
+ : '>>>>> Start Test Output'
============================= test session starts ==============================
=================================== FAILURES ===================================
___________________________ TestSize.test_big[a-1] ____________________________

    def test_big(self):
>       assert size(41) == 42
E       AssertionError: off by one
E       assert 41 == 42

tests/test_size.py:7: AssertionError
________________________________ test_small ________________________________
tests/test_size.py:12: in test_small
    raise ValueError("no")
E   ValueError: no
=========================== short test summary info ============================
FAILED tests/test_size.py::TestSize::test_big[a-1] - AssertionError: off by one
FAILED tests/test_size.py::test_gone - fixture 'x' not found
+ : '>>>>> End Test Output'
+ git checkout tests
"""

DJANGO = """\
test_save (app.tests.SaveTests) ... FAIL
======================================================================
FAIL: test_save (app.tests.SaveTests)
----------------------------------------------------------------------
Traceback (most recent call last):
  File "/usr/lib/python3.9/unittest/mock.py", line 10, in patched
    return func(*args)
  File "/testbed/app/tests.py", line 20, in test_save
    self.assertEqual(a, b)
AssertionError: 1 != 2
- 1
+ 2

----------------------------------------------------------------------
Ran 1 test in 0.001s
"""


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (
            "tests/test_size.py::TestSize::test_big[a-1]",
            ["tests/test_size.py:7: AssertionError", "AssertionError: off by one", "assert 41 == 42"],
        ),
        ("tests/test_size.py::test_small", ["tests/test_size.py:12: in test_small", "ValueError: no"]),
        ("tests/test_size.py::test_gone", ["fixture 'x' not found"]),
        ("tests/test_size.py::test_never_named", []),
    ],
)
def test_of_pytest(test: str, expected: list[str]) -> None:
    assert why(test, PYTEST) == expected


def test_of_unittest() -> None:
    expected = ['File "/testbed/app/tests.py", line 20, in test_save', "AssertionError: 1 != 2", "- 1", "+ 2"]
    assert why("test_save (app.tests.SaveTests)", DJANGO) == expected
    assert why("app.tests.SaveTests.test_save", DJANGO) == expected
