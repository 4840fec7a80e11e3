"""Breaks text into lines of a width, aligns them, and sets them in columns and boxes."""


def wrap(text: str, width: int = 20, indent: str = "") -> list[str]:
    """Lines of at most `width` characters; lines after the first begin with `indent`.

    Words are kept whole; one that is longer than a line is cut.
    """
    if width <= len(indent):
        raise ValueError(f"width {width} leaves no room after the indent")
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line.strip() and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = indent
        separator = " " if line.strip() else ""
        line += separator + word
        while len(line) > width:
            lines.append(line[:width])
            line = indent + line[width:]
    if line.strip():
        lines.append(line)
    return lines


def align(line: str, width: int, side: str = "left") -> str:
    """Pad a line with blanks to `width`; the centre leans left where it must."""
    missing = width - len(line)
    if missing < 0:
        raise OverflowError(f"{line!r} is longer than {width}")
    if side == "left":
        return line + " " * missing
    if side == "right":
        return " " * missing + line
    if side == "center":
        before = missing // 2
        return " " * before + line + " " * (missing - before)
    raise ValueError(f"no side {side!r}")


def justify(words: list[str], width: int) -> str:
    """One line of exactly `width`, the blanks spread evenly and the spare ones put first."""
    if len(words) == 1:
        return align(words[0], width)
    blanks = width - sum(len(word) for word in words)
    gaps = len(words) - 1
    if blanks < gaps:
        raise OverflowError(f"{gaps + 1} words do not fit into {width}")
    each, spare = divmod(blanks, gaps)
    line = words[0]
    for number, word in enumerate(words[1:]):
        extra = 1 if number < spare else 0
        line += " " * (each + extra) + word
    return line


def shorten(text: str, width: int, mark: str = "...") -> str:
    """The text, or its beginning and `mark` where it is longer than `width`."""
    if len(text) <= width:
        return text
    if width < len(mark):
        raise ValueError(f"width {width} has no room for {mark!r}")
    return text[: width - len(mark)].rstrip() + mark


def box(lines: list[str], border: str = "*") -> list[str]:
    """The lines in a frame as wide as the longest of them."""
    width = max((len(line) for line in lines), default=0)
    edge = border * (width + 4)
    inner = [f"{border} {align(line, width)} {border}" for line in lines]
    return [edge, *inner, edge]


def columns(rows: list[list[str]], gap: int = 2) -> list[str]:
    """The cells of each row under each other, without blanks at the ends of lines."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    spaced = [[align(cell, width) for cell, width in zip(row, widths)] for row in rows]
    return [(" " * gap).join(row).rstrip() for row in spaced]
