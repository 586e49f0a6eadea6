from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import scmedal_tools._data._expression_kinds as kinds
import scmedal_tools.pp
from scmedal_tools._data._checks import (
    check_counts,
    check_log_normalised,
    check_names,
    check_obs,
    warn_of_small_batches,
)

FORMATS = {"dense": np.asarray, "csr": sp.csr_matrix, "csc": sp.csc_matrix}


@pytest.fixture
def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    depth = rng.lognormal(0, 0.5, size=(40, 1))
    return rng.poisson(depth * rng.gamma(0.6, 4.0, size=30)).astype(np.float32)


def normalised(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4


def log_normalised(counts: np.ndarray) -> np.ndarray:
    return np.log1p(normalised(counts))


def partly_fractional(counts: np.ndarray) -> np.ndarray:
    """As from alevin: a part of the reads is divided between genes."""
    shares = np.random.default_rng(1).uniform(0.3, 1, counts.shape)
    return np.where(np.arange(counts.size).reshape(counts.shape) % 3, counts, counts * shares)


def rng_shares(counts: np.ndarray) -> np.ndarray:
    return np.random.default_rng(2).uniform(0.5, 1, counts.shape)


def with_values(x: np.ndarray, value: float, cells: list[int]) -> np.ndarray:
    x = x.copy()
    x[cells, 3] = value
    return x


@pytest.fixture(params=list(FORMATS))
def as_format(request):
    return FORMATS[request.param]


@pytest.fixture(params=["memory", "backed"])
def stored(request, tmp_path):
    """Give back the AnnData as it is, or opened from a file without being read."""

    def store(adata: ad.AnnData) -> ad.AnnData:
        if request.param == "memory":
            return adata
        adata.write_h5ad(tmp_path / "cells.h5ad")
        return ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")

    return store


class TestLogNormalised:
    def test_accepts(self, counts, as_format, stored):
        check_log_normalised(stored(ad.AnnData(as_format(log_normalised(counts)))))

    def test_view(self, counts, stored):
        adata = stored(ad.AnnData(sp.csr_matrix(with_values(log_normalised(counts), -1, [0]))))
        check_log_normalised(adata[5:])
        with pytest.raises(ValueError, match="1 of 3 cells"):
            check_log_normalised(adata[:3])

    @pytest.mark.parametrize(
        ("value", "message"),
        [(-0.5, "negative .* in 3 of 40 cells"), (np.nan, "NaN or infinite .* in 3 of 40 cells")],
    )
    def test_counts_the_bad_cells(self, counts, as_format, stored, monkeypatch, value, message):
        monkeypatch.setattr(kinds, "_BLOCK", 16)
        x = with_values(log_normalised(counts), value, [2, 18, 34])
        x[2, 4] = value
        with pytest.raises(ValueError, match=message):
            check_log_normalised(stored(ad.AnnData(as_format(x))))

    @pytest.mark.filterwarnings("ignore:n_top_genes", "error:adata.X")
    @pytest.mark.parametrize("layer", [None, "mine"])
    @pytest.mark.parametrize(
        "spoil",
        [
            np.asarray,
            normalised,
            lambda c: with_values(log_normalised(c), np.nan, [5]),
            lambda c: np.log1p(log_normalised(c)),
            np.sqrt,
            lambda c: np.sqrt(normalised(c)),
            partly_fractional,
        ],
        ids=["counts", "not-logged", "nan", "log-twice", "sqrt", "sqrt-norm", "corrected"],
    )
    def test_last_line_of_the_message_mends_it(self, counts, as_format, stored, layer, spoil):
        adata = ad.AnnData(as_format(spoil(counts)))
        if layer:
            adata.layers[layer] = adata.X.copy()
        adata = stored(adata)
        with pytest.raises(ValueError, match="needed") as error:
            check_log_normalised(adata, layer)
        names = {"adata": adata, "sc": sc, "np": np, "smt": scmedal_tools}
        exec(str(error.value).splitlines()[-1], names)
        in_x = layer is None or "preprocess" in str(error.value)
        check_log_normalised(names["adata"], None if in_x else layer)

    def test_scaled_data_are_led_to_the_counts_layer(self, counts):
        adata = ad.AnnData(counts - counts.mean(axis=0), layers={"counts": counts})
        with pytest.raises(ValueError, match=r"preprocess\(adata, layer='counts'\)$"):
            check_log_normalised(adata)

    @pytest.mark.parametrize("kept", [np.asarray, log_normalised], ids=["counts", "logarithms"])
    @pytest.mark.parametrize("layers", [(), ("counts",)])
    def test_scaled_data_are_led_to_raw(self, counts, as_format, stored, kept, layers):
        """Which has all genes; sums over those of a layer are no depths of cells."""
        raw = ad.AnnData(as_format(kept(counts)))
        adata = raw[:, 5:].copy()
        adata.raw = raw
        for layer in layers:
            adata.layers[layer] = counts[:, 5:]
        adata.X = counts[:, 5:] - counts[:, 5:].mean(axis=0)
        adata = stored(adata)
        with pytest.raises(ValueError, match=r"adata\.raw ") as error:
            check_log_normalised(adata)
        names = {"adata": adata, "smt": scmedal_tools}
        exec(str(error.value).splitlines()[-1], names)
        check_log_normalised(names["adata"])
        assert (names["adata"].n_vars > 25) == (kept is np.asarray)

    @pytest.mark.parametrize(
        ("transform", "message"),
        [
            (np.log1p, "logarithms of counts that were not normalised(.|\n)*expm1"),
            (lambda c: np.log1p(c * rng_shares(c)), "not recognised(.|\n)*rint"),
            (lambda c: log_normalised(c)[:, :3], "too few values.*log-normalised"),
        ],
        ids=["log-counts", "unrecognised", "too-few-values"],
    )
    def test_what_may_be_wrong_is_said(self, counts, as_format, transform, message):
        with pytest.warns(UserWarning, match=rf"adata\.X .*{message}"):
            check_log_normalised(ad.AnnData(as_format(transform(counts))))

    def test_missing_layer_lists_those_at_hand(self, counts):
        adata = ad.AnnData(counts, layers={"raw": counts, "other": counts})
        with pytest.raises(ValueError, match=r"'lognorm'.*Available layers: 'raw', 'other'\.$"):
            check_log_normalised(adata, "lognorm")

    @pytest.mark.parametrize("shape", [(0, 30), (40, 0)])
    def test_nothing_there(self, counts, shape):
        with pytest.raises(ValueError, match=f"{shape[0]} cells and {shape[1]} genes"):
            check_log_normalised(ad.AnnData(counts[: shape[0], : shape[1]]))

    def test_no_x(self, counts):
        with pytest.raises(ValueError, match=r"adata\.X is empty.*'counts'"):
            check_log_normalised(ad.AnnData(shape=counts.shape, layers={"counts": counts}))


class TestCounts:
    def test_accepts(self, counts, as_format, stored):
        check_counts(stored(ad.AnnData(as_format(counts))))

    def test_log_normalised_data_are_led_to_the_models_or_to_the_counts(self, counts):
        adata = ad.AnnData(log_normalised(counts), layers={"counts": counts})
        with pytest.raises(ValueError, match=r"no preprocessing.*\n.*layer='counts'\)$"):
            check_counts(adata)

    def test_the_counts_layer_is_not_offered_for_itself(self, counts):
        adata = ad.AnnData(counts, layers={"counts": log_normalised(counts)})
        with pytest.raises(ValueError, match="looks log-normalised") as error:
            check_counts(adata, "counts")
        assert "Run" not in str(error.value)


@pytest.fixture
def grouped() -> ad.AnnData:
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical(["d1"] * 4 + ["d2"] * 4, categories=["d1", "d2", "d3"]),
            "plate": [1, 1, 2, 2, 3, 3, 4, 4],
            "depth": np.linspace(0.5, 2.5, 8),
            "barcode": list("abcdefgh"),
            "study": "one",
        },
        index=list("abcdefgh"),
    )
    return ad.AnnData(np.zeros((8, 2), dtype=np.float32), obs=obs)


