"""Parcels: sizes in centimetres, weights in grams."""


def volume(length, width, height):
    """Length times width times height."""
    return length * width * height


def girth(width, height):
    """Twice the width and twice the height."""
    return 2 * (width + height)


def total_weight(weights, box=200):
    """The weight of all contents and of the box."""
    return sum(weights) + box


def is_heavy(weight):
    """Whether it weighs more than 10000 grams."""
    return weight > 10000


def fits(sides, box):
    """Whether each side, in order of size, is at most the box's."""
    return all(a <= b for a, b in zip(sorted(sides), sorted(box)))


def boxes_needed(pieces, per_box):
    """How many boxes hold all pieces; the last may be half empty."""
    return (pieces + per_box - 1) // per_box


def postage(weight, base=4):
    """The base and 2 for each whole kilogram."""
    return base + weight // 1000 * 2
