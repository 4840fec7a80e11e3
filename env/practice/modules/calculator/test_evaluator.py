import pytest

from calculator import evaluate


def test_sum():
    assert evaluate("1 + 2 + 3.5") == 6.5


def test_difference_goes_from_left_to_right():
    assert evaluate("10 - 3 - 2") == 5


def test_product():
    assert evaluate("2 * 3 * 4") == 24


def test_quotient_goes_from_left_to_right():
    assert evaluate("24 / 4 / 2") == 3


def test_remainder():
    assert evaluate("17 % 5") == 2


def test_products_bind_tighter_than_sums():
    assert evaluate("1 + 2 * 3") == 7


def test_brackets_come_first():
    assert evaluate("(1 + 2) * 3") == 9


def test_power():
    assert evaluate("2 ^ 5") == 32


def test_powers_bind_to_the_right():
    assert evaluate("2 ^ 3 ^ 2") == 512


def test_power_binds_tighter_than_a_sign_before_it():
    assert evaluate("-2 ^ 2") == -4


def test_an_exponent_may_be_negative():
    assert evaluate("2 ^ -1") == 0.5


def test_signs_may_be_doubled():
    assert evaluate("3 - --2") == 1


def test_a_factor_may_be_negative():
    assert evaluate("3 * -2") == -6


def test_names_are_looked_up():
    assert evaluate("price * count", {"price": 2.5, "count": 4}) == 10


def test_an_unknown_name_is_an_error():
    with pytest.raises(NameError, match="no value for 'tax'"):
        evaluate("tax + 1", {"price": 2})


def test_abs_drops_the_sign():
    assert evaluate("abs(3 - 5)") == 2


def test_max_takes_the_larger():
    assert evaluate("max(2, 7)") == 7


def test_min_takes_the_smaller():
    assert evaluate("min(2, 7) + 1") == 3


def test_an_unknown_function_is_an_error():
    with pytest.raises(NameError, match="no function 'log'"):
        evaluate("log(2)")


def test_too_few_arguments_are_an_error():
    with pytest.raises(TypeError, match="max takes 2 arguments, got 1"):
        evaluate("max(2)")


def test_too_many_arguments_are_an_error():
    with pytest.raises(TypeError, match="abs takes 1 arguments, got 2"):
        evaluate("abs(2, 3)")


def test_division_by_zero_is_an_error():
    with pytest.raises(ZeroDivisionError):
        evaluate("1 / 0")


def test_an_unfinished_sum_is_an_error():
    with pytest.raises(SyntaxError, match="ends too early"):
        evaluate("1 +")


def test_an_open_bracket_is_an_error():
    with pytest.raises(SyntaxError, match="ends too early"):
        evaluate("(1 + 2")


def test_a_wrong_closing_is_an_error():
    with pytest.raises(SyntaxError, match="expected '\\)', got ','"):
        evaluate("(1, 2)")


def test_an_operator_without_a_left_side_is_an_error():
    with pytest.raises(SyntaxError, match="unexpected '\\*' in column 2"):
        evaluate(" * 2")


def test_a_rest_is_an_error():
    with pytest.raises(SyntaxError, match="unexpected '2' after the end"):
        evaluate("1 2")
