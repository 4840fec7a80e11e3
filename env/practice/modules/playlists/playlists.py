"""Playlists: lists of songs, lengths in seconds."""


def total_length(lengths, pause=2):
    """The sum of the lengths and a pause after each song."""
    return sum(lengths) + pause * len(lengths)


def clock(seconds):
    """Minutes and seconds, as in 3:05."""
    return f"{seconds // 60}:{seconds % 60:02d}"


def next_index(index, count):
    """The index after this one; after the last comes the first."""
    return (index + 1) % count


def previous_index(index, count):
    """The index before this one; before the first comes the last."""
    return (index - 1) % count


def first_songs(songs, count=3):
    """The first count songs."""
    return songs[:count]


def without(songs, song):
    """The songs that are not song, in the same order."""
    return [other for other in songs if other != song]


def longest(lengths):
    """The greatest length, 0 for an empty list."""
    return max(lengths, default=0)


def is_long(seconds, limit=300):
    """Whether a song lasts more than limit."""
    return seconds > limit
