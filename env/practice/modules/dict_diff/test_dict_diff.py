import pytest

from dict_diff import Change, Conflict, apply, describe, diff, flatten, get, invert, write_path


def test_equal_dictionaries_do_not_differ():
    assert diff({"a": 1, "b": {"c": 2}}, {"b": {"c": 2}, "a": 1}) == []


def test_a_new_key_is_added():
    assert diff({}, {"a": 1}) == [Change("add", ("a",), None, 1)]


def test_a_missing_key_is_removed():
    assert diff({"a": 1}, {}) == [Change("remove", ("a",), 1, None)]


def test_another_value_is_replaced():
    assert diff({"a": 1}, {"a": 2}) == [Change("replace", ("a",), 1, 2)]


def test_inner_dictionaries_are_compared():
    assert diff({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == [Change("replace", ("a", "c"), 2, 3)]


def test_a_key_added_within_has_its_whole_path():
    assert diff({"a": {}}, {"a": {"b": 1}}) == [Change("add", ("a", "b"), None, 1)]


def test_a_dictionary_in_place_of_a_number_is_a_replacement():
    assert diff({"a": 1}, {"a": {"b": 1}}) == [Change("replace", ("a",), 1, {"b": 1})]


def test_a_number_in_place_of_a_dictionary_is_a_replacement():
    assert diff({"a": {"b": 1}}, {"a": 1}) == [Change("replace", ("a",), {"b": 1}, 1)]


def test_changes_follow_the_old_keys_then_the_new():
    changes = diff({"a": 1, "b": 1}, {"c": 1, "b": 2})
    assert [(change.kind, change.path) for change in changes] == [
        ("remove", ("a",)),
        ("replace", ("b",)),
        ("add", ("c",)),
    ]


def test_removed_values_are_copies():
    old = {"a": [1]}
    diff(old, {})[0].old.append(2)
    assert old == {"a": [1]}


def test_added_values_are_copies():
    new = {"a": [1]}
    diff({}, new)[0].new.append(2)
    assert new == {"a": [1]}


def test_replaced_values_are_copies():
    old, new = {"a": [1]}, {"a": [2]}
    change = diff(old, new)[0]
    change.old.append(3)
    change.new.append(3)
    assert (old, new) == ({"a": [1]}, {"a": [2]})


def test_a_change_has_no_values_when_not_told():
    assert Change("add", ("a",)) == ("add", ("a",), None, None)


def test_apply_adds():
    assert apply({"a": {}}, [Change("add", ("a", "b"), new=1)]) == {"a": {"b": 1}}


def test_apply_removes():
    assert apply({"a": {"b": 1, "c": 2}}, [Change("remove", ("a", "b"), 1)]) == {"a": {"c": 2}}


def test_apply_replaces():
    assert apply({"a": 1}, [Change("replace", ("a",), 1, 2)]) == {"a": 2}


def test_apply_leaves_the_data_alone():
    data = {"a": {"b": 1}}
    apply(data, [Change("replace", ("a", "b"), 1, 2)])
    assert data == {"a": {"b": 1}}


def test_apply_copies_added_values():
    value = [1]
    apply({}, [Change("add", ("a",), new=value)])["a"].append(2)
    assert value == [1]


def test_apply_copies_replaced_values():
    value = [1]
    apply({"a": 0}, [Change("replace", ("a",), 0, value)])["a"].append(2)
    assert value == [1]


def test_what_is_there_cannot_be_added():
    with pytest.raises(Conflict, match="a.b is there already"):
        apply({"a": {"b": 1}}, [Change("add", ("a", "b"), new=1)])


def test_another_value_cannot_be_removed():
    with pytest.raises(Conflict, match="a is not 1"):
        apply({"a": 2}, [Change("remove", ("a",), 1)])


def test_a_missing_value_cannot_be_replaced():
    with pytest.raises(Conflict, match="b is not None"):
        apply({"a": 2}, [Change("replace", ("b",), None, 1)])


def test_nothing_can_be_added_to_a_number():
    with pytest.raises(Conflict, match="nothing to change at a.b"):
        apply({"a": 1}, [Change("add", ("a", "b"), new=1)])


def test_a_difference_applied_gives_the_new_dictionary():
    old = {"a": {"b": 1, "c": [1]}, "d": 4}
    new = {"a": {"b": 2}, "e": {"f": 5}}
    assert apply(old, diff(old, new)) == new


def test_an_inverted_difference_gives_the_old_dictionary():
    old = {"a": {"b": 1, "c": [1]}, "d": 4}
    new = {"a": {"b": 2}, "e": {"f": 5}}
    assert apply(new, invert(diff(old, new))) == old


def test_invert_turns_the_order_around():
    changes = [Change("add", ("a",), None, {}), Change("add", ("a", "b"), None, 1)]
    assert invert(changes) == [Change("remove", ("a", "b"), 1, None), Change("remove", ("a",), {}, None)]


def test_invert_exchanges_the_values():
    assert invert([Change("replace", ("a",), 1, 2)]) == [Change("replace", ("a",), 2, 1)]


def test_invert_adds_what_was_removed():
    assert invert([Change("remove", ("a",), 1)]) == [Change("add", ("a",), None, 1)]


def test_get_follows_a_path():
    assert get({"a": {"b": 1}}, ("a", "b")) == 1


def test_get_of_no_path_is_everything():
    assert get({"a": 1}, ()) == {"a": 1}


def test_get_falls_back_to_none():
    assert get({"a": 1}, ("b",)) is None


def test_get_falls_back_to_the_default():
    assert get({"a": 1}, ("a", "b"), 7) == 7


def test_paths_are_written_with_points():
    assert write_path(("a", 1, "b")) == "a.1.b"


def test_paths_can_be_written_with_another_separator():
    assert write_path(("a", "b"), "/") == "a/b"


def test_describe_an_addition():
    assert describe([Change("add", ("a", "b"), new="x")]) == ["+ a.b = 'x'"]


def test_describe_a_removal():
    assert describe([Change("remove", ("a",), 1)]) == ["- a = 1"]


def test_describe_a_replacement():
    assert describe([Change("replace", ("a",), 1, 2)]) == ["~ a: 1 -> 2"]


def test_flatten_joins_the_keys():
    assert flatten({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {("a", "b", "c"): 1, ("a", "d"): 2, ("e",): 3}


def test_flatten_keeps_empty_dictionaries():
    assert flatten({"a": {}}) == {("a",): {}}
