"""Counterfactual expression that keeps what the model misses of a cell."""

import numpy as np
import pandas as pd
import pytest

from .swaps import DONORS, SWAPS, close


class TestKeepResidual:
    @pytest.fixture
    def verb(self, re):
        def verb(target, **kwargs):
            return re.get_counterfactual_expression(
                transform_batch=target, keep_residual=True, **kwargs
            )

        return verb

    @pytest.mark.parametrize("swap", SWAPS)
    def test_own_batch_gives_the_measured_cell(self, re, verb, swap):
        for donor in DONORS:
            own = np.flatnonzero(re.adata.obs["donor"] == donor)
            ours = verb(donor, indices=own, swap=swap)
            np.testing.assert_allclose(ours, re.adata.X[own].toarray(), atol=1e-5)
            assert list(ours.index) == list(re.adata.obs_names[own])

    @pytest.mark.parametrize("swap", SWAPS)
    def test_adds_the_same_to_all_targets(self, re, verb, swap):
        kept, plain = (
            re.get_counterfactual_expression(
                transform_batch=DONORS, swap=swap, keep_residual=keep, return_numpy=True
            )
            for keep in (True, False)
        )
        missed = re.adata.X.toarray() - re.get_reconstruction(return_numpy=True)
        assert np.abs(missed).max() > 0.1
        for donor in DONORS:
            np.testing.assert_allclose(kept[donor] - plain[donor], missed, atol=1e-5)
            difference = kept[donor] - kept["donor_01"]
            np.testing.assert_allclose(
                difference, plain[donor] - plain["donor_01"], rtol=1e-4, atol=1e-5
            )

    def test_some_genes_and_cells(self, re, verb):
        genes = list(re.adata.var_names[[9, 1]])
        part = verb("donor_02", indices=[8, 2], gene_list=genes)
        expected = verb("donor_02").iloc[[8, 2]][genes]
        pd.testing.assert_frame_equal(part, expected, rtol=1e-4, atol=1e-5)

    def test_draws(self, re, verb):
        options = {"n_samples": 3, "return_mean": False, "return_numpy": True}
        own = np.flatnonzero(re.adata.obs["donor"] == "donor_02")
        ours = verb("donor_02", indices=own, **options)
        assert ours.shape == (3, own.size, 60)
        measured = re.adata.X[own].toarray()
        np.testing.assert_allclose(ours, np.stack([measured] * 3), atol=1e-5)
        # Each draw keeps what that draw misses.
        missed = re.adata.X.toarray() - re.get_reconstruction(**options)
        plain = re.get_counterfactual_expression(transform_batch="donor_03", **options)
        close(verb("donor_03", **options), plain + missed)
        close(verb("donor_03", n_samples=3), (plain + missed).mean(0))

    def test_other_cells_aggregate_and_dataloader(self, re, verb, fresh):
        whole = verb(DONORS)
        close(verb("donor_04", adata=fresh), whole["donor_04"].iloc[::3])
        close(verb(DONORS, aggregate="mean"), sum(whole.values()) / 4)
        minibatches = re._make_data_loader(re.adata, batch_size=50)
        close(verb("donor_04", dataloader=minibatches), whole["donor_04"])

    def test_papers_preset(self, paper):
        own = np.flatnonzero(paper.adata.obs["donor"] == "donor_02")
        ours = paper.get_counterfactual_expression(
            indices=own, transform_batch="donor_02", keep_residual=True
        )
        np.testing.assert_allclose(ours, paper.adata.X[own].toarray(), atol=1e-5)
