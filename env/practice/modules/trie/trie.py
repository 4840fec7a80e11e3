"""A trie: words by their prefixes, with counts, completion and the longest match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Node:
    """One letter's place: what can follow, and how often a word ends here."""

    __slots__ = ("children", "count")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.count = 0


class Trie:
    """A bag of words; a word may be in it several times."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.root = Node()
        for word in words:
            self.add(word)

    def __len__(self) -> int:
        """How many different words there are."""
        return sum(1 for _ in self.words())

    def __contains__(self, word: str) -> bool:
        return self.count(word) > 0

    def add(self, word: str, times: int = 1) -> int:
        """Add a word and return how often it is there now."""
        if not word:
            raise ValueError("a word has at least one letter")
        if times < 1:
            raise ValueError("a word is added at least once")
        node = self.root
        for letter in word:
            node = node.children.setdefault(letter, Node())
        node.count += times
        return node.count

    def count(self, word: str) -> int:
        """How often the word is there; 0 where it is not, even if longer words are."""
        node = self._find(word)
        return 0 if node is None else node.count

    def remove(self, word: str) -> None:
        """Take a word out once, with the branch that only it needed; KeyError where it is not."""
        path = [self.root]
        for letter in word:
            if letter not in path[-1].children:
                raise KeyError(word)
            path.append(path[-1].children[letter])
        if path[-1].count == 0:
            raise KeyError(word)
        path[-1].count -= 1
        for letter in reversed(word):
            node = path.pop()
            if node.count > 0 or node.children:
                return
            del path[-1].children[letter]

    def words(self, prefix: str = "") -> Iterator[str]:
        """The different words that begin with `prefix`, in alphabetical order."""
        node = self._find(prefix)
        if node is not None:
            yield from self._walk(node, prefix)

    def complete(self, prefix: str, limit: int = 3) -> list[str]:
        """The most frequent words that begin with `prefix`; equals in alphabetical order."""
        found = sorted(self.words(prefix), key=lambda word: (-self.count(word), word))
        return found[:limit]

    def longest_match(self, text: str, start: int = 0) -> str | None:
        """The longest word that the text has at `start`; None where there is none."""
        node = self.root
        found = None
        for position in range(start, len(text)):
            if text[position] not in node.children:
                break
            node = node.children[text[position]]
            if node.count > 0:
                found = text[start : position + 1]
        return found

    def size(self) -> int:
        """How many letters are stored, the shared ones once."""
        waiting, total = [self.root], 0
        while waiting:
            children = waiting.pop().children
            total += len(children)
            waiting.extend(children.values())
        return total

    def _find(self, prefix: str) -> Node | None:
        node = self.root
        for letter in prefix:
            if letter not in node.children:
                return None
            node = node.children[letter]
        return node

    def _walk(self, node: Node, prefix: str) -> Iterator[str]:
        if node.count > 0:
            yield prefix
        for letter in sorted(node.children):
            yield from self._walk(node.children[letter], prefix + letter)


def split_words(text: str, trie: Trie) -> list[str]:
    """The text cut into the longest known words; a letter that begins none stands alone."""
    pieces = []
    position = 0
    while position < len(text):
        piece = trie.longest_match(text, position) or text[position]
        pieces.append(piece)
        position += len(piece)
    return pieces
