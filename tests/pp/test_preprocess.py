from __future__ import annotations

import time
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

from scmedal_tools.pp import _preprocess, preprocess

FORMATS = {"dense": np.asarray, "csr": sp.csr_matrix, "csc": sp.csc_matrix}
N_CELLS, N_GENES = 180, 60
TOTALS = "total_counts_all_genes"


@pytest.fixture
def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    means = 0.2 + rng.gamma(0.6, 3.0, size=N_GENES)
    counts = rng.poisson(means * rng.gamma(1.0, 1.0, size=(N_CELLS, N_GENES)))
    counts[:, 5] = 0
    counts[:2, 5] = 1  # a gene in two cells only
    counts[7, 9:] = 0  # a cell with fewer than ten genes
    return counts.astype(np.float32)


@pytest.fixture
def adata(counts) -> ad.AnnData:
    obs = pd.DataFrame(
        {"donor": np.repeat(["a", "b", "c"], 60), "total": counts.sum(axis=1) * 3.0},
        index=[f"cell{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])
    return ad.AnnData(sp.csr_matrix(counts), obs=obs, var=var)


def dense(x) -> np.ndarray:
    return x.toarray() if sp.issparse(x) else np.asarray(x)


def kept(counts: np.ndarray) -> np.ndarray:
    counts = counts[(counts > 0).sum(axis=1) >= 10]
    return counts[:, (counts > 0).sum(axis=0) >= 3]


class TestValues:
    @pytest.mark.parametrize("as_format", FORMATS.values(), ids=FORMATS)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    def test_equals_numpy(self, adata, counts, as_format, dtype):
        adata.X = as_format(counts.astype(dtype))
        preprocess(adata, n_top_genes=None)
        left = kept(counts)
        assert "cell7" not in adata.obs_names
        assert "gene5" not in adata.var_names
        assert adata.shape == left.shape == (N_CELLS - 1, N_GENES - 1)
        expected = np.log1p(left / left.sum(axis=1, keepdims=True) * 1e4)
        np.testing.assert_allclose(dense(adata.X), expected, rtol=2e-6)
        np.testing.assert_array_equal(dense(adata.layers["counts"]), left)
        assert adata.X.dtype == (np.float64 if dtype is np.float64 else np.float32)
        formats = {getattr(x, "format", "dense") for x in (adata.X, adata.layers["counts"])}
        assert formats == {"dense" if as_format is np.asarray else "csr"}

    def test_genes_are_counted_in_the_cells_that_stay(self, adata, counts):
        counts[:, 11] = 0
        counts[[7, 20, 30], 11] = 1  # three cells, of which cell 7 is dropped
        adata.X = sp.csr_matrix(counts)
        preprocess(adata, n_top_genes=None)
        assert "gene11" not in adata.var_names

    def test_thresholds_and_target(self, adata, counts):
        preprocess(adata, n_top_genes=None, min_genes=0, min_cells=2, target_sum=100)
        assert adata.shape == (N_CELLS, N_GENES)
        np.testing.assert_allclose(np.expm1(dense(adata.X)).sum(axis=1), 100, rtol=1e-5)

    def test_cell_without_counts_stays_zero(self, adata, counts):
        counts[3] = 0
        adata.X = counts
        preprocess(adata, n_top_genes=None, min_genes=0)
        assert not dense(adata["cell3"].X).any()

    def test_counts_from_a_layer(self, adata):
        expected = preprocess(adata, n_top_genes=20, copy=True)
        adata.layers["umi"], adata.X = adata.X, np.full(adata.shape, 0.5, dtype=np.float32)
        preprocess(adata, layer="umi", n_top_genes=20)
        np.testing.assert_array_equal(dense(adata.X), dense(expected.X))
        np.testing.assert_array_equal(dense(adata.layers["umi"]), dense(expected.layers["counts"]))


class TestLibrarySize:
    def test_divides_by_the_given_total(self, adata, counts):
        plain = preprocess(adata, n_top_genes=None, copy=True)
        preprocess(adata, n_top_genes=None, size_factor_key="total")
        expected = np.log1p(kept(counts) / adata.obs["total"].to_numpy()[:, None] * 1e4)
        np.testing.assert_allclose(dense(adata.X), expected, rtol=2e-6)
        assert np.abs(dense(adata.X) - dense(plain.X)).max() > 0.5

    def test_gene_subset_keeps_the_values_of_the_whole(self, adata, counts):
        adata.obs["total"] = counts.sum(axis=1)
        options = {"n_top_genes": None, "min_genes": 0, "min_cells": 0, "copy": True}
        whole, half = adata, adata[:, :30].copy()
        expected = dense(preprocess(whole, **options).X)[:, :30]
        with_total = preprocess(half, size_factor_key="total", **options)
        without = preprocess(half, **options)
        np.testing.assert_allclose(dense(with_total.X), expected, rtol=2e-6)
        assert not np.allclose(dense(without.X), expected, rtol=0.01)

    def test_totals_of_all_genes_are_kept(self, adata, counts):
        preprocess(adata, n_top_genes=20, min_genes=0)
        np.testing.assert_array_equal(adata.obs[TOTALS], counts.sum(axis=1))
        expected = dense(adata.X)
        options = {"n_top_genes": None, "min_genes": 0, "layer": "counts"}
        again = preprocess(adata, size_factor_key=TOTALS, copy=True, **options)
        # In the first two cells a count of a rare gene was not a part of the total.
        np.testing.assert_allclose(dense(again.X)[2:], expected[2:], rtol=1e-5)

    def test_kept_totals_are_not_those_of_thinned_counts(self, adata):
        """Of which nothing but the user knows: they are neither used nor replaced unasked."""
        preprocess(adata, n_top_genes=20, min_genes=0)
        totals = adata.obs[TOTALS].copy()
        adata.layers["counts"] = (adata.layers["counts"] * 0.5).floor()
        options = {"n_top_genes": None, "min_genes": 0, "layer": "counts"}
        with pytest.warns(UserWarning, match=f"size_factor_key='{TOTALS}', or delete that column"):
            of_these = preprocess(adata, copy=True, **options)
        pd.testing.assert_series_equal(of_these.obs[TOTALS], totals)
        np.testing.assert_allclose(np.expm1(dense(of_these.X)).sum(1), 1e4, rtol=1e-4)
        del adata.obs[TOTALS]
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "The .* genes of adata")
            preprocess(adata, **options)

    @pytest.mark.parametrize("missing", [slice(None), slice(0, 50), slice(50, None)])
    def test_totals_that_are_missing_are_not_compared(self, adata, missing):
        preprocess(adata, n_top_genes=20, min_genes=0)
        adata.obs.loc[adata.obs_names[missing], TOTALS] = np.nan
        before = adata.obs[TOTALS].copy()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            preprocess(adata, layer="counts", n_top_genes=None, min_genes=0)
        said = [str(w.message) for w in caught]
        assert any("genes of adata" in text for text in said) is (missing != slice(None))
        assert not any("divide" in text for text in said)
        pd.testing.assert_series_equal(adata.obs[TOTALS], before)

    def test_totals_are_those_that_are_named(self, adata):
        preprocess(adata, n_top_genes=20, size_factor_key="total")
        np.testing.assert_array_equal(adata.obs[TOTALS], adata.obs["total"])

    @pytest.mark.filterwarnings("ignore:.*is smaller than")
    def test_size_factors_that_are_no_totals_are_not_kept(self, adata):
        adata.obs["factor"] = adata.obs["total"] / adata.obs["total"].mean()
        preprocess(adata, n_top_genes=20, size_factor_key="factor")
        assert TOTALS not in adata.obs

    @pytest.mark.parametrize("factor", [0.5, 2.0])
    def test_counts_of_some_cells_that_were_changed_are_noticed(self, adata, factor):
        preprocess(adata, n_top_genes=None, min_genes=0)
        changed = sp.diags(np.where(np.arange(adata.n_obs) < 150, 1.0, factor))
        adata.layers["counts"] = (changed @ adata.layers["counts"]).floor().astype(np.float32)
        with pytest.warns(UserWarning, match="or the counts were changed"):
            preprocess(adata, layer="counts", n_top_genes=None, min_genes=0)

    def test_a_column_that_is_no_number_is_left_alone(self, adata):
        adata.obs[TOTALS] = "deep"
        preprocess(adata, n_top_genes=20, min_genes=0)
        assert set(adata.obs[TOTALS]) == {"deep"}

    def test_genes_with_other_names_were_not_selected(self, adata):
        adata.raw = adata.copy()
        some = adata[:, :-5].copy()
        some.var_names = [f"ENSG{i}" for i in range(some.n_vars)]
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "The .* genes of adata")
            preprocess(some, n_top_genes=None)

    @pytest.mark.parametrize("as_format", FORMATS.values(), ids=FORMATS)
    @pytest.mark.parametrize("logged", [False, True])
    def test_genes_selected_before_are_warned_of(self, adata, counts, as_format, logged):
        whole = preprocess(adata, n_top_genes=None, min_cells=0, copy=True)
        kept = whole if logged else ad.AnnData(whole.layers["counts"], whole.obs, whole.var)
        kept = ad.AnnData(as_format(dense(kept.X)), whole.obs[["donor"]], whole.var)
        some = ad.AnnData(whole.layers["counts"], kept.obs, whole.var)
        some.raw = kept
        some = some[:, :30].copy()
        with pytest.warns(UserWarning, match="The 30 genes of adata have [1-8].% of") as caught:
            wrong = preprocess(some, n_top_genes=None, min_genes=0, copy=True)
        (said,) = [w for w in caught if "30 genes" in str(w.message)]
        assert said.filename == __file__
        assert "total_counts_all_genes" not in wrong.obs  # they are not known
        names = {"adata": some, "np": np}
        exec(str(said.message).splitlines()[-1], names)
        if not logged:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "The 30 genes")
                key = "total_counts_all_genes"
                preprocess(some, n_top_genes=None, min_genes=0, min_cells=0, size_factor_key=key)
        expected = dense(whole.X)[:, :30]
        np.testing.assert_allclose(dense(names["adata"].X), expected, rtol=1e-5)

    def test_a_filter_of_rare_genes_is_no_selection(self, adata, counts):
        adata.raw = adata.copy()
        some = adata[:, counts.sum(axis=0) > np.sort(counts.sum(axis=0))[4]].copy()
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "The .* genes of adata")
            preprocess(some, n_top_genes=None)

    @pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
    def test_needs_positive_numbers(self, adata, bad):
        adata.obs.loc[["cell3", "cell4"], "total"] = bad
        with pytest.raises(ValueError, match="not a positive number in 2 of 179") as error:
            preprocess(adata, size_factor_key="total")
        names = {"adata": adata, "np": np}
        exec(str(error.value).splitlines()[-1], names)
        preprocess(names["adata"], n_top_genes=None, size_factor_key="total")

    @pytest.mark.parametrize("key", ["donor", "n_umi"])
    def test_needs_a_numeric_column(self, adata, key):
        adata.obs["_scvi_batch"] = 0
        with pytest.raises(ValueError, match=r"not a numeric column.*: 'total'\.$"):
            preprocess(adata, size_factor_key=key)

    def test_warns_where_a_total_is_less_than_the_counts(self, adata):
        adata.obs["total"] = 1.0  # a relative size factor
        with pytest.warns(UserWarning, match="in 179 of 179 cells"):
            preprocess(adata, n_top_genes=None, size_factor_key="total")


