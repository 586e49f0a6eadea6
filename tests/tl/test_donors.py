"""Donors as points, their distances in groups of cells, and support in donors."""

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

import scmedal_tools as smt
from scmedal_tools import tl
from scmedal_tools._gene_model._equations import VARIANCES
from scmedal_tools.tl._admissibility import supported


@pytest.fixture(scope="module")
def trained(fit, cells):
    return fit("SCMEDAL_RE", cells.copy(), max_epochs=8)


@pytest.fixture(scope="module")
def query(trained, cells):
    """The model with a donor more, of 40 cells that it knows by another name."""
    new = cells[cells.obs["donor"] == "donor_01"][:40].copy()
    new.obs["donor"] = "donor_05"
    mapped = smt.model.SCMEDAL_RE.load_query_data(new, trained)
    mapped.train(max_epochs=5, accelerator="cpu", enable_progress_bar=False)
    return mapped


class TestEmbedding:
    def test_over_all_cells_is_the_table_of_effects(self, trained):
        donors = tl.donor_embedding(trained)
        effects = trained.get_batch_effects()
        expected = effects["effect"].unstack("gene")[trained.gene_names]
        np.testing.assert_allclose(donors.X, expected.loc[donors.obs_names], atol=1e-6)
        sd = effects["sd"].unstack("gene")[trained.gene_names].loc[donors.obs_names]
        np.testing.assert_allclose(donors.layers["precision"], 1 / sd**2, rtol=1e-4)

    def test_in_groups_is_the_mean_difference_of_counterfactuals(self, trained):
        """Of donors, which is all that has a meaning."""
        donors = tl.donor_embedding(trained, by="cell_type")
        indices = trained.train_indices
        types = trained.adata.obs["cell_type"].iloc[indices].astype(str).to_numpy()
        swapped = trained.get_counterfactual_expression(
            indices=indices, transform_batch=list(trained.batch_names), return_numpy=True
        )
        for group in np.unique(types):
            of_group = (donors.var["group"] == group).to_numpy()
            shift = donors.X[0, of_group] - donors.X[2, of_group]
            means = [swapped[f"donor_0{k}"][types == group].mean(0) for k in (1, 3)]
            np.testing.assert_allclose(shift, means[0] - means[1], atol=2e-5)
            assert (donors.var["n_cells"][of_group] == (types == group).sum()).all()

    @pytest.mark.slow
    def test_groups_make_up_the_whole(self, trained):
        whole = tl.donor_embedding(trained)
        for by in ("cell_type", "state"):
            donors = tl.donor_embedding(trained, by=by)
            n_genes = len(trained.gene_names)
            weights = donors.var["n_cells"].to_numpy()[::n_genes]
            of_groups = donors.X.reshape(4, -1, n_genes)
            mean = np.einsum("kug,u->kg", of_groups, weights / weights.sum())
            np.testing.assert_allclose(mean, whole.X, atol=1e-5)

    def test_a_new_donor_lies_beside_the_others(self, trained, query, cells):
        """Those of the reference stay where they were, in the reference's cells."""
        reference = cells[np.sort(trained.train_indices)].copy()
        donors, before = tl.donor_embedding(query, reference), tl.donor_embedding(trained)
        assert donors.obs["is_new"].tolist() == [False] * 4 + [True]
        np.testing.assert_allclose(donors.X[:4], before.X, atol=1e-6)
        assert donors.obs["n_cells"].iloc[4] == 40
        distances = np.square(donors.X[:4] - donors.X[4]).sum(1)
        assert distances.argmin() == 0  # whose cells it has

    @pytest.mark.slow
    def test_few_cells_are_less_precise_and_nearer_to_nothing(self, trained, cells):
        def mapped(n):
            new = cells[cells.obs["donor"] == "donor_03"][:n].copy()
            new.obs["donor"] = "donor_05"
            query = smt.model.SCMEDAL_RE.load_query_data(new, trained)
            query.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
            return tl.donor_embedding(query, cells.copy())["donor_05"]

        few, many = mapped(3), mapped(60)
        assert few.layers["precision"].mean() < many.layers["precision"].mean()

    def test_errors(self, build, fit, adata, trained):
        with pytest.raises(TypeError, match="SCMEDAL_FE has no random effects"):
            tl.donor_embedding(build("SCMEDAL_FE", adata))
        with pytest.raises(ValueError, match="by='tissue' is not a column"):
            tl.donor_embedding(trained, by="tissue")
        alone = fit("SCMEDAL_RE", adata, model={"n_states": 0})
        with pytest.raises(ValueError, match="default preset"):
            tl.donor_embedding(alone)


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


class TestAdmissibility:
    def test_is_where_a_donor_has_cells(self):
        """Two donors share one cloud of cells; the first alone has the other, of 3 the second."""
        rng = np.random.default_rng(0)
        here, there = rng.normal(0, 1, (200, 3)), rng.normal(20, 1, (200, 3))
        donors = [np.vstack([here[:100], there[:100]]), np.vstack([here[100:], there[197:]])]
        mask = supported(np.vstack([here, there]), donors, 5, 0.95)
        assert mask[:200].mean() > 0.9
        assert mask[200:, 0].mean() > 0.9
        assert not mask[200:, 1].any()

    def test_coverage_is_that_of_a_donors_own_cells(self):
        cells = np.random.default_rng(0).normal(size=(300, 2))
        mask = supported(cells[150:], [cells[:150]], 4, 0.8)
        own = NearestNeighbors(n_neighbors=5).fit(cells[:150]).kneighbors(cells[:150])[0][:, -1]
        of_others = NearestNeighbors(n_neighbors=4).fit(cells[:150]).kneighbors(cells[150:])[0]
        np.testing.assert_array_equal(mask[:, 0], of_others[:, -1] <= np.quantile(own, 0.8))

    def test_as_many_training_cells_of_a_donor_as_the_coverage_says(self):
        """Also where a cell is not exactly where it was."""
        cells = np.random.default_rng(0).normal(size=(150, 2))
        mask = supported(cells + 1e-6, [cells], 4, 0.8)
        assert mask.mean() == pytest.approx(0.8, abs=0.01)

    def test_a_donor_of_few_cells_supports_nothing(self):
        cells = np.random.default_rng(0).normal(size=(50, 2))
        assert not supported(cells, [cells, cells[:5]], 5, 0.95)[:, 1].any()

    def test_of_a_model(self, trained, cells):
        mask = tl.admissibility(trained)
        assert list(mask.columns) == list(trained.batch_names)
        assert list(mask.index) == list(cells.obs_names)
        own = [mask.loc[name, donor] for name, donor in cells.obs["donor"].items()]
        assert np.mean(own) > 0.8
        pd.testing.assert_frame_equal(tl.admissibility(trained, cells[:30].copy()), mask[:30])
        with pytest.raises(ValueError, match="coverage=1"):
            tl.admissibility(trained, coverage=1)
