"""Random effects of a batch and the dense block that carries them (REDEN)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from ._layers import Normalization, normalization_layer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Keeps a posterior proper however small its softplus becomes.
MIN_POSTERIOR_SD = 1e-5
# Largest common effect that is moved at once.
MAX_COMMON = 0.1
# Effects that the data determine less than this, summed over batches, have no common part.
MIN_SHARE_OF_DATA = 0.1


class RandomEffects(nn.Module):
    r"""Table of batch-specific effects with an independent Gaussian posterior for each entry.

    The effect of batch :math:`k` on unit :math:`j` has the prior :math:`N(0, \sigma^2)` and the
    variational posterior :math:`N(m_{kj}, s_{kj}^2)` (scMEDAL, section 4.2.2, Eq. 6).

    Parameters
    ----------
    n_batch
        Number of batches, :math:`K`.
    n_units
        Number of units that the effects act on.
    prior_sd
        Standard deviation of the prior; the starting value if it is learned.
    learn_prior
        Whether the prior's standard deviation is learned, one for the whole table.
    posterior_sd
        Standard deviation of every posterior at the start.
    mean_sd
        Standard deviation of the normal distribution that the posterior means start from.
    """

    def __init__(
        self,
        n_batch: int,
        n_units: int,
        *,
        prior_sd: float,
        learn_prior: bool,
        posterior_sd: float,
        mean_sd: float,
    ):
        super().__init__()
        self.loc = nn.Parameter(mean_sd * torch.randn(n_batch, n_units))
        self.rho = nn.Parameter(torch.empty(n_batch, n_units))
        self.set_posterior_sd(torch.full((n_batch, n_units), posterior_sd))
        self.log_prior_sd = nn.Parameter(
            torch.tensor(math.log(prior_sd)), requires_grad=learn_prior
        )
        self.start = {"prior_sd": prior_sd, "posterior_sd": posterior_sd}
        self.fixed: Tensor | None = None
        self.averages_squares = False
        self.mean_square: Tensor | None = None

    @property
    def posterior_sd(self) -> Tensor:
        """Posterior standard deviations, of shape ``(n_batch, n_units)``."""
        return MIN_POSTERIOR_SD + F.softplus(self.rho)

    @torch.no_grad()
    def set_posterior_sd(self, sd: Tensor) -> None:
        """Give the posteriors these standard deviations."""
        self.rho.copy_((sd - MIN_POSTERIOR_SD).clamp_min(MIN_POSTERIOR_SD).expm1().log())

    @property
    def prior_sd(self) -> Tensor:
        """Standard deviation of the prior, a scalar."""
        return self.log_prior_sd.exp()

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw of the whole table from the posterior, of shape ``(n_batch, n_units)``."""
        # Made where the generator lives, so that a seed means the same on every device.
        device = self.loc.device if generator is None else generator.device
        noise = torch.randn(self.loc.shape, generator=generator, device=device)
        return self.loc + self.posterior_sd * noise.to(self.loc.device)

    def forward(self, batch_index: Tensor, sample: bool) -> Tensor:
        """Effects of each cell's batch: one draw for the minibatch, or the posterior means.

        While ``fixed`` holds a table, that is what is looked up. With ``averages_squares`` the
        backward pass leaves in ``mean_square`` the squared derivative of a cell's own loss by an
        effect of its batch, a mean over cells and units.
        """
        if self.fixed is not None:
            return F.embedding(batch_index, self.fixed)
        effects = F.embedding(batch_index, self.draw() if sample else self.loc)
        if self.averages_squares and effects.requires_grad:
            effects.register_hook(self._average_squares)
        return effects

    def _average_squares(self, gradient: Tensor) -> None:
        # The loss is a mean over the minibatch's cells.
        self.mean_square = (len(gradient) * gradient).square().mean()

    @torch.no_grad()
    def take_out_common(self) -> Tensor:
        r"""Take out of the posterior means what all batches share, and return it.

        With the share :math:`\gamma_k = 1 - s_k^2/\tau^2` that batch k's data have in its
        posterior, the common part is the generalised least squares estimate
        :math:`\sum_k m_k / \sum_k \gamma_k`, of which each mean contains the share
        :math:`\gamma_k`. The means left sum to zero.
        """
        of_data = (1 - (self.posterior_sd / self.prior_sd).square()).clamp_min(0)
        # The means of a batch without training cells have never moved.
        of_data = of_data * self.loc.any(1, keepdim=True)
        common = self.loc.sum(0) / of_data.sum(0).clamp_min(MIN_SHARE_OF_DATA)
        common = common.clamp(-MAX_COMMON, MAX_COMMON)
        self.loc -= of_data * common
        return common

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence of the posterior from the prior in nats, summed (Eq. 5)."""
        ratio = self.posterior_sd / self.prior_sd
        return (0.5 * (ratio**2 + (self.loc / self.prior_sd) ** 2 - 1) - ratio.log()).sum()

    def kl_of_draw(self, noise: Tensor | None = None) -> Tensor:
        """Estimate of :meth:`kl` from a single draw, as the paper's preset uses it."""
        sd, prior_sd = self.posterior_sd, self.prior_sd
        noise = torch.randn_like(self.loc) if noise is None else noise
        value = self.loc + sd * noise
        return (0.5 * (value / prior_sd) ** 2 - 0.5 * noise**2 + (prior_sd / sd).log()).sum()