class TestVariableGenes:
    @pytest.mark.slow
    @pytest.mark.parametrize("batch_key", [None, "donor"])
    def test_equals_scanpy(self, adata, batch_key):
        expected = adata.copy()
        sc.pp.filter_cells(expected, min_genes=10)
        sc.pp.filter_genes(expected, min_cells=3)
        sc.pp.normalize_total(expected, target_sum=1e4)
        sc.pp.log1p(expected)
        sc.pp.highly_variable_genes(expected, n_top_genes=20, batch_key=batch_key)
        preprocess(adata, n_top_genes=20, batch_key=batch_key)
        names = expected.var_names[expected.var["highly_variable"]]
        assert adata.var_names.tolist() == names.tolist()
        assert set(adata.var) == {c for c in expected.var if c != "n_cells"}
        np.testing.assert_allclose(
            adata.var["dispersions_norm"], expected.var.loc[names, "dispersions_norm"], rtol=1e-4
        )

    def test_genes_that_differ_only_between_donors_are_not_preferred(self, adata, counts):
        counts[:, 8] = 2
        counts[:60, 8] = 6  # varies between donors, not within
        adata.X = sp.csr_matrix(counts)
        pooled = preprocess(adata, n_top_genes=15, copy=True)
        by_donor = preprocess(adata, n_top_genes=15, batch_key="donor", copy=True)
        assert "gene8" in pooled.var_names
        assert "gene8" not in by_donor.var_names

    # Twenty genes tie, so one of these cuts falls between them.
    @pytest.mark.parametrize("n_top_genes", [10, 25, 40, 50])
    def test_exact_number_where_genes_tie(self, adata, counts, n_top_genes):
        counts[:, 20:40] = counts[:, [20]]
        adata.X = sp.csr_matrix(counts)
        preprocess(adata, n_top_genes=n_top_genes)
        assert adata.n_vars == n_top_genes

    def test_small_batches_have_no_vote(self, adata):
        donors = adata.obs["donor"].to_numpy(dtype=object).copy()
        donors[[0, 70, 130]] = "tiny"
        adata.obs["donor"] = pd.Categorical(donors)
        voters = adata[adata.obs["donor"] != "tiny"].copy()
        preprocess(voters, n_top_genes=20, batch_key="donor", min_cells=0)
        with pytest.warns(UserWarning, match="1 of 4 batches have fewer than 50 cells: they"):
            preprocess(adata, n_top_genes=20, batch_key="donor", min_cells=0)
        assert adata.var_names.tolist() == voters.var_names.tolist()
        assert adata.obs["donor"].value_counts()["tiny"] == 3
        assert adata.uns["scmedal_preprocess"]["batches_without_vote"] == ["tiny"]

    def test_pools_where_fewer_than_two_batches_are_large(self, adata, monkeypatch):
        monkeypatch.setattr(_preprocess, "MIN_CELLS_PER_BATCH", 60)  # cell7 of "a" is dropped
        adata.obs["donor"] = adata.obs["donor"].replace("c", "a")
        expected = preprocess(adata, n_top_genes=20, copy=True)
        monkeypatch.setattr(_preprocess, "MIN_CELLS_PER_BATCH", 61)
        with pytest.warns(UserWarning, match="1 of 2 batches .* over all cells together"):
            preprocess(adata, n_top_genes=20, batch_key="donor")
        assert adata.var_names.tolist() == expected.var_names.tolist()

    def test_batch_without_most_genes(self, adata, counts):
        counts[:60, 20:] = 0
        adata.X = sp.csr_matrix(counts)
        preprocess(adata, n_top_genes=40, min_genes=1, batch_key="donor")
        assert adata.n_vars == 40

    def test_more_genes_wanted_than_there_are(self, adata):
        with pytest.warns(UserWarning, match=r"n_top_genes=3,000, but 59 genes .* all are kept"):
            preprocess(adata)
        assert adata.n_vars == 59
        assert "highly_variable" not in adata.var

    def test_missing_donor(self, adata):
        adata.obs.loc["cell9", "donor"] = None
        with pytest.raises(ValueError, match="missing in 1 of 180 cells"):
            preprocess(adata, batch_key="donor")


