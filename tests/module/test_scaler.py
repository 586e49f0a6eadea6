"""Scaling against numpy, for dense and sparse input."""

import numpy as np
import pytest
import torch

from scmedal_tools.module import ExpressionStatistics
from scmedal_tools.module._scaler import ExpressionScaler


@pytest.fixture
def x():
    """Sparse expression of 50 cells, whose last gene does not vary."""
    rng = np.random.default_rng(0)
    x = np.log1p(rng.poisson(rng.uniform(0.5, 3, size=8), size=(50, 8))).astype(np.float32)
    x[:, -1] = 0.7
    return x


@pytest.fixture(params=["centred", "minmax"])
def scaler(request, x):
    scaler = ExpressionScaler(8, request.param)
    x = x.astype(np.float64)
    statistics = ExpressionStatistics(
        mean=x.mean(0),
        variance=x.var(0),
        minimum=x.min(),
        maximum=x.max(),
        cells_per_level=[np.array([50])],
    )
    scaler.fit(statistics)
    return scaler


def test_scaled_values(x, scaler):
    scaled = scaler(torch.as_tensor(x)).numpy()
    if scaler.scaling == "centred":
        np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-6)
        assert scaled.var(0).mean() == pytest.approx(1, rel=1e-5)
        assert (scaled[:, -1] == 0).all()
    else:
        assert scaled.min() == 0
        assert scaled.max() == 1
        assert len(np.unique(scaled[x == x[0, 0]])) == 1


def test_cells_that_arrive_by_columns_leave_by_rows(x, scaler):
    """Masks of dropout and sums of rounded numbers follow the order in memory."""
    by_rows = torch.as_tensor(x)
    by_columns = by_rows.t().contiguous().t()
    assert not by_columns.is_contiguous()
    assert scaler(by_columns).is_contiguous()
    torch.testing.assert_close(scaler(by_columns), scaler(by_rows), rtol=0, atol=0)


def test_genes_keep_their_relative_variance(x, scaler):
    scaled = scaler(torch.as_tensor(x)).numpy()
    ratio = scaled.var(0)[:-1] / x.var(0)[:-1]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


@pytest.mark.parametrize("layout", ["to_sparse_csr", "to_sparse_csc", "to_sparse_coo"])
def test_sparse_input_equals_dense(x, scaler, layout):
    dense = torch.as_tensor(x)
    assert torch.equal(scaler(getattr(dense, layout)()), scaler(dense))


def test_inverse(x, scaler):
    x = torch.as_tensor(x)
    torch.testing.assert_close(scaler.inverse(scaler(x)), x)


def test_constant_gene_stays_finite(x, scaler):
    x = torch.as_tensor(x)
    x[:, -1] = 5.0
    assert scaler(x).isfinite().all()


def test_is_saved(x, scaler):
    other = ExpressionScaler(8, scaler.scaling)
    other.load_state_dict(scaler.state_dict())
    x = torch.as_tensor(x)
    assert torch.equal(other(x), scaler(x))
    assert not list(scaler.parameters())