class TestObs:
    @pytest.mark.parametrize("key", ["donor", "plate"])
    def test_accepts(self, grouped, key):
        check_obs(grouped, key)

    def test_missing_column_lists_the_groupings_only(self, grouped):
        with pytest.raises(ValueError, match="batch_key='batch' is not a column") as error:
            check_obs(grouped, "batch")
        assert "cells: 'donor' (2 levels), 'plate' (4 levels)." in str(error.value)

    def test_no_grouping_at_all(self, grouped):
        grouped.obs = grouped.obs[["barcode", "study"]]
        with pytest.raises(ValueError, match="No column"):
            check_obs(grouped, "batch")

    @pytest.mark.parametrize("line", ["fill", "drop"])
    def test_missing_values_and_both_lines_that_mend_them(self, grouped, stored, line):
        grouped.obs.loc[["b", "g"], "donor"] = np.nan
        grouped = stored(grouped)
        with pytest.raises(ValueError, match="missing in 2 of 8 cells") as error:
            check_obs(grouped, "donor")
        text = str(error.value)
        drop, fill = text.splitlines()[-1], text.split("own: ")[1].split(". To drop")[0]
        names = {"adata": grouped}
        exec({"fill": fill, "drop": drop}[line], names)
        check_obs(names["adata"], "donor", min_levels={"fill": 3, "drop": 2}[line])
        assert names["adata"].n_obs == {"fill": 8, "drop": 6}[line]

    def test_missing_numbers_are_not_to_be_given_a_name(self, grouped):
        """It would be a mixture of numbers and text, which is refused."""
        grouped.obs["plate"] = grouped.obs["plate"].where(grouped.obs["plate"] != 2)
        with pytest.raises(ValueError, match="missing in 2 of 8 cells") as error:
            check_obs(grouped, "plate")
        assert "level of their own" not in str(error.value)
        names = {"adata": grouped}
        exec(str(error.value).splitlines()[-1], names)
        check_obs(names["adata"], "plate")

    def test_a_batch_for_every_cell_is_refused(self, grouped):
        grouped.obs["n_genes"] = np.linspace(0, 1, grouped.n_obs)
        expected = r"'n_genes' has 8 levels in 8 cells.*measurement.*the donor or sample"
        with pytest.raises(ValueError, match=expected):
            check_obs(grouped, "n_genes")
        check_obs(grouped, "n_genes", what="target_keys")

    def test_a_measurement_is_no_batch(self):
        # As many as one cell in three has a level of its own.
        values = np.random.default_rng(0).permutation(np.arange(300) % 100 / 10)
        adata = ad.AnnData(obs=pd.DataFrame({"pct_mito": values, "plate": np.arange(300) % 4}))
        with pytest.raises(ValueError, match="90 levels that are numbers with") as error:
            check_obs(adata, "pct_mito")
        assert "'plate' (4 levels)" in str(error.value)
        check_obs(adata, "pct_mito", what="target_keys")
        exec(str(error.value).splitlines()[-1], {"adata": adata})
        check_obs(adata, "pct_mito")

    def test_a_few_levels_with_fractions_are_doses(self):
        adata = ad.AnnData(obs=pd.DataFrame({"dose": [0.5, 1.0, 2.5] * 20}))
        check_obs(adata, "dose")

    def test_batches_of_few_cells_are_warned_of(self):
        many, few = (pd.Series(np.arange(300) % n, name="well") for n in (30, 60))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_small_batches(many, 1)
            with_unused = many.astype("category").cat.set_categories(range(300))
            warn_of_small_batches(with_unused, 1)
        with pytest.warns(UserWarning, match="Half of the 60 levels of 'well' have 5 cells"):
            warn_of_small_batches(few, 1)

    def test_one_level_says_why_two_are_needed(self, grouped):
        with pytest.raises(ValueError, match=r"1 level\(s\) \('one'\) in 8 cells.*random effect"):
            check_obs(grouped, "study")
        with pytest.raises(ValueError, match=r"^labels_key.*nothing to compare"):
            check_obs(grouped, "study", what="labels_key")
        check_obs(grouped, "study", min_levels=1)

    def test_categories_without_cells_do_not_count(self, grouped):
        with pytest.raises(ValueError, match=r"has 1 level\(s\) \('d1'\)"):
            check_obs(grouped[:4], "donor")

    def test_columns_of_scvi_are_not_offered(self):
        obs = pd.DataFrame({"donor": list("aabb"), "_scvi_batch": [0, 0, 1, 1]}, list("wxyz"))
        with pytest.raises(ValueError, match=r"group the cells: 'donor' \(2 levels\)\.$"):
            check_obs(ad.AnnData(obs=obs), "batch")


class TestNames:
    @pytest.mark.parametrize(
        ("axis", "message"), [("var_names", "2 of 4 genes"), ("obs_names", "2 of 4 cells")]
    )
    def test_duplicates_and_the_line_that_mends_them(self, axis, message):
        adata = ad.AnnData(np.zeros((4, 4), dtype=np.float32))
        check_names(adata)
        setattr(adata, axis, ["a", "b", "a", "c"])
        with pytest.raises(ValueError, match=f"{message} .*'a'") as error:
            check_names(adata)
        exec(str(error.value).splitlines()[-1], {"adata": adata})
        check_names(adata)
