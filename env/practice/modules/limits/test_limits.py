from limits import at_most, at_least, below, inside, outside, clamp, headroom


def test_at_most():
    assert at_most(3, 3) is True
    assert at_most(2, 3) is True
    assert at_most(4, 3) is False


def test_at_least():
    assert at_least(3, 3) is True
    assert at_least(4, 3) is True
    assert at_least(2, 3) is False


def test_below():
    assert below(3, 3) is False
    assert below(2, 3) is True
    assert below(4, 3) is False


def test_inside():
    assert inside(2, 2, 5) is True
    assert inside(5, 2, 5) is True
    assert inside(1, 2, 5) is False
    assert inside(6, 2, 5) is False


def test_outside():
    assert outside(2, 2, 5) is False
    assert outside(5, 2, 5) is False
    assert outside(1, 2, 5) is True
    assert outside(6, 2, 5) is True


def test_clamp():
    assert clamp(7, 2, 5) == 5
    assert clamp(1, 2, 5) == 2
    assert clamp(3, 2, 5) == 3


def test_headroom():
    assert headroom(3, 10) == 7
    assert headroom(10, 10) == 0
    assert headroom(12, 10) == 0
