import pytest

from shortest_path import (
    NoPath,
    build,
    distances,
    path_length,
    reachable,
    shortest_path,
    topological_order,
    without,
)

TOWN = [("a", "b", 4), ("a", "c", 1), ("c", "b", 2), ("b", "d", 5), ("e", "a", 3)]


def test_build_keeps_directions():
    assert build([("a", "b", 4)]) == {"a": {"b": 4}, "b": {}}


def test_build_gives_a_weight_of_one():
    assert build([("a", "b")]) == {"a": {"b": 1}, "b": {}}


def test_build_can_go_both_ways():
    assert build([("a", "b", 4)], both_ways=True) == {"a": {"b": 4}, "b": {"a": 4}}


def test_build_keeps_the_lightest_edge():
    assert build([("a", "b", 2), ("a", "b", 7)])["a"] == {"b": 2}


def test_build_allows_a_weight_of_zero():
    assert build([("a", "b", 0)])["a"] == {"b": 0}


def test_build_refuses_a_negative_weight():
    with pytest.raises(ValueError, match="weight of a-b is negative"):
        build([("a", "b", -1)])


def test_distances_take_detours():
    assert distances(build(TOWN), "a") == {"a": 0, "c": 1, "b": 3, "d": 8}


def test_distances_leave_out_what_cannot_be_reached():
    assert distances(build(TOWN), "d") == {"d": 0}


def test_distances_stop_after_the_limit():
    assert distances(build(TOWN), "a", 3) == {"a": 0, "c": 1, "b": 3}


def test_distances_stop_at_a_limit_of_zero():
    assert distances(build(TOWN), "a", 0) == {"a": 0}


def test_distances_need_a_known_start():
    with pytest.raises(KeyError, match="x"):
        distances(build(TOWN), "x")


def test_the_shortest_path_takes_detours():
    assert shortest_path(build(TOWN), "a", "d") == ["a", "c", "b", "d"]


def test_the_path_to_the_start_is_the_start():
    assert shortest_path(build(TOWN), "a", "a") == ["a"]


def test_a_path_along_one_edge():
    assert shortest_path(build(TOWN), "e", "a") == ["e", "a"]


def test_equal_paths_are_chosen_by_alphabet():
    edges = [("a", "c"), ("a", "b"), ("c", "d"), ("b", "d")]
    assert shortest_path(build(edges), "a", "d") == ["a", "b", "d"]


def test_edges_without_weight_do_not_lead_in_circles():
    edges = [("a", "b", 1), ("b", "c", 0), ("c", "b", 0)]
    assert shortest_path(build(edges), "a", "c") == ["a", "b", "c"]


def test_no_path_is_an_error():
    with pytest.raises(NoPath, match="e cannot be reached from a"):
        shortest_path(build(TOWN), "a", "e")


def test_path_length_adds_up_the_weights():
    assert path_length(build(TOWN), ["a", "b", "d"]) == 9


def test_path_length_of_one_node_is_zero():
    assert path_length(build(TOWN), ["a"]) == 0


def test_path_length_needs_edges():
    with pytest.raises(NoPath, match="no edge from b to a"):
        path_length(build(TOWN), ["b", "a"])


def test_path_length_of_unknown_nodes_is_an_error():
    with pytest.raises(NoPath, match="no edge from x to y"):
        path_length(build(TOWN), ["x", "y"])


def test_reachable_nodes_come_near_ones_first():
    assert reachable(build(TOWN), "e") == ["e", "a", "b", "c", "d"]


def test_reachable_nodes_within_some_steps():
    assert reachable(build(TOWN), "e", 1) == ["e", "a"]


def test_reachable_within_no_steps_is_the_start():
    assert reachable(build(TOWN), "a", 0) == ["a"]


def test_reachable_nodes_come_once_in_a_cycle():
    assert reachable(build([("a", "b"), ("b", "a")]), "a") == ["a", "b"]


def test_topological_order_follows_the_edges():
    assert topological_order(build(TOWN)) == ["e", "a", "c", "b", "d"]


def test_topological_order_of_free_nodes_is_alphabetical():
    assert topological_order({"b": {}, "c": {}, "a": {}}) == ["a", "b", "c"]


def test_topological_order_refuses_a_cycle():
    with pytest.raises(ValueError, match="cycle"):
        topological_order(build([("a", "b"), ("b", "c"), ("c", "b")]))


def test_without_drops_a_node_and_its_edges():
    assert without(build(TOWN), "b") == {"a": {"c": 1}, "c": {}, "d": {}, "e": {"a": 3}}


def test_without_leaves_the_graph_alone():
    graph = build([("a", "b", 4)])
    without(graph, "b")
    assert graph == {"a": {"b": 4}, "b": {}}
