import pytest

from text_wrapper import align, box, columns, justify, shorten, wrap


def test_wrap_breaks_between_words():
    assert wrap("the quick brown fox", 10) == ["the quick", "brown fox"]


def test_wrap_fills_a_line_to_the_last_character():
    assert wrap("ab cde fg", 6) == ["ab cde", "fg"]


def test_wrap_breaks_one_character_too_late():
    assert wrap("ab cdef", 6) == ["ab", "cdef"]


def test_wrap_has_twenty_characters_when_not_told():
    assert wrap("aaaaaaaaaa bbbbbbbbb cc") == ["aaaaaaaaaa bbbbbbbbb", "cc"]


def test_wrap_indents_all_lines_but_the_first():
    assert wrap("one two three", 7, "  ") == ["one two", "  three"]


def test_wrap_counts_the_indent():
    assert wrap("one two six", 6, "  ") == ["one", "  two", "  six"]


def test_wrap_cuts_a_long_word():
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]


def test_wrap_indents_the_rest_of_a_long_word():
    assert wrap("abcdefg", 4, ">") == ["abcd", ">efg"]


def test_wrap_drops_extra_blanks():
    assert wrap("  a   b  ", 5) == ["a b"]


def test_wrap_of_nothing_is_nothing():
    assert wrap("", 5) == []


def test_wrap_needs_room_after_the_indent():
    with pytest.raises(ValueError, match="width 2 leaves no room"):
        wrap("a b", 2, "  ")


def test_align_left_when_not_told():
    assert align("ab", 5) == "ab   "


def test_align_right():
    assert align("ab", 5, "right") == "   ab"


def test_align_center_leans_left():
    assert align("ab", 5, "center") == " ab  "


def test_align_leaves_a_full_line_alone():
    assert align("abcde", 5) == "abcde"


def test_align_refuses_a_long_line():
    with pytest.raises(OverflowError, match="'abcdef' is longer than 5"):
        align("abcdef", 5)


def test_align_refuses_an_unknown_side():
    with pytest.raises(ValueError, match="no side 'top'"):
        align("ab", 5, "top")


def test_justify_spreads_the_blanks():
    assert justify(["a", "b", "c"], 7) == "a  b  c"


def test_justify_puts_spare_blanks_first():
    assert justify(["a", "b", "c", "d"], 9) == "a  b  c d"


def test_justify_can_use_single_blanks():
    assert justify(["ab", "cd"], 5) == "ab cd"


def test_justify_pads_a_single_word():
    assert justify(["ab"], 4) == "ab  "


def test_justify_needs_a_blank_between_words():
    with pytest.raises(OverflowError, match="2 words do not fit into 4"):
        justify(["ab", "cd"], 4)


def test_shorten_leaves_a_fitting_text_alone():
    assert shorten("abcdef", 6) == "abcdef"


def test_shorten_makes_room_for_the_mark():
    assert shorten("abcdefg", 6) == "abc..."


def test_shorten_leaves_no_blank_before_the_mark():
    assert shorten("ab cdefg", 6) == "ab..."


def test_shorten_takes_another_mark():
    assert shorten("abcdefg", 4, "~") == "abc~"


def test_shorten_may_leave_only_the_mark():
    assert shorten("abcdefg", 3) == "..."


def test_shorten_needs_room_for_the_mark():
    with pytest.raises(ValueError, match="width 2 has no room"):
        shorten("abcdefg", 2)


def test_box_is_as_wide_as_the_longest_line():
    assert box(["ab", "c"]) == ["******", "* ab *", "* c  *", "******"]


def test_box_takes_another_border():
    assert box(["a"], "#") == ["#####", "# a #", "#####"]


def test_an_empty_box_has_two_edges():
    assert box([]) == ["****", "****"]


def test_columns_are_aligned():
    assert columns([["a", "bb"], ["ccc", "d"]]) == ["a    bb", "ccc  d"]


def test_columns_take_another_gap():
    assert columns([["a", "b"], ["cc", "d"]], gap=1) == ["a  b", "cc d"]


def test_columns_need_rows_of_equal_length():
    with pytest.raises(ValueError):
        columns([["a", "b"], ["c"]])
