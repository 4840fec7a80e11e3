from badges import level, days_to_next, colour, has_streak, stars, badge_name, bonus


def test_level():
    assert level(7) == 1
    assert level(6) == 0
    assert level(20) == 2


def test_days_to_next():
    assert days_to_next(7) == 7
    assert days_to_next(6) == 1
    assert days_to_next(0) == 7
    assert days_to_next(10) == 4


def test_colour():
    assert colour(100) == "gold"
    assert colour(99) == "silver"
    assert colour(150) == "gold"


def test_has_streak():
    assert has_streak([True, True, True]) is True
    assert has_streak([True, True]) is False
    assert has_streak([True, False, True]) is False
    assert has_streak([False, True, True, True]) is True


def test_stars():
    assert stars(3) == "***"
    assert stars(9) == "*****"
    assert stars(0) == ""


def test_badge_name():
    assert badge_name("early bird", 2) == "Early Bird 2"
    assert badge_name("star", 10) == "Star 10"


def test_bonus():
    assert bonus(10) == 20
    assert bonus(30) == 70
    assert bonus(65, 1) == 85
