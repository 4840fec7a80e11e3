"""Syntax trees from many threads."""

from concurrent.futures import ThreadPoolExecutor

from srft.env.practice.syntax import literal, parse


def test_threads_that_parse_at_once_get_their_trees():
    source = "x = " + "(" * 60 + "1" + ")" * 60 + "\n" + "y = [1, 2, {'a': (3, 4)}]\n" * 200
    with ThreadPoolExecutor(4) as pool:
        lengths = set(pool.map(lambda _: len(parse(source).body), range(40)))
    assert lengths == {201}


def test_literals():
    assert literal("{'a': [1, None]}") == {"a": [1, None]}
