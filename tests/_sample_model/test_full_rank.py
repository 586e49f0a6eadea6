"""Contrasts of designs in which coefficients depend on each other."""

from __future__ import annotations

import numpy as np

from scmedal_tools._sample_model import full_rank, is_estimable

# An intercept, two groups of three, a group that nobody is in, and the sum of the first two.
DESIGN = np.array(
    [
        [1.0, 0, 0, 0, 1],
        [1, 1, 0, 0, 2],
        [1, 0, 1, 0, 1],
        [1, 1, 0, 0, 2],
    ]
)


def test_only_what_the_rows_tell_is_estimable():
    assert is_estimable(DESIGN, np.array([[0.0, -1, 1, 0, -1]]))
    assert is_estimable(DESIGN, np.array([[0.0, 0, 1, 0, 0], [1, 1, 0, 0, 2]]))
    assert not is_estimable(DESIGN, np.array([[0.0, 1, 0, 0, 0]]))  # beside the sum
    assert not is_estimable(DESIGN, np.array([[0.0, 0, 0, 1, 0]]))


def test_weights_of_the_columns_left_mean_the_same():
    columns, of_all = full_rank(DESIGN)
    assert columns.tolist() == [0, 1, 2]
    values = np.array([2.0, 3.0, 5.0, 3.0])
    fitted = np.linalg.lstsq(DESIGN, values)[0]
    left = np.linalg.lstsq(DESIGN[:, columns], values)[0]
    for row in range(4):
        weights = DESIGN[[row]] - DESIGN[[0]]
        np.testing.assert_allclose(weights @ of_all @ left, weights @ fitted, atol=1e-12)


def test_a_design_of_full_rank_stays_as_it_is():
    columns, of_all = full_rank(DESIGN[:, :3])
    assert columns.tolist() == [0, 1, 2]
    np.testing.assert_allclose(of_all, np.eye(3), atol=1e-12)
