import pytest

from bitset import BitSet, primes


def members(*numbers, size=8):
    return BitSet(size, numbers)


def test_members_are_in_rising_order():
    assert list(members(5, 0, 3)) == [0, 3, 5]


def test_there_is_room_for_64_numbers_when_not_told():
    assert BitSet().size == 64


def test_a_set_of_one_number_is_possible():
    assert list(members(0, size=1)) == [0]


def test_a_set_without_room_is_refused():
    with pytest.raises(ValueError, match="at least one number"):
        BitSet(0)


def test_a_member_is_in_the_set():
    assert 3 in members(3)


def test_another_number_is_not_in_the_set():
    assert 2 not in members(3)


def test_a_negative_number_is_not_in_the_set():
    assert -1 not in members(0, 7)


def test_a_number_beyond_the_size_is_not_in_the_set():
    assert 8 not in ~members()


def test_zero_can_be_a_member():
    assert 0 in members(0)


def test_length_counts_the_members():
    assert len(members(1, 5, 6)) == 3


def test_sets_with_equal_members_are_equal():
    assert members(2, 1) == members(1, 2)


def test_sets_with_other_members_differ():
    assert members(1) != members(2)


def test_sets_of_other_sizes_differ():
    assert members(1) != members(1, size=9)


def test_a_bit_set_is_no_list():
    assert members(1) != [1]


def test_union():
    assert list(members(1, 2) | members(2, 3)) == [1, 2, 3]


def test_intersection():
    assert list(members(1, 2) & members(2, 3)) == [2]


def test_difference():
    assert list(members(1, 2) - members(2, 3)) == [1]


def test_members_of_only_one():
    assert list(members(1, 2) ^ members(2, 3)) == [1, 3]


def test_complement():
    assert list(~members(1, 2, size=5)) == [0, 3, 4]


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="the sizes differ: 8 and 9"):
        members(1) | members(1, size=9)


def test_a_part_is_a_subset():
    assert members(1) <= members(1, 2)


def test_a_set_is_a_subset_of_itself():
    assert members(1, 2) <= members(1, 2)


def test_a_set_with_more_is_no_subset():
    assert not members(1, 3) <= members(1, 2)


def test_adding_a_new_number_is_true():
    assert members().add(7) is True


def test_adding_a_member_is_false():
    assert members(7).add(7) is False


def test_a_number_as_large_as_the_size_is_refused():
    with pytest.raises(IndexError, match="8 is not between 0 and 7"):
        members().add(8)


def test_a_negative_number_is_refused():
    with pytest.raises(IndexError, match="-1 is not between 0 and 7"):
        members().add(-1)


def test_discarding_a_member_takes_it_out():
    numbers = members(1, 2)
    assert numbers.discard(1) is True
    assert list(numbers) == [2]


def test_discarding_another_number_is_false():
    assert members(1).discard(2) is False


def test_flip_turns_one_number_when_not_told():
    numbers = members(1)
    numbers.flip(2)
    assert list(numbers) == [1, 2]


def test_flip_turns_a_range():
    numbers = members(1, 2, 6)
    numbers.flip(2, 5)
    assert list(numbers) == [1, 3, 4, 6]


def test_flip_of_an_empty_range_changes_nothing():
    numbers = members(1)
    numbers.flip(3, 3)
    assert list(numbers) == [1]


def test_flip_refuses_a_backward_range():
    with pytest.raises(ValueError, match="5 comes after 2"):
        members().flip(5, 2)


def test_a_refused_flip_changes_nothing():
    numbers = members(1)
    with pytest.raises(IndexError):
        numbers.flip(6, 9)
    assert list(numbers) == [1]


def test_rank_counts_smaller_members():
    assert members(1, 4, 6).rank(6) == 2


def test_rank_of_zero_is_zero():
    assert members(0, 1).rank(0) == 0


def test_select_counts_from_zero():
    assert members(1, 4, 6).select(1) == 4


def test_select_refuses_an_index_beyond_the_members():
    with pytest.raises(IndexError, match="no member at 3"):
        members(1, 4, 6).select(3)


def test_a_copy_changes_on_its_own():
    numbers = members(1)
    numbers.copy().add(2)
    assert list(numbers) == [1]


def test_runs_are_first_and_last():
    assert members(0, 1, 2, 5, 7).runs() == [(0, 2), (5, 5), (7, 7)]


def test_no_members_make_no_runs():
    assert members().runs() == []


def test_primes():
    assert primes(30) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]


def test_primes_leave_out_the_limit():
    assert primes(7) == [2, 3, 5]


def test_two_is_the_first_prime():
    assert primes(3) == [2]


def test_there_are_no_primes_below_two():
    assert primes(2) == []