class TestWhatIsChanged:
    def test_copy_leaves_the_input_alone(self, adata):
        adata.uns["mine"] = {"a": 1}
        before = adata.copy()
        result = preprocess(adata, n_top_genes=20, batch_key="donor", copy=True)
        result.X.data[:] = 0
        result.layers["counts"].data[:] = 0
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(adata.X, name), getattr(before.X, name))
        pd.testing.assert_frame_equal(adata.obs, before.obs)
        pd.testing.assert_frame_equal(adata.var, before.var)
        assert adata.uns == before.uns
        assert "counts" not in adata.layers

    def test_in_place_returns_nothing_and_equals_the_copy(self, adata):
        expected = preprocess(adata, n_top_genes=20, copy=True)
        assert preprocess(adata, n_top_genes=20) is None
        np.testing.assert_array_equal(dense(adata.X), dense(expected.X))
        pd.testing.assert_frame_equal(adata.var, expected.var)

    def test_other_entries_follow_the_selection(self, adata):
        adata.obsm["id"] = np.arange(N_CELLS)[:, None]
        adata.varm["id"] = np.arange(N_GENES)[:, None]
        preprocess(adata, n_top_genes=20)
        assert [f"cell{i}" for i in adata.obsm["id"][:, 0]] == adata.obs_names.tolist()
        assert [f"gene{i}" for i in adata.varm["id"][:, 0]] == adata.var_names.tolist()

    def test_view_becomes_an_object_of_its_own_and_says_so(self, adata):
        view = adata[:120]
        expected = preprocess(adata[:120], n_top_genes=20, copy=True)
        with pytest.warns(UserWarning, match="is a view"):
            preprocess(view, n_top_genes=20)
        assert not view.is_view
        assert adata.shape == (N_CELLS, N_GENES)
        np.testing.assert_array_equal(dense(view.X), dense(expected.X))

    @pytest.mark.parametrize(
        "options", [{"min_genes": 61}, {"min_cells": 181}, {"batch_key": "no"}]
    )
    def test_nothing_is_changed_on_an_error(self, adata, counts, options):
        with pytest.raises(ValueError, match=r"Lower min_|not a column"):
            preprocess(adata, **options)
        np.testing.assert_array_equal(dense(adata.X), counts)

    def test_record_survives_a_file(self, adata, tmp_path):
        preprocess(adata, n_top_genes=20, batch_key="donor")
        adata.write_h5ad(tmp_path / "cells.h5ad")
        uns = ad.read_h5ad(tmp_path / "cells.h5ad").uns
        assert uns["scmedal_preprocess"] == {
            "batch_key": "donor",
            "n_top_genes": 20,
            "min_genes": 10,
            "min_cells": 3,
            "target_sum": 1e4,
            "taken_as": "counts",
        }
        assert uns["log1p"]["base"] is None


