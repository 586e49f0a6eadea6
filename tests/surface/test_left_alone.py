"""A call changes nothing of the cells, and adds no more to them than is documented."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from .calls import CALLS, called, dense

pytestmark = pytest.mark.slow

PLACES = ("layers", "obs", "var", "obsm", "varm", "obsp", "varp", "uns")
# In docs/user_guide/data.md, under "What is written".
ADDED = re.compile(
    r"(obs|uns) _scvi_\w+|obsm X_(re|fe|umap_re|combined|pca|harmony)"
    r"|uns (scmedal|scmedal_umap|genomap)"
)


def contents(adata):
    """Everything in the cells by its place and name, in order."""
    found = {"X": adata.X, "obs_names": adata.obs_names, "var_names": adata.var_names}
    for place in PLACES:
        table = getattr(adata, place)
        # Since anndata 0.13 layers also hold X, under None.
        found |= {f"{place} {key}": table[key] for key in table if key is not None}
    return found


def same(found, expected):
    if type(found) is not type(expected):
        return False
    if isinstance(expected, pd.Series | pd.Index):
        return found.dtype == expected.dtype and found.equals(expected)
    if isinstance(expected, dict):
        return repr(found) == repr(expected)
    return found.dtype == expected.dtype and np.array_equal(dense(found), dense(expected))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("call", CALLS)
def test_left_alone(study, models, call, form):
    adata = study.copy()
    adata.X, adata.layers["counts"] = form(adata.X), form(adata.layers["counts"])
    before = contents(adata.copy())
    called(call, models, adata)
    after = contents(adata)
    kept = [name for name in after if name in before or not ADDED.fullmatch(name)]
    assert kept == list(before)
    assert [name for name in before if not same(after[name], before[name])] == []
