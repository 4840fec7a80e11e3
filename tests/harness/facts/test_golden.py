"""Nothing that a command says with --json changes by accident: report.json, compare, calibrate, byte for byte."""

from tests.harness.facts.golden import FILE, golden


def test_the_same_bytes(tmp_path):
    """golden.txt was written by the code as it was before the facts moved into a folder of their own; a figure that
    changes on purpose is written anew (see golden.py)."""
    found, expected = golden(tmp_path).decode().split("\n"), FILE.read_text().split("\n")
    for one, other in zip(found, expected, strict=True):
        assert one == other
