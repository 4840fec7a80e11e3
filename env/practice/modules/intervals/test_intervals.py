import pytest

from intervals import Interval, covered_length, gaps, merge, parse


def test_length_is_the_distance_between_the_ends():
    assert len(Interval(3, 8)) == 5


def test_an_interval_may_be_empty():
    assert len(Interval(4, 4)) == 0


def test_an_interval_must_not_end_before_it_starts():
    with pytest.raises(ValueError, match="ends at 2, before its start 3"):
        Interval(3, 2)


def test_intervals_are_ordered_by_start():
    assert sorted([Interval(5, 6), Interval(1, 9)]) == [Interval(1, 9), Interval(5, 6)]


def test_the_start_is_inside():
    assert 3 in Interval(3, 8)


def test_the_end_is_outside():
    assert 8 not in Interval(3, 8)


def test_a_number_below_the_start_is_outside():
    assert 2 not in Interval(3, 8)


def test_sharing_numbers_is_overlapping():
    assert Interval(1, 5).overlaps(Interval(4, 9)) is True


def test_meeting_ends_do_not_overlap():
    assert Interval(1, 4).overlaps(Interval(4, 9)) is False


def test_overlap_is_symmetric():
    assert Interval(4, 9).overlaps(Interval(1, 5)) is True


def test_meeting_ends_touch():
    assert Interval(1, 4).touches(Interval(4, 9)) is True


def test_touching_works_from_the_right():
    assert Interval(4, 9).touches(Interval(1, 4)) is True


def test_a_gap_to_the_right_is_no_touch():
    assert Interval(1, 4).touches(Interval(5, 9)) is False


def test_a_gap_to_the_left_is_no_touch():
    assert Interval(5, 9).touches(Interval(1, 4)) is False


def test_shift_moves_by_one_when_not_told():
    assert Interval(2, 5).shift() == Interval(3, 6)


def test_shift_moves_left_with_a_negative_number():
    assert Interval(2, 5).shift(-4) == Interval(-2, 1)


def test_intersection_is_the_shared_part():
    assert Interval(1, 6).intersection(Interval(4, 9)) == Interval(4, 6)


def test_intersection_with_an_inner_interval_is_that_interval():
    assert Interval(1, 9).intersection(Interval(3, 5)) == Interval(3, 5)


def test_no_intersection_is_none():
    assert Interval(1, 4).intersection(Interval(4, 9)) is None


def test_minus_an_inner_interval_leaves_two_pieces():
    assert Interval(1, 9).minus(Interval(3, 5)) == [Interval(1, 3), Interval(5, 9)]


def test_minus_itself_leaves_nothing():
    assert Interval(2, 6).minus(Interval(2, 6)) == []


def test_minus_something_to_the_right_leaves_all():
    assert Interval(1, 4).minus(Interval(6, 9)) == [Interval(1, 4)]


def test_minus_something_to_the_left_leaves_all():
    assert Interval(6, 9).minus(Interval(1, 4)) == [Interval(6, 9)]


def test_merge_joins_overlapping_intervals():
    assert merge([Interval(4, 9), Interval(1, 5)]) == [Interval(1, 9)]


def test_merge_joins_intervals_that_meet():
    assert merge([Interval(1, 4), Interval(4, 6)]) == [Interval(1, 6)]


def test_merge_keeps_separate_intervals_apart():
    assert merge([Interval(1, 3), Interval(4, 6)]) == [Interval(1, 3), Interval(4, 6)]


def test_merge_keeps_the_longer_end():
    assert merge([Interval(1, 9), Interval(2, 4)]) == [Interval(1, 9)]


def test_merge_drops_empty_intervals_and_goes_on():
    assert merge([Interval(2, 2), Interval(5, 6)]) == [Interval(5, 6)]


def test_gaps_lie_between_the_intervals():
    assert gaps([Interval(8, 9), Interval(1, 3), Interval(5, 6)]) == [Interval(3, 5), Interval(6, 8)]


def test_one_interval_has_no_gaps():
    assert gaps([Interval(1, 3)]) == []


def test_covered_length_counts_shared_numbers_once():
    assert covered_length([Interval(1, 5), Interval(3, 7), Interval(10, 11)]) == 7


def test_parse_reads_both_ends():
    assert parse("3-7") == Interval(3, 8)


def test_parse_reads_a_single_number():
    assert parse("3") == Interval(3, 4)


def test_parse_takes_another_separator():
    assert parse("3..7", "..") == Interval(3, 8)


def test_parse_refuses_a_missing_start():
    with pytest.raises(ValueError, match="no number before '-' in '-7'"):
        parse("-7")


def test_an_interval_cannot_be_changed():
    interval = Interval(1, 2)
    with pytest.raises(AttributeError):
        interval.end = 3
