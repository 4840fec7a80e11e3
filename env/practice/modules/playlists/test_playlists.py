from playlists import (
    total_length,
    clock,
    next_index,
    previous_index,
    first_songs,
    without,
    longest,
    is_long,
)


def test_total_length():
    assert total_length([100, 50]) == 154
    assert total_length([10], 5) == 15
    assert total_length([]) == 0


def test_clock():
    assert clock(185) == "3:05"
    assert clock(60) == "1:00"
    assert clock(59) == "0:59"


def test_next_index():
    assert next_index(0, 3) == 1
    assert next_index(2, 3) == 0


def test_previous_index():
    assert previous_index(2, 3) == 1
    assert previous_index(0, 3) == 2


def test_first_songs():
    assert first_songs(["a", "b", "c", "d"]) == ["a", "b", "c"]
    assert first_songs(["a", "b"], 1) == ["a"]


def test_without():
    assert without(["a", "b", "a"], "a") == ["b"]
    assert without(["a"], "c") == ["a"]


def test_longest():
    assert longest([180, 240, 200]) == 240
    assert longest([]) == 0


def test_is_long():
    assert is_long(301) is True
    assert is_long(300) is False
    assert is_long(200, 100) is True
