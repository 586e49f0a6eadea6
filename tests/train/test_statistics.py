"""Statistics of the training cells against numpy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from scvi import REGISTRY_KEYS

from scmedal_tools.train import MedalDataSplitter, _statistics
from scmedal_tools.train._statistics import (
    ExpressionStatistics,
    check_statistics,
    training_statistics,
)

TRAIN = np.random.default_rng(1).permutation(240)[:150]


@pytest.fixture
def datamodule(build, monkeypatch):
    """Give a function from cells to the data module whose training cells are ``TRAIN``."""
    monkeypatch.setattr(_statistics, "CELLS_PER_CHUNK", 16)

    def datamodule(adata, **kwargs):
        rest = np.setdiff1d(np.arange(240), TRAIN)
        splitter = MedalDataSplitter(
            build("SCMEDAL_FE", adata).adata_manager,
            batch_size=32,
            external_indexing=[TRAIN, rest, []],
            **kwargs,
        )
        splitter.setup()
        return splitter

    return datamodule


def assert_numpy_agrees(statistics, adata):
    x = adata.X if isinstance(adata.X, np.ndarray) else adata.X.toarray()
    x = x[TRAIN].astype(np.float64)
    np.testing.assert_allclose(statistics.mean, x.mean(0), rtol=1e-9)
    np.testing.assert_allclose(statistics.variance, x.var(0), rtol=1e-9)
    assert (statistics.minimum, statistics.maximum) == (x.min(), x.max())
    donors = adata.obs["donor"].cat.codes.to_numpy()[TRAIN]
    np.testing.assert_array_equal(statistics.cells_per_batch, np.bincount(donors))
    entropy = stats.entropy(np.bincount(donors))
    assert statistics.batch_entropy == pytest.approx(entropy)


class TestValues:
    @pytest.mark.parametrize("form", ["csr", "csc", "dense"])
    def test_of_the_training_cells_only(self, adata, datamodule, form):
        adata.X = {"csr": adata.X, "csc": adata.X.tocsc(), "dense": adata.X.toarray()}[form]
        assert_numpy_agrees(training_statistics(datamodule(adata), [4]), adata)

    def test_large_means_do_not_cost_the_variance(self, adata, datamodule):
        module = datamodule(adata)
        adata.X = adata.X.toarray() + np.float32(1000)
        assert_numpy_agrees(training_statistics(module, [4]), adata)

    def test_a_constant_gene_has_variance_zero(self, adata, datamodule):
        adata.X = adata.X.toarray()
        adata.X[:, 3] = 0.1
        assert training_statistics(datamodule(adata), [4]).variance[3] == 0

    def test_minibatches_of_another_data_module(self, adata, datamodule):
        module = datamodule(adata, load_sparse_tensor=True)
        encoded = module.on_before_batch_transfer
        other = SimpleNamespace(
            train_dataloader=lambda: ({"raw": batch} for batch in module.train_dataloader()),
            on_before_batch_transfer=lambda batch, i: encoded(batch["raw"], i),
        )
        assert_numpy_agrees(training_statistics(other, [4]), adata)

    def test_entropy_without_a_cell_in_a_batch(self):
        statistics = ExpressionStatistics(0, 0, 0, 0, cells_per_level=[np.array([5, 0, 5])])
        assert statistics.batch_entropy == pytest.approx(np.log(2))


def statistics_with(variance, cells_per_batch=(3, 3)):
    return ExpressionStatistics(
        np.zeros(len(variance)), np.array(variance), 0.0, 1.0, [np.array(cells_per_batch)]
    )


class TestChecks:
    def test_nothing_varies(self):
        with pytest.raises(ValueError, match=r"No gene varies.*log-normalised"):
            check_statistics(statistics_with([0.0, 0.0]), "AB")

    def test_some_genes_do_not_vary(self):
        with pytest.warns(UserWarning, match=r"2 of 3 genes do not vary.*filter_genes"):
            check_statistics(statistics_with([0.0, 0.4, 0.0]), "AB")

    def test_batches_without_training_cells_are_named(self):
        with pytest.warns(UserWarning, match=r"2 of 4 batches .*: B, D\. .*stratified_split"):
            check_statistics(statistics_with([0.4], (3, 0, 1, 0)), "ABCD")

    @pytest.mark.filterwarnings("error")
    def test_good_cells_pass_silently(self):
        check_statistics(statistics_with([0.4, 0.1]), "AB")


def test_memory_by_columns_gives_the_same_bits():
    """As a slice of a CSC matrix has it: sums in another order differ in their last digits."""
    by_rows = torch.from_numpy(np.random.default_rng(0).gamma(1.0, size=(1_000, 30)))
    by_columns = by_rows.T.contiguous().T
    labels = torch.zeros(1_000, 1, dtype=torch.long)
    rows, columns = (
        _statistics._accumulate([{REGISTRY_KEYS.X_KEY: x, REGISTRY_KEYS.BATCH_KEY: labels}], [1])
        for x in (by_rows, by_columns)
    )
    np.testing.assert_array_equal(rows.mean, columns.mean)
    np.testing.assert_array_equal(rows.variance, columns.variance)
