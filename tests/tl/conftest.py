"""A model whose effects are known."""

import numpy as np
import pytest
import torch


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
