from temperature import (
    to_fahrenheit,
    to_celsius,
    to_kelvin,
    is_frost,
    is_hot,
    spread,
    mean,
)


def test_to_fahrenheit():
    assert to_fahrenheit(0) == 32
    assert to_fahrenheit(100) == 212
    assert to_fahrenheit(-40) == -40


def test_to_celsius():
    assert to_celsius(32) == 0
    assert to_celsius(212) == 100
    assert to_celsius(-40) == -40


def test_to_kelvin():
    assert to_kelvin(0) == 273
    assert to_kelvin(27) == 300


def test_is_frost():
    assert is_frost(-1) is True
    assert is_frost(0) is False
    assert is_frost(4) is False


def test_is_hot():
    assert is_hot(30) is True
    assert is_hot(29) is False
    assert is_hot(26, 25) is True
    assert is_hot(35) is True


def test_spread():
    assert spread([4, 9, 2]) == 7
    assert spread([5]) == 0


def test_mean():
    assert mean([2, 4, 9]) == 5
    assert mean([7]) == 7
    assert mean([]) == 0
