from tariffs import (
    call_cost,
    billed_minutes,
    is_night,
    is_peak,
    rate_at,
    monthly_bill,
    left_over,
)


def test_call_cost():
    assert call_cost(3) == 27
    assert call_cost(4, 5) == 20


def test_billed_minutes():
    assert billed_minutes(60) == 1
    assert billed_minutes(61) == 2
    assert billed_minutes(0) == 0


def test_is_night():
    assert is_night(22) is True
    assert is_night(5) is True
    assert is_night(6) is False
    assert is_night(12) is False
    assert is_night(23) is True


def test_is_peak():
    assert is_peak(8) is True
    assert is_peak(17) is True
    assert is_peak(18) is False
    assert is_peak(7) is False


def test_rate_at():
    assert rate_at(8) == 12
    assert rate_at(7) == 5
    assert rate_at(15) == 12


def test_monthly_bill():
    assert monthly_bill([10, 25]) == 535
    assert monthly_bill([], 100) == 100


def test_left_over():
    assert left_over(100, 30) == 70
    assert left_over(20, 30) == 0
