"""A pytest plugin that tells what a test run did. It runs in the container, on its Python, and not in srft.

Writes JSON to the file that SRFT_PROBE names:

    {"calls": [["/testbed/ledger.py", 12], ...],                       # functions that ran: file, first line
     "failures": {"test_ledger.py::test_add": {"line": 7, "locals": {"a": "1"}, "exception": "AssertionError",
                                               "message": "assert 3 == 2"}}}
"""

import ast
import json
import os
import sys
import threading

import pytest

TESTBED = "/testbed/"
TEXT_LIMIT = 2000
PLAIN = (type(None), bool, int, float, complex, str, bytes)

calls: set = set()
failures: dict = {}


def _profile(frame, event, _argument):
    if event == "call":
        code = frame.f_code
        if code.co_filename.startswith(TESTBED):
            calls.add((code.co_filename, code.co_firstlineno))


def pytest_configure(config):
    if os.environ.get("SRFT_PROBE_CALLS"):
        threading.setprofile(_profile)
        sys.setprofile(_profile)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    yield
    if call.excinfo is None or item.nodeid in failures:
        return
    own = [entry for entry in call.excinfo.traceback if str(entry.path) == str(item.path)]
    if own:
        failures[item.nodeid] = {
            "line": own[-1].lineno + 1,
            "locals": _literals(own[-1].frame.f_locals),
            "exception": call.excinfo.type.__name__,
            "message": str(call.excinfo.value)[:TEXT_LIMIT],
        }


def _literals(variables):
    """The variables whose values can be written down."""
    written = {}
    for name, value in variables.items():
        try:
            if _is_plain(value):
                text = repr(value)
                if len(text) <= TEXT_LIMIT and ast.literal_eval(text) == value:
                    written[name] = text
        except (ValueError, SyntaxError, MemoryError, RuntimeError):  # infinity; too long or too deep; itself in itself
            continue
    return written


def _is_plain(value):
    """Whether it is of Python's own types throughout. The repr of any other is the project's code."""
    if type(value) is dict:
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return type(value) in PLAIN or (type(value) in (list, tuple, set) and all(map(_is_plain, value)))


def pytest_sessionfinish(session):
    sys.setprofile(None)
    with open(os.environ["SRFT_PROBE"], "w", encoding="utf-8") as file:
        json.dump({"calls": sorted(calls), "failures": failures}, file)
