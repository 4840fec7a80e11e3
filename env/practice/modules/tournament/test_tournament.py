import pytest

from tournament import Ratings, Standing, bracket, expected, round_robin, table, update


def order(results, teams=()):
    return [standing.team for standing in table(results, teams)]


def test_a_win_is_worth_three_points():
    assert table([("a", "b", 2, 1)])[0].points == 3


def test_a_loss_is_worth_nothing():
    assert table([("a", "b", 2, 1)])[1].points == 0


def test_a_draw_is_worth_a_point():
    assert [standing.points for standing in table([("a", "b", 1, 1)])] == [1, 1]


def test_results_are_counted_for_both_teams():
    assert table([("a", "b", 2, 1)]) == [Standing("a", 1, 0, 0, 2, 1), Standing("b", 0, 0, 1, 1, 2)]


def test_a_draw_is_counted_for_both_teams():
    assert table([("a", "b", 0, 0)]) == [Standing("a", drawn=1), Standing("b", drawn=1)]


def test_a_guest_can_win():
    assert order([("a", "b", 0, 1)]) == ["b", "a"]


def test_a_new_standing_is_empty():
    assert Standing("a") == Standing("a", 0, 0, 0, 0, 0)


def test_matches_played_are_added_up():
    assert Standing("a", won=3, drawn=4, lost=5).played == 12


def test_the_difference_may_be_negative():
    assert Standing("a", scored=2, conceded=5).difference == -3


def test_more_points_come_first():
    assert order([("a", "b", 9, 0), ("c", "d", 1, 0), ("c", "b", 0, 0)]) == ["c", "a", "b", "d"]


def test_the_goal_difference_decides_between_equal_points():
    assert order([("a", "b", 1, 0), ("c", "d", 3, 0)]) == ["c", "a", "b", "d"]


def test_goals_scored_decide_between_equal_differences():
    assert order([("a", "b", 1, 0), ("c", "d", 4, 3)]) == ["c", "a", "d", "b"]


def test_the_name_decides_at_last():
    assert order([("d", "c", 1, 1), ("b", "a", 1, 1)]) == ["a", "b", "c", "d"]


def test_teams_without_matches_are_listed():
    assert order([("b", "c", 0, 1)], ["a"]) == ["c", "a", "b"]


def test_no_team_plays_itself():
    with pytest.raises(ValueError, match="a cannot play against itself"):
        table([("a", "a", 1, 0)])


def test_goals_are_not_negative():
    with pytest.raises(ValueError, match="not negative"):
        table([("a", "b", 1, -1)])


def test_round_robin_of_four():
    assert round_robin(["a", "b", "c", "d"]) == [
        [("a", "d"), ("b", "c")],
        [("a", "c"), ("d", "b")],
        [("a", "b"), ("c", "d")],
    ]


def test_round_robin_of_three_rests_one():
    assert round_robin(["a", "b", "c"]) == [[("b", "c")], [("a", "c")], [("a", "b")]]


def test_a_second_leg_exchanges_home_and_guest():
    assert round_robin(["a", "b"], legs=2) == [[("a", "b")], [("b", "a")]]


def test_a_third_leg_is_like_the_first():
    assert round_robin(["a", "b"], 3)[2] == [("a", "b")]


def test_round_robin_leaves_the_teams_alone():
    teams = ["a", "b", "c"]
    round_robin(teams)
    assert teams == ["a", "b", "c"]


def test_bracket_pairs_best_and_worst():
    assert bracket(["a", "b", "c", "d"]) == [("a", "d"), ("b", "c")]


def test_bracket_gives_the_best_a_rest():
    assert bracket(["a", "b", "c"]) == [("a", None), ("b", "c")]


def test_bracket_of_five_has_three_rests():
    assert bracket(list("abcde")) == [("a", None), ("b", None), ("c", None), ("d", "e")]


def test_bracket_of_two():
    assert bracket(["a", "b"]) == [("a", "b")]


def test_bracket_leaves_the_seeds_alone():
    seeds = ["a", "b", "c"]
    bracket(seeds)
    assert seeds == ["a", "b", "c"]


def test_bracket_of_one_is_refused():
    with pytest.raises(ValueError, match="needs two teams"):
        bracket(["a"])


def test_equal_ratings_expect_half():
    assert expected(1500, 1500) == 0.5


def test_four_hundred_points_more_expect_ten_to_one():
    assert round(expected(1900, 1500), 4) == 0.9091


def test_a_win_between_equals_moves_sixteen_points():
    assert update(1500, 1500, 1) == (1516, 1484)


def test_a_loss_moves_points_the_other_way():
    assert update(1500, 1500, 0) == (1484, 1516)


def test_a_surprising_win_moves_more():
    assert update(1500, 1900, 1) == (1529, 1871)


def test_the_factor_can_be_told():
    assert update(1500, 1500, 1, k=10) == (1505, 1495)


def test_a_score_above_one_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        update(1500, 1500, 1.5)


def test_a_negative_score_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        update(1500, 1500, -0.5)


def test_a_new_player_has_1500_points_when_not_told():
    assert Ratings().rating("ann") == 1500


def test_a_new_player_has_the_points_told():
    assert Ratings(1200).rating("ann") == 1200


def test_play_returns_what_was_gained():
    assert Ratings().play("ann", "bob") == 16


def test_a_draw_between_equals_gains_nothing():
    assert Ratings().play("ann", "bob", draw=True) == 0


def test_play_changes_both_ratings():
    ratings = Ratings()
    ratings.play("ann", "bob")
    assert (ratings.rating("ann"), ratings.rating("bob")) == (1516, 1484)


def test_ranking_begins_with_the_best():
    ratings = Ratings()
    ratings.play("bob", "ann")
    assert ratings.ranking() == [("bob", 1516), ("ann", 1484)]


def test_ranking_orders_equals_by_name():
    ratings = Ratings()
    ratings.play("bob", "ann", draw=True)
    assert ratings.ranking() == [("ann", 1500), ("bob", 1500)]


def test_ranking_can_be_cut():
    ratings = Ratings()
    ratings.play("bob", "ann")
    assert ratings.ranking(1) == [("bob", 1516)]


def test_a_copy_has_the_same_ratings():
    ratings = Ratings(1000)
    ratings.play("bob", "ann")
    copied = ratings.copy()
    assert (copied.start, copied.rating("bob")) == (1000, 1016)


def test_a_copy_changes_on_its_own():
    ratings = Ratings()
    ratings.copy().play("bob", "ann")
    assert ratings.rating("bob") == 1500


def test_a_second_win_gains_less():
    ratings = Ratings()
    ratings.play("ann", "bob")
    assert ratings.play("ann", "bob") == 15


def test_the_weaker_player_gains_more():
    ratings = Ratings()
    ratings.play("ann", "bob")
    assert ratings.play("bob", "ann") == 17
