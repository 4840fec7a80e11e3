from labels import shorten, ending, initials, slug, padded, quoted, is_blank


def test_shorten():
    assert shorten("parcel", 3) == "par"
    assert shorten("ab", 5) == "ab"


def test_ending():
    assert ending("parcel", 2) == "el"
    assert ending("abc", 3) == "abc"


def test_initials():
    assert initials("ada lovelace") == "AL"
    assert initials("Jo van Dyk") == "JVD"


def test_slug():
    assert slug("Red Box") == "red-box"
    assert slug("A b C") == "a-b-c"


def test_padded():
    assert padded(42) == "0042"
    assert padded(7, 2) == "07"
    assert padded(123456) == "123456"


def test_quoted():
    assert quoted("hi") == "*hi*"
    assert quoted("a", "|") == "|a|"


def test_is_blank():
    assert is_blank("  ") is True
    assert is_blank("") is True
    assert is_blank(" a ") is False
