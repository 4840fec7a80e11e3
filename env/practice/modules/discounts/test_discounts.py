from discounts import (
    percent_off,
    amount_off,
    bulk_price,
    free_delivery,
    member_price,
    cheaper,
    with_tax,
)


def test_percent_off():
    assert percent_off(200, 10) == 180
    assert percent_off(999, 50) == 500
    assert percent_off(300, 0) == 300


def test_amount_off():
    assert amount_off(500, 200) == 300
    assert amount_off(200, 200) == 0
    assert amount_off(100, 250) == 0


def test_bulk_price():
    assert bulk_price(5, 9) == 45
    assert bulk_price(5, 10) == 45
    assert bulk_price(3, 25) == 69


def test_free_delivery():
    assert free_delivery(5000) is True
    assert free_delivery(4999) is False
    assert free_delivery(300, 200) is True


def test_member_price():
    assert member_price(200, True) == 180
    assert member_price(205, True) == 184
    assert member_price(200, False) == 200


def test_cheaper():
    assert cheaper(3, 8) == 3
    assert cheaper(9, 4) == 4


def test_with_tax():
    assert with_tax(100) == 120
    assert with_tax(999) == 1198
    assert with_tax(200, 5) == 210
