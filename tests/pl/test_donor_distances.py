"""Figure of distances of donors."""

import numpy as np
import pandas as pd
import pytest

from scmedal_tools import pl, tl

from .tick_labels import tick_labels


class TestDistances:
    @pytest.fixture
    def distances(self):
        """Two pairs of donors, in noise of 0.5; in the second group half of the distances."""
        points, names = np.array([0.0, 5.0, 0.5, 5.5]), list("abcd")
        table = pd.DataFrame(np.abs(points[:, None] - points), names, names)
        noise = pd.DataFrame(0.5 * (1 - np.eye(4)), names, names)
        groups = ["T", "$B$"]
        tables = [
            pd.concat(of_groups, keys=groups, names=["group", "donor"])
            for of_groups in ([table, table / 2], [noise, noise])
        ]
        return tl.DonorDistances(*tables, pd.DataFrame(10.0, groups, names))

    def test_are_multiples_of_the_noise_in_one_order_and_scale(self, distances):
        figure = pl.donor_distances(distances)
        *axes, bar = figure.axes
        order = tick_labels(axes[0].xaxis)
        assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}
        assert [ax.get_title() for ax in axes] == ["T", r"\$B\$"]
        table = distances.distance.loc["T"].loc[order, order].to_numpy()
        for ax, scale in zip(axes, (2, 1), strict=True):
            expected = scale * table + np.eye(4)
            np.testing.assert_allclose(ax.images[0].get_array(), expected)
            assert ax.images[0].get_clim() == (1, 11)
        assert bar.get_ylabel() == "times the posterior s.d."
        assert not figure.legends

    def test_scale_does_not_blow_up_what_noise_explains(self, distances):
        alike = distances._replace(distance=1.2 * distances.sd)
        assert pl.donor_distances(alike).axes[0].images[0].get_clim() == (1, 3)

    def test_donors_with_few_cells_are_grey_in_that_group(self, distances):
        distances.n_cells.loc["$B$", "b"] = 9.0
        figure = pl.donor_distances(distances)
        of_t, of_b = (ax.images[0].get_array().mask for ax in figure.axes[:2])
        is_b = np.array(tick_labels(figure.axes[0].xaxis)) == "b"
        assert not np.any(of_t)
        np.testing.assert_array_equal(of_b, is_b[:, None] | is_b)
        (entry,) = figure.legends[0].get_texts()
        assert entry.get_text() == "fewer than 10 cells"

    def test_grid_is_balanced(self, distances):
        tables = [
            pd.concat([table.loc[["T"]]] * 5, keys=list("vwxyz")).droplevel(1)
            for table in distances[:2]
        ]
        for table in tables:
            table.index.names = ["group", "donor"]
        many = tl.DonorDistances(*tables, pd.DataFrame(10.0, list("vwxyz"), list("abcd")))
        grid = pl.donor_distances(many).axes[0].get_gridspec()
        assert (grid.nrows, grid.ncols) == (2, 3)
