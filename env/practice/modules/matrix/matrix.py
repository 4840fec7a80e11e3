"""Small matrices as lists of rows: products, transposes, determinants, equations."""

from collections.abc import Sequence

Matrix = list[list[float]]


def shape(rows: Sequence[Sequence[float]]) -> tuple[int, int]:
    """Rows and columns; ValueError where there are none or the rows differ in length."""
    if not rows or not rows[0]:
        raise ValueError("a matrix has at least one row and one column")
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        raise ValueError("the rows differ in length")
    return len(rows), width


def copy(rows: Sequence[Sequence[float]]) -> Matrix:
    """A matrix that shares no row with the given one."""
    return [list(row) for row in rows]


def identity(size: int, scale: float = 1) -> Matrix:
    """`scale` on the diagonal, zeros elsewhere."""
    return [[scale if row == column else 0 for column in range(size)] for row in range(size)]


def transpose(rows: Matrix) -> Matrix:
    return [list(column) for column in zip(*rows)]


def add(left: Matrix, right: Matrix, weight: float = 1) -> Matrix:
    """left + weight * right, entry by entry."""
    if shape(left) != shape(right):
        raise ValueError(f"cannot add {shape(right)} to {shape(left)}")
    return [[a + weight * b for a, b in zip(*pair)] for pair in zip(left, right)]


def multiply(left: Matrix, right: Matrix) -> Matrix:
    """The matrix product, which needs as many columns on the left as rows on the right."""
    if shape(left)[1] != shape(right)[0]:
        raise ValueError(f"cannot multiply {shape(left)} by {shape(right)}")
    columns = transpose(right)
    return [[sum(a * b for a, b in zip(row, column)) for column in columns] for row in left]


def power(rows: Matrix, exponent: int) -> Matrix:
    """The product of `exponent` copies; the zeroth power is the identity."""
    if exponent < 0:
        raise ValueError("negative powers are not supported")
    result = identity(_side(rows))
    for _ in range(exponent):
        result = multiply(result, rows)
    return result


def trace(rows: Matrix) -> float:
    """The sum of the diagonal."""
    return sum(rows[index][index] for index in range(_side(rows)))


def minor(rows: Matrix, row: int, column: int) -> Matrix:
    """The matrix without one row and one column."""
    kept = rows[:row] + rows[row + 1 :]
    return [line[:column] + line[column + 1 :] for line in kept]


def determinant(rows: Matrix) -> float:
    """By expansion along the first row."""
    if _side(rows) == 1:
        return rows[0][0]
    total = 0
    for column, entry in enumerate(rows[0]):
        sign = -1 if column % 2 else 1
        total += sign * entry * determinant(minor(rows, 0, column))
    return total


def solve(rows: Matrix, values: Sequence[float]) -> list[float]:
    """The x with rows * x = values, by Cramer's rule; ArithmeticError where there is not exactly one."""
    if len(values) != _side(rows):
        raise ValueError(f"{len(rows)} rows but {len(values)} values")
    whole = determinant(rows)
    if whole == 0:
        raise ArithmeticError("the matrix is singular")
    return [determinant(_with_column(rows, column, values)) / whole for column in range(len(rows))]


def _with_column(rows: Matrix, column: int, values: Sequence[float]) -> Matrix:
    changed = copy(rows)
    for row, value in zip(changed, values):
        row[column] = value
    return changed


def _side(rows: Matrix) -> int:
    height, width = shape(rows)
    if height != width:
        raise ValueError(f"the matrix is {height} by {width}, not square")
    return height