class RedenBlock(nn.Module):
    r"""Dense layer whose output is rescaled and shifted by the cell's batch.

    .. math:: h = a\big(\mathrm{norm}(W x + c) \odot (1 + \gamma_z) + b_z\big)

    with random slopes :math:`\gamma` and random biases :math:`b` (scMEDAL, section 4.2.2 and
    supplementary Fig. S1). The slope multiplies as :math:`1 + \gamma` because its prior has
    mean zero.

    Parameters
    ----------
    n_input, n_output
        Widths of the block's input and output.
    n_batch
        Number of batches.
    normalization
        Normalisation of the dense layer's output, before the effects.
    activation
        Function applied after the effects.
    dense_activation
        Function applied to the dense layer's output, before the normalisation.
    effects
        Keyword arguments of both :class:`RandomEffects` tables; ``None`` for a block without.
    """

    def __init__(
        self,
        n_input: int,
        n_output: int,
        n_batch: int,
        *,
        normalization: Normalization,
        activation: Callable[[Tensor], Tensor],
        dense_activation: Callable[[Tensor], Tensor],
        effects: dict | None,
    ):
        super().__init__()
        self.dense = nn.Linear(n_input, n_output)
        nn.init.normal_(self.dense.weight, std=n_input**-0.5)
        nn.init.zeros_(self.dense.bias)
        self.norm = normalization_layer(normalization, n_output)
        has_effects = effects is not None
        self.slope = RandomEffects(n_batch, n_output, **effects) if has_effects else None
        self.bias = RandomEffects(n_batch, n_output, **effects) if has_effects else None
        self.activation = activation
        self.dense_activation = dense_activation

    def forward(self, x: Tensor, batch_index: Tensor, sample: bool) -> Tensor:
        """Map ``(n_cells, n_input)`` to ``(n_cells, n_output)`` under each cell's batch."""
        h = self.norm(self.dense_activation(self.dense(x)))
        if self.slope is not None:
            h = h * (1 + self.slope(batch_index, sample)) + self.bias(batch_index, sample)
        return self.activation(h)

    @torch.no_grad()
    def absorb_common_effects(self) -> None:
        """Move what the effects of all batches share into the parameters before them."""
        fixed = self.norm if hasattr(self.norm, "weight") else self.dense
        if fixed is self.dense and not isinstance(self.dense_activation, nn.Identity):
            return  # a function between them and the effects
        factor = 1 + self.slope.take_out_common()
        fixed.weight *= factor[:, None] if fixed.weight.ndim == 2 else factor
        fixed.bias *= factor
        self.slope.loc /= factor
        common = self.bias.take_out_common()
        fixed.bias += common
        # The slope acts on it there.
        self.bias.loc -= common * self.slope.loc
