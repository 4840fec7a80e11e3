"""The script for a GPU runs with tiny sizes where there is none."""

import json

import pytest

from tests.gpu import measure


@pytest.mark.slow
def test_each_part_with_tiny_sizes(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["measure", "--tiny"])
    assert measure.main() == 0
    parts = {line["part"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert set(parts) == set(measure.PARTS)
    assert parts["full"]["tokens"] == parts["full"]["longest_pack"] >= 200
    assert parts["adapters"]["peak_bytes"] > 0
    assert parts["equality"]["holds"]
