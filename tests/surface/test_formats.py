"""Cells in any format have the same results, or a message with the line that fixes it."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from anndata.io import sparse_dataset
from mudata import MuData

from .calls import CALLS, called

pytestmark = pytest.mark.slow

IN_MEMORY = r"adata = adata\.to_memory\(\)$"


def both(change):
    """Change expression and counts alike."""

    def make(adata, folder):
        made = adata.copy()
        made.X, made.layers["counts"] = change(adata.X), change(adata.layers["counts"])
        return made

    return make


def with_zeros(x):
    """A sparse matrix that keeps its zeros, with long indices in no order in a cell."""
    genes = np.tile(np.arange(x.shape[1])[::-1], len(x))
    made = sp.csr_matrix((x[:, ::-1].ravel(), genes, np.arange(len(x) + 1) * x.shape[1]))
    made.indices, made.indptr = (part.astype(np.int64) for part in (made.indices, made.indptr))
    return made


def as_view(adata, folder):
    """Of cells whose `raw` holds what no function may read in place of the expression."""
    twice = ad.concat([adata, adata[:5]], merge="same")
    twice.obs_names_make_unique()
    twice.raw = ad.AnnData(np.full_like(twice.X, np.nan), twice.obs, twice.var)
    return twice[: adata.n_obs]


def backed(adata, folder, form=np.asarray):
    adata = both(form)(adata, folder)
    adata.copy().write_h5ad(folder / "cells.h5ad")  # which makes text categorical in place
    return ad.read_h5ad(folder / "cells.h5ad", backed="r")


def lazily_read(adata, folder):
    adata.copy().write_zarr(folder / "cells.zarr")
    return ad.experimental.read_lazy(folder / "cells.zarr")


SAME = {
    "csr": both(sp.csr_matrix),
    "csc": both(sp.csc_matrix),
    "csr_array": both(sp.csr_array),
    "csc_array": both(sp.csc_array),
    "fortran float64": both(lambda x: np.asfortranarray(x, dtype=np.float64)),
    "zeros kept": both(with_zeros),
    "view": as_view,
    "backed": backed,
    "backed csr": lambda adata, folder: backed(adata, folder, sp.csr_matrix),
}
REFUSED = {"dask": both(lambda x: da.from_array(x, chunks=(50, 16))), "lazy": lazily_read}
NO_EXPRESSION = {"effects", "similarity", "confounding", "folds", "splits", "held out"}
NOT_COMPUTED = {"prepared"}  # genes are chosen, and no value is read
NEED_MEMORY = {"genomap", "cross-validation", "donor prediction", "shifts", "swaps", "PCA"}
NEED_MEMORY |= {"Harmony", "prepared", "preprocessed"}


@pytest.mark.parametrize("name", SAME)
def test_what_is_made_of_cells(study, models, expected, name, tmp_path):
    adata = SAME[name](study, tmp_path)
    for call in CALLS:
        if name.startswith("backed") and call in NEED_MEMORY:
            with pytest.raises(ValueError, match=IN_MEMORY):
                called(call, models, adata)
        else:
            found = called(call, models, adata)
            np.testing.assert_allclose(found, expected[call], rtol=1e-3, atol=1e-3, err_msg=call)


def test_what_is_made_of_half_precision(study, models, expected):
    """Rounded, some cells are of another state."""
    adata = both(lambda x: x.astype(np.float16))(study, None)
    for call in ("latent of RE", "prediction", "counterfactuals", "residuals kept", "components"):
        found = called(call, models, adata)
        close = np.isclose(found, expected[call], rtol=1e-2, atol=1e-2)
        assert close.mean() > 0.95, call


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.float16])
def test_what_is_made_of_counts(study, models, expected, dtype):
    adata = study.copy()
    adata.layers["counts"] = adata.layers["counts"].astype(dtype)
    np.testing.assert_allclose(
        called("group effects", models, adata), expected["group effects"], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_to_be_computed_first(study, models, name, tmp_path):
    adata = REFUSED[name](study, tmp_path)
    for call in set(CALLS) - NO_EXPRESSION - NOT_COMPUTED:
        with pytest.raises(ValueError, match=IN_MEMORY):
            called(call, models, adata)


def in_zarr(adata, folder, form):
    """Cells whose matrices stay in a store, though their AnnData is not backed."""
    both(form)(adata, folder).write_zarr(folder / "cells.zarr")
    group = zarr.open_group(folder / "cells.zarr", mode="r")
    x, counts = group["X"], group["layers/counts"]
    if form is not np.asarray:
        x, counts = sparse_dataset(x), sparse_dataset(counts)
    return ad.AnnData(x, adata.obs.copy(), adata.var.copy(), layers={"counts": counts})


@pytest.mark.parametrize(
    ("form", "refused"),
    [
        (np.asarray, set(CALLS) - NO_EXPRESSION - NOT_COMPUTED),
        (sp.csr_matrix, NEED_MEMORY - NOT_COMPUTED),
    ],
)
def test_what_is_made_of_a_store(study, models, expected, form, refused, tmp_path):
    adata = in_zarr(study, tmp_path, form)
    for call in CALLS:
        if call in refused:
            with pytest.raises(ValueError, match=IN_MEMORY):
                called(call, models, adata)
        else:
            found = called(call, models, adata)
            np.testing.assert_allclose(found, expected[call], rtol=1e-3, atol=1e-3, err_msg=call)


LEARNED = {name: SAME[name] for name in ("csr", "csc", "zeros kept", "backed csr")}
LEARNED |= {
    "fortran float32": both(np.asfortranarray),
    "float64": both(lambda x: x.astype(np.float64)),
    "zarr": lambda adata, folder: in_zarr(adata, folder, sp.csr_matrix),
}


@pytest.mark.parametrize("name", LEARNED)
def test_networks_learn_the_same(study, models, train, name, tmp_path):
    trained = train(LEARNED[name](study, tmp_path))
    for call in ("latent of RE", "counterfactuals", "prediction"):
        found, expected = called(call, trained, study.copy()), called(call, models, study.copy())
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3, err_msg=call)


def test_networks_learn_the_same_from_a_layer(study, models, train):
    adata = study.copy()
    adata.layers["log"], adata.X = adata.X, adata.layers["counts"]
    trained = train(adata, layer="log")
    for call in set(CALLS) & {"latent of RE", "means", "gene test", "swaps", "stack", "shifts"}:
        found, expected = called(call, trained, adata.copy()), called(call, models, study.copy())
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3, err_msg=call)


def in_modalities(study):
    """Cells with two modalities, and their columns in the MuData as well."""
    mdata = MuData({"rna": study.copy(), "prot": study[:, :3].copy()})
    mdata.obs = mdata.obs.assign(**study.obs)
    return mdata


@pytest.mark.parametrize("call", sorted(set(CALLS) - NO_EXPRESSION))
def test_one_modality_is_asked_for(study, models, call):
    with pytest.raises(ValueError, match=r"pass one modality, such as mdata\['rna'\]"):
        called(call, models, in_modalities(study))


OF_MUDATA = {
    "latent of RE", "content of RE", "latent of FE", "prediction", "reconstruction", "error",
    "correction by RE", "correction by FE", "counterfactuals", "residuals kept", "means",
    "diagnostics", "components", "admissibility", "abundance", "gene test", "donors", "distances",
    "stack", "swap gap", "written", "blocks",
}  # fmt: skip


def test_models_of_one_modality(study, train, expected):
    trained = train(in_modalities(study))
    for call in sorted(OF_MUDATA):
        found = called(call, trained, in_modalities(study))
        np.testing.assert_allclose(found, expected[call], rtol=1e-3, atol=1e-3, err_msg=call)
