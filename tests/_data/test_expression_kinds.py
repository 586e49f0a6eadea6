"""Which values are recognised as what, in every format, and of real data."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

import scmedal_tools._data._expression_kinds as kinds
from scmedal_tools import datasets
from scmedal_tools._data._expression_kinds import expression_kind

FORMATS = {"dense": np.asarray, "csr": sp.csr_matrix, "csc": sp.csc_matrix}


def normalised(counts, target_sum=1e4):
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * target_sum


def log_normalised(counts):
    return np.log1p(normalised(counts))


def corrected(counts):
    """Ambient counts are subtracted, so that hardly any value is whole."""
    ambient = (
        0.1 * counts.sum(axis=1, keepdims=True) * counts.mean(axis=0) / counts.mean(axis=0).sum()
    )
    noise = np.random.default_rng(1).uniform(0.5, 1.5, counts.shape)
    return np.maximum(counts - ambient * noise, 0)


def divided(counts):
    """A third of the reads is divided between genes, as by alevin."""
    shares = np.random.default_rng(1).uniform(0.3, 1, counts.shape)
    return np.where(np.random.default_rng(2).random(counts.shape) < 0.33, shares * counts, counts)


def seurat_scaled(x):
    """Z-scores, cut off at 10, as ``ScaleData`` keeps them."""
    return np.minimum((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6), 10)


def sct_corrected(counts):
    """Counts as of cells of the median depth, as ``SCTransform`` keeps them."""
    depth = counts.sum(axis=1, keepdims=True)
    return np.rint(counts / np.maximum(depth, 1) * np.median(depth))


def below(limit, values):
    """Only genes without large values, as a selection of them may leave."""
    return values[:, values.max(axis=0) < limit]


def with_value(counts, value):
    counts = counts.copy()
    counts[1, 3] = value
    return counts


KINDS = {
    "counts": (lambda c: c, "counts"),
    "0/1": (lambda c: c > 0, "counts"),
    "log": (log_normalised, "log-normalised"),
    "log of a subset": (lambda c: log_normalised(c)[:, ::7], "log-normalised"),
    "log of two cells": (lambda c: log_normalised(c)[:2, :3], "too-few-values"),
    "log of two genes": (lambda c: log_normalised(c)[:, :2], "too-few-values"),
    "log to the median": (lambda c: np.log1p(normalised(c, 250.0))[:, :30], "log-normalised"),
    "log to one": (lambda c: np.log1p(normalised(c, 1.0)), "log-normalised"),
    "log of CPM": (lambda c: np.log1p(normalised(c, 1e6)), "log-normalised"),
    "log2 of CPM": (lambda c: np.log2(normalised(c, 1e6) + 1), "log-normalised"),
    "log10": (lambda c: np.log10(normalised(c) + 1), "log-normalised"),
    "log of half precision": (
        lambda c: log_normalised(c).astype(np.float16),
        "log-normalised",
    ),
    "log of corrected counts": (lambda c: log_normalised(corrected(c)), "log-normalised"),
    "a subset of it": (lambda c: log_normalised(corrected(c))[:, :60], "unrecognised"),
    "log of counts": (np.log1p, "log-counts"),
    "log2 of counts": (lambda c: np.log2(c + 1), "log-counts"),
    "log of downsampled counts": (
        lambda c: np.log1p(np.random.default_rng(3).multinomial(200, c[0] / c[0].sum(), 80)),
        "log-normalised",
    ),
    "log twice": (lambda c: np.log1p(log_normalised(c)), "log-twice"),
    "log twice of a subset": (lambda c: np.log1p(log_normalised(c))[:, ::7], "log-twice"),
    "normalised": (normalised, "normalised"),
    "small and normalised": (lambda c: normalised(c, 50.0)[:, ::2], "normalised"),
    "corrected and normalised": (lambda c: normalised(corrected(c), 50.0), "normalised"),
    "square roots": (lambda c: np.sqrt(normalised(c, 100.0)), "square-roots"),
    "large square roots": (lambda c: np.sqrt(normalised(c, 1e6)), "square-roots"),
    "square roots of counts": (np.sqrt, "square-roots-of-counts"),
    "divided": (divided, "corrected-counts"),
    "divided and small": (lambda c: below(20, divided(c)), "corrected-counts"),
    "corrected": (lambda c: 5 * corrected(c), "not-logged"),
    "corrected and small": (lambda c: below(20, corrected(c)), "unrecognised"),
    "scaled": (lambda c: c - c.mean(axis=0), "negative"),
    "scale.data of Seurat": (lambda c: seurat_scaled(log_normalised(c)), "negative"),
    "SCT-corrected counts": (lambda c: sct_corrected(c), "even-counts"),
    "counts of one depth": (
        lambda c: np.random.default_rng(3).multinomial(200, c[0] / c[0].sum(), 80),
        "even-counts",
    ),
    "SCT-corrected counts of a few cells": (lambda c: sct_corrected(c)[:29], "counts"),
    "log1p of SCT-corrected counts": (lambda c: np.log1p(sct_corrected(c)), "log-counts"),
    "CPM": (lambda c: normalised(c, 1e6), "normalised"),
    "a subset of CPM": (lambda c: normalised(c, 1e6)[:, ::7], "normalised"),
    "NaN": (lambda c: with_value(c, np.nan), "non-finite"),
    "infinity": (lambda c: with_value(c, np.inf), "non-finite"),
    "minus infinity": (lambda c: with_value(c, -np.inf), "non-finite"),
}


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    depth = rng.lognormal(0, 0.5, size=(80, 1))
    return rng.poisson(depth * rng.gamma(0.6, 3.0, size=120)).astype(np.float32)


@pytest.fixture(params=list(FORMATS))
def as_format(request):
    return FORMATS[request.param]


@pytest.mark.parametrize("case", KINDS)
def test_values_decide(counts, as_format, case):
    transform, expected = KINDS[case]
    values = np.asarray(transform(counts))
    if values.dtype == np.float16 and as_format is not np.asarray:
        pytest.skip("scipy has no sparse matrices of half precision")
    assert expression_kind(as_format(values)) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint16])
def test_counts_of_any_type(counts, as_format, dtype):
    assert expression_kind(as_format(counts.astype(dtype))) == "counts"


@pytest.mark.parametrize("cell", [0, 79])
def test_looks_at_every_block(counts, as_format, cell, monkeypatch):
    monkeypatch.setattr(kinds, "_BLOCK", 7)
    changed = counts.copy()
    changed[cell, 3] = 1.5
    assert expression_kind(as_format(changed)) != "counts"


@pytest.mark.parametrize("transform", [log_normalised, np.sqrt])
def test_blocks_make_one_sample(counts, as_format, monkeypatch, transform):
    whole = expression_kind(as_format(transform(counts)))
    monkeypatch.setattr(kinds, "_BLOCK", 7)
    assert expression_kind(as_format(transform(counts))) == whole


def test_backed_data_are_read_in_blocks(counts, as_format, tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "_BLOCK", 50)
    ad.AnnData(as_format(counts)).write_h5ad(tmp_path / "cells.h5ad")
    x = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r").X
    shapes = [block.shape for _, block in kinds._blocks(x)]
    by_column = getattr(x, "format", None) == "csc"
    assert shapes == ([(80, 50), (80, 50), (80, 20)] if by_column else [(50, 120), (30, 120)])


def all_and_subsets(adata):
    """Log-normalised data to two targets: all genes, variable ones, and some."""
    some = np.random.default_rng(0).choice(adata.n_vars, 60, replace=False)
    for target_sum in (1e4, None):
        logged, depths = adata.copy(), np.asarray(adata.X.sum(axis=1)).reshape(-1, 1)
        # By hand, as numba compiles scanpy's function for five seconds.
        target = np.median(depths[depths > 0]) if target_sum is None else target_sum
        logged.X = logged.X.multiply(target / np.maximum(depths, 1)).tocsr().log1p()
        n_genes = min(1000, adata.n_vars // 3)
        table = sc.pp.highly_variable_genes(logged, n_top_genes=n_genes, inplace=False)
        variable = table["highly_variable"].to_numpy()
        yield logged.X, variable
        yield logged.X[:, variable], variable
        yield logged.X[:, some], variable


def check_all(adata):
    for x, _ in all_and_subsets(adata):
        assert expression_kind(x) == "log-normalised"
    assert expression_kind(adata.X) == "counts"
    assert expression_kind(sct_corrected(adata.X.toarray())) == "even-counts"
    x, variable = next(all_and_subsets(adata))
    assert expression_kind(x.log1p()[:, variable]) == "log-twice"
    assert expression_kind(x.expm1().sqrt()[:, variable]) == "square-roots"
    assert expression_kind(x.expm1()[:, variable]) == "normalised"
    assert expression_kind(adata.X.log1p()[:, variable]) == "log-counts"


@pytest.mark.slow
def test_simulated_data():
    check_all(datasets.simulated())


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "aml_vangalen2019_d0",
        "aml_vangalen2019_d0_hvg3000",
        "cf_pig_airway_aggregatebiovar",
        "glioblastoma_zhao2021",
        "kang2018_pbmc_ctrl_stim_2000cells",
        "mixology_tian2019_celllines",
        "onek1k_pbmc_40donors_1000genes",
    ],
)
def test_real_data(name, data_dir):
    adata = ad.read_h5ad(data_dir / f"{name}.h5ad")
    check_all(adata[:: -(-adata.n_obs // 2000)].copy())
