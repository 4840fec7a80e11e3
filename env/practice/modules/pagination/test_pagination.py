import itertools

import pytest

from pagination import Page, chunks, fetch_all, interleave, links, page_count, paginate, windows

LETTERS = list("abcdefg")


class Source:
    """Serves pages of rows; the cursor is the number of the next page as text."""

    def __init__(self, *pages):
        self.pages = pages
        self.asked = []

    def fetch(self, cursor):
        self.asked.append(cursor)
        number = int(cursor or 0)
        following = str(number + 1) if number + 1 < len(self.pages) else None
        return self.pages[number], following


def test_page_count_counts_the_started_page():
    assert page_count(21, 10) == 3


def test_page_count_of_full_pages():
    assert page_count(20, 10) == 2


def test_no_rows_need_one_page():
    assert page_count(0, 10) == 1


def test_pages_may_have_one_row():
    assert page_count(3, 1) == 3


def test_pages_without_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        page_count(3, 0)


def test_the_first_page_comes_when_not_told():
    assert paginate(LETTERS, size=3).rows == ["a", "b", "c"]


def test_a_middle_page():
    assert paginate(LETTERS, 2, 3) == Page(["d", "e", "f"], 2, 3, 7)


def test_the_last_page_may_be_shorter():
    assert paginate(LETTERS, 3, 3).rows == ["g"]


def test_a_page_has_ten_rows_when_not_told():
    assert paginate(range(12)).rows == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_an_empty_list_has_an_empty_page():
    assert paginate([]) == Page([], 1, 1, 0)


def test_page_zero_is_refused():
    with pytest.raises(IndexError, match="page 0 of 3"):
        paginate(LETTERS, 0, 3)


def test_a_page_beyond_the_last_is_refused():
    with pytest.raises(IndexError, match="page 4 of 3"):
        paginate(LETTERS, 4, 3)


def test_the_rows_of_a_page_are_a_copy():
    rows = [1, 2]
    paginate(rows).rows.append(3)
    assert rows == [1, 2]


def test_the_first_page_has_a_next_and_no_previous():
    page = paginate(LETTERS, 1, 3)
    assert (page.has_previous, page.has_next) == (False, True)


def test_the_last_page_has_a_previous_and_no_next():
    page = paginate(LETTERS, 3, 3)
    assert (page.has_previous, page.has_next) == (True, False)


def test_label():
    assert paginate(LETTERS, 2, 3).label() == "Page 2 of 3 (7 rows)"


def test_label_of_a_single_row():
    assert paginate(["a"]).label() == "Page 1 of 1 (1 row)"


def test_chunks_end_with_the_rest():
    assert list(chunks(LETTERS, 3)) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


def test_chunks_can_drop_the_rest():
    assert list(chunks(LETTERS, 3, partial=False)) == [["a", "b", "c"], ["d", "e", "f"]]


def test_chunks_have_no_empty_rest():
    assert list(chunks("ab", 2)) == [["a", "b"]]


def test_chunks_share_nothing():
    first, second = chunks("abcd", 2)
    first.append("x")
    assert second == ["c", "d"]


def test_windows_are_pairs_when_not_told():
    assert list(windows("abcd")) == [("a", "b"), ("b", "c"), ("c", "d")]


def test_windows_of_three():
    assert list(windows("abcd", 3)) == [("a", "b", "c"), ("b", "c", "d")]


def test_windows_can_go_on_by_two():
    assert list(windows("abcdef", 3, 2)) == [("a", "b", "c"), ("c", "d", "e")]


def test_windows_can_leave_rows_out():
    assert list(windows("abcdefgh", 2, 4)) == [("a", "b"), ("e", "f")]


def test_too_few_rows_make_no_window():
    assert list(windows("a")) == []


def test_fetch_all_goes_through_the_pages():
    assert list(fetch_all(Source([1, 2], [3], [4]).fetch)) == [1, 2, 3, 4]


def test_fetch_all_goes_on_after_an_empty_page():
    assert list(fetch_all(Source([1], [], [2]).fetch)) == [1, 2]


def test_fetch_all_begins_without_a_cursor():
    source = Source([1, 2], [3])
    list(fetch_all(source.fetch))
    assert source.asked == [None, "1"]


def test_fetch_all_stops_at_the_limit():
    assert list(fetch_all(Source([1, 2], [3, 4]).fetch, 3)) == [1, 2, 3]


def test_fetch_all_fetches_nothing_more_than_needed():
    source = Source([1, 2], [3, 4])
    list(fetch_all(source.fetch, 2))
    assert source.asked == [None]


def test_fetch_all_fetches_only_when_a_row_is_asked_for():
    source = Source([1, 2], [3, 4])
    list(itertools.islice(fetch_all(source.fetch), 2))
    assert source.asked == [None]


def test_fetch_all_of_no_rows_asks_for_none():
    source = Source([1, 2])
    assert list(fetch_all(source.fetch, 0)) == []
    assert source.asked == []


def test_fetch_all_notices_a_circle():
    with pytest.raises(RuntimeError, match="cursor 'x' twice"):
        list(fetch_all(lambda cursor: ([1], "x")))


def test_links_leave_out_far_pages():
    assert links(5, 9) == [1, None, 4, 5, 6, None, 9]


def test_links_at_the_beginning():
    assert links(1, 9) == [1, 2, None, 9]


def test_links_at_the_end():
    assert links(9, 9) == [1, None, 8, 9]


def test_links_show_all_of_a_few_pages():
    assert links(2, 3) == [1, 2, 3]


def test_links_can_show_more_around():
    assert links(5, 9, around=2) == [1, None, 3, 4, 5, 6, 7, None, 9]


def test_interleave_takes_turns():
    assert list(interleave("abc", "xyz")) == ["a", "x", "b", "y", "c", "z"]


def test_interleave_goes_on_with_longer_sources():
    assert list(interleave("a", "xyz", "")) == ["a", "x", "y", "z"]
