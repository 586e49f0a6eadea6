"""Table of the random effects of batches, with a posterior for each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scmedal_tools._compat import times_changed
from scmedal_tools._gene_model import effects_of

from ._distributed import of_first_process

if TYPE_CHECKING:
    from ._settings import EffectsSettings

# Keeps a posterior proper however small its softplus becomes.
MIN_POSTERIOR_SD = 1e-5
# Largest fixed effect that is moved at once.
MAX_CENTRING = 0.1
# Effects that the data determine less than this, summed over batches, have no fixed effect.
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
    settings
        Prior, and start of the posteriors.
    n_new
        The last ones of the batches, added to a trained network: only their effects are learned.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> import torch
    >>> settings = smt.module.EffectsSettings(
    ...     prior_sd=0.1, learn_prior=True, posterior_sd=0.05, mean_sd=0.0
    ... )
    >>> effects = smt.module.RandomEffects(n_batch=4, n_units=8, settings=settings)
    >>> effects(torch.tensor([0, 0, 3]), sample=False).shape
    torch.Size([3, 8])
    >>> effects.kl() > 0
    tensor(True)
    """

    def __init__(self, n_batch: int, n_units: int, settings: EffectsSettings, n_new: int = 0):
        super().__init__()
        self.loc = nn.Parameter(settings.mean_sd * torch.randn(n_batch, n_units))
        self.rho = nn.Parameter(torch.empty(n_batch, n_units))
        self._kept_sd: Tensor | None = None
        self._kept_version = -1
        self.set_posterior_sd(torch.tensor(settings.posterior_sd))
        self.log_prior_sd = nn.Parameter(
            torch.tensor(math.log(settings.prior_sd)), requires_grad=settings.learn_prior
        )
        self.start = settings
        self.n_new = n_new
        self.natural = False
        self.deviation: Tensor | None = None
        self.averages_squares = False
        self.mean_square: Tensor | None = None

    @property
    def posterior_sd(self) -> Tensor:
        """Posterior standard deviations, of shape ``(n_batch, n_units)``."""
        return MIN_POSTERIOR_SD + F.softplus(self.rho)

    @property
    def kept_sd(self) -> Tensor:
        """The same without gradient, computed once after a change; not to be written to."""
        if self._kept_sd is None:
            self._kept_sd = torch.empty_like(self.rho)
        if self._kept_version != times_changed(self.rho):
            # In place, so that a GPU can repeat a step that was recorded.
            self._kept_sd.copy_(self.posterior_sd.detach())
            self._kept_version = times_changed(self.rho)
        return self._kept_sd

    @property
    def learned(self) -> slice:
        """Batches whose effects are learned, all or only the new ones."""
        return slice(len(self.loc) - self.n_new if self.n_new else 0, None)

    @torch.no_grad()
    def set_posterior_sd(self, sd: Tensor, batches: slice = slice(None)) -> None:
        """Give the posteriors of some batches these standard deviations."""
        sd = sd.clamp_min(2 * MIN_POSTERIOR_SD)
        is_kept = self._kept_version == times_changed(self.rho)
        self.rho[batches] = (sd - MIN_POSTERIOR_SD).expm1_().log_()
        if is_kept and self._kept_sd is not None:
            self._kept_sd[batches] = sd
            self._kept_version = times_changed(self.rho)

    @property
    def prior_sd(self) -> Tensor:
        """Standard deviation of the prior, a scalar."""
        return self.log_prior_sd.exp()

    @torch.no_grad()
    def start_new(self) -> None:
        """Put the effects of new batches at the prior."""
        self.loc[self.learned] = 0.0
        self.set_posterior_sd(self.prior_sd, self.learned)

    def end_training(self) -> None:
        """Let no optimiser's settings and values of the last step stay."""
        self.natural = self.averages_squares = False
        self.deviation = self.mean_square = self._kept_sd = None
        self._kept_version = -1

    def draw(self, generator: torch.Generator | None = None, n_unseen: int = 0) -> Tensor:
        """One draw of the whole table from the posterior, of shape ``(n_batch, n_units)``.

        In training with ``natural`` it is the same until the effects have moved.

        Rows for unseen batches, drawn from the prior, follow.
        """
        # Made where the generator lives, so that a seed means the same on every device.
        device = self.loc.device if generator is None else generator.device

        def noise(n_batch: int) -> Tensor:
            drawn = torch.randn(n_batch, self.loc.shape[1], generator=generator, device=device)
            return self._alike(drawn.to(self.loc.device))

        if self.natural and self.training:
            if self.deviation is None:
                self.deviation = noise(len(self.loc)).mul_(self.kept_sd)
            deviation = self.deviation
        else:
            deviation = self.posterior_sd * noise(len(self.loc))
        values = self.loc + deviation
        return torch.cat([values, self.prior_sd * noise(n_unseen)]) if n_unseen else values

    def forward(
        self,
        level: Tensor,
        sample: bool,
        units: Tensor | None = None,
        draw: Tensor | None = None,
    ) -> Tensor:
        """Effects of each cell's batch: one draw for all cells, or the posterior means.

        With ``draw`` they are those of this :meth:`draw`. Levels that it does not have, -1 among
        them, are without effects. With ``units`` only these are looked up, for inference.
        With ``natural``, for :class:`~scmedal_tools.train._natural_gradient.NaturalGradient`, a
        draw takes no gradient of the standard deviations: it follows from that of the means and
        from ``deviation``, by which the draw differs from them.
        With ``averages_squares`` the backward pass leaves in ``mean_square`` the squared
        derivative of a cell's own loss by an effect of its batch, a mean over cells and units.
        """
        table = draw
        if table is None:
            table = self.draw() if sample else self.loc
        effects = effects_of(table, level, units=units)
        if self.averages_squares and effects.requires_grad:
            effects.register_hook(self._average_squares)
        return effects

    def _alike(self, noise: Tensor) -> Tensor:
        """In training all processes have the noise of one: a minibatch has one draw."""
        return of_first_process(noise) if self.training else noise

    def _average_squares(self, gradient: Tensor) -> None:
        # The loss is a mean over the minibatch's cells.
        norm = len(gradient) * torch.linalg.vector_norm(gradient)
        self.mean_square = norm.square() / gradient.numel()

    @torch.no_grad()
    def centre(self) -> Tensor:
        r"""Take the fixed effect, which all batches share, out of the posterior means; return it.

        With the share :math:`\gamma_k = 1 - s_k^2/\tau^2` that batch k's data have in its
        posterior, the fixed effect is the generalised least squares estimate
        :math:`\sum_k m_k / \sum_k \gamma_k`, of which each mean contains the share
        :math:`\gamma_k`. The means left sum to zero.
        """
        of_data = (self.kept_sd / self.prior_sd).square_().neg_().add_(1).clamp_min_(0)
        # The means of a batch without training cells have never moved.
        of_data *= self.loc.any(1, keepdim=True)
        fixed = self.loc.sum(0) / of_data.sum(0).clamp_min(MIN_SHARE_OF_DATA)
        fixed = fixed.clamp(-MAX_CENTRING, MAX_CENTRING)
        self.loc.addcmul_(of_data, fixed, value=-1)
        return fixed

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence of the posterior from the prior in nats, summed (Eq. 5)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.natural):
            sd = self.kept_sd if self.natural else self.posterior_sd
            # Not vector_norm, which is off by up to half a percent for so many numbers.
            squares = sd.square().sum() + self.loc.square().sum()
            log_ratio = sd.numel() * self.log_prior_sd - sd.log().sum()
            return log_ratio + 0.5 * (squares / self.prior_sd.square() - sd.numel())

    def kl_of_draw(self, noise: Tensor | None = None) -> Tensor:
        """Estimate of the divergence from a single draw, as the paper's preset uses it."""
        sd, prior_sd = self.posterior_sd, self.prior_sd
        noise = self._alike(torch.randn_like(self.loc)) if noise is None else noise
        value = self.loc + sd * noise
        return (0.5 * (value / prior_sd) ** 2 - 0.5 * noise**2 + (prior_sd / sd).log()).sum()
