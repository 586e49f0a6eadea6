"""Variance components of genes against numpy, effects set by hand, and statsmodels."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from scipy.stats import spearmanr

import scmedal_tools as smt
from scmedal_tools import tl

PARTS = ["content", "batch", "residual"]
SHARES = [f"{part}_share" for part in PARTS]
SPLIT = [np.arange(128), np.arange(128, 200), np.arange(200, 240)]
TEST = SPLIT[2]


@pytest.fixture(scope="module")
def trained(fit, cells):
    return fit("SCMEDAL_RE", cells.copy(), datasplitter_kwargs={"external_indexing": SPLIT})


@pytest.fixture(scope="module")
def components(trained):
    return tl.variance_components(trained, n_samples=5, progress=False)


def measured(model, cells):
    return model.adata.X[cells].toarray()


class TestDefinition:
    def test_content_is_of_expression_in_the_population(self, trained, components):
        population = trained.get_counterfactual_expression(
            indices=TEST, transform_batch="population", return_numpy=True
        )
        np.testing.assert_allclose(components["content"], population.var(0), rtol=1e-4, atol=1e-9)

    def test_batch_is_of_differences_within_a_draw(self, trained, components, monkeypatch):
        """Of the posterior as it is, not of the wider draws of intervals."""
        monkeypatch.setattr(trained, "_draw_effects", partial(trained._draw_effects, spread=1.0))
        swapped = trained.get_counterfactual_expression(
            indices=TEST,
            transform_batch=[*trained.batch_names, "population"],
            n_samples=5,
            return_mean=False,
            return_numpy=True,
        )
        population = swapped.pop("population")
        squares = [np.square(values - population).mean((0, 1)) for values in swapped.values()]
        expected = np.mean(squares, axis=0)
        np.testing.assert_allclose(components["batch"], expected, rtol=1e-3, atol=1e-9)

    def test_residual_is_what_the_reconstruction_misses(self, trained, components):
        reconstruction = trained.get_reconstruction(indices=TEST, return_numpy=True)
        expected = np.square(measured(trained, TEST) - reconstruction).mean(0)
        np.testing.assert_allclose(components["residual"], expected, rtol=1e-4)

    def test_shares(self, trained, components):
        assert list(components.columns) == PARTS + SHARES
        assert list(components.index) == list(trained.adata.var_names)
        varies = np.ptp(measured(trained, TEST), axis=0) > 0
        assert varies.any()
        of_sum = components[PARTS].div(components[PARTS].sum(axis=1), axis=0)
        np.testing.assert_allclose(components.loc[varies, SHARES], of_sum[varies], rtol=1e-9)
        np.testing.assert_allclose(components.loc[varies, SHARES].sum(axis=1), 1)
        assert components.loc[~varies, SHARES].isna().all(axis=None)


@pytest.mark.slow
def test_of_known_effects(known_effects):
    """Every second gene is the same in all cells of a batch: nothing but the batch is known."""
    model, loc, sd = known_effects
    adata = model.adata
    components = tl.variance_components(model, adata, n_samples=300, n_cells=10, progress=False)
    batch = (np.square(loc) + np.square(sd)).mean(0)
    np.testing.assert_allclose(components["batch"], batch, rtol=0.2)
    assert components["batch"].sum() == pytest.approx(batch.sum(), rel=0.02)

    module = model.module
    constant = module.scaler.shift + module.scaler.scale * module.output.dense.bias.detach()
    codes = adata.obs["donor"].cat.codes.to_numpy()
    missed = adata.X.toarray() - (constant.numpy() + loc)[codes]
    known = components[::2]
    np.testing.assert_allclose(known["content"], 0, atol=1e-9)
    np.testing.assert_allclose(known["residual"], np.square(missed).mean(0)[::2], rtol=1e-4)
    assert (components["content"][1::2] > 0).all()


class TestCells:
    @pytest.mark.slow
    def test_else_validation_cells(self, fit, cells):
        parts = [SPLIT[0], np.arange(128, 240), []]
        model = fit("SCMEDAL_RE", cells.copy(), datasplitter_kwargs={"external_indexing": parts})
        ours = tl.variance_components(model, n_samples=1, progress=False)
        named = tl.variance_components(model, cells[128:].copy(), n_samples=1, progress=False)
        pd.testing.assert_frame_equal(ours, named)

    @pytest.mark.slow
    def test_else_all_cells(self, fit, cells):
        model = fit(
            "SCMEDAL_RE",
            cells.copy(),
            datasplitter_kwargs={"external_indexing": [np.arange(240), [], []]},
            early_stopping=False,
        )
        ours = tl.variance_components(model, n_samples=1, progress=False)
        named = tl.variance_components(model, cells.copy(), n_samples=1, progress=False)
        pd.testing.assert_frame_equal(ours, named)

    def test_a_sample_for_all_but_the_residual(self, trained, components):
        some = tl.variance_components(trained, n_samples=5, n_cells=10, progress=False)
        other = tl.variance_components(trained, n_samples=5, n_cells=10, seed=1, progress=False)
        pd.testing.assert_series_equal(some["residual"], components["residual"])
        for part in ("content", "batch"):
            assert not np.allclose(some[part], other[part], rtol=1e-4, atol=0)

    def test_a_gene_that_does_not_vary(self, trained, cells):
        adata = cells.copy()
        adata.X = adata.X.toarray()
        adata.X[:, 3] = 1.0
        components = tl.variance_components(trained, adata, n_samples=1, progress=False)
        assert components[SHARES].isna().all(axis=1).to_numpy().nonzero()[0].tolist() == [3]
        assert np.isfinite(components[PARTS]).all(axis=None)


def by_statsmodels(adata, cells, gene):
    """Variance components of a mixed model that is told the cell types."""
    table = adata.obs[["donor", "cell_type"]].iloc[cells].astype(str)
    table["y"] = adata[cells, gene].X.toarray().ravel().astype(float)
    model = smf.mixedlm(
        "y ~ C(cell_type)",
        table,
        groups="donor",
        re_formula="1",
        vc_formula={"type": "0 + C(cell_type)"},
    )
    # The default optimiser stops far from the optimum for some genes, without saying so.
    fitted = model.fit(method=["powell", "lbfgs"])
    content = np.var(model.exog @ fitted.fe_params)
    return content, fitted.cov_re.iloc[0, 0] + fitted.vcomp[0], fitted.scale


@pytest.mark.slow
def test_agree_with_a_mixed_model_that_is_told_the_types(build):
    """Of 10 genes, from the most expressed to the median."""
    adata = smt.datasets.simulated(10, 200, 3, confounding=0.0)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    model = build("SCMEDAL_RE", adata, n_hidden=(32, 16), n_latent=8)
    model.train(20, batch_size=128, accelerator="cpu", enable_progress_bar=False)
    mean = np.asarray(adata.X.mean(0)).ravel()
    genes = adata.var_names[np.argsort(-mean)[:100:10]]
    ours = tl.variance_components(model, progress=False).loc[genes]
    theirs = [by_statsmodels(adata, model.train_indices, gene) for gene in genes]
    theirs = pd.DataFrame(theirs, index=genes, columns=PARTS)
    assert spearmanr(ours["batch"], theirs["batch"]).statistic > 0.8
    assert ours["batch"].sum() == pytest.approx(theirs["batch"].sum(), rel=0.25)
    shares = theirs.div(theirs.sum(axis=1), axis=0)
    assert (ours["batch_share"] - shares["batch"]).abs().max() < 0.06
    assert (ours["residual_share"] - shares["residual"]).abs().mean() < 0.1


def test_of_the_papers_preset(fit, cells):
    model = fit("SCMEDAL_RE", cells.copy(), model={"preset": "paper"})
    components = tl.variance_components(model, n_samples=2, progress=False)
    assert np.isfinite(components[PARTS]).all(axis=None)


def test_leaves_the_model_as_it_was(trained):
    before = trained.get_reconstruction(return_numpy=True)
    state = torch.get_rng_state()
    tl.variance_components(trained, n_samples=2, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(trained.get_reconstruction(return_numpy=True), before)


class TestErrors:
    def test_no_draws(self, trained):
        with pytest.raises(ValueError, match="n_samples=0 has to be at least 1"):
            tl.variance_components(trained, n_samples=0)

    def test_untrained(self, build, adata):
        with pytest.raises(RuntimeError, match="not trained yet"):
            tl.variance_components(build("SCMEDAL_RE", adata))

    def test_without_random_effects(self, build, adata):
        with pytest.raises(TypeError, match="SCMEDAL_FE has no random effects"):
            tl.variance_components(build("SCMEDAL_FE", adata))
