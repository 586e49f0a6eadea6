"""Positions of training cells are used among the training cells only."""

import numpy as np
import pytest
import torch

import scmedal_tools as smt


@pytest.fixture
def folder(re, tmp_path):
    re.save(tmp_path / "model")
    return tmp_path / "model"


def load(folder, adata):
    return smt.model.SCMEDAL_RE.load(folder, adata, accelerator="cpu")


def forget_the_digest(folder):
    """Make it a model saved before the digest was."""
    saved = torch.load(folder / "model.pt", weights_only=False)
    assert saved["attr_dict"].pop("training_cells_")
    torch.save(saved, folder / "model.pt")


def in_another_order(adata):
    return adata[::-1].copy()


def fewer(adata):
    return adata[:150].copy()


NEED_TRAINING_CELLS = [
    lambda model: model.get_batch_effects(n_samples=2),
    lambda model: smt.tl.batch_similarity(model, n_samples=2, progress=False),
    lambda model: smt.pl.batch_effects(model, n_samples=2),
]


def test_among_the_training_cells(re, folder):
    loaded = load(folder, re.adata.copy())
    np.testing.assert_array_equal(loaded.train_indices, re.train_indices)
    np.testing.assert_array_equal(loaded.validation_indices, re.validation_indices)
    assert len(loaded.get_batch_effects(n_samples=2, n_cells=20))


@pytest.mark.parametrize("others", [in_another_order, fewer])
@pytest.mark.parametrize("of_earlier_version", [False, True])
def test_among_other_cells(re, folder, others, of_earlier_version):
    if of_earlier_version:
        forget_the_digest(folder)
        if others is in_another_order:
            pytest.skip("Known by their number only.")
    loaded = load(folder, others(re.adata))
    assert loaded.train_indices is loaded.validation_indices is loaded.test_indices is None
    for verb in NEED_TRAINING_CELLS:
        with pytest.raises(ValueError, match=r"holds other cells(.|\n)*SCMEDAL_RE.load\(folder"):
            verb(loaded)
    everything = np.arange(loaded.adata.n_obs)
    gap = smt.tl.effects_diagnostics(loaded).swap_gap
    assert gap == loaded.get_swap_gap(indices=everything)
    assert len(smt.tl.variance_components(loaded, n_samples=2, progress=False))


def test_of_an_earlier_version_with_its_cells(re, folder):
    forget_the_digest(folder)
    loaded = load(folder, re.adata.copy())
    np.testing.assert_array_equal(loaded.train_indices, re.train_indices)


def test_saved_among_other_cells_the_digest_stays(re, folder, tmp_path):
    load(folder, fewer(re.adata)).save(tmp_path / "again")
    loaded = load(tmp_path / "again", re.adata.copy())
    np.testing.assert_array_equal(loaded.train_indices, re.train_indices)


def test_without_data(re, folder, fresh):
    loaded = load(folder, False)
    np.testing.assert_array_equal(loaded.train_indices, re.train_indices)
    for verb in NEED_TRAINING_CELLS:
        with pytest.raises(ValueError, match=r"loaded without data.*\n.*SCMEDAL_RE.load\(folder"):
            verb(loaded)
    for verb in (loaded.get_swap_gap, loaded.get_reconstruction):
        with pytest.raises(ValueError, match=r"pass `adata`, or .*\n.*SCMEDAL_RE.load\(folder"):
            verb()
    loaded.get_latent_representation(fresh)  # with which scvi-tools replaces the missing data
    with pytest.raises(ValueError, match="holds other cells"):
        loaded.get_batch_effects(n_samples=2)


def test_training_on_other_cells_makes_them_its_own(re, folder):
    loaded = load(folder, fewer(re.adata))
    loaded.train(max_epochs=1, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    known = [loaded.train_indices, loaded.validation_indices]
    np.testing.assert_array_equal(np.sort(np.concatenate(known)), np.arange(150))
    assert len(loaded.get_batch_effects(n_samples=2, n_cells=20))


@pytest.mark.parametrize("kept", [np.arange(150), np.arange(240)[::-1]], ids=["some", "sorted"])
def test_after_the_cells_were_changed_in_place(re, folder, kept):
    loaded = load(folder, re.adata.copy())
    assert loaded.train_indices is not None
    loaded.adata._inplace_subset_obs(kept)
    assert loaded.train_indices is None
    for verb in NEED_TRAINING_CELLS:
        with pytest.raises(ValueError, match="holds other cells"):
            verb(loaded)
