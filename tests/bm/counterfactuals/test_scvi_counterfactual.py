"""scVI's counterfactuals, by a tiny model and by counts made up."""

from __future__ import annotations

import numpy as np
import pytest
import scvi
import torch
from scvi.model import SCVI

from scmedal_tools import bm, datasets

pytestmark = pytest.mark.slow

CELLS = np.array([7, 3, 300, 40, 41, 299])


@pytest.fixture(scope="module")
def model():
    adata = datasets.simulated(n_donors=4, n_genes=50, n_cell_types=2)[:400].copy()
    n_threads = torch.get_num_threads()
    scvi.settings.seed = 0
    torch.set_num_threads(1)
    SCVI.setup_anndata(adata, batch_key="donor")
    model = SCVI(adata, n_hidden=8, n_latent=3)
    model.train(
        max_epochs=2, accelerator="cpu", batch_size=64, train_size=1.0, enable_progress_bar=False
    )
    yield model
    scvi.settings.seed = None
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def total_counts(model):
    """As a column of a table, whose index is not the positions."""
    return model.adata.to_df().sum(axis=1)


@pytest.fixture
def made_up(model, monkeypatch):
    """Let the model draw given counts, and return the arguments of its calls."""

    def made_up(draws):
        calls = []

        def posterior_predictive_sample(**kwargs):
            calls.append(kwargs)
            return draws

        monkeypatch.setattr(model, "posterior_predictive_sample", posterior_predictive_sample)
        return calls

    return made_up


class TestTrainedModel:
    def test_is_log_normalised_expression_of_the_cells(self, model, total_counts):
        predict = bm.scvi_counterfactual(model, total_counts, n_samples=4)
        result = predict(CELLS, "donor_02")
        assert result.shape == (6, 50)
        assert result.min() >= 0
        torch.manual_seed(0)
        draws = model.posterior_predictive_sample(
            indices=CELLS, transform_batch=["donor_02"], n_samples=4
        ).todense()
        expected = np.zeros((6, 50))
        for i, cell in enumerate(CELLS):
            for draw in range(4):
                share = draws[i, :, draw] / total_counts.iloc[cell]
                expected[i] += np.log1p(share * 1e4) / 4
        np.testing.assert_allclose(result, expected, rtol=1e-5)

    def test_repeats_itself_and_leaves_the_generator_alone(self, model, total_counts):
        predict = bm.scvi_counterfactual(model, total_counts, n_samples=2)
        first = predict(CELLS, "donor_01")
        torch.manual_seed(5)
        state = torch.get_rng_state()
        np.testing.assert_array_equal(predict(CELLS, "donor_01"), first)
        assert torch.equal(torch.get_rng_state(), state)

    def test_batches_differ(self, model, total_counts):
        predict = bm.scvi_counterfactual(model, total_counts, n_samples=2)
        assert np.abs(predict(CELLS, "donor_01") - predict(CELLS, "donor_04")).max() > 0.1

    def test_one_draw_of_one_cell(self, model, total_counts):
        predict = bm.scvi_counterfactual(model, total_counts, n_samples=1)
        assert predict(CELLS[:1], "donor_01").shape == (1, 50)

    def test_is_a_method_of_the_comparison_of_shifts(self, model, total_counts):
        predict = bm.scvi_counterfactual(model, total_counts, n_samples=1)
        adata = model.adata.copy()
        adata.X = np.log1p(adata.X.toarray() / total_counts.to_numpy()[:, None] * 1e4)
        cells = np.arange(adata.n_obs)
        shifts = bm.counterfactual_shift(
            {"scVI": predict},
            adata,
            "donor",
            "cell_type",
            train=cells[::2],
            test=cells[1::2],
            baselines=False,
            progress=False,
        )
        assert set(shifts["method"]) == {"scVI"}
        assert np.isfinite(shifts["correlation"]).all()


class TestNormalisation:
    def test_draws_are_normalised_by_the_measured_totals_and_averaged(self, model, made_up):
        draws = np.random.default_rng(0).poisson(3.0, size=(2, 50, 3)).astype(float)
        calls = made_up(draws)
        totals = np.zeros(400)
        totals[[11, 5]] = 200.0, 50.0
        with np.errstate(divide="ignore"):  # cells that are not asked for
            predict = bm.scvi_counterfactual(model, totals, target_sum=100, n_samples=3)
        result = predict(np.array([11, 5]), "donor_03")
        expected = [np.log1p(draws[0] * 0.5).mean(1), np.log1p(draws[1] * 2.0).mean(1)]
        np.testing.assert_allclose(result, expected)
        (call,) = calls
        assert list(call.pop("indices")) == [11, 5]
        assert call == {"transform_batch": ["donor_03"], "n_samples": 3}

    def test_target_sum_is_ten_thousand_by_default(self, model, made_up):
        made_up(np.full((1, 50), 6.0))
        predict = bm.scvi_counterfactual(model, np.full(400, 1000), n_samples=1)
        np.testing.assert_allclose(predict(np.array([0]), "donor_01"), np.log1p(60.0))
