"""A table of effects in a conjugate Gaussian model, and a step towards its posterior."""

import numpy as np
import torch

from scmedal_tools.module import EffectsSettings, RandomEffects

N_UNITS, NOISE, PRIOR_SD = 4, 0.5, 0.7
CELLS_PER_BATCH = [40, 3, 11, 0, 25, 1]
N_CELLS, N_BATCH = sum(CELLS_PER_BATCH), len(CELLS_PER_BATCH)


def close(ours, expected, tolerance=1e-4):
    np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


def make_table(n_batch=N_BATCH, **changes):
    settings = {"prior_sd": PRIOR_SD, "learn_prior": False, "posterior_sd": 0.2, "mean_sd": 0.5}
    return RandomEffects(n_batch, N_UNITS, EffectsSettings(**settings | changes))


def with_posterior(mean, sd, **changes):
    table = make_table(len(mean), **changes)
    table.loc.data = torch.as_tensor(mean, dtype=torch.float32)
    table.set_posterior_sd(torch.as_tensor(sd, dtype=torch.float32))
    return table


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    for table in optimizer.tables:
        if table.rho.grad is not None:  # exact: as of a draw that deviates by so much
            by_log_sd = table.rho.grad * table.posterior_sd / torch.sigmoid(table.rho)
            table.deviation = (by_log_sd / table.loc.grad).detach().nan_to_num(0, 0, 0)
    optimizer.step()
