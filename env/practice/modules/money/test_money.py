import pytest

from money import Bill, CurrencyMismatch, Money, parse, total


def cents(amounts):
    return [amount.cents for amount in amounts]


def test_money_is_in_euros_when_not_told():
    assert Money(5).currency == "EUR"


def test_amounts_are_added():
    assert Money(150) + Money(75) == Money(225)


def test_amounts_are_subtracted():
    assert Money(150) - Money(200) == Money(-50)


def test_sums_keep_the_currency():
    assert Money(1, "USD") + Money(2, "USD") == Money(3, "USD")


def test_differences_keep_the_currency():
    assert Money(3, "USD") - Money(2, "USD") == Money(1, "USD")


def test_a_negated_amount_keeps_the_currency():
    assert -Money(3, "USD") == Money(-3, "USD")


def test_currencies_are_not_mixed():
    with pytest.raises(CurrencyMismatch, match="EUR and USD"):
        Money(1) + Money(1, "USD")


def test_amounts_are_ordered():
    assert sorted([Money(3), Money(-1), Money(2)]) == [Money(-1), Money(2), Money(3)]


def test_equal_amounts_are_not_less():
    assert not Money(3) < Money(3)


def test_text_has_two_decimals():
    assert str(Money(1205)) == "12.05 EUR"


def test_text_separates_thousands():
    assert str(Money(123456789, "USD")) == "1,234,567.89 USD"


def test_text_of_a_debt_has_a_minus():
    assert str(Money(-5)) == "-0.05 EUR"


def test_text_of_nothing():
    assert str(Money(0)) == "0.00 EUR"


def test_percent():
    assert Money(2000, "USD").percent(15) == Money(300, "USD")


def test_half_a_cent_is_rounded_up():
    assert Money(50).percent(1) == Money(1)


def test_less_than_half_a_cent_is_dropped():
    assert Money(49).percent(1) == Money(0)


def test_percent_of_a_debt_is_rounded_away_from_zero():
    assert Money(-150).percent(1) == Money(-2)


def test_a_negative_rate_is_a_rebate():
    assert Money(1000).percent(-10) == Money(-100)


def test_a_negative_rate_of_a_debt_is_positive():
    assert Money(-1000).percent(-10) == Money(100)


def test_split_gives_spare_cents_to_the_first():
    assert cents(Money(1000).split(3)) == [334, 333, 333]


def test_split_evenly():
    assert Money(900, "USD").split(2) == [Money(450, "USD"), Money(450, "USD")]


def test_split_into_one_part():
    assert Money(7).split(1) == [Money(7)]


def test_split_a_debt():
    assert cents(Money(-5).split(3)) == [-2, -2, -1]


def test_split_into_no_parts_is_refused():
    with pytest.raises(ValueError, match="at least one part"):
        Money(5).split(0)


def test_allocate_follows_the_weights():
    assert cents(Money(1000).allocate([3, 1])) == [750, 250]


def test_allocate_gives_spare_cents_in_order():
    assert cents(Money(5).allocate([1, 1, 1, 1])) == [2, 1, 1, 1]


def test_a_weight_of_zero_gets_no_spare_cent():
    assert cents(Money(5).allocate([0, 1, 1])) == [0, 3, 2]


def test_weights_of_zero_are_refused():
    with pytest.raises(ValueError, match=r"weights \[0, 0\] cannot share"):
        Money(5).allocate([0, 0])


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match=r"weights \[3, -1\] cannot share"):
        Money(5).allocate([3, -1])


def test_parse_whole_amounts():
    assert parse("12") == Money(1200)


def test_parse_two_decimals():
    assert parse("12.34") == Money(1234)


def test_parse_one_decimal():
    assert parse("3.5") == Money(350)


def test_parse_small_decimals():
    assert parse("0.07") == Money(7)


def test_parse_a_debt():
    assert parse("-3.50") == Money(-350)


def test_parse_thousands():
    assert parse("1,234.50") == Money(123450)


def test_parse_a_named_currency():
    assert parse(" 7.00 USD ") == Money(700, "USD")


def test_parse_in_another_currency():
    assert parse("7", "CHF") == Money(700, "CHF")


def test_parse_refuses_words():
    with pytest.raises(ValueError, match="'ten' is no amount"):
        parse("ten")


def test_parse_refuses_a_point_without_decimals():
    with pytest.raises(ValueError, match="'7.' is no amount"):
        parse("7.")


def test_parse_refuses_three_decimals():
    with pytest.raises(ValueError, match="'1.234' has more than two decimals"):
        parse("1.234")


def test_what_is_written_can_be_read():
    assert parse(str(Money(-123450, "USD"))) == Money(-123450, "USD")


def test_total_adds_up():
    assert total([Money(1), Money(2), Money(3)]) == Money(6)


def test_total_of_nothing_is_zero():
    assert total([]) == Money(0, "EUR")


def test_total_in_another_currency():
    assert total([Money(4, "USD")], "USD") == Money(4, "USD")


def test_a_payment_is_for_all_when_not_told():
    bill = Bill(["ann", "bob", "cat"])
    bill.pay("ann", 900)
    assert bill.balances() == {"ann": 600, "bob": -300, "cat": -300}


def test_a_payment_may_be_for_some():
    bill = Bill(["ann", "bob", "cat"])
    bill.pay("ann", 900, ["bob", "cat"])
    assert bill.balances() == {"ann": 900, "bob": -450, "cat": -450}


def test_payments_add_up():
    bill = Bill(["ann", "bob"])
    bill.pay("ann", 100)
    bill.pay("bob", 60)
    assert bill.balances() == {"ann": 20, "bob": -20}


def test_an_unknown_friend_pays_nothing():
    bill = Bill(["ann", "bob"])
    with pytest.raises(KeyError, match="eve"):
        bill.pay("eve", 100)
    assert bill.balances() == {"ann": 0, "bob": 0}


def test_a_name_comes_once():
    with pytest.raises(ValueError, match="comes twice"):
        Bill(["ann", "ann"])


def test_balances_are_a_copy():
    bill = Bill(["ann"])
    bill.balances()["ann"] = 5
    assert bill.balances() == {"ann": 0}


def test_settle_makes_it_even():
    bill = Bill(["ann", "bob", "cat"])
    bill.pay("ann", 900)
    assert bill.settle() == [("bob", "ann", 300), ("cat", "ann", 300)]


def test_the_largest_debt_is_paid_first():
    bill = Bill(["ann", "bob", "cat"])
    bill.pay("ann", 100, ["bob"])
    bill.pay("ann", 500, ["cat"])
    assert bill.settle() == [("cat", "ann", 500), ("bob", "ann", 100)]


def test_settle_leaves_the_balances():
    bill = Bill(["ann", "bob"])
    bill.pay("ann", 100)
    bill.settle()
    assert bill.balances() == {"ann": 50, "bob": -50}


def test_nothing_to_settle():
    assert Bill(["ann", "bob"]).settle() == []


def test_money_cannot_be_changed():
    amount = Money(5)
    with pytest.raises(AttributeError):
        amount.cents = 6
