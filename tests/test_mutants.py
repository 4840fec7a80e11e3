"""The mutation tool tells the truth: a change that the tests notice is killed, one that they do not survives."""

import shutil
from pathlib import Path

import pytest

from tests.mutants import Outcome, own_tests, report, run
from tests.mutations import Mutant, mutations

CODE = """
def grade(points):
    if points > 10:
        return "good"
    return "bad"


def spin(count):
    while count > 0:
        count -= 1
    return count
"""
TESTS = """
from small.code import grade, spin


def test_grade():
    assert grade(12) == "good"
    assert grade(5) == "bad"


def test_spin():
    assert spin(3) == 0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one file, whose tests do not look at the border."""
    for folder in ("small", "tests/small"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "small/code.py").write_text(CODE)
    (tmp_path / "tests/small/test_code.py").write_text(TESTS)
    (tmp_path / "tests/__init__.py").touch()
    for name in ("mutants.py", "mutations.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path / "tests")
    return tmp_path


def outcomes(outcome: Outcome) -> dict[str, str]:
    return {mutant.change: told for mutant, told in outcome.mutants}


def test_killed_survived_and_out_of_time(project: Path) -> None:
    outcome = run("small/code.py", ["tests/small/test_code.py"], root=project)
    assert outcomes(outcome) == {
        "points > 10: Gt -> GtE": "survived",
        "points > 10: 10 -> 11": "survived",
        "points > 10: 10 -> 9": "survived",
        "points > 10: Gt -> LtE": "killed",
        "if points > 10: return 'good' -> removed": "killed",
        "return 'good' -> return None": "killed",
        "return 'good': 'good' -> 'XXgoodXX'": "killed",
        "return 'bad' -> return None": "killed",
        "return 'bad': 'bad' -> 'XXbadXX'": "killed",
        "count > 0: Gt -> GtE": "killed",
        "count > 0: Gt -> LtE": "killed",
        "count > 0: 0 -> 1": "killed",
        "count > 0: 0 -> -1": "killed",
        "count -= 1: Sub -> Add": "timeout",
        "count -= 1: 1 -> 2": "killed",
        "count -= 1: 1 -> 0": "timeout",
        "count -= 1 -> removed": "timeout",
        "return count -> return None": "killed",
    }
    assert (project / "small/code.py").read_text() == CODE
    text, right = report(outcome, [], whole=True)
    assert text.splitlines() == [
        "small/code.py: 15 of 18 mutants killed (83 %, 3 by the time limit), 3 survived, 0 more are equivalent",
        "  survived  small/code.py:3 grade: points > 10: Gt -> GtE",
        "  survived  small/code.py:3 grade: points > 10: 10 -> 11",
        "  survived  small/code.py:3 grade: points > 10: 10 -> 9",
    ]
    assert right


def test_a_test_of_the_border_kills_its_mutants(project: Path) -> None:
    with (project / "tests/small/test_code.py").open("a") as file:
        file.write('\n\ndef test_border():\n    assert (grade(10), grade(11)) == ("bad", "good")\n')
    outcome = run("small/code.py", ["tests/small/test_code.py"], root=project, sample=6, seed=3)
    assert len(outcome.mutants) == 6
    assert "survived" not in outcomes(outcome).values()


def test_tests_that_fail_by_themselves_are_no_judge(project: Path) -> None:
    (project / "tests/small/test_code.py").write_text("def test_none():\n    assert False\n")
    with pytest.raises(SystemExit, match="its tests do not pass without a mutant"):
        run("small/code.py", ["tests/small/test_code.py"], root=project)


def test_equivalent_mutants_are_counted_apart_and_stale_entries_are_told() -> None:
    same, border, caught = (Mutant(3, "f", change, "") for change in ("same", "border", "caught"))
    outcome = Outcome("a.py", [(same, "survived"), (border, "survived"), (caught, "killed")])
    listed = [{"where": "f", "change": change, "reason": "r"} for change in ("same", "caught")]
    text, right = report(outcome, listed, whole=True)
    assert text.splitlines() == [
        "a.py: 1 of 2 mutants killed (50 %, 0 by the time limit), 1 survived, 1 more are equivalent",
        "  survived  a.py:3 f: border",
        "  mutants.yaml: f: caught: killed or gone; remove it",
    ]
    assert not right
    assert report(outcome, listed, whole=False)[1], "of a sample, who is missing cannot be known"


def changes(source: str) -> list[str]:
    return [mutant.change for mutant in mutations(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a and not b", ["a and (not b) -> removed", "a and (not b): And -> Or", "not b -> b"]),
        ("x = f(y, z, a=b)", ["f(y, z, a=b) -> f(y, z)", "f(y, z, a=b) -> f(z, y, a=b)"]),
        ("x = [a for a in b if a]", ["a -> not a", "a -> True"]),
        ("x = c if d else e", ["d -> not d"]),
        ("x.y = max(z)", ["x.y = max(z) -> removed", "max -> min"]),
        ("def f(a=True): pass", ["a=True: True -> False"]),
        ("x: Literal['y'] = 1", ["x: Literal['y'] = 1: 1 -> 2", "x: Literal['y'] = 1: 1 -> 0"]),
        ("def f(a: 'x') -> 'y': raise E('text')", ["raise E('text') -> removed"]),
        ("'docstring'\nimport a\nassert a > 1, 'text'", []),
    ],
)
def test_kinds_of_change(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


def test_where_the_own_tests_a_file_are() -> None:
    assert own_tests("train/rows/mask.py") == ["tests/train/rows/test_mask.py"]
    lookahead = "tests/train/rows/test_one_pass_lookahead.py"
    assert own_tests("train/rows/one_pass.py") == ["tests/train/rows/test_one_pass.py", lookahead]
