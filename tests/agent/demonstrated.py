"""A small task for the demonstrator's and the oracle's tests, made by hand: a module, a bug, a fix, an issue."""

import difflib

from srft.env.tasks.task import Task

MODULE = '''"""Prices."""


def total(prices, discount):
    """The sum of the prices, less the discount in percent."""
    gross = sum(prices)
    return gross * (100 - discount) / 100


def cheapest(prices):
    """The lowest price."""
    return min(prices)
'''

BROKEN = MODULE.replace("100 - discount", "100 + discount")

ISSUE = """A discount makes it dearer

`total([10], 50)` is 15.0. I expected 5.0.

```python
from prices import total
print(total([10], 50))
```
"""

TEST_PATCH = "--- a/test_prices.py\n+++ b/test_prices.py\n@@ -1 +1,2 @@\n import prices\n+# more\n"


def patch_of(before: str, after: str, *, path: str = "prices.py", context: int = 3) -> str:
    """The unified diff from one text to another, both of whole lines."""
    lines = difflib.unified_diff(
        before.split("\n")[:-1], after.split("\n")[:-1], f"a/{path}", f"b/{path}", lineterm="", n=context
    )
    return "".join(line + "\n" for line in lines)


def task(*, before: str = BROKEN, after: str = MODULE, issue: str = ISSUE, **columns: object) -> Task:
    known = {
        "instance_id": "practice__prices-1",
        "repo": "practice/prices",
        "base_commit": "base",
        "problem_statement": issue,
        "patch": patch_of(before, after),
        "test_patch": TEST_PATCH,
        "FAIL_TO_PASS": ("test_total",),
        "PASS_TO_PASS": (),
        "image": "none",
        "eval_script": "",
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
    }
    return Task(**{**known, **columns})
