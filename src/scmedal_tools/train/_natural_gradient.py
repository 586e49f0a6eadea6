"""Natural-gradient steps for the posteriors of random effects, and the scales of their priors."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import torch

from scmedal_tools.module import mean_over_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from torch import Tensor

    from scmedal_tools.module import RandomEffects

# Batches below which the scale of their effects is too uncertain to be learned from them alone.
ENOUGH_BATCHES = 5
# Largest changes of a log posterior standard deviation, and of a log prior variance, in a step.
MAX_LOG_CHANGE = 0.2
MAX_LOG_CHANGE_OF_PRIOR = 0.05
# Effects whose scale is this small are off.
MIN_PRIOR_SD = 1e-3
# Weight of a minibatch in the moving average of squared derivatives.
NEW = 5e-3


class NaturalGradient(torch.optim.Optimizer):
    r"""Moves Gaussian posteriors along the natural gradient, and prior scales to their optimum.

    With a posterior :math:`N(m, s^2)` and the objective :math:`L` in nats of all cells, the steps
    are :math:`m \leftarrow m - \rho s^2 \partial L / \partial m` and
    :math:`\log s \leftarrow \log s - \frac{\rho}{2} \partial L / \partial \log s`: data and prior
    pull in proportion to what they are worth, and an effect that the data do not determine goes to
    its prior. Adam, which gives all gradients the same size, lets such effects drift with the
    noise of the minibatches.

    The prior's scale first follows :math:`\tau^2 = \overline{m^2 + s^2}`, the optimum for the
    present posteriors, which never lets go of effects that the first noisy steps have made. Once
    ``settles`` is set it moves to the maximum of the marginal likelihood
    (``marginal_change``), which is zero for effects that are not there.

    Parameters
    ----------
    tables
        Random effects to learn.
    lr
        Step size :math:`\rho`, between 0 and 1.
    n_obs
        Number of training cells: the loss is a mean over cells.
    kl_weight
        Weight of the divergence of the posteriors from the prior, whose gradient is known: that of
        the loss is without it.
    of_genes
        Those of the tables that act on genes. Residuals of a gene vary most where it is expressed,
        against which the noise of the likelihood is constant: the scale of these effects is
        compared with how much the cells' derivatives vary. Their posteriors are not.

    Attributes
    ----------
    settles
        Whether the prior's scale moves to the maximum of the marginal likelihood. With fewer than
        five batches it never does.

    References
    ----------
    Hoffman et al., Stochastic variational inference, JMLR 2013; Khan and Rue, The Bayesian
    learning rule, JMLR 2023.
    """

    def __init__(
        self,
        tables: Iterable[RandomEffects],
        lr: float,
        n_obs: int,
        of_genes: Collection[RandomEffects] = (),
        kl_weight: float = 1.0,
    ):
        self.tables = list(tables)
        super().__init__([p for table in self.tables for p in table.parameters()], {"lr": lr})
        self.n_obs = n_obs
        self.kl_weight = kl_weight
        self.settles = False
        for table in self.tables:
            table.natural = True
            table.averages_squares = table in of_genes

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move all tables that have a gradient by one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for table in self.tables:
            if table.loc.grad is not None:
                self._move_posterior(table, self.n_obs * table.loc.grad)
                self._follow_squares(table)
                if table.log_prior_sd.requires_grad:
                    self._move_prior(table)
            table.deviation = None  # of a draw that is done with
        return loss

    def _move_posterior(self, table: RandomEffects, by_draw: Tensor) -> None:
        rate, learned = self.param_groups[0]["lr"], table.learned
        sd, loc, by_draw = table.posterior_sd[learned], table.loc[learned], by_draw[learned]
        assert table.deviation is not None  # of the draw that the gradient is of
        of_prior = self.kl_weight / table.prior_sd.square()
        variance = sd.square()
        by_log_sd = (variance * of_prior).sub_(self.kl_weight)
        by_log_sd.addcmul_(by_draw, table.deviation[learned])
        change = torch.addcmul(by_draw, loc, of_prior).mul_(variance).mul_(rate)
        loc -= change.clamp_(-sd, sd)
        change = by_log_sd.mul_(-0.5 * rate).clamp_(-MAX_LOG_CHANGE, MAX_LOG_CHANGE)
        table.set_posterior_sd(sd.mul_(change.exp_()), learned)

    def _follow_squares(self, table: RandomEffects) -> None:
        if table.averages_squares and table.mean_square is not None:
            state = self.state[table.loc]
            # Of the sum over a batch's cells, in the mean over batches.
            square = mean_over_processes(table.mean_square) * self.n_obs / len(table.loc)
            if not state:
                state |= {"weight": torch.zeros_like(square), "square": torch.zeros_like(square)}
            # In place, so that a GPU can repeat a step that was recorded.
            state["weight"].mul_(1 - NEW).add_(NEW)
            state["square"].mul_(1 - NEW).add_(NEW * square)

    def _move_prior(self, table: RandomEffects) -> None:
        if not self.settles or len(table.loc) < ENOUGH_BATCHES:
            table.log_prior_sd.copy_(0.5 * best_prior_variance(table).log())
            return
        prior_precision = table.prior_sd.square().reciprocal()
        precision = table.posterior_sd.square_().reciprocal_()
        of_data = (precision - prior_precision).clamp_min_(0)
        natural_mean = precision * table.loc
        state = self.state[table.loc]
        noise: Tensor | float = 1.0
        if "square" in state:
            noise = state["square"] / state["weight"] / of_data.mean().clamp_min(1e-12)
        change = marginal_change(natural_mean, of_data, prior_precision.reciprocal(), noise)
        variance = prior_precision.reciprocal() * torch.exp(
            change.clamp(-MAX_LOG_CHANGE_OF_PRIOR, MAX_LOG_CHANGE_OF_PRIOR)
        )
        variance = variance.clamp_min(MIN_PRIOR_SD**2)
        table.log_prior_sd.copy_(0.5 * variance.log())
        # The data's part of the posteriors stays.
        precision = of_data + variance.reciprocal()
        table.set_posterior_sd(precision.rsqrt())
        table.loc.copy_(natural_mean / precision)


def best_prior_variance(table: RandomEffects) -> Tensor:
    """Prior variance that minimises the divergence of the posterior from it.

    With fewer than five batches the missing ones count as if their effects had the starting scale:
    an inverse gamma prior on the variance, which holds it near the start.
    """
    n_batch = table.loc.shape[0]
    missing = max(0, ENOUGH_BATCHES - n_batch)
    seen = (table.posterior_sd.square_() + table.loc.square()).mean()
    return (n_batch * seen + missing * table.start.prior_sd**2) / (n_batch + missing)


def marginal_change(
    natural_mean: Tensor, precision: Tensor, variance: Tensor, noise: Tensor | float = 1.0
) -> Tensor:
    r"""Change of the log prior variance by one step of Fisher scoring.

    The data say of each effect that it is :math:`y = h / \lambda` with variance
    :math:`\phi / \lambda`. Over effects from :math:`N(0, \tau^2)` the marginal likelihood is
    :math:`h \sim N(0, \lambda^2 \tau^2 + \phi \lambda)`.

    Parameters
    ----------
    natural_mean, precision
        :math:`h` and :math:`\lambda` of each effect.
    variance
        The present :math:`\tau^2`.
    noise
        :math:`\phi`, the variance of the data beyond that of the likelihood.

    Returns
    -------
    The change; not below that to a hundred-millionth of the variance.
    """
    marginal = (precision.square() * variance + noise * precision).clamp_min(1e-12)
    weight = (precision / marginal).square()
    information = (precision.square() * weight).sum().clamp_min(1e-12)
    step = (weight * (natural_mean.square() - marginal)).sum() / information
    return torch.log((1 + step / variance).clamp_min(1e-8))
