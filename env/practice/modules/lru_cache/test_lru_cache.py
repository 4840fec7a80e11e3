import pytest

from lru_cache import LRUCache, memoize


def filled(capacity, *keys):
    """A cache in which each key holds itself in capitals."""
    cache = LRUCache(capacity)
    for key in keys:
        cache.put(key, key.upper())
    return cache


def test_a_stored_value_is_found():
    assert filled(2, "a").get("a") == "A"


def test_a_missing_key_gives_none():
    assert filled(2, "a").get("b") is None


def test_a_missing_key_gives_the_default():
    assert filled(2, "a").get("b", 7) == 7


def test_capacity_is_four_when_not_told():
    assert LRUCache().capacity == 4


def test_capacity_may_be_one():
    assert filled(1, "a", "b").keys() == ["b"]


def test_capacity_zero_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        LRUCache(0)


def test_length_counts_the_values():
    assert len(filled(4, "a", "b", "c")) == 3


def test_a_full_cache_keeps_everything():
    assert filled(3, "a", "b", "c").keys() == ["a", "b", "c"]


def test_the_oldest_key_goes_first():
    assert filled(2, "a", "b", "c").keys() == ["b", "c"]


def test_put_tells_which_key_went():
    assert filled(2, "a", "b").put("c", "C") == ["a"]


def test_put_tells_of_no_key_while_there_is_room():
    assert filled(2, "a").put("b", "B") == []


def test_reading_a_key_keeps_it():
    cache = filled(2, "a", "b")
    cache.get("a")
    cache.put("c", "C")
    assert cache.keys() == ["a", "c"]


def test_writing_a_key_again_keeps_it():
    cache = filled(2, "a", "b")
    cache.put("a", "new")
    assert cache.put("c", "C") == ["b"]


def test_writing_a_key_again_replaces_its_value():
    cache = filled(2, "a")
    cache.put("a", "new")
    assert cache.get("a") == "new"


def test_membership_is_no_use():
    cache = filled(2, "a", "b")
    assert "a" in cache
    cache.put("c", "C")
    assert "a" not in cache


def test_pop_returns_the_value():
    assert filled(2, "a", "b").pop("a") == "A"


def test_pop_removes_the_key():
    cache = filled(2, "a", "b")
    cache.pop("a")
    assert cache.keys() == ["b"]


def test_pop_of_a_missing_key_is_an_error():
    with pytest.raises(KeyError):
        filled(2, "a").pop("b")


def test_resize_drops_the_oldest_keys():
    assert filled(4, "a", "b", "c", "d").resize(2) == ["a", "b"]


def test_resize_lets_more_in():
    cache = filled(1, "a")
    cache.resize(2)
    cache.put("b", "B")
    assert cache.keys() == ["a", "b"]


def test_resize_to_one_is_allowed():
    assert filled(2, "a", "b").resize(1) == ["a"]


def test_resize_to_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        filled(2, "a").resize(0)


def test_keys_are_a_copy():
    cache = filled(2, "a", "b")
    cache.keys().clear()
    assert len(cache) == 2


def test_hits_and_misses_are_counted():
    cache = filled(2, "a")
    cache.get("a")
    cache.get("a")
    cache.get("b")
    assert (cache.hits, cache.misses) == (2, 1)


def test_hit_rate_is_a_share_of_all_calls():
    cache = filled(2, "a")
    for key in ("a", "b", "c", "d"):
        cache.get(key)
    assert cache.hit_rate() == 0.25


def test_hit_rate_of_an_unused_cache_is_zero():
    assert LRUCache(2).hit_rate() == 0.0


def test_memoize_calls_once_for_the_same_arguments():
    calls = []

    @memoize(2)
    def double(number):
        calls.append(number)
        return number * 2

    assert [double(3), double(3), double(4)] == [6, 6, 8]
    assert calls == [3, 4]


def test_memoize_forgets_beyond_its_capacity():
    calls = []
    double = memoize(1)(lambda number: calls.append(number))
    double(1)
    double(2)
    double(1)
    assert calls == [1, 2, 1]


def test_memoize_remembers_none():
    calls = []
    note = memoize()(lambda number: calls.append(number))
    note(1)
    note(1)
    assert calls == [1]


def test_memoize_keeps_four_results_when_not_told():
    assert memoize()(abs).cache.capacity == 4
