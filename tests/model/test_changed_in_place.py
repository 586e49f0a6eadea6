"""The model's own cells, changed in place after they were registered or trained on."""

import numpy as np
import pytest
import scanpy as sc

QUICK = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}


def scale(adata):
    adata.X = adata.X.toarray()
    sc.pp.scale(adata)


def take_counts(adata):
    adata.X = adata.layers["counts"]


def lose_a_value(adata):
    adata.X.data[7] = np.nan


CHANGES = {scale: "negative values", take_counts: "raw counts", lose_a_value: "NaN or infinite"}


@pytest.mark.parametrize("change", CHANGES)
def test_is_refused_before_the_training(build, adata, change):
    model = build("SCMEDAL_RE", adata)
    change(adata)
    with pytest.raises(ValueError, match=CHANGES[change]):
        model.train(**QUICK)


@pytest.mark.parametrize("change", CHANGES)
def test_is_refused_afterwards(fit, adata, change):
    model = fit("SCMEDAL_RE", adata)
    change(adata)
    for verb in (model.get_latent_representation, model.get_batch_effects, model.train):
        with pytest.raises(ValueError, match=CHANGES[change]):
            verb()


def test_another_format_gives_the_same(fit, adata):
    model = fit("SCMEDAL_RE", adata)
    expected = model.get_latent_representation()
    adata.X = adata.X.toarray()
    np.testing.assert_allclose(model.get_latent_representation(), expected, atol=1e-5)


def test_other_logarithms_are_taken(fit, adata):
    model = fit("SCMEDAL_RE", adata)
    before = model.get_latent_representation()
    adata.X = adata.X / np.log(2)
    assert np.abs(model.get_latent_representation() - before).max() > 0.01


def test_names_of_another_dtype_are_the_same(build, adata):
    """As they are read from some files: pandas before 3 compares the dtypes too."""
    adata.obs_names, adata.var_names = (
        names.astype("string") for names in (adata.obs_names, adata.var_names)
    )
    model = build("SCMEDAL_RE", adata)
    model.train(**QUICK)
    assert model.is_trained
