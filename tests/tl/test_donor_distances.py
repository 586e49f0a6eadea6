"""Distances of donors in groups of cells."""

import numpy as np
import pandas as pd
import pytest

from scmedal_tools import tl
from scmedal_tools._gene_model._equations import VARIANCES


@pytest.mark.slow
class TestDistances:
    def test_are_those_of_the_embedding_and_what_is_not_known(self, trained):
        """Without covariances between donors, which are small but for what all share."""
        found = tl.donor_distances(trained, by="cell_type", n_samples=400)
        distances = found.distance
        donors = tl.donor_embedding(trained, by="cell_type", n_cells=2_000)
        for group in ("type_1", "type_2", "type_3"):
            of = donors[:, donors.var["group"] == group]
            means = np.square(of.X[:, None] - of.X).mean(2)
            table = distances.loc[group]
            assert list(table.index) == list(table.columns) == list(donors.obs_names)
            np.testing.assert_allclose(table, table.T)
            variance = (1 / of.layers["precision"]).mean(1)
            apart = ~np.eye(4, dtype=bool)
            squares = table.to_numpy() ** 2
            assert (np.diag(squares) == 0).all()
            assert (squares >= 0.9 * means)[apart].all()
            assert (squares <= 1.1 * (means + variance[:, None] + variance))[apart].all()
            noise = found.sd.loc[group].to_numpy() ** 2
            assert (np.diag(noise) == 0).all()
            np.testing.assert_allclose(
                (squares - noise)[apart], means[apart], atol=0.1 * means.max()
            )

    def test_are_the_same_again_and_of_all_cells_as_batch_similarity(self, trained):
        found = [tl.donor_distances(trained, by=None, n_samples=20) for _ in range(2)]
        for first, second in zip(*found, strict=True):
            pd.testing.assert_frame_equal(first, second)
        whole = tl.batch_similarity(trained, n_samples=20, progress=False)
        apart = ~np.eye(4, dtype=bool)
        ratio = found[0].distance.loc["all"].to_numpy()[apart] / whole.to_numpy()[apart]
        assert 0.8 < ratio.min() <= ratio.max() < 1.1

    def test_a_difference_in_one_state_is_in_its_cells_alone(self, fit, cells):
        model = fit("SCMEDAL_RE", cells.copy(), {"states_key": "cell_type"})
        effects = model.module.gene_effects.factors[0]
        effects.probabilities.zero_()
        effects.probabilities[:, VARIANCES.index((2.5e-4, 1.0, False))] = 1.0
        before = tl.donor_distances(model, n_samples=10).distance
        effects.means[0, 1] += 3.0
        effects.sizes[0, 1] += 1e4
        after = tl.donor_distances(model, n_samples=10).distance
        grown = (after / before)["donor_01"].drop("donor_01", level="donor").unstack("group")
        assert (grown["type_2"] > 1.5 * grown["type_1"]).all()

    def test_cells_that_they_rest_on_are_those_of_the_training(self, fit, cells):
        """Given states, the number of each donor's cells in each is known."""
        model = fit("SCMEDAL_RE", cells.copy(), {"states_key": "cell_type"})
        trained_on = model.adata.obs.iloc[model.train_indices]
        expected = pd.crosstab(trained_on["cell_type"], trained_on["donor"])
        for by in ("state", "cell_type"):
            found = tl.donor_distances(model, by=by, n_samples=2).n_cells
            np.testing.assert_allclose(found, expected)
        total = tl.donor_distances(model, by=None, n_samples=2).n_cells
        np.testing.assert_allclose(total, [expected.sum()])

    def test_sd_does_not_grow_with_what_is_known_to_differ(self, fit, cells):
        model = fit("SCMEDAL_RE", cells.copy(), {"states_key": "cell_type"})
        effects = model.module.gene_effects.factors[0]
        effects.probabilities.zero_()
        effects.probabilities[:, -1] = 1.0  # how much donors vary is known
        before = tl.donor_distances(model, n_samples=20)
        effects.means[0] += 20.0
        after = tl.donor_distances(model, n_samples=20)
        others = list(before.n_cells.columns[1:])
        assert (
            (after.distance["donor_01"] > 1.5 * before.distance["donor_01"])
            .drop("donor_01", level="donor")
            .all()
        )
        pd.testing.assert_frame_equal(after.sd[others], before.sd[others], rtol=1e-3)

    def test_one_draw_has_no_standard_deviation(self, trained):
        with pytest.raises(ValueError, match="n_samples=1 gives no standard deviation"):
            tl.donor_distances(trained, n_samples=1)

    def test_no_draws(self, trained):
        with pytest.raises(ValueError, match="n_samples=0 has to be at least 1"):
            tl.donor_distances(trained, n_samples=0)
