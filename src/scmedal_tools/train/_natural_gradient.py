"""Natural-gradient steps for the posteriors of random effects, and the scales of their priors."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import torch

from scmedal_tools.module import mean_over_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from torch import Tensor

    from scmedal_tools.module import RandomEffects

# Batches below which the scale of their effects is too uncertain to be learned from them alone.
ENOUGH_BATCHES = 5
# Largest changes of a log posterior standard deviation in a step, and of a log prior variance for
# each of its minibatches.
MAX_LOG_CHANGE = 0.2
MAX_LOG_CHANGE_OF_PRIOR = 0.05
# Effects whose scale is this small are off.
MIN_PRIOR_SD = 1e-3
# Effects that a processor moves at once: what is computed of them stays in its cache.
EFFECTS_AT_ONCE = 2**17
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
    moves
        Whether the next step moves the effects, by the gradients of all steps since they last
        moved; if not, it only keeps its gradient. These minibatches share one draw.
    n_kept
        Number of gradients that are kept since the effects last moved.

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
        self.moves = True
        self.n_kept = 0
        for table in self.tables:
            table.natural = True
            table.averages_squares = table in of_genes

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients by which the effects have moved; those that are kept stay."""
        if self.n_kept == 0:
            super().zero_grad(set_to_none)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move all tables that have a gradient, as far as by a step for each minibatch.

        Unless ``moves`` is set, the gradient is only kept.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.n_kept += 1
        if not self.moves:
            return loss
        for table in self.tables:
            if table.loc.grad is not None:
                parts = _parts(table)
                for part in parts:
                    self._move_posterior(table, part)
                self._follow_squares(table)
                if table.log_prior_sd.requires_grad:
                    self._move_prior(table, parts)
            table.deviation = None  # of a draw that is done with
        self.n_kept = 0
        return loss

    def _move_posterior(self, table: RandomEffects, part: slice) -> None:
        rate = self._of_all_kept(self.param_groups[0]["lr"])
        assert table.loc.grad is not None
        assert table.deviation is not None  # of the draw that the gradient is of
        sd, loc = table.kept_sd[part], table.loc[part]
        by_draw = self.n_obs / self.n_kept * table.loc.grad[part]
        of_prior = self.kl_weight / table.prior_sd.square()
        variance = sd.square()
        by_log_sd = (variance * of_prior).sub_(self.kl_weight)
        by_log_sd.addcmul_(by_draw, table.deviation[part])
        change = torch.addcmul(by_draw, loc, of_prior).mul_(variance).mul_(rate)
        loc -= change.clamp_(-sd, sd)
        change = by_log_sd.mul_(-0.5 * rate).clamp_(-MAX_LOG_CHANGE, MAX_LOG_CHANGE)
        table.set_posterior_sd(change.exp_().mul_(sd), part)

    def _of_all_kept(self, share: float) -> float:
        """Share of the way that the kept minibatches go together, each of which goes ``share``."""
        return 1 - (1 - share) ** self.n_kept

    def _follow_squares(self, table: RandomEffects) -> None:
        if table.averages_squares and table.mean_square is not None:
            state = self.state[table.loc]
            # Of the sum over a batch's cells, in the mean over batches.
            square = mean_over_processes(table.mean_square) * self.n_obs / len(table.loc)
            if not state:
                state |= {"weight": torch.zeros_like(square), "square": torch.zeros_like(square)}
            # In place, so that a GPU can repeat a step that was recorded.
            new = self._of_all_kept(NEW)
            state["weight"].mul_(1 - new).add_(new)
            state["square"].mul_(1 - new).add_(new * square)

    def _move_prior(self, table: RandomEffects, parts: Sequence[slice]) -> None:
        if not self.settles or len(table.loc) < ENOUGH_BATCHES:
            table.log_prior_sd.copy_(0.5 * _best_prior_variance(table).log())
            return
        before = table.prior_sd.square()
        known = [_known_of_data(table, part, before) for part in parts]
        state = self.state[table.loc]
        noise: Tensor | float = 1.0
        if "square" in state:
            precision = torch.stack([precision.sum() for _, precision in known]).sum()
            mean = (precision / table.loc.numel()).clamp_min(1e-12)
            noise = state["square"] / state["weight"] / mean
        change = marginal_change(known, before, noise)
        largest = self.n_kept * MAX_LOG_CHANGE_OF_PRIOR
        change = change.clamp(-largest, largest)
        variance = (before * change.exp()).clamp_min(MIN_PRIOR_SD**2)
        table.log_prior_sd.copy_(0.5 * variance.log())
        # The data's part of the posteriors stays.
        for part, (natural_mean, precision) in zip(parts, known, strict=True):
            precision += variance.reciprocal()
            table.loc[part] = natural_mean.div_(precision)
            table.set_posterior_sd(precision.rsqrt_(), part)


def _parts(table: RandomEffects) -> list[slice]:
    """Batches whose effects are learned, as many at once as is quickest."""
    first, n_batch = table.learned.start or 0, len(table.loc)
    at_once = n_batch
    if table.loc.device.type == "cpu":
        at_once = max(1, EFFECTS_AT_ONCE // table.loc.shape[1])
    starts = range(first, n_batch, at_once)
    return [slice(start, min(start + at_once, n_batch)) for start in starts]


def _known_of_data(
    table: RandomEffects, part: slice, prior_variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Natural mean and precision of the effects by the data alone."""
    precision = table.kept_sd[part].square().reciprocal_()
    natural_mean = precision * table.loc[part]
    return natural_mean, (precision - prior_variance.reciprocal()).clamp_min_(0)


def _best_prior_variance(table: RandomEffects) -> Tensor:
    """Prior variance that minimises the divergence of the posterior from it.

    With fewer than five batches the missing ones count as if their effects had the starting scale:
    an inverse gamma prior on the variance, which holds it near the start.
    """
    n_batch = table.loc.shape[0]
    missing = max(0, ENOUGH_BATCHES - n_batch)
    seen = table.kept_sd.square().mean() + table.loc.square().mean()
    return (n_batch * seen + missing * table.start.prior_sd**2) / (n_batch + missing)


def marginal_change(
    known: Iterable[tuple[Tensor, Tensor]], variance: Tensor, noise: Tensor | float = 1.0
) -> Tensor:
    r"""Change of the log prior variance by one step of Fisher scoring.

    The data say of each effect that it is :math:`y = h / \lambda` with variance
    :math:`\phi / \lambda`. Over effects from :math:`N(0, \tau^2)` the marginal likelihood is
    :math:`h \sim N(0, \lambda^2 \tau^2 + \phi \lambda)`.

    Parameters
    ----------
    known
        :math:`h` and :math:`\lambda` of the effects, in parts.
    variance
        The present :math:`\tau^2`.
    noise
        :math:`\phi`, the variance of the data beyond that of the likelihood.

    Returns
    -------
    The change; not below that to a hundred-millionth of the variance.
    """
    information, score = torch.zeros(2, dtype=variance.dtype, device=variance.device)
    for natural_mean, precision in known:
        # The derivative of the marginal variance, over that variance; 0 without data.
        share = precision / (precision.square() * variance + noise * precision).clamp_min(1e-12)
        of_data = precision * share
        information += of_data.square().sum()
        score += ((natural_mean * share).square_() - of_data).sum()
    step = score / information.clamp_min(1e-12)
    return torch.log((1 + step / variance).clamp_min(1e-8))
