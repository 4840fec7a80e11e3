import pytest

from roman_numerals import RomanError, add, from_roman, is_roman, number_chapters, to_roman, value_of


def test_one_is_the_smallest():
    assert to_roman(1) == "I"


def test_equal_letters_are_added_up():
    assert to_roman(3) == "III"


def test_four_is_one_before_five():
    assert to_roman(4) == "IV"


def test_five_has_its_own_letter():
    assert to_roman(5) == "V"


def test_nine_is_one_before_ten():
    assert to_roman(9) == "IX"


def test_forty_and_ninety_are_subtractions():
    assert [to_roman(40), to_roman(90)] == ["XL", "XC"]


def test_fifty_and_five_hundred_have_their_own_letters():
    assert [to_roman(50), to_roman(500)] == ["L", "D"]


def test_four_hundred_and_nine_hundred_are_subtractions():
    assert [to_roman(400), to_roman(900)] == ["CD", "CM"]


def test_a_year():
    assert to_roman(1994) == "MCMXCIV"


def test_the_longest_numeral():
    assert to_roman(3888) == "MMMDCCCLXXXVIII"


def test_the_largest_number():
    assert to_roman(3999) == "MMMCMXCIX"


def test_small_letters_on_demand():
    assert to_roman(14, lower=True) == "xiv"


def test_zero_has_no_numeral():
    with pytest.raises(OverflowError, match="0 is not between 1 and 3999"):
        to_roman(0)


def test_four_thousand_has_no_numeral():
    with pytest.raises(OverflowError, match="4000 is not between 1 and 3999"):
        to_roman(4000)


def test_a_fraction_has_no_numeral():
    with pytest.raises(TypeError, match="whole number, got 1.5"):
        to_roman(1.5)


def test_a_truth_value_has_no_numeral():
    with pytest.raises(TypeError, match="whole number, got True"):
        to_roman(True)


def test_letters_are_added():
    assert value_of("MDCLXVI") == 1666


def test_a_smaller_letter_before_a_larger_is_subtracted():
    assert value_of("XC") == 90


def test_equal_letters_are_not_subtracted():
    assert value_of("XX") == 20


def test_an_odd_spelling_has_a_value():
    assert value_of("IIII") == 4


def test_a_far_subtraction_has_a_value():
    assert value_of("IC") == 99


def test_no_letters_are_worth_nothing():
    assert value_of("") == 0


def test_an_unknown_letter_is_refused():
    with pytest.raises(RomanError, match="'A' is no Roman digit"):
        value_of("XA")


def test_from_roman_reads_a_year():
    assert from_roman("MCMXCIV") == 1994


def test_from_roman_reads_small_letters():
    assert from_roman("xiv") == 14


def test_a_strict_reading_refuses_odd_spellings():
    with pytest.raises(RomanError, match="'IIII' is not how 4 is spelled"):
        from_roman("IIII")


def test_a_loose_reading_takes_odd_spellings():
    assert from_roman("VIIII", strict=False) == 9


def test_an_empty_numeral_is_refused():
    with pytest.raises(RomanError, match="empty"):
        from_roman("", strict=False)


def test_a_proper_numeral_is_one():
    assert is_roman("XLII") is True


def test_an_odd_spelling_is_none():
    assert is_roman("IC") is False


def test_a_word_is_none():
    assert is_roman("HELLO") is False


def test_four_times_thousand_is_none():
    assert is_roman("MMMM") is False


def test_add_takes_any_number_of_numerals():
    assert add("IX", "II", "XXX") == "XLI"


def test_chapters_are_numbered_from_one():
    assert number_chapters(["Sea", "Land"]) == [" I. Sea", "II. Land"]


def test_chapters_may_begin_later():
    assert number_chapters(["Sea", "Land"], 9) == ["IX. Sea", " X. Land"]


def test_no_chapters_have_no_numbers():
    assert number_chapters([]) == []
