"""Sums over groups of cells, against pandas."""

import numpy as np
import pandas as pd

from scmedal_tools._gene_model import GroupSums


def test_sums_and_noise_are_those_of_the_cells(draw_cells, groups_of):
    residuals, batch, state, _ = draw_cells(0, [0.5, 0.0], [0.2, 0.0])
    groups = groups_of(residuals, batch, state)
    table = pd.DataFrame(residuals).assign(batch=batch, state=state)
    n_batch, n_states = groups.sizes.shape
    by_group = table.groupby(["batch", "state"])
    sizes = by_group.size().to_numpy().reshape(n_batch, n_states)
    np.testing.assert_array_equal(groups.sizes, sizes)
    means = by_group[[0, 1]].mean().to_numpy().reshape(n_batch, n_states, 2)
    np.testing.assert_allclose(groups.means, means, atol=1e-5)
    centred = table[[0, 1]] - by_group[[0, 1]].transform("mean")
    for i in range(n_states):
        expected = np.square(centred[state == i]).sum() / (sizes[:, i].sum() - n_batch)
        # Ten cells of the variance of all states are mixed in.
        np.testing.assert_allclose(groups.noise()[i], expected, rtol=0.02)


def test_squares_are_left_out_on_request(draw_cells, groups_of):
    residuals, batch, state, _ = draw_cells(0, [0.5], 0.0, n_cells=40)
    groups, bare = groups_of(residuals, batch, state), GroupSums(8, 3, 1, squared=False)
    bare.add(residuals.astype(np.float32), batch, state)
    np.testing.assert_allclose(bare.sums, groups.sums, rtol=1e-6)
    assert np.isnan(bare.squares).all()
    assert not np.isnan(groups.squares).any()


def test_a_minibatch_may_be_empty(draw_cells, groups_of):
    residuals, batch, state, _ = draw_cells(0, [0.5], 0.0, n_cells=20)
    groups = groups_of(residuals, batch, state)
    before = groups.sums.copy()
    groups.add(residuals[:0].astype(np.float32), batch[:0], state[:0])
    np.testing.assert_array_equal(groups.sums, before)


def test_what_effects_leave(draw_cells, groups_of):
    """As if they had been taken from every cell."""
    residuals, batch, state, effects = draw_cells(1, [0.5, 0.2], [0.2, 0.0], n_cells=60)
    groups = groups_of(residuals, batch, state)
    expected = groups_of(residuals - effects[batch, state], batch, state)
    np.testing.assert_allclose(groups.without(effects).means, expected.means, atol=1e-5)
    np.testing.assert_array_equal(groups.sizes, expected.sizes)


def test_sums_over_levels_and_of_the_last(draw_cells, groups_of):
    residuals, batch, state, _ = draw_cells(2, [0.5], [0.2], n_cells=100)
    groups = groups_of(residuals, batch, state)
    halves = groups_of(residuals, batch % 2, state)
    ours = groups.over(np.arange(8) % 2, 2)
    np.testing.assert_array_equal(ours.sizes, halves.sizes[:2])
    np.testing.assert_allclose(ours.sums, halves.sums[:2], atol=1e-4)
    np.testing.assert_array_equal(groups.last(3).means, groups.means[5:])


def test_noise_is_unbiased_where_groups_are_small():
    """Two cells in each group, whose mean takes half of their variance."""
    rng = np.random.default_rng(0)
    groups = GroupSums(400, 1, 3)
    batch = np.repeat(np.arange(400), 2)
    groups.add(rng.normal(batch[:, None], 1.0, (800, 3)), batch, np.zeros(800, dtype=int))
    np.testing.assert_allclose(groups.noise(), 1, atol=0.15)
