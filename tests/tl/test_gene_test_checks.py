"""Gene tests warn by the cells that a model was trained on, not by those they are given."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import scmedal_tools as smt
from scmedal_tools.tl._training_cells import training_cells

MANY, FEW = ("donor_01", "donor_02"), ("donor_03", "donor_04", "donor_05")
OPTIONS = {"cells": 40, "n_samples": 2, "progress": False}
OF_TYPE = {"labels_key": "cell_type", "label": "type_1"}


@pytest.fixture(scope="module")
def pool():
    adata = smt.datasets.simulated(
        n_donors=5, n_genes=60, n_cell_types=2, confounding=0, cell_scale=3
    )
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    adata.obs["size"] = np.where(adata.obs["donor"].isin(MANY), "large", "small")
    return adata


def drawn(pool, of_many, of_few):
    """Cells of the two types, as many as said for the donors of each group."""
    cells = []
    for donors, numbers in ((MANY, of_many), (FEW, of_few)):
        for donor in donors:
            for i, n in enumerate(numbers):
                of_type = pool.obs["cell_type"] == f"type_{i + 1}"
                cells += list(pool.obs_names[of_type & (pool.obs["donor"] == donor)][:n])
    return pool[cells].copy()


@pytest.fixture(scope="module")
def of_sizes(fit, pool):
    """Twice as many training cells in the two donors of the smaller group."""
    return fit("SCMEDAL_RE", drawn(pool, (40, 40), (20, 20)))


@pytest.fixture(scope="module")
def of_types(fit, pool):
    """As many training cells in all donors, but of another type."""
    cells = drawn(pool, (50, 10), (10, 50))
    return fit("SCMEDAL_RE", cells, {"states_key": "cell_type"}, max_epochs=10)


def warned(model, adata, method="donor", **options):
    """Warnings of training cells."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        smt.tl.counterfactual_de(model, adata, "size", method=method, **OPTIONS, **options)
    messages = [str(w.message) for w in caught]
    return [m for m in messages if "p-values are too small here" in m]


@pytest.mark.parametrize("method", ["donor", "mannwhitney"])
def test_unequal_training_cells_are_warned_of_though_adata_is_balanced(of_sizes, pool, method):
    (message,) = warned(of_sizes, drawn(pool, (15, 15), (15, 15)), method)
    counts = re.search(r"The 2 donors .* have (\d+) training cells .* others (\d+)\. ", message)
    assert 65 <= int(counts[1]) <= 80
    assert 30 <= int(counts[2]) <= 40
    assert "train again on cells drawn so that donors have equal numbers." in message
    assert "mannwhitney" not in message


def test_cells_left_out_of_adata_are_no_cause(of_types, pool):
    assert warned(of_types, drawn(pool, (30, 30), (8, 8))) == []


@pytest.mark.slow
def test_large_donors_in_the_larger_group_are_no_cause(fit, pool):
    model = fit("SCMEDAL_RE", drawn(pool, (20, 20), (40, 40)))
    assert warned(model, model.adata) == []


def test_groups_as_large_as_each_other_are_no_cause(of_sizes):
    adata = of_sizes.adata[of_sizes.adata.obs["donor"] != "donor_05"].copy()
    assert warned(of_sizes, adata) == []


@pytest.mark.slow
def test_training_cells_of_the_type_count_where_one_is_named(of_types):
    (message,) = warned(of_types, of_types.adata, **OF_TYPE)
    assert re.search(r"have \d+ training cells that are like those of 'type_1'", message)
    assert "in all and of the type" in message
    assert warned(of_types, of_types.adata, **OF_TYPE | {"label": "type_2"}) == []
    assert warned(of_types, of_types.adata) == []


@pytest.mark.slow
def test_an_ensemble_counts_too(of_sizes, fit):
    other = fit("SCMEDAL_RE", of_sizes.adata.copy(), max_epochs=1)
    assert len(warned([of_sizes, other], of_sizes.adata)) == 1


