"""`srft practice`: one JSON object, the same command again, errors in a sentence."""

import json

import pytest

from srft.env.errors import InputError
from srft.harness.stages.practice import _locked


def test_help_has_an_example(srft):
    ran = srft("practice", "--help")
    assert ran.returncode == 0
    assert "srft practice --out" in ran.stdout


ASKED = ("--train", 1, "--test", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--train is missing, for example --train 100"),
        (("--train", 1), "--test is missing, for example --test 40"),
        (("--set", "test=1"), "--train is missing, for example --train 100"),
        (
            ("--train", 1, "--config", "seed.yaml"),
            "--test is missing, and seed.yaml has no test, for example",
        ),
        (ASKED, "--out is missing, for example --out practice"),
        ((*ASKED, "--out", "o", "--families", "purse"), "family purse: there is none of that name"),
        (
            (*ASKED, "--out", "o", "--split", "half"),
            "--split half: choose family or mutant",
        ),
        ((*ASKED, "--out", "o", "--set", "trian=3"), "--set trian=3: unknown key trian; did you mean train?"),
        ((*ASKED, "--out", "o", "--from-package", "purse"), "--from-package purse: expected NAME=="),
    ],
)
def test_wrong_input(srft, engine, tmp_path, arguments, message):
    (tmp_path / "seed.yaml").write_text("seed: 1\n")
    ran = srft("practice", *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.split("\n")[-2].startswith(f"srft: {message}")


def test_tasks_are_made_and_found_again(srft, base_image, tmp_path):
    command = (
        "practice",
        "--out",
        "made",
        "--families",
        "bank_ledger",
        "--train",
        1,
        "--test",
        1,
        "--split",
        "mutant",
        "--json",
    )
    ran = srft(*command)
    if "pip install" in ran.stderr:
        pytest.skip(f"no image of a family can be built ({ran.stderr[-300:]})")
    assert ran.returncode == 0, ran.stderr
    first = json.loads(ran.stdout)
    assert (first["train"], first["test"], first["missing"], first["resumed"]) == (1, 1, 0, False)
    assert json.loads(srft(*command).stdout) == {**first, "resumed": True}
    other = srft(*command, "--seed", 1)
    assert other.returncode == 2
    assert "made/practice.json: begun with seed=0; give the same, or another --out" in other.stderr


def test_one_process_at_a_time(tmp_path):
    with _locked(tmp_path), pytest.raises(InputError, match="another srft process works in it"), _locked(tmp_path):
        pass
