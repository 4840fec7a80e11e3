"""Agreement of raters beyond chance: kappas from counts.

Reads counts, writes nothing. All functions take arrays, so that a kappa without each of the runs is one call.

    >>> cohen_kappa(both=20.0, first=25.0, second=30.0, items=50.0).item()
    0.4

What cannot be said (no flagged step has no precision) is NaN in arrays and `None` in records.
"""

from __future__ import annotations

from typing import Any

import numpy
from numpy.typing import NDArray

Array = NDArray[numpy.float64]


def divided(numerator: Any, denominator: Any) -> Array:
    """numerator / denominator, NaN where the denominator is 0."""
    numerator, denominator = numpy.asarray(numerator, dtype=float), numpy.asarray(denominator, dtype=float)
    out = numpy.full(numpy.broadcast_shapes(numerator.shape, denominator.shape), numpy.nan)
    return numpy.divide(numerator, denominator, out=out, where=denominator != 0)


def cohen_kappa(*, both: Any, first: Any, second: Any, items: Any) -> Array:
    """Agreement of two raters who each mark some of the items, beyond what their rates alone would give.

    both, first, second: how many items both, the first and the second marked. NaN where both mark all or none.

    Source: J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20
    (1960).
    """
    both, first, second, items = (numpy.asarray(count, dtype=float) for count in (both, first, second, items))
    # (observed - expected) / (1 - expected) times items squared: whole numbers to the end.
    expected = first * second + (items - first) * (items - second)
    return divided((items - first - second + 2 * both) * items - expected, items * items - expected)


def fleiss_counts(marked_I: Any, raters_I: Any) -> Array:
    """(4,): items, the sum of their agreements, ratings that mark, ratings; what `fleiss_kappa` needs, and adds up.

    marked_I: how many of an item's raters marked it. Items with fewer than two raters say nothing and are left out.
    """
    marked_I, raters_I = numpy.asarray(marked_I, dtype=float), numpy.asarray(raters_I, dtype=float)
    marked_I, raters_I = marked_I[raters_I > 1], raters_I[raters_I > 1]
    unmarked_I = raters_I - marked_I
    agreeing_I = (marked_I * (marked_I - 1) + unmarked_I * (unmarked_I - 1)) / (raters_I * (raters_I - 1))
    return numpy.array([len(raters_I), agreeing_I.sum(), marked_I.sum(), raters_I.sum()])


def fleiss_kappa(counts: Array) -> Array:
    """Agreement of many raters beyond chance. counts: (..., 4), sums of `fleiss_counts`.

    Items may have different numbers of raters. NaN where there is no item or all ratings are the same.

    Source: J. L. Fleiss, "Measuring nominal scale agreement among many raters", Psychological Bulletin 76 (1971).

    >>> fleiss_kappa(fleiss_counts([3, 0, 1, 2], [3, 3, 3, 3])).round(4).item()
    0.3333
    """
    items, agreeing, marked, ratings = numpy.moveaxis(counts, -1, 0)
    share = divided(marked, ratings)
    expected = share**2 + (1 - share) ** 2
    return divided(divided(agreeing, items) - expected, 1 - expected)
