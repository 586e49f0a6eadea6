"""Natural-gradient steps for the posteriors of random effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scmedal_tools.module._reden import RandomEffects

# Batches below which the scale of their effects is too uncertain to be learned from them alone.
ENOUGH_BATCHES = 5
# Largest change of a log standard deviation in a step, so that a bad start does no harm.
MAX_LOG_CHANGE = 0.2


class NaturalGradient(torch.optim.Optimizer):
    r"""Moves Gaussian posteriors along the natural gradient, and prior scales to their optimum.

    With a posterior :math:`N(m, s^2)` and the objective :math:`L` in nats of all cells, the steps
    are :math:`m \leftarrow m - \rho s^2 \partial L / \partial m` and
    :math:`\log s \leftarrow \log s - \frac{\rho}{2} \partial L / \partial \log s`: data and prior
    pull in proportion to what they are worth, and an effect that the data do not determine goes to
    its prior. Adam, which gives all gradients the same size, lets such effects drift with the
    noise of the minibatches. The prior's scale has a closed form,
    :math:`\tau^2 = \overline{m^2 + s^2}`.

    Parameters
    ----------
    tables
        Random effects to learn.
    lr
        Step size :math:`\rho`, between 0 and 1.
    n_obs
        Number of training cells: the loss is a mean over cells.

    References
    ----------
    Hoffman et al., Stochastic variational inference, JMLR 2013; Khan and Rue, The Bayesian
    learning rule, JMLR 2023.
    """

    def __init__(self, tables: Iterable[RandomEffects], lr: float, n_obs: int):
        self.tables = list(tables)
        super().__init__([p for table in self.tables for p in table.parameters()], {"lr": lr})
        self.n_obs = n_obs

    @torch.no_grad()
    def step(self, closure=None) -> float | None:
        """Move all tables that have a gradient by one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rate = self.param_groups[0]["lr"]
        for table in self.tables:
            if table.loc.grad is None:
                continue
            sd = table.posterior_sd
            change = rate * sd.square() * self.n_obs * table.loc.grad
            table.loc -= change.clamp(-sd, sd)
            by_log_sd = self.n_obs * table.rho.grad * sd / torch.sigmoid(table.rho)
            change = (0.5 * rate * by_log_sd).clamp(-MAX_LOG_CHANGE, MAX_LOG_CHANGE)
            table.set_posterior_sd(sd * torch.exp(-change))
            if table.log_prior_sd.requires_grad:
                table.log_prior_sd.copy_(0.5 * best_prior_variance(table).log())
        return loss


def best_prior_variance(table: RandomEffects) -> torch.Tensor:
    """Prior variance that minimises the divergence of the posterior from it.

    With fewer than five batches the missing ones count as if their effects had the starting scale:
    an inverse gamma prior on the variance, which holds it near the start.
    """
    n_batch = table.loc.shape[0]
    missing = max(0, ENOUGH_BATCHES - n_batch)
    seen = (table.loc.square() + table.posterior_sd.square()).mean()
    return (n_batch * seen + missing * table.start["prior_sd"] ** 2) / (n_batch + missing)
