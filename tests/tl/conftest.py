"""Models that tests share."""

import numpy as np
import pytest
import torch

from .stored import TARGETS


@pytest.fixture
def known_effects(fit, cells):
    """Model that only adds a number for each batch and gene, and the posterior of these numbers.

    Means and standard deviations are batches x genes, in log-expression. Every second
    gene has the same expression in all cells of a batch.
    """
    model = fit("SCMEDAL_RE", cells.copy(), model={"n_states": 0})
    module, rng = model.module, np.random.default_rng(0)
    for table in module.effect_tables.values():
        table.loc.data.zero_()
        table.rho.data.fill_(-20)
    bias = module.output.bias
    loc, sd = rng.normal(0, 1, bias.loc.shape), rng.uniform(0.1, 1, bias.loc.shape)
    bias.loc.data.copy_(torch.from_numpy(loc))
    bias.set_posterior_sd(torch.from_numpy(sd).to(bias.loc))
    module.output.dense.weight.data[::2] = 0
    scale = float(module.scaler.scale)
    return model, scale * loc, scale * sd


@pytest.fixture(scope="session")
def trained(fit, cells):
    """Trained long enough for its effects to differ; tests leave it as it is."""
    return fit("SCMEDAL_RE", cells.copy(), max_epochs=8)


@pytest.fixture(scope="session")
def re(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


@pytest.fixture
def write(re, monkeypatch):
    """Write into a file, in blocks of 50 cells."""
    from scmedal_tools import tl
    from scmedal_tools.tl import _write_counterfactuals

    monkeypatch.setattr(_write_counterfactuals, "CELLS_PER_BLOCK", 50)

    def write(path, **kwargs):
        options = {"adata": re.adata, "transform_batch": TARGETS, "progress": False} | kwargs
        return tl.write_counterfactuals(re, path=path, **options)

    return write


@pytest.fixture
def computed(re, monkeypatch):
    """Number of cells in each minibatch that has been encoded; raises at a minibatch if told."""
    from scmedal_tools.tl import _write_counterfactuals

    sizes, infer = [], re._infer
    sizes_before_failure = []

    def counted(tensors, draw=None):
        if sum(sizes) in sizes_before_failure:
            sizes_before_failure.clear()
            raise KeyboardInterrupt
        sizes.append(len(tensors["X"]))
        return infer(tensors, draw)

    monkeypatch.setattr(re, "_infer", counted)
    # Which encodes cells of its own.
    monkeypatch.setattr(_write_counterfactuals, "warn_of_extrapolation", lambda *_: None)
    counted.sizes, counted.stop_after = sizes, sizes_before_failure.append
    return counted
