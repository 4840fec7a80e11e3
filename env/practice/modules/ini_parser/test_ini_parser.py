import pytest

from ini_parser import IniError, get, get_bool, get_list, merge, parse, write

SITE = {"site": {"host": "example.org", "url": "http://${host}/"}, "mail": {"from": "me@${site:host}"}}


def test_keys_belong_to_the_section_above():
    assert parse("[a]\nx=1\n[b]\nx=2") == {"a": {"x": "1"}, "b": {"x": "2"}}


def test_keys_before_any_header_are_in_the_default_section():
    assert parse("x=1") == {"DEFAULT": {"x": "1"}}


def test_the_default_section_may_be_named():
    assert parse("x=1", "top") == {"top": {"x": "1"}}


def test_a_section_may_be_empty():
    assert parse("[a]") == {"a": {}}


def test_an_empty_text_has_no_sections():
    assert parse("") == {}


def test_blanks_around_keys_and_values_are_dropped():
    assert parse("[ a ]\n x  =  1 2 ") == {"a": {"x": "1 2"}}


def test_keys_are_in_small_letters():
    assert parse("[A]\nHost=Big") == {"A": {"host": "Big"}}


def test_a_value_may_hold_the_equals_sign():
    assert parse("x=a=b") == {"DEFAULT": {"x": "a=b"}}


def test_a_value_may_be_empty():
    assert parse("x=") == {"DEFAULT": {"x": ""}}


def test_comments_are_skipped():
    assert parse("# one\n; two\nx=1") == {"DEFAULT": {"x": "1"}}


def test_empty_lines_are_skipped_and_reading_goes_on():
    assert parse("x=1\n\ny=2") == {"DEFAULT": {"x": "1", "y": "2"}}


def test_an_indented_line_continues_the_value():
    assert parse("x=1\n  2\n  3") == {"DEFAULT": {"x": "1\n2\n3"}}


def test_an_indented_line_after_a_header_is_a_pair():
    assert parse("y=0\n[a]\n  x=1") == {"DEFAULT": {"y": "0"}, "a": {"x": "1"}}


def test_a_header_must_be_closed():
    with pytest.raises(IniError, match="line 2: the header is not closed"):
        parse("x=1\n[a")


def test_a_section_comes_once():
    with pytest.raises(IniError, match="line 3: section 'a' comes twice"):
        parse("[a]\n[b]\n[a]")


def test_a_key_comes_once_in_a_section():
    with pytest.raises(IniError, match="line 2: key 'x' comes twice"):
        parse("x=1\nX=2")


def test_a_line_needs_an_equals_sign():
    with pytest.raises(IniError, match="line 1: no = in 'hello'"):
        parse("hello")


def test_a_key_must_not_be_empty():
    with pytest.raises(IniError, match="line 1: the key is empty"):
        parse(" = 1")


def test_an_error_knows_its_line():
    with pytest.raises(IniError) as caught:
        parse("\n\nhello")
    assert caught.value.line == 3


def test_get_returns_a_value():
    assert get(SITE, "site", "host") == "example.org"


def test_get_ignores_the_size_of_letters_in_keys():
    assert get(SITE, "site", "HOST") == "example.org"


def test_get_fills_in_keys_of_the_section():
    assert get(SITE, "site", "url") == "http://example.org/"


def test_get_fills_in_keys_of_other_sections():
    assert get(SITE, "mail", "from") == "me@example.org"


def test_get_falls_back():
    assert get(SITE, "site", "port", "80") == "80"


def test_get_of_a_missing_key_is_an_error():
    with pytest.raises(KeyError, match="site:port"):
        get(SITE, "site", "port")


def test_get_of_a_missing_section_is_an_error():
    with pytest.raises(KeyError, match="shop:port"):
        get(SITE, "shop", "port")


def test_a_missing_reference_is_an_error():
    with pytest.raises(KeyError, match="a:z"):
        get({"a": {"x": "${z}"}}, "a", "x")


def test_the_fallback_is_not_used_for_references():
    with pytest.raises(KeyError, match="a:z"):
        get({"a": {"x": "${z}"}}, "a", "x", "1")


def test_a_circle_of_references_is_an_error():
    with pytest.raises(RecursionError, match="refers to itself"):
        get({"a": {"x": "${y}", "y": "${x}"}}, "a", "x")


def test_five_references_in_a_row_are_fine():
    keys = {"a": "${b}", "b": "${c}", "c": "${d}", "d": "${e}", "e": "${f}", "f": "end"}
    assert get({"s": keys}, "s", "a") == "end"


def test_six_references_in_a_row_are_too_many():
    keys = {"a": "${b}", "b": "${c}", "c": "${d}", "d": "${e}", "e": "${f}", "f": "${g}", "g": "end"}
    with pytest.raises(RecursionError, match="s:g refers to itself"):
        get({"s": keys}, "s", "a")


def test_get_bool_knows_yes():
    assert [get_bool({"a": {"x": word}}, "a", "x") for word in ("1", "Yes", "true", "ON")] == [True] * 4


def test_get_bool_knows_no():
    assert [get_bool({"a": {"x": word}}, "a", "x", "yes") for word in ("0", "No", "false", "OFF")] == [False] * 4


def test_get_bool_is_no_when_not_told():
    assert get_bool({}, "a", "x") is False


def test_get_bool_falls_back():
    assert get_bool({}, "a", "x", "on") is True


def test_get_bool_refuses_other_words():
    with pytest.raises(ValueError, match="'maybe' is neither yes nor no"):
        get_bool({"a": {"x": "maybe"}}, "a", "x")


def test_get_list_splits_at_commas():
    assert get_list({"a": {"x": "1, 2,,3 "}}, "a", "x") == ["1", "2", "3"]


def test_get_list_takes_another_separator():
    assert get_list({"a": {"x": "1, 2;3"}}, "a", "x", ";") == ["1, 2", "3"]


def test_get_list_of_a_missing_key_is_empty():
    assert get_list({}, "a", "x") == []


def test_merge_puts_changes_on_top():
    assert merge({"a": {"x": "1", "y": "2"}}, {"a": {"x": "9"}, "b": {}}) == {"a": {"x": "9", "y": "2"}, "b": {}}


def test_merge_leaves_the_base_alone():
    base = {"a": {"x": "1"}}
    merge(base, {"a": {"x": "9"}})
    assert base == {"a": {"x": "1"}}


def test_merge_shares_nothing_with_the_changes():
    changes = {"b": {"x": "1"}}
    merge({}, changes)["b"]["x"] = "9"
    assert changes == {"b": {"x": "1"}}


def test_write_separates_sections_by_an_empty_line():
    assert write({"a": {"x": "1"}, "b": {}}) == "[a]\nx = 1\n\n[b]\n"


def test_what_is_written_can_be_read():
    assert parse(write({"a": {"x": "1\n2", "y": ""}})) == {"a": {"x": "1\n2", "y": ""}}
