import pytest
from calculator.tokens import Token, tokenize


def texts(text):
    return [token.text for token in tokenize(text)]


def test_numbers_and_operators_are_split():
    assert texts("12+3*(4-5)") == ["12", "+", "3", "*", "(", "4", "-", "5", ")"]


def test_blanks_separate():
    assert texts(" 1 2 ") == ["1", "2"]


def test_a_number_may_have_a_point():
    assert texts("3.25") == ["3.25"]


def test_a_number_may_begin_with_a_point():
    assert texts(".5") == [".5"]


def test_two_points_are_refused():
    with pytest.raises(SyntaxError, match="more than one decimal point"):
        tokenize("1.2.3")


def test_a_name_may_hold_digits_and_underscores():
    assert texts("rate_2+x") == ["rate_2", "+", "x"]


def test_kinds_are_told():
    assert [token.kind for token in tokenize("a*2")] == ["name", "operator", "number"]


def test_columns_are_counted_from_one():
    assert tokenize("a +b") == [Token("name", "a", 1), Token("operator", "+", 3), Token("name", "b", 4)]


def test_columns_are_counted_from_where_told():
    assert tokenize("7", 5) == [Token("number", "7", 5)]


def test_an_empty_text_has_no_tokens():
    assert tokenize("") == []


def test_an_unknown_character_is_refused_with_its_column():
    with pytest.raises(SyntaxError, match="unexpected '\\$' in column 3"):
        tokenize("1 $")
