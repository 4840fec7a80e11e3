import pytest

from trie import Trie, split_words

ANIMALS = ["cat", "cow", "cattle", "dog", "cat"]


def test_an_added_word_is_there():
    assert "cow" in Trie(ANIMALS)


def test_a_prefix_is_no_word():
    assert "ca" not in Trie(ANIMALS)


def test_a_longer_word_is_not_there():
    assert "cows" not in Trie(ANIMALS)


def test_length_counts_different_words():
    assert len(Trie(ANIMALS)) == 4


def test_count_tells_how_often_a_word_is_there():
    assert Trie(ANIMALS).count("cat") == 2


def test_count_of_an_unknown_word_is_zero():
    assert Trie(ANIMALS).count("horse") == 0


def test_count_of_a_prefix_is_zero():
    assert Trie(ANIMALS).count("catt") == 0


def test_add_returns_the_new_count():
    assert Trie(ANIMALS).add("cat") == 3


def test_add_takes_several_at_once():
    assert Trie(ANIMALS).add("cow", 4) == 5


def test_an_empty_word_is_refused():
    with pytest.raises(ValueError, match="at least one letter"):
        Trie().add("")


def test_adding_no_times_is_refused():
    with pytest.raises(ValueError, match="at least once"):
        Trie().add("cat", 0)


def test_words_are_in_alphabetical_order():
    assert list(Trie(ANIMALS).words()) == ["cat", "cattle", "cow", "dog"]


def test_words_with_a_prefix():
    assert list(Trie(ANIMALS).words("cat")) == ["cat", "cattle"]


def test_no_words_with_an_unknown_prefix():
    assert list(Trie(ANIMALS).words("x")) == []


def test_remove_takes_a_word_out():
    trie = Trie(ANIMALS)
    trie.remove("cow")
    assert list(trie.words()) == ["cat", "cattle", "dog"]


def test_remove_takes_one_of_several():
    trie = Trie(ANIMALS)
    trie.remove("cat")
    assert trie.count("cat") == 1


def test_remove_leaves_longer_words():
    trie = Trie(["cat", "cattle"])
    trie.remove("cat")
    assert list(trie.words()) == ["cattle"]


def test_remove_leaves_shorter_words():
    trie = Trie(["cat", "cattle"])
    trie.remove("cattle")
    assert list(trie.words()) == ["cat"]


def test_remove_frees_the_branch_that_only_the_word_needed():
    trie = Trie(["cat", "cattle"])
    trie.remove("cattle")
    assert trie.size() == 3


def test_remove_frees_everything_with_the_last_word():
    trie = Trie(["dog"])
    trie.remove("dog")
    assert trie.size() == 0


def test_remove_refuses_an_unknown_word():
    with pytest.raises(KeyError, match="cats"):
        Trie(ANIMALS).remove("cats")


def test_remove_refuses_a_prefix():
    with pytest.raises(KeyError, match="ca"):
        Trie(ANIMALS).remove("ca")


def test_complete_puts_frequent_words_first():
    assert Trie(["cow", "cow", "cat"]).complete("c") == ["cow", "cat"]


def test_complete_orders_equals_by_alphabet():
    assert Trie(["cow", "cup", "cat"]).complete("c") == ["cat", "cow", "cup"]


def test_complete_gives_three_words_when_not_told():
    assert Trie(["ca", "cb", "cc", "cd"]).complete("c") == ["ca", "cb", "cc"]


def test_complete_gives_as_many_words_as_told():
    assert Trie(["ca", "cb", "cc"]).complete("c", 1) == ["ca"]


def test_longest_match_prefers_the_longer_word():
    assert Trie(ANIMALS).longest_match("cattles") == "cattle"


def test_longest_match_falls_back_to_a_shorter_word():
    assert Trie(ANIMALS).longest_match("cattail") == "cat"


def test_longest_match_begins_where_told():
    assert Trie(ANIMALS).longest_match("hotdog", 3) == "dog"


def test_longest_match_begins_at_the_front_when_not_told():
    assert Trie(ANIMALS).longest_match("hotdog") is None


def test_size_counts_shared_letters_once():
    assert Trie(["cat", "car", "dog"]).size() == 7


def test_split_words_takes_the_longest():
    assert split_words("cattlecatdog", Trie(ANIMALS)) == ["cattle", "cat", "dog"]


def test_split_words_leaves_unknown_letters_alone():
    assert split_words("xcowy", Trie(ANIMALS)) == ["x", "cow", "y"]
