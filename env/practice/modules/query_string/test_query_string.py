import pytest

from query_string import Query, join, quote, unquote, url


def test_letters_digits_and_four_marks_are_kept():
    assert quote("aZ09-._~") == "aZ09-._~"


def test_other_characters_are_escaped():
    assert quote("a/b?c&d") == "a%2Fb%3Fc%26d"


def test_a_blank_is_escaped_when_not_told():
    assert quote("a b") == "a%20b"


def test_a_blank_may_become_a_plus():
    assert quote("a b", plus=True) == "a+b"


def test_a_plus_is_escaped():
    assert quote("1+1", plus=True) == "1%2B1"


def test_more_characters_may_be_safe():
    assert quote("a/b c", safe="/") == "a/b%20c"


def test_characters_of_several_bytes_are_escaped_by_byte():
    assert quote("é") == "%C3%A9"


def test_small_bytes_have_two_digits():
    assert quote("\n") == "%0A"


def test_escapes_are_read():
    assert unquote("a%2Fb%c3%a9c") == "a/béc"


def test_a_plus_stays_a_plus_when_not_told():
    assert unquote("a+b") == "a+b"


def test_a_plus_may_be_a_blank():
    assert unquote("a+b%2B", plus=True) == "a b+"


def test_an_escape_may_be_the_end():
    assert unquote("a%21") == "a!"


def test_an_unfinished_escape_is_refused():
    with pytest.raises(ValueError, match="unfinished escape at 1"):
        unquote("a%2")


def test_an_escape_needs_hexadecimal_digits():
    with pytest.raises(ValueError, match="invalid literal"):
        unquote("%zz")


def test_a_query_is_read_and_written():
    assert str(Query.parse("a=1&b=x+y")) == "a=1&b=x+y"


def test_a_leading_question_mark_is_skipped():
    assert Query.parse("?a=1").get("a") == "1"


def test_names_and_values_are_unescaped():
    assert Query.parse("a%20b=c%26d").get("a b") == "c&d"


def test_a_plus_in_a_name_is_a_blank():
    assert Query.parse("a+b=1").get("a b") == "1"


def test_names_and_values_are_escaped():
    assert str(Query([("a b", "c=d")])) == "a+b=c%3Dd"


def test_a_name_without_value_is_empty():
    assert Query.parse("flag&a=1").get("flag") == ""


def test_a_value_may_hold_the_equals_sign():
    assert Query.parse("a=b=c").get("a") == "b=c"


def test_empty_parts_are_skipped():
    assert len(Query.parse("a=1&&b=2&")) == 2


def test_an_empty_text_is_an_empty_query():
    assert len(Query.parse("")) == 0


def test_get_returns_the_last_value():
    assert Query.parse("a=1&a=2").get("a") == "2"


def test_get_of_a_missing_name_is_none():
    assert Query.parse("a=1").get("b") is None


def test_get_of_a_missing_name_may_have_a_default():
    assert Query.parse("a=1").get("b", "x") == "x"


def test_all_values_are_in_order():
    assert Query.parse("a=1&b=2&a=3").all("a") == ["1", "3"]


def test_number_reads_a_number():
    assert Query.parse("page=12").number("page") == 12


def test_number_is_zero_when_missing():
    assert Query().number("page") == 0


def test_number_may_have_a_default():
    assert Query().number("page", 1) == 1


def test_number_is_not_below_the_least():
    assert Query.parse("page=-3").number("page", least=1) == 1


def test_number_above_the_least_is_kept():
    assert Query.parse("page=5").number("page", least=1) == 5


def test_number_refuses_words():
    with pytest.raises(TypeError, match="page is no number: 'two'"):
        Query.parse("page=two").number("page")


def test_add_puts_a_pair_at_the_end():
    assert str(Query.parse("b=1").add("a", 2)) == "b=1&a=2"


def test_add_leaves_the_query_as_it_is():
    query = Query.parse("b=1")
    query.add("a", 2)
    assert str(query) == "b=1"


def test_set_replaces_in_place():
    assert str(Query.parse("a=1&b=2").set("a", 9)) == "a=9&b=2"


def test_set_leaves_a_single_value():
    assert str(Query.parse("a=1&b=2&a=3").set("a", 9)) == "a=9&b=2"


def test_set_adds_a_missing_name():
    assert str(Query.parse("a=1").set("b", 9)) == "a=1&b=9"


def test_without_drops_names():
    assert str(Query.parse("a=1&b=2&c=3&a=4").without("a", "c")) == "b=2"


def test_a_query_copies_its_pairs():
    pairs = [("a", "1")]
    query = Query(pairs)
    pairs.clear()
    assert str(query) == "a=1"


def test_join_puts_one_slash_between():
    assert join("http://x.org/", "/a/", "b") == "http://x.org/a/b"


def test_join_keeps_inner_slashes():
    assert join("http://x.org", "a/b c") == "http://x.org/a/b%20c"


def test_join_skips_empty_parts():
    assert join("http://x.org", "", "/", "a") == "http://x.org/a"


def test_url_with_query_and_fragment():
    assert url("http://x.org", "a", query=Query([("q", "1")]), fragment="top of") == "http://x.org/a?q=1#top%20of"


def test_url_without_query():
    assert url("http://x.org", "a") == "http://x.org/a"


def test_an_empty_query_leaves_no_mark():
    assert url("http://x.org", "a", query=Query()) == "http://x.org/a"
