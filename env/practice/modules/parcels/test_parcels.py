from parcels import volume, girth, total_weight, is_heavy, fits, boxes_needed, postage


def test_volume():
    assert volume(2, 3, 4) == 24
    assert volume(5, 5, 2) == 50


def test_girth():
    assert girth(3, 4) == 14
    assert girth(10, 1) == 22


def test_total_weight():
    assert total_weight([100, 50]) == 350
    assert total_weight([], 30) == 30


def test_is_heavy():
    assert is_heavy(10001) is True
    assert is_heavy(10000) is False
    assert is_heavy(500) is False


def test_fits():
    assert fits([1, 9, 4], [9, 4, 1]) is True
    assert fits([1, 2, 3], [5, 5, 5]) is True
    assert fits([6, 1, 1], [5, 5, 5]) is False
    assert fits([3, 3, 3], [9, 1, 1]) is False


def test_boxes_needed():
    assert boxes_needed(10, 5) == 2
    assert boxes_needed(11, 5) == 3
    assert boxes_needed(1, 5) == 1


def test_postage():
    assert postage(900) == 4
    assert postage(2500) == 8
    assert postage(1000, 5) == 7
