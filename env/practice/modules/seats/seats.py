"""Seats in a hall, numbered from 1, ten in a row."""


def row_of(seat):
    """The row of a seat; seats 1 to 10 are in row 1."""
    return (seat - 1) // 10 + 1


def place_of(seat):
    """The place of a seat within its row, 1 to 10."""
    return (seat - 1) % 10 + 1


def seat_at(row, place):
    """The seat at a place of a row."""
    return (row - 1) * 10 + place


def is_aisle(place):
    """Whether it is the first or the last place of a row."""
    return place == 1 or place == 10


def are_neighbours(first, second):
    """Whether two seats differ by exactly one."""
    return abs(first - second) == 1


def free_seats(taken, total):
    """The seats from 1 to total that are not taken."""
    return [seat for seat in range(1, total + 1) if seat not in taken]


def first_free(taken):
    """The number of the lowest seat after those taken."""
    return max(taken, default=0) + 1
