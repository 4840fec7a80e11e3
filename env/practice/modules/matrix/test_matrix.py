import unittest

import matrix


class ShapeTest(unittest.TestCase):
    def test_rows_come_before_columns(self):
        self.assertEqual(matrix.shape([[1, 2, 3], [4, 5, 6]]), (2, 3))

    def test_no_rows_are_refused(self):
        with self.assertRaisesRegex(ValueError, "at least one row"):
            matrix.shape([])

    def test_no_columns_are_refused(self):
        with self.assertRaisesRegex(ValueError, "at least one row"):
            matrix.shape([[], []])

    def test_uneven_rows_are_refused(self):
        with self.assertRaisesRegex(ValueError, "differ in length"):
            matrix.shape([[1, 2], [3]])


class BuildTest(unittest.TestCase):
    def test_identity(self):
        self.assertEqual(matrix.identity(3), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])

    def test_identity_can_be_scaled(self):
        self.assertEqual(matrix.identity(2, 5), [[5, 0], [0, 5]])

    def test_copy_is_equal(self):
        self.assertEqual(matrix.copy([[1, 2], [3, 4]]), [[1, 2], [3, 4]])

    def test_copy_shares_no_row(self):
        rows = [[1, 2], [3, 4]]
        matrix.copy(rows)[0][0] = 9
        self.assertEqual(rows, [[1, 2], [3, 4]])

    def test_transpose_turns_rows_into_columns(self):
        self.assertEqual(matrix.transpose([[1, 2, 3], [4, 5, 6]]), [[1, 4], [2, 5], [3, 6]])

    def test_minor_leaves_out_a_row_and_a_column(self):
        self.assertEqual(matrix.minor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], 1, 2), [[1, 2], [7, 8]])


class ArithmeticTest(unittest.TestCase):
    def test_add(self):
        self.assertEqual(matrix.add([[1, 2], [3, 4]], [[10, 20], [30, 40]]), [[11, 22], [33, 44]])

    def test_add_with_a_weight(self):
        self.assertEqual(matrix.add([[1, 2]], [[3, 4]], -2), [[-5, -6]])

    def test_add_needs_equal_shapes(self):
        with self.assertRaisesRegex(ValueError, r"cannot add \(2, 1\) to \(1, 2\)"):
            matrix.add([[1, 2]], [[1], [2]])

    def test_multiply(self):
        self.assertEqual(matrix.multiply([[1, 2], [3, 4]], [[5, 6], [7, 8]]), [[19, 22], [43, 50]])

    def test_multiply_a_row_by_a_column(self):
        self.assertEqual(matrix.multiply([[1, 2, 3]], [[4], [5], [6]]), [[32]])

    def test_multiply_needs_matching_sides(self):
        with self.assertRaisesRegex(ValueError, r"cannot multiply \(1, 2\) by \(1, 2\)"):
            matrix.multiply([[1, 2]], [[3, 4]])

    def test_power(self):
        self.assertEqual(matrix.power([[1, 1], [1, 0]], 5), [[8, 5], [5, 3]])

    def test_zeroth_power_is_the_identity(self):
        self.assertEqual(matrix.power([[7, 8], [9, 10]], 0), [[1, 0], [0, 1]])

    def test_negative_powers_are_refused(self):
        with self.assertRaisesRegex(ValueError, "negative powers"):
            matrix.power([[2]], -1)

    def test_power_needs_a_square(self):
        with self.assertRaisesRegex(ValueError, "1 by 2, not square"):
            matrix.power([[1, 2]], 2)


class SquareTest(unittest.TestCase):
    def test_trace(self):
        self.assertEqual(matrix.trace([[1, 2], [3, 4]]), 5)

    def test_determinant_of_one_number(self):
        self.assertEqual(matrix.determinant([[7]]), 7)

    def test_determinant_of_two_rows(self):
        self.assertEqual(matrix.determinant([[3, 8], [4, 6]]), -14)

    def test_determinant_of_three_rows(self):
        self.assertEqual(matrix.determinant([[6, 1, 1], [4, -2, 5], [2, 8, 7]]), -306)

    def test_solve(self):
        self.assertEqual(matrix.solve([[2, 1], [1, 3]], [5, 10]), [1, 3])

    def test_solve_leaves_its_arguments_alone(self):
        rows = [[2, 1], [1, 3]]
        matrix.solve(rows, [5, 10])
        self.assertEqual(rows, [[2, 1], [1, 3]])

    def test_solve_refuses_a_singular_matrix(self):
        with self.assertRaisesRegex(ArithmeticError, "singular"):
            matrix.solve([[1, 2], [2, 4]], [1, 2])

    def test_solve_needs_a_value_for_each_row(self):
        with self.assertRaisesRegex(ValueError, "2 rows but 3 values"):
            matrix.solve([[2, 1], [1, 3]], [1, 2, 3])


if __name__ == "__main__":
    unittest.main()
