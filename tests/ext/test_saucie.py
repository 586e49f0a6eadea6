"""SAUCIE's penalty against sums over pairs of cells, and what it does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from scmedal_tools.ext._mmd_to_reference import mmd_to_reference
from scmedal_tools.ext._saucie import Saucie
from scmedal_tools.train import get_preset


def mmd_by_pairs(z, batch, reference):
    n = len(z)
    squared = ((z[:, None] - z[None]) ** 2).sum(-1)
    width = squared.sum() / (n * (n - 1))

    def k(i, j):
        return np.mean([np.exp(-squared[i, j] / (s * width)) for s in (0.25, 0.5, 1, 2, 4)])

    def within(cells):
        return np.mean([k(i, j) for i, j in itertools.permutations(cells, 2)])

    groups = {b: np.flatnonzero(batch == b) for b in np.unique(batch)}
    total, of_reference = 0.0, groups[reference]
    for b, cells in groups.items():
        if b != reference and len(cells) > 1:
            between = np.mean([k(i, j) for i in cells for j in of_reference])
            total += within(cells) + within(of_reference) - 2 * between
    return total


@pytest.fixture
def latents():
    rng = np.random.default_rng(0)
    batch = np.repeat([0, 1, 2, 4], [7, 5, 9, 1])  # batch 3 has no cell, 4 has one
    return rng.normal(size=(22, 3)) + 0.5 * batch[:, None], rng.permutation(batch)


class TestMmd:
    @pytest.mark.parametrize("reference", [0, 1, 2])
    def test_equals_the_sums_over_pairs(self, latents, reference):
        z, batch = latents
        result = mmd_to_reference(torch.tensor(z), torch.tensor(batch), 5, reference)
        assert result.item() == pytest.approx(mmd_by_pairs(z, batch, reference), rel=1e-8)

    @pytest.mark.parametrize("reference", [3, 4])
    def test_reference_with_less_than_two_cells(self, latents, reference):
        z = torch.tensor(latents[0], requires_grad=True)
        result = mmd_to_reference(z, torch.tensor(latents[1]), 5, reference)
        assert result.item() == 0
        result.backward()
        assert (z.grad == 0).all()

    def test_gradient_is_finite_and_of_the_counted_cells(self, latents):
        z, batch = torch.tensor(latents[0], requires_grad=True), torch.tensor(latents[1])
        mmd_to_reference(z, batch, 5, 2).backward()
        assert z.grad.isfinite().all()
        assert (z.grad[batch != 4] != 0).all()
        assert (z.grad[batch == 4] == 0).all()

    def test_identical_cells(self):
        z = torch.ones(6, 2, requires_grad=True)
        mmd = mmd_to_reference(z, torch.tensor([0, 0, 0, 1, 1, 1]), 2, 0)
        mmd.backward()
        assert mmd.item() == 0
        assert z.grad.isfinite().all()

    def test_is_zero_on_average_if_batches_are_alike(self):
        generator = torch.Generator().manual_seed(0)
        batch = torch.arange(40) % 2
        values = [
            mmd_to_reference(torch.randn(40, 2, generator=generator), batch, 2, 0).item()
            for _ in range(400)
        ]
        assert abs(np.mean(values)) < 3 * np.std(values) / 20
        assert min(values) < 0


@pytest.fixture
def shifted(cells):
    """Cells of donor_04 and donor_02 have the first 20 genes raised."""
    adata = cells.copy()
    x = adata.X.toarray()
    x[np.ix_(adata.obs["donor"].isin(["donor_02", "donor_04"]), range(20))] += 2.0
    adata.X = x
    return adata


class TestSaucie:
    @pytest.mark.slow
    def test_penalty_brings_batches_together(self, shifted, embed):
        donor = shifted.obs["donor"].cat.codes.to_numpy()
        mmd = {}
        for weight in (0.0, 100.0):
            z = embed("saucie", shifted, mmd_weight=weight, max_epochs=60)
            mmd[weight] = mmd_to_reference(torch.tensor(z), torch.tensor(donor).long(), 4, 0)
        assert mmd[100.0] < 0.5 * mmd[0.0]

    def test_settings_are_the_papers(self):
        preset = Saucie._named_preset("default")
        assert preset.plan["lr"] == 1e-4
        assert preset.module["mmd_weight"] == 1e-3
        assert preset.module["adversary_weight"] == 0
        assert preset.train == get_preset("SCMEDAL_FE", "paper").train

    def test_reference_is_the_largest_batch_and_the_loss_has_the_term(self, cells):
        adata = cells.copy()
        Saucie.setup_anndata(adata, batch_key="donor")
        model = Saucie(adata, n_hidden=(16, 8), n_latent=4, mmd_weight=100.0)
        everything = {"external_indexing": [np.arange(240), np.arange(0), np.arange(0)]}
        model.train(max_epochs=1, enable_progress_bar=False, datasplitter_kwargs=everything)
        largest = adata.obs["donor"].value_counts().idxmax()
        assert model.batch_names[int(model.module.reference)] == largest
        history = {k: float(v.iloc[0].item()) for k, v in model.history.items()}
        summed = adata.n_vars * history["reconstruction_loss_train"]
        expected = summed + 100 * history["mmd_train"]
        assert history["train_loss"] == pytest.approx(expected, rel=1e-4)

    def test_is_trained_for_all_epochs(self, adata, embed):
        embed("saucie", adata, max_epochs=5)
        assert adata.uns["scmedal"]["X_saucie"]["epochs"] == 5
