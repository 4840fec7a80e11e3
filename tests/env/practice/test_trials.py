"""Mutants tried in a container: what is kept, what is dropped and why, and how a bug shows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from srft.env.backends import Backend
from srft.env.practice.bench import Bench, read_log
from srft.env.practice.mutations import Mutant
from srft.env.practice.sources import package_source
from srft.env.practice.trials import Project, open_project

FAILS_ONCE = (
    "import os; path = '/tmp/first'; os.path.exists(path) or open(path, 'w').write(str(os.getpid())); "
    "return sum(self.coins) + (open(path).read() == str(os.getpid()))"
)
"""A wrong sum in the first process alone."""


@pytest.fixture(scope="module")
def project(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Project:
    from tests.env.practice.conftest import write_purse

    folder = write_purse(tmp_path_factory.mktemp("package") / "purse")
    return open_project(package_source(str(folder)), backend, tmp_path_factory.mktemp("image"), runs=4)


@pytest.fixture(scope="module")
def bench(project: Project, backend: Backend) -> Iterator[Bench]:
    with project.bench(backend) as bench:
        yield bench


def a_mutant(project: Project, old: str, new: str) -> Mutant:
    """The purse with one text in place of another, each standing there once."""
    content = project.files["purse.py"].content.decode()
    assert content.count(old) == 1
    start = content.index(old)
    return Mutant(
        id="0" * 8,
        kind="constant",
        path="purse.py",
        line=content.count("\n", 0, start) + 1,
        function="f",
        start=start,
        old=old,
        new=new,
    )


def test_a_project(project: Project) -> None:
    assert "tests/test_purse.py::TestLargest::test_two" in project.reliable
    assert "tests/test_purse.py::test_change[4-4-0]" in project.reliable
    assert "tests/test_purse.py::test_that_is_flaky" not in project.reliable or project.unreliable == 0
    assert project.not_called > 0
    assert {one.function for one in project.mutants} == {
        "Purse.__init__",
        "Purse.add",
        "Purse.total",
        "Purse.largest",
        "change",
    }


def test_a_bug_that_a_test_sees(project: Project, bench: Bench) -> None:
    trial = project.try_mutant(bench, a_mutant(project, "reverse=True", "reverse=False"))
    assert trial.outcome == "kept"
    assert trial.fail_to_pass == (
        "tests/test_purse.py::TestLargest::test_one",
        "tests/test_purse.py::TestLargest::test_two",
    )
    assert sorted(trial.fail_to_pass + trial.pass_to_pass) == sorted(project.reliable)
    shown = trial.symptom
    assert shown is not None
    assert shown.code == ("from purse import Purse\n\npurse = Purse([5, 20])\npurse.add(10)\nprint(purse.largest())\n")
    assert (shown.call, shown.got, shown.expected) == ("purse.largest()", "[5]", "[20]")
    assert not shown.raises_got
    assert not shown.raises_expected


def test_a_parameter_of_a_test_is_written_out(project: Project, bench: Bench) -> None:
    trial = project.try_mutant(bench, a_mutant(project, "paid - price\n", "price - paid\n"))
    assert trial.outcome == "kept"
    assert trial.fail_to_pass == ("tests/test_purse.py::test_change[3-5-2]",)
    assert trial.symptom is not None
    assert trial.symptom.code == "from purse import change\n\nprice = 3\npaid = 5\nprint(change(price, paid))\n"
    assert (trial.symptom.got, trial.symptom.expected) == ("-2", "2")


def test_an_exception_that_does_not_come(project: Project, bench: Bench) -> None:
    trial = project.try_mutant(bench, a_mutant(project, "coin <= 0", "False"))
    assert trial.fail_to_pass == ("tests/test_purse.py::test_a_coin_of_nothing",)
    assert trial.symptom is not None
    assert (trial.symptom.got, trial.symptom.raises_got) == ("35", False)
    assert (trial.symptom.expected, trial.symptom.raises_expected) == ("ValueError: a coin is worth something", True)


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        ("a + b", "a - b", "no test sees it"),
        ("return self.total()", "while True: pass", "timed out"),
        ('"""A purse."""', "import nowhere", "not collected"),
        ("return sum(self.coins)", FAILS_ONCE, "flaky"),
    ],
)
def test_a_bug_that_is_dropped(project: Project, bench: Bench, old: str, new: str, outcome: str) -> None:
    trial = project.try_mutant(bench, a_mutant(project, old, new))
    assert (trial.outcome, trial.fail_to_pass, trial.symptom) == (outcome, (), None)


def test_the_tree_is_whole_again(project: Project, bench: Bench) -> None:
    bench.run(project.applied(a_mutant(project, "reverse=True", "reverse=False")))
    assert project.reliable <= {name for name, status in bench.run({}).statuses.items() if status == "PASSED"}


def test_names_that_stand_for_two_tests_count_for_none() -> None:
    log = "PASSED t.py::a[x y]\nFAILED t.py::a[x z] - assert 0\nPASSED t.py::b\nFAILED t.py::c - assert 1 - 2\n"
    assert read_log(log) == {"t.py::b": "PASSED", "t.py::c": "FAILED"}


def test_the_project_is_installed(project: Project, bench: Bench, tmp_path: Path) -> None:
    assert bench.sandbox().run("/opt/testbed/bin/python -c 'import purse; print(purse.__file__)'").output == (
        "/testbed/purse.py\n"
    )
