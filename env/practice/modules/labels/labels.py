"""Short texts for labels and tags."""


def shorten(text, width):
    """The first width characters of text."""
    return text[:width]


def ending(text, count):
    """The last count characters of text."""
    return text[len(text) - count :]


def initials(name):
    """The first letter of every word, as capitals."""
    return "".join(word[0] for word in name.split()).upper()


def slug(text):
    """The text in small letters, with a dash for every space."""
    return text.lower().replace(" ", "-")


def padded(number, width=4):
    """The number with zeros on its left up to width."""
    return str(number).rjust(width, "0")


def quoted(text, mark="*"):
    """The text between two marks."""
    return mark + text + mark


def is_blank(text):
    """Whether text has nothing but white space."""
    return not text.strip()
