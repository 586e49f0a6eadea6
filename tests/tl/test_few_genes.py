"""Effects are the same whether all genes are tested or a few, of which most may change."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scmedal_tools as smt

pytestmark = pytest.mark.slow

N_GENES, N_CHANGED, FOLD = 300, 5, 3.0


@pytest.fixture(scope="module")
def counts():
    """Counts of six donors in each group; the first five genes are threefold in one of them."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(12), 40)
    log_mean = rng.normal(0, 0.7, N_GENES) + rng.normal(0, 0.1, (12, N_GENES))[donor]
    log_mean[:, :N_CHANGED] = 0.8 + np.log(FOLD) * (donor >= 6)[:, None]
    x = rng.poisson(rng.gamma(2, np.exp(log_mean) / 2)).astype(np.float32)
    obs = {
        "donor": [f"D{k:02d}" for k in donor],
        "condition": np.where(donor < 6, "control", "treated"),
        "total": x.sum(1),
    }
    names = pd.Index([f"c{i}" for i in range(len(donor))])
    return AnnData(x, pd.DataFrame(obs, names), pd.DataFrame(index=[f"g{i}" for i in range(300)]))


def table_of(verb, counts, genes, **options):
    table = verb(counts[:, genes].copy(), "~ condition", "donor", **options)
    return getattr(table, "table", table).set_index("variable")


@pytest.fixture(scope="module", params=[smt.tl.group_effects, smt.tl.pseudobulk_de])
def verb(request):
    return request.param


@pytest.fixture(scope="module")
def of_all(verb, counts):
    return table_of(verb, counts, slice(None))


@pytest.mark.parametrize("n_genes", [2, 10])
def test_few_genes_with_the_totals_of_all_have_the_effects_of_all(verb, counts, of_all, n_genes):
    of_few = table_of(verb, counts, slice(n_genes), size_factor_key="total")
    changed = of_few.index[:N_CHANGED]
    np.testing.assert_allclose(
        of_few.loc[changed, "log_fc"], of_all.loc[changed, "log_fc"], atol=0.15
    )
    assert (of_few.loc[changed, "p_value"] < 1e-3).all()
    assert of_few.loc[changed, "log_fc"].mean() == pytest.approx(np.log2(FOLD), abs=0.3)


def test_few_genes_that_pass_the_filter_are_relative_to_all(verb, counts, of_all):
    least = np.sort(counts.X.sum(0))[-12] / 12
    frequent = table_of(verb, counts, slice(None), min_counts=least - 1)
    assert len(frequent) == 12
    assert frequent.index[:N_CHANGED].tolist() == counts.var_names[:N_CHANGED].tolist()
    np.testing.assert_allclose(frequent["log_fc"], of_all.loc[frequent.index, "log_fc"], atol=0.05)


def test_of_a_rare_type_most_of_whose_genes_are_too_rare():
    """Of ten shallow cells of a donor six genes have enough counts; three of them change."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(12), 10)
    means = np.concatenate([np.full(6, 1.5), rng.lognormal(-3, 0.5, 1_000)])
    folds = np.where(np.arange(len(means)) < 3, 2.5, 1.0)
    obs = {"donor": [f"D{k:02d}" for k in donor], "condition": np.where(donor < 6, "a", "b")}
    found = []
    for _ in range(8):
        x = rng.poisson(means * np.where((donor >= 6)[:, None], folds, 1.0)).astype(np.float32)
        adata = AnnData(x, pd.DataFrame(obs, [f"c{i}" for i in range(len(donor))]))
        with pytest.warns(UserWarning, match="Few genes are tested: 6 in all cells"):
            table = smt.tl.group_effects(adata, "~ condition", "donor", min_counts=8).table
        found.append(table["log_fc"].to_numpy())
    expected = np.log2(folds[:6]) - np.log2((folds * means).sum() / means.sum())
    np.testing.assert_allclose(np.mean(found, 0), expected, atol=0.25)


def test_fewer_than_twenty_genes_are_warned_of(counts):
    with pytest.warns(UserWarning, match="tested: 19 in all cells.*Pass the counts of all") as few:
        table_of(smt.tl.group_effects, counts, slice(19), size_factor_key="total")
    assert any("19 in all cells" in str(w.message) and w.filename == __file__ for w in few)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Few genes")
        table_of(smt.tl.group_effects, counts, slice(20), size_factor_key="total")
