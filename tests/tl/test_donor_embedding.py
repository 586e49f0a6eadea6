"""Donors as points."""

import numpy as np
import pytest

import scmedal_tools as smt
from scmedal_tools import tl


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

    @pytest.mark.slow
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
