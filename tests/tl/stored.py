"""Counterfactuals on disk: how they are asked for, interrupted, read and compared."""

import anndata as ad
import numpy as np
import pytest

TARGETS = ["donor_03", "population", "donor_01"]


def interrupted(write, computed, path, **kwargs):
    """Interrupt a call when it has finished 100 cells and encoded 20 more."""
    computed.stop_after(120)
    with pytest.raises(KeyboardInterrupt):
        write(path, **kwargs, batch_size=20)
    assert sum(computed.sizes) == 120
    computed.sizes.clear()


def layers(path):
    return {name: array[:] for name, array in ad.read_zarr(path).layers.items()}


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
