import pytest

from heap_queue import Empty, HeapQueue, merge_sorted, smallest


def queue_of(*priorities):
    """Values "p5", "p2" and so on with those priorities."""
    return HeapQueue((priority, f"p{priority}") for priority in priorities)


def test_the_lowest_priority_number_comes_first():
    assert queue_of(5, 2, 8).pop() == "p2"


def test_values_come_out_in_order():
    assert list(queue_of(5, 2, 8, 1, 9, 3, 7, 4, 6).drain()) == [f"p{n}" for n in range(1, 10)]


def test_a_falling_queue_is_turned_around():
    assert list(queue_of(6, 5, 4, 3, 2, 1).drain()) == ["p1", "p2", "p3", "p4", "p5", "p6"]


def test_a_rising_queue_stays_in_order():
    assert list(queue_of(1, 2, 3, 4, 5, 6).drain()) == ["p1", "p2", "p3", "p4", "p5", "p6"]


def test_equals_come_out_as_they_came_in():
    queue = HeapQueue([(1, "a"), (1, "b"), (1, "c"), (1, "d"), (1, "e")])
    assert list(queue.drain()) == ["a", "b", "c", "d", "e"]


def test_a_push_has_priority_zero_when_not_told():
    queue = HeapQueue([(1, "later"), (-1, "sooner")])
    queue.push("now")
    assert list(queue.drain()) == ["sooner", "now", "later"]


def test_values_need_no_order():
    queue = HeapQueue([(1, {"a": 1}), (1, {"b": 2})])
    assert queue.pop() == {"a": 1}


def test_length_counts_the_entries():
    assert len(queue_of(5, 2, 8)) == 3


def test_an_empty_queue_is_false():
    assert bool(HeapQueue()) is False


def test_a_queue_with_one_entry_is_true():
    assert bool(queue_of(1)) is True


def test_peek_shows_the_next_value():
    assert queue_of(5, 2, 8).peek() == "p2"


def test_peek_takes_nothing():
    queue = queue_of(5, 2)
    queue.peek()
    assert len(queue) == 2


def test_pop_takes_one():
    queue = queue_of(5, 2)
    queue.pop()
    assert len(queue) == 1


def test_the_last_entry_can_be_popped():
    queue = queue_of(5)
    assert queue.pop() == "p5"
    assert len(queue) == 0


def test_pop_from_an_empty_queue_is_an_error():
    with pytest.raises(Empty, match="pop from an empty queue"):
        HeapQueue().pop()


def test_peek_at_an_empty_queue_is_an_error():
    with pytest.raises(Empty, match="peek at an empty queue"):
        HeapQueue().peek()


def test_push_pop_may_give_the_new_value():
    assert queue_of(5, 2).push_pop("new", 1) == "new"


def test_push_pop_may_give_an_old_value():
    assert queue_of(5, 2).push_pop("new", 3) == "p2"


def test_push_pop_has_priority_zero_when_not_told():
    assert HeapQueue([(1, "later")]).push_pop("now") == "now"


def test_push_pop_comes_after_equals():
    assert HeapQueue([(0, "first")]).push_pop("now") == "first"


def test_a_value_can_be_moved_forward():
    queue = queue_of(1, 2, 3, 4, 5)
    queue.reprioritize("p5", 0)
    assert list(queue.drain()) == ["p5", "p1", "p2", "p3", "p4"]


def test_a_value_can_be_moved_back():
    queue = queue_of(1, 2, 3, 4, 5)
    queue.reprioritize("p1", 9)
    assert list(queue.drain()) == ["p2", "p3", "p4", "p5", "p1"]


def test_reprioritize_returns_the_old_priority():
    assert queue_of(1, 2, 3).reprioritize("p3", 7) == 3


def test_reprioritize_keeps_the_place_among_equals():
    queue = HeapQueue([(3, "a"), (1, "b")])
    queue.reprioritize("a", 1)
    assert queue.pop() == "a"


def test_reprioritize_refuses_an_unknown_value():
    with pytest.raises(KeyError, match="p7"):
        queue_of(1, 2).reprioritize("p7", 1)


def test_drain_stops_at_the_limit():
    queue = queue_of(3, 1, 2)
    assert list(queue.drain(2)) == ["p1", "p2"]
    assert len(queue) == 1


def test_drain_of_nothing_takes_nothing():
    assert list(queue_of(3, 1, 2).drain(0)) == []


def test_a_copy_has_the_same_entries():
    assert list(queue_of(3, 1, 2).copy().drain()) == ["p1", "p2", "p3"]


def test_a_copy_changes_on_its_own():
    queue = queue_of(3, 1, 2)
    list(queue.copy().drain())
    assert len(queue) == 3


def test_a_copy_goes_on_counting_arrivals():
    copied = HeapQueue([(1, "a"), (1, "b")]).copy()
    copied.push("c", 1)
    assert list(copied.drain()) == ["a", "b", "c"]


def test_smallest_gives_one_number_when_not_told():
    assert smallest([4, 2, 9]) == [2]


def test_smallest_gives_several_in_rising_order():
    assert smallest([4, 2, 9, 3], 3) == [2, 3, 4]


def test_smallest_gives_all_where_there_are_fewer():
    assert smallest([4, 2], 5) == [2, 4]


def test_sorted_lists_are_merged():
    assert merge_sorted([1, 5, 9], [2, 5], [3]) == [1, 2, 3, 5, 5, 9]


def test_empty_lists_are_skipped():
    assert merge_sorted([], [1], []) == [1]


def test_the_next_number_of_a_list_waits_for_its_turn():
    assert merge_sorted([1, 2, 9], [3]) == [1, 2, 3, 9]


def test_many_values_come_out_in_order():
    assert smallest([7, 12, 3, 10, 1, 8, 11, 2, 9, 4, 6, 5], 12) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
