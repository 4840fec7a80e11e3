from seats import (
    row_of,
    place_of,
    seat_at,
    is_aisle,
    are_neighbours,
    free_seats,
    first_free,
)


def test_row_of():
    assert row_of(1) == 1
    assert row_of(10) == 1
    assert row_of(11) == 2
    assert row_of(35) == 4


def test_place_of():
    assert place_of(1) == 1
    assert place_of(10) == 10
    assert place_of(11) == 1
    assert place_of(35) == 5


def test_seat_at():
    assert seat_at(1, 1) == 1
    assert seat_at(2, 1) == 11
    assert seat_at(4, 5) == 35


def test_is_aisle():
    assert is_aisle(1) is True
    assert is_aisle(10) is True
    assert is_aisle(5) is False


def test_are_neighbours():
    assert are_neighbours(4, 5) is True
    assert are_neighbours(5, 4) is True
    assert are_neighbours(4, 4) is False
    assert are_neighbours(4, 7) is False


def test_free_seats():
    assert free_seats([2], 3) == [1, 3]
    assert free_seats([], 2) == [1, 2]
    assert free_seats([1, 2], 2) == []


def test_first_free():
    assert first_free([1, 4, 2]) == 5
    assert first_free([]) == 1
