from scores import points, has_passed, share, best, without_worst, winner, podium, rank


def test_points():
    assert points(4, 2) == 10
    assert points(0, 3) == -3


def test_has_passed():
    assert has_passed(60) is True
    assert has_passed(59) is False
    assert has_passed(45, 40) is True
    assert has_passed(80) is True


def test_share():
    assert share(1, 4) == 25
    assert share(2, 3) == 66
    assert share(5, 5) == 100


def test_best():
    assert best([3, 9, 4]) == 9
    assert best([]) == 0


def test_without_worst():
    assert without_worst([5, 2, 8]) == 13
    assert without_worst([4]) == 0


def test_winner():
    assert winner(2, 2) == "draw"
    assert winner(3, 1) == "home"
    assert winner(0, 1) == "away"


def test_podium():
    assert podium([1, 7, 3, 9]) == [9, 7, 3]
    assert podium([2, 5]) == [5, 2]


def test_rank():
    assert rank(9, [9, 7, 3]) == 1
    assert rank(3, [9, 7, 3]) == 3
    assert rank(7, [9, 7, 7]) == 2
