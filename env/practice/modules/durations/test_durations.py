import pytest

from durations import DurationError, clock, longest, parse, round_up, shares, split, write


def test_parse_minutes():
    assert parse("5m") == 300


def test_parse_adds_up_the_parts():
    assert parse("1h 30m 5s") == 5405


def test_parse_needs_no_blanks():
    assert parse("1h30m") == 5400


def test_parse_knows_weeks_and_days():
    assert parse("1w 2d") == 777600


def test_parse_skips_blanks_around():
    assert parse("  2h ") == 7200


def test_parse_skips_several_blanks():
    assert parse("1h   1s") == 3601


def test_parse_reads_a_bare_number_as_seconds():
    assert parse("90") == 90


def test_parse_reads_a_bare_number_in_the_unit_told():
    assert parse("90", "m") == 5400


def test_parse_refuses_an_unknown_unit():
    with pytest.raises(DurationError, match="unknown unit 'y' at 1"):
        parse("3y")


def test_parse_tells_where_the_unknown_unit_is():
    with pytest.raises(DurationError) as caught:
        parse("1h 3y")
    assert caught.value.position == 4


def test_parse_refuses_a_missing_number():
    with pytest.raises(DurationError, match="expected a number and a unit at 3"):
        parse("1h m")


def test_parse_refuses_a_missing_unit():
    with pytest.raises(DurationError, match="expected a number and a unit at 3"):
        parse("1h 30")


def test_parse_refuses_a_rising_unit():
    with pytest.raises(DurationError, match="unit 'h' comes too late at 3"):
        parse("5m 1h")


def test_parse_refuses_a_repeated_unit():
    with pytest.raises(DurationError, match="unit 'm' comes too late at 3"):
        parse("5m 1m")


def test_parse_compares_with_the_unit_just_before():
    with pytest.raises(DurationError, match="unit 'm' comes too late at 6"):
        parse("1h 1s 1m")


def test_parse_refuses_an_empty_text():
    with pytest.raises(DurationError, match="the duration is empty at 0"):
        parse("  ")


def test_parse_reads_zero():
    assert parse("0s") == 0


def test_split_goes_from_large_to_small():
    assert split(694861) == [(1, "w"), (1, "d"), (1, "h"), (1, "m"), (1, "s")]


def test_split_leaves_out_zeros():
    assert split(3605) == [(1, "h"), (5, "s")]


def test_split_of_nothing_is_empty():
    assert split(0) == []


def test_split_refuses_a_negative_number():
    with pytest.raises(ValueError, match="not negative"):
        split(-1)


def test_write_has_two_units_when_not_told():
    assert write(93784) == "1d 2h"


def test_write_has_as_many_units_as_told():
    assert write(93784, 4) == "1d 2h 3m 4s"


def test_write_takes_another_separator():
    assert write(5400, separator="+") == "1h+30m"


def test_write_zero():
    assert write(0) == "0s"


def test_write_a_single_unit():
    assert write(59) == "59s"


def test_clock_has_hours():
    assert clock(3723) == "1:02:03"


def test_clock_begins_with_zero_hours():
    assert clock(754) == "0:12:34"


def test_clock_without_hours_counts_on_in_minutes():
    assert clock(3723, hours=False) == "62:03"


def test_round_up_to_minutes_when_not_told():
    assert round_up(61) == 120


def test_round_up_leaves_whole_units_alone():
    assert round_up(120) == 120


def test_round_up_to_hours():
    assert round_up(1, "h") == 3600


def test_longest_compares_durations_not_texts():
    assert longest("90m", "2h", "1h 59m") == "2h"


def test_longest_takes_the_first_of_equals():
    assert longest("60m", "1h") == "60m"


def test_longest_of_nothing_is_an_error():
    with pytest.raises(TypeError, match="at least one"):
        longest()


def test_shares_are_percentages():
    assert shares({"read": 30, "write": 90}) == {"read": 25.0, "write": 75.0}


def test_shares_have_one_digit_when_not_told():
    assert shares({"a": 1, "b": 2}) == {"a": 33.3, "b": 66.7}


def test_shares_have_the_digits_told():
    assert shares({"a": 1, "b": 7}, 2) == {"a": 12.5, "b": 87.5}


def test_shares_of_nothing_are_zero():
    assert shares({"a": 0, "b": 0}) == {"a": 0.0, "b": 0.0}


def test_clock_turns_sixty_minutes_into_an_hour():
    assert clock(3600) == "1:00:00"