class TestRefuses:
    def test_preprocessed_data(self, adata):
        preprocess(adata, n_top_genes=20)
        with pytest.raises(ValueError, match="need no preprocessing") as error:
            preprocess(adata)
        assert str(error.value).endswith("smt.pp.preprocess(adata, layer='counts')")

    def test_backed(self, adata, tmp_path):
        adata.write_h5ad(tmp_path / "cells.h5ad")
        backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        with pytest.raises(ValueError, match=r"adata = adata\.to_memory\(\)$"):
            preprocess(backed)

    def test_duplicate_names(self, adata):
        adata.var_names = ["same", *adata.var_names[1:-1], "same"]
        with pytest.raises(ValueError, match="var_names_make_unique"):
            preprocess(adata)


@pytest.mark.slow
@pytest.mark.real
def test_paper_settings_on_aml(data_dir):
    adata = ad.read_h5ad(data_dir / "aml_vangalen2019_d0.h5ad")
    adata = adata[~adata.obs["donor"].isin(["AML314", "AML371", "AML722B", "AML997"])].copy()
    start = time.perf_counter()
    preprocess(adata, batch_key="donor", n_top_genes=2916)
    seconds = time.perf_counter() - start
    assert adata.shape == (11731, 2916)
    assert adata.obs["donor"].nunique() == 14
    assert "batches_without_vote" not in adata.uns["scmedal_preprocess"]
    assert seconds < 60  # about 3 s alone on two cores
