"""What the probe writes down of a failing test's variables."""

from collections import OrderedDict

from srft.env.practice.probe import TEXT_LIMIT, _literals


class Guarded:
    """A project's object that nobody may look at."""

    def __repr__(self) -> str:
        raise SystemExit("a project's repr was run")

    def __eq__(self, other: object) -> bool:
        raise SystemExit("a project's comparison was run")

    __hash__ = object.__hash__


def test_plain_values_are_written() -> None:
    values = {"none": None, "number": -1.5, "text": "a'b", "bytes": b"\0", "nested": {"a": [1, (2, {3})], True: 1j}}
    assert _literals(values) == {
        "none": "None",
        "number": "-1.5",
        "text": '"a\'b"',
        "bytes": "b'\\x00'",
        "nested": "{'a': [1, (2, {3})], True: 1j}",
    }


def test_what_cannot_be_written_is_left_out() -> None:
    itself: list[object] = []
    itself.append(itself)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    values = {"infinite": float("inf"), "long": "x" * TEXT_LIMIT, "itself": itself, "deep": deep, "type": int}
    assert _literals(values) == {}


def test_the_project_s_own_code_is_not_run() -> None:
    guarded = Guarded()
    values = {
        "alone": guarded,
        "in a list": [guarded],
        "key": {guarded: 1},
        "value": {1: guarded},
        "own": OrderedDict(a=1),
    }
    assert _literals(values | {"good": 1}) == {"good": "1"}
