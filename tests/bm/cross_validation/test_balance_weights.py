"""Weights that balance the paper's losses, against the losses of trainings with them."""

import numpy as np
import pandas as pd
import pytest
import torch

from scmedal_tools import bm, model

WIDTHS = {"n_hidden": (16, 8), "n_latent": 4}
KEYS = {"batch_key": "donor", "labels_key": "cell_type"}
WEIGHTS = {
    "SCMEDAL_FE": {"adversary_weight": "adversary_ce"},
    "SCMEDAL_FEC": {"adversary_weight": "adversary_ce", "label_weight": "label_ce"},
    "SCMEDAL_RE": {"batch_weight": "batch_ce", "kl_weight": "kl_per_table"},
}
SPLITS = [np.arange(0, 160), np.arange(160, 200), np.arange(200, 240)]


@pytest.fixture
def adata(cells):
    """A copy of the 240 cells that are split."""
    return cells.copy()


def balanced(name, adata, **kwargs):
    kwargs = KEYS | WIDTHS | {"splits": SPLITS, "epochs": 3} | kwargs
    return bm.balance_weights(getattr(model, name), adata, **kwargs)


@pytest.fixture(scope="module")
def weights(cells):
    return {name: balanced(name, cells.copy()) for name in WEIGHTS}


def train(name, adata, settings):
    """A training of its own, with other random numbers than the pilots'."""
    model_cls = getattr(model, name)
    model_cls.setup_anndata(adata, **KEYS)
    torch.manual_seed(1)
    trained = model_cls(adata, preset="paper", **WIDTHS, **settings)
    trained.train(3, datasplitter_kwargs={"external_indexing": SPLITS}, enable_progress_bar=False)
    return trained


@pytest.fixture(scope="module")
def trained(weights, cells):
    return {name: train(name, cells.copy(), weights[name].settings) for name in WEIGHTS}


def contributions(name, trained):
    """Mean weighted terms, with the weights that the network has."""
    terms = WEIGHTS[name] | {"reconstruction_weight": "reconstruction_loss"}
    return {
        weight: getattr(trained.module, weight)
        * trained.history[f"{term}_train"].to_numpy().mean()
        for weight, term in terms.items()
    }


@pytest.mark.parametrize("name", WEIGHTS)
class TestWeights:
    @pytest.mark.slow
    def test_bring_a_fresh_training_to_one_order(self, name, trained):
        of_terms = list(contributions(name, trained[name]).values())
        assert max(of_terms) < 3 * min(of_terms)

    def test_are_needed(self, name, adata):
        of_terms = list(contributions(name, train(name, adata, {})).values())
        assert max(of_terms) > 10 * min(of_terms)

    def test_cover_the_whole_loss(self, name, trained):
        of_terms = contributions(name, trained[name])
        of_terms["adversary_weight"] = -of_terms.get("adversary_weight", 0)
        total = trained[name].history["train_loss"].to_numpy(dtype=float).mean()
        assert sum(of_terms.values()) == pytest.approx(total, rel=1e-4)

    def test_hold_that_of_the_reconstruction(self, name, weights):
        table = weights[name].table
        assert list(table.index) == ["reconstruction_weight", *WEIGHTS[name]]
        held = table.loc["reconstruction_weight"]
        assert held["weight"] == held["preset_weight"]
        exact = held["preset_contribution"] / table["size"]
        np.testing.assert_allclose(table["weight"], exact, rtol=0.05)
        np.testing.assert_allclose(
            table["preset_contribution"], table["size"] * table["preset_weight"]
        )

    def test_have_two_digits(self, name, weights):
        settings = weights[name].settings
        assert all(value == float(f"{value:.1e}") for value in settings.values())


@pytest.mark.slow
def test_weights_are_those_of_the_seed(weights, adata):
    state = torch.get_rng_state()
    again = balanced("SCMEDAL_RE", adata)
    assert torch.equal(torch.get_rng_state(), state)
    pd.testing.assert_frame_equal(again.table, weights["SCMEDAL_RE"].table)
    other = balanced("SCMEDAL_RE", adata, seed=1)
    assert (other.table["size"] != again.table["size"]).all()


def test_contributions_are_measured_with_the_new_weights(weights):
    """The second pilot is a training of its own, and not the first one's sizes."""
    table = weights["SCMEDAL_RE"].table
    assert table["contribution"].max() < 3 * table["contribution"].min()
    assert (table["contribution"] != table["size"] * table["weight"]).all()


def test_only_training_cells_are_looked_at(weights, adata):
    adata.X[SPLITS[2]] *= 0.5
    again = balanced("SCMEDAL_FE", adata)
    pd.testing.assert_frame_equal(again.table, weights["SCMEDAL_FE"].table)


def test_all_cells_are_for_training_without_splits(adata):
    every = balanced("SCMEDAL_FE", adata, splits=None)
    named = balanced("SCMEDAL_FE", adata, splits=[np.arange(240), [], []])
    pd.testing.assert_frame_equal(every.table, named.table)


def test_cells_are_registered_and_nothing_else(adata):
    before = adata.copy()
    balanced("SCMEDAL_RE", adata)
    assert set(adata.obs) - set(before.obs) == {"_scvi_batch", "_scvi_labels"}
    assert set(adata.uns) - set(before.uns) == {"_scvi_uuid", "_scvi_manager_uuid"}
    assert set(adata.obsm) == set(before.obsm)
    pd.testing.assert_frame_equal(adata.obs[before.obs.columns], before.obs)
    np.testing.assert_array_equal(adata.X.toarray(), before.X.toarray())


class TestErrors:
    def test_default_preset(self, adata):
        with pytest.raises(ValueError, match="in nats per cell"):
            balanced("SCMEDAL_FE", adata, preset="default")

    def test_unknown_preset(self, adata):
        with pytest.raises(ValueError, match="preset='aml' is not one of"):
            balanced("SCMEDAL_FE", adata, preset="aml")

    def test_no_epoch(self, adata):
        with pytest.raises(ValueError, match="epochs=0"):
            balanced("SCMEDAL_FE", adata, epochs=0)

    def test_no_cell_types(self, adata):
        with pytest.raises(ValueError, match="labels_key='cell_type'"):
            balanced("SCMEDAL_FEC", adata, labels_key=None)
