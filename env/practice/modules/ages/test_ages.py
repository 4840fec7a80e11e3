from ages import (
    age_in,
    is_adult,
    is_teen,
    years_to,
    older,
    average_age,
    adults,
    in_months,
)


def test_age_in():
    assert age_in(2020, 1990) == 30
    assert age_in(2001, 2001) == 0


def test_is_adult():
    assert is_adult(18) is True
    assert is_adult(17) is False
    assert is_adult(50) is True


def test_is_teen():
    assert is_teen(13) is True
    assert is_teen(19) is True
    assert is_teen(12) is False
    assert is_teen(20) is False


def test_years_to():
    assert years_to(60) == 5
    assert years_to(70) == 0
    assert years_to(20, 30) == 10


def test_older():
    assert older(4, 7) == 7
    assert older(9, 2) == 9


def test_average_age():
    assert average_age([4, 6]) == 5
    assert average_age([3, 4, 6]) == 4


def test_adults():
    assert adults([17, 18, 40, 3]) == [18, 40]
    assert adults([]) == []


def test_in_months():
    assert in_months(2) == 24
    assert in_months(1, 5) == 17
