"""Scores of embeddings, against scikit-learn on the same cells."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn import metrics
from sklearn.neighbors import NearestNeighbors

from scmedal_tools import bm
from scmedal_tools.bm._scores import _silhouette
from scmedal_tools.bm._scores._silhouette import Grouping, silhouette_widths

ARGUMENTS = {"batch_key": "donor", "labels_key": "cell_type"}


@pytest.fixture
def adata():
    """300 cells of four donors and three types, far from the origin; donor d is rare."""
    rng = np.random.default_rng(0)
    donor = rng.choice(list("abcd"), 300, p=[0.4, 0.3, 0.25, 0.05])
    cell_type = rng.choice(["T", "B", "NK"], 300, p=[0.5, 0.3, 0.2])
    cell_type[donor == "c"] = "T"
    latent = rng.normal(100, 1, (300, 5))
    latent[:, 0] += 3 * (donor == "a")
    latent[:, 1] += 4 * (cell_type == "T")
    obs = pd.DataFrame(
        {"donor": donor, "cell_type": cell_type}, index=[f"c{i}" for i in range(300)]
    )
    obsm = {"X_one": latent.astype(np.float32), "X_two": rng.normal(size=(300, 2))}
    return AnnData(obs=obs, obsm=obsm)


def by_sklearn(x, clusters):
    return {
        "ASW": metrics.silhouette_score(x, clusters),
        "CH": metrics.calinski_harabasz_score(x, clusters),
        "1/DB": 1 / metrics.davies_bouldin_score(x, clusters),
    }


def values_of(table, of, embedding="X_one"):
    chosen = table[(table["of"] == of) & (table["embedding"] == embedding)]
    return dict(zip(chosen["metric"], chosen["value"], strict=True))


@pytest.mark.parametrize("chunk", [1, 7000, 2**20])
class TestAgainstSklearn:
    """In chunks of one cell, of some, and of all."""

    @pytest.fixture(autouse=True)
    def _chunks(self, chunk, monkeypatch):
        monkeypatch.setattr(_silhouette, "CHUNK", chunk)

    @pytest.mark.parametrize(("of", "column"), [("batch", "donor"), ("label", "cell_type")])
    def test_of_all_cells(self, adata, of, column):
        table = bm.scores(adata, ["X_two", "X_one"], **ARGUMENTS, max_cells=None)
        x = adata.obsm["X_one"].astype(float)
        assert values_of(table, of) == pytest.approx(by_sklearn(x, adata.obs[column]), abs=1e-8)

    def test_within_labels_is_the_mean_over_labels_of_batches_with_ten_cells(self, adata):
        sizes = adata.obs.value_counts()
        assert (sizes < 10).any()  # donor d
        expected = []
        for label in ("T", "B", "NK"):
            large = [donor for donor in "abcd" if sizes.get((donor, label), 0) >= 10]
            cells = (adata.obs["cell_type"] == label) & adata.obs["donor"].isin(large)
            x = adata.obsm["X_one"][cells].astype(float)
            expected.append(by_sklearn(x, adata.obs["donor"][cells]))
        table = bm.scores(adata, ["X_one"], **ARGUMENTS)
        found = values_of(table, "batch within label")
        assert found == pytest.approx(dict(pd.DataFrame(expected).mean()), abs=1e-8)

    def test_width_of_every_cell(self, adata):
        # A cell that is alone in its cluster has width 0.
        clusters = adata.obs["donor"].astype(object).to_numpy().copy()
        clusters[17] = "alone"
        x = adata.obsm["X_two"]
        (widths,) = silhouette_widths(x, [Grouping.of(clusters)])
        np.testing.assert_allclose(widths, metrics.silhouette_samples(x, clusters), atol=1e-10)
        assert widths[17] == 0


class TestCells:
    def test_drawn_cells_are_the_same_for_all_embeddings(self, adata):
        both = bm.scores(adata, ["X_two", "X_one"], **ARGUMENTS, max_cells=90)
        alone = bm.scores(adata, ["X_one"], **ARGUMENTS, max_cells=90)
        pd.testing.assert_frame_equal(
            both.query("embedding == 'X_one'").reset_index(drop=True), alone
        )
        adata.obsm["X_copy"] = adata.obsm["X_one"]
        copy = bm.scores(adata, ["X_two", "X_copy"], **ARGUMENTS, max_cells=90)
        for of in ("batch", "label"):
            assert values_of(copy, of, "X_copy") == values_of(alone, of)

    def test_seed_decides_the_draw(self, adata):
        first, again, other = (
            bm.scores(adata, ["X_one"], **ARGUMENTS, max_cells=90, seed=seed) for seed in (3, 3, 4)
        )
        pd.testing.assert_frame_equal(first, again)
        assert (first["value"] != other["value"]).all()

    def test_global_generator_is_left_alone(self, adata):
        np.random.seed(0)
        expected = np.random.random()
        np.random.seed(0)
        bm.scores(adata, ["X_one"], **ARGUMENTS, max_cells=90)
        assert np.random.random() == expected

    def test_indices_score_these_cells(self, adata):
        cells = np.random.default_rng(1).permutation(300)[:120]
        table = bm.scores(adata, ["X_one"], **ARGUMENTS, indices=cells)
        subset = bm.scores(adata[np.sort(cells)], ["X_one"], **ARGUMENTS)
        pd.testing.assert_frame_equal(table, subset)

    def test_draw_is_made_among_the_indices(self, adata):
        cells = np.flatnonzero(adata.obs["donor"].isin(["a", "b"]))
        adata.obsm["X_one"][np.setdiff1d(np.arange(300), cells)] = np.nan
        table = bm.scores(adata, ["X_one"], **ARGUMENTS, indices=cells, max_cells=90)
        assert table["value"].notna().all()

    def test_order_of_the_cells_does_not_matter(self, adata):
        shuffled = adata[np.random.default_rng(2).permutation(300)].copy()
        tables = [bm.scores(cells, ["X_one"], **ARGUMENTS) for cells in (adata, shuffled)]
        pd.testing.assert_frame_equal(*tables)

    def test_inputs_are_not_changed(self, adata):
        before = adata.copy()
        bm.scores(adata, ["X_one", "X_two"], **ARGUMENTS)
        pd.testing.assert_frame_equal(adata.obs, before.obs)
        assert set(adata.obsm) == set(before.obsm)
        for key in before.obsm:
            np.testing.assert_array_equal(adata.obsm[key], before.obsm[key])
        assert not adata.uns


class TestNothingToCompare:
    def test_no_label_with_two_batches(self, adata):
        adata.obs["cell_type"] = adata.obs["donor"].astype(str)
        table = bm.scores(adata, ["X_one"], **ARGUMENTS)
        assert np.isnan(list(values_of(table, "batch within label").values())).all()
        assert table.query("of != 'batch within label'")["value"].notna().all()

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_collapsed_embedding(self, adata):
        adata.obsm["X_one"][:] = 2.5
        found = values_of(bm.scores(adata, ["X_one"], **ARGUMENTS), "batch")
        assert found["ASW"] == 0
        assert np.isnan([found["CH"], found["1/DB"]]).all()


class TestErrors:
    def test_unknown_embedding(self, adata):
        with pytest.raises(KeyError, match=r"'X_pca'.*X_one.*X_two"):
            bm.scores(adata, ["X_pca", "X_one"], **ARGUMENTS)

    @pytest.mark.parametrize(
        ("embeddings", "message"), [("X_one", r"write \['X_one'\]"), ([], "one embedding or more")]
    )
    def test_no_list_of_embeddings(self, adata, embeddings, message):
        with pytest.raises(ValueError, match=message):
            bm.scores(adata, embeddings, **ARGUMENTS)

    def test_missing_values(self, adata):
        adata.obsm["X_two"][[3, 5]] = np.nan
        with pytest.raises(ValueError, match=r"X_two.*missing or infinite values in 2 of 300"):
            bm.scores(adata, ["X_two"], **ARGUMENTS)

    def test_unknown_column(self, adata):
        with pytest.raises(ValueError, match=r"labels_key='type'.*'donor' \(4 levels\)"):
            bm.scores(adata, ["X_one"], "donor", "type")

    @pytest.mark.parametrize("indices", [[0, 300], [-1, 3], [2, 2], [True] * 300, []])
    def test_indices_that_are_no_positions(self, adata, indices):
        with pytest.raises(ValueError, match=r"from 0 to 299 and each once.*flatnonzero"):
            bm.scores(adata, ["X_one"], **ARGUMENTS, indices=indices)

    def test_one_batch_among_the_cells(self, adata):
        cells = np.flatnonzero(adata.obs["donor"] == "a")
        table = bm.scores(adata, ["X_one"], **ARGUMENTS, indices=cells)
        of_label = table["of"] == "label"
        assert table.loc[of_label, "value"].notna().all()
        assert table.loc[~of_label, "value"].isna().all()

    def test_cells_that_are_all_batches_of_their_own(self, adata):
        cells = [np.flatnonzero(adata.obs["donor"] == name)[0] for name in "ab"]
        with pytest.raises(ValueError, match=r"2 level\(s\) of 'donor'.*other cells"):
            bm.scores(adata, ["X_one"], **ARGUMENTS, indices=cells)


class TestScib:
    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    def test_suite(self, adata, scib_metrics, monkeypatch):
        """Mixed donors and separate types score high; so high is good in all of them."""
        nearest_neighbors = scib_metrics.nearest_neighbors

        def exact(x, n_neighbors, **_):  # in place of the search in trees
            search = NearestNeighbors(n_neighbors=n_neighbors).fit(x)
            distances, indices = search.kneighbors(x)
            return nearest_neighbors.NeighborsResults(indices, distances)

        monkeypatch.setattr(nearest_neighbors, "pynndescent", exact)
        rng = np.random.default_rng(0)
        adata.obs["donor"] = rng.choice(["a", "b"], 300)
        adata.obs["cell_type"] = np.where(np.arange(300) < 150, "T", "B")
        good = rng.normal(size=(300, 3))
        good[:150, 0] += 30
        bad = rng.normal(size=(300, 3))
        bad[adata.obs["donor"] == "a", 0] += 30
        adata.obsm["X_good"], adata.obsm["X_bad"] = good, bad
        table = bm.scores(adata, ["X_good", "X_bad"], **ARGUMENTS, scib=True)
        suite = table[~table["metric"].isin(["ASW", "CH", "1/DB"])]
        values = suite.set_index(["metric", "of", "embedding"])["value"].unstack()
        assert set(values.index) == {
            ("iLISI", "batch"),
            ("BRAS", "batch within label"),
            ("kBET", "batch within label"),
            ("cLISI", "label"),
            ("graph connectivity", "label"),
            ("isolated labels", "label"),
        }
        assert values.ge(0).all(axis=None)
        assert values.le(1 + 1e-6).all(axis=None)
        assert (values["X_good"] > values["X_bad"]).all()
        with pytest.raises(ValueError, match="90 neighbours"):
            bm.scores(adata, ["X_good"], **ARGUMENTS, scib=True, max_cells=90)

    def test_missing_package(self, adata, monkeypatch):
        monkeypatch.setitem(sys.modules, "scib_metrics", None)
        with pytest.raises(ImportError, match=r'pip install "\.\[benchmark\]"'):
            bm.scores(adata, ["X_one"], **ARGUMENTS, scib=True)
