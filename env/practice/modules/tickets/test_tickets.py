from tickets import (
    ticket_price,
    group_price,
    may_enter,
    refund,
    is_sold_out,
    change,
    ticket_code,
)


def test_ticket_price():
    assert ticket_price(11) == 5
    assert ticket_price(12) == 10
    assert ticket_price(40) == 10


def test_group_price():
    assert group_price(5) == 50
    assert group_price(6) == 50
    assert group_price(8, 3) == 21
    assert group_price(2, 4) == 8


def test_may_enter():
    assert may_enter(6, True) is True
    assert may_enter(5, True) is False
    assert may_enter(30, False) is False
    assert may_enter(30, True) is True


def test_refund():
    assert refund(30, 7) == 30
    assert refund(30, 6) == 15
    assert refund(20, 9) == 20


def test_is_sold_out():
    assert is_sold_out(50, 50) is True
    assert is_sold_out(49, 50) is False
    assert is_sold_out(51, 50) is True


def test_change():
    assert change(50, 30) == 20
    assert change(10, 10) == 0


def test_ticket_code():
    assert ticket_code("A", 7) == "A-7"
    assert ticket_code("C", 12) == "C-12"