class TestTrainingCells:
    @pytest.mark.slow
    @pytest.mark.parametrize("n_states", [0, 10])
    def test_of_a_model(self, fit, pool, n_states):
        model = fit("SCMEDAL_RE", drawn(pool, (30, 30), (20, 20)), model={"n_states": n_states})
        trained = model.adata.obs["donor"].iloc[model.train_indices].value_counts()
        assert training_cells(model).to_dict() == trained.to_dict()

    @pytest.mark.slow
    def test_of_a_loaded_model_and_a_queried_one(self, fit, pool, tmp_path):
        model = fit("SCMEDAL_RE", drawn(pool, (30, 30), (20, 20)))
        model.save(tmp_path / "model")
        loaded = smt.model.SCMEDAL_RE.load(tmp_path / "model", adata=False)
        pd.testing.assert_series_equal(training_cells(loaded), training_cells(model))
        new = drawn(pool, (12, 12), (0, 0))
        new.obs["donor"] = "donor_06"
        query = smt.model.SCMEDAL_RE.load_query_data(new, model)
        query.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
        expected = [*training_cells(model), new.n_obs]
        np.testing.assert_array_equal(training_cells(query), expected)

    def test_of_a_query_without_states_is_not_known(self, fit, pool):
        model = fit("SCMEDAL_RE", drawn(pool, (20, 20), (20, 20)), model={"n_states": 0})
        new = drawn(pool, (12, 12), (0, 0))
        new.obs["donor"] = "donor_06"
        query = smt.model.SCMEDAL_RE.load_query_data(new, model)
        assert training_cells(query).isna().all()


class TestDepth:
    """A group whose cells have more counts is warned of, with every method."""

    @staticmethod
    def messages(model, adata, what="counts", **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            smt.tl.counterfactual_de(model, adata, "size", **OPTIONS, **options)
        return [m for w in caught if f"times the {what}" in (m := str(w.message))]

    def test_of_one_group(self, of_sizes):
        adata = of_sizes.adata.copy()
        large = (adata.obs["size"] == "large").to_numpy()
        adata.layers["counts"] = adata.layers["counts"].toarray()
        adata.layers["counts"][large] *= 2
        (message,) = self.messages(of_sizes, adata)
        depth = pd.Series(adata.layers["counts"].sum(1)).groupby(adata.obs["donor"].to_numpy())
        medians = depth.mean().groupby(lambda donor: donor in MANY).median()
        ratio = medians[False] / medians[True]
        assert f"Cells of 'small' have {ratio:.2f} times the counts of those of 'large'" in message

    def test_alike(self, of_sizes):
        adata = of_sizes.adata.copy()
        adata.layers["counts"] = np.ones(adata.shape)
        assert not self.messages(of_sizes, adata)

    def test_without_counts_by_expressed_genes(self, of_sizes):
        adata = of_sizes.adata.copy()
        del adata.layers["counts"]
        expressed = (adata.X != 0).sum(1)
        expected = pd.Series(np.asarray(expressed).ravel()).groupby(adata.obs["donor"].to_numpy())
        medians = expected.mean().groupby(lambda donor: donor in MANY).median()
        beyond = not 0.8 <= medians[True] / medians[False] <= 1.25
        assert len(self.messages(of_sizes, adata)) == beyond

    def test_by_the_totals_of_all_genes_where_they_are_named(self, of_sizes):
        """The genes of the model are alike, and all genes are not."""
        adata = of_sizes.adata.copy()
        adata.layers["counts"] = np.ones(adata.shape)
        adata.obs["total"] = np.where(adata.obs["size"] == "large", 2.0, 1.0)
        (message,) = self.messages(of_sizes, adata, what="total", depth_key="total")
        assert "Cells of 'small' have 0.50 times the total of those of 'large'" in message
        adata.layers["counts"] = adata.obs["total"].to_numpy()[:, None] * np.ones(adata.shape)
        adata.obs["total"] = 1.0
        assert not self.messages(of_sizes, adata, what="", depth_key="total")
        with pytest.raises(ValueError, match="depth_key='none' is not a numeric column"):
            self.messages(of_sizes, adata, depth_key="none")
