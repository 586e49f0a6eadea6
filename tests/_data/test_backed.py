"""Data backed by a file: read where only some cells are needed, refused where all of them are."""

from __future__ import annotations

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest

from scmedal_tools import bm, ext, tl

COMPARATORS = [name for name in ext.__all__ if name.islower()]


@pytest.fixture(params=["tocsr", "toarray"])
def backed(request, adata, tmp_path):
    adata.X = getattr(adata.X, request.param)()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    on_disk = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    yield on_disk
    on_disk.file.close()


@pytest.fixture
def in_memory(cells):
    """The same cells, which tools register."""
    return cells.copy()


@pytest.fixture(scope="module")
def re(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


@pytest.mark.slow
def test_counterfactual_de_reads_the_cells_that_it_projects(re, in_memory, backed):
    options = {"groups": "condition", "cells": 20, "n_samples": 2, "progress": False}
    expected = tl.counterfactual_de(re, in_memory, **options)
    table = tl.counterfactual_de(re, backed, **options)
    columns = ["mean_group", "mean_reference", "statistic", "p_value"]
    pd.testing.assert_frame_equal(table[columns], expected[columns], rtol=1e-3, atol=1e-5)
    assert backed.isbacked


@pytest.mark.slow
def test_counterfactual_de_refuses_a_mudata(fit, cells, tmp_path):
    mdata = mudata.MuData({"rna": cells.copy()})
    mdata.write(tmp_path / "cells.h5mu")
    setup = {"modalities": {"rna_layer": "rna", "batch_key": "rna"}}
    model = fit("SCMEDAL_RE", mdata, setup)
    on_disk = mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True)
    with pytest.raises(ValueError, match=r"adata = mudata\.read_h5mu\(file\)$"):
        tl.counterfactual_de(model, on_disk, "condition", 20, n_samples=2, progress=False)
    on_disk.file.close()


@pytest.mark.parametrize("batch_size", [2, 128])
def test_cells_are_in_the_order_in_which_they_are_asked_for(re, backed, batch_size):
    chosen = [90, 7, 200, 3, 41]
    everything = re.get_latent_representation(backed)
    latent = re.get_latent_representation(backed, indices=chosen, batch_size=batch_size)
    np.testing.assert_allclose(latent, everything[chosen], atol=1e-5)


def test_cells_are_counted_from_the_end(re, backed):
    latent = re.get_latent_representation(backed, indices=[-1, 0, -3])
    expected = re.get_latent_representation(backed, indices=[239, 0, 237])
    np.testing.assert_array_equal(latent, expected)


def test_a_cell_asked_for_twice_is_refused(re, backed):
    with pytest.raises(ValueError, match=r"names a cell twice.*adata\.to_memory\(\)$"):
        re.get_latent_representation(backed, indices=[5, 5, -235])


@pytest.mark.slow
def test_projection_stack_takes_named_cells_in_any_order(re, fit, cells, in_memory, backed):
    fe = fit("SCMEDAL_FE", cells.copy())
    names = list(cells.obs_names[[7, 3, 90]])
    stack = tl.projection_stack(backed, fe, re, names)
    expected = tl.projection_stack(in_memory, fe, re, names)
    assert list(stack.obs_names) == list(expected.obs_names)
    measured = stack.layers["expression"][:3]
    np.testing.assert_array_equal(measured, cells[names].X.toarray())
    np.testing.assert_allclose(
        stack.layers["expression"], expected.layers["expression"], atol=1e-4
    )


def test_variance_components_read_minibatches(re, in_memory, backed):
    of_file, in_memory = (
        tl.variance_components(re, adata, n_samples=2, progress=False)["residual"]
        for adata in (backed, in_memory)
    )
    np.testing.assert_allclose(of_file, in_memory, rtol=1e-4)


@pytest.mark.parametrize(
    "refuse",
    [
        lambda adata: tl.genomap_layout(adata, progress=False),
        lambda adata: bm.cross_validate(adata, "donor", "cell_type", progress=False),
        lambda adata: bm.counterfactual_shift(None, adata, "donor", "cell_type"),
        lambda adata: bm.swap_quality(None, adata, "donor", "cell_type"),
        lambda adata: bm.effect_recovery(None, adata),
    ],
    ids=[
        "genomap_layout",
        "cross_validate",
        "counterfactual_shift",
        "swap_quality",
        "effect_recovery",
    ],
)
def test_refused(refuse, backed):
    with pytest.raises(ValueError, match=r"adata = adata\.to_memory\(\)$"):
        refuse(backed)


@pytest.mark.parametrize("method", COMPARATORS)
def test_comparators_refuse(method, backed):
    with pytest.raises(ValueError, match=r"adata = adata\.to_memory\(\)$"):
        getattr(ext, method)(backed, batch_key="donor", labels_key="cell_type")
