"""Effects of a batch on single genes: a linear mixed model beside the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from scmedal_tools.train._mixed_model import MixedModel


class GeneEffects(nn.Module):
    r"""What batches do to single genes beyond what the network says.

    A cell in state :math:`s`, the nearest of a few centres of the content, in batch :math:`k` has
    the expected expression

    .. math:: f_0 + w \, (f_k - f_0) + c_s + b_k + d_{ks}

    of each gene. The decoder gives :math:`f_k` and, with all its effects at their mean, 0,
    :math:`f_0`; :math:`c` is fixed, :math:`b` and :math:`d` are random effects of the batch, and
    of the batch on cells in that state. They are fitted once the network is trained
    (:func:`scmedal_tools.train._mixed_model.fit_mixed_model`).

    Parameters
    ----------
    n_batch, n_genes, n_latent, n_states
        Numbers of batches, genes, dimensions of the content, and states.
    """

    def __init__(self, n_batch: int, n_genes: int, n_latent: int, n_states: int):
        super().__init__()
        by_state = (n_batch, n_states, n_genes)
        shapes = {
            "centres": (n_states, n_latent),
            "network_weight": (),
            "common": (n_states, n_genes),
            "batch_loc": (n_batch, n_genes),
            "batch_sd": (n_batch, n_genes),
            "state_loc": by_state,
            "state_sd": by_state,
            "state_shrinkage": by_state,
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))
        self.fixed: Tensor | None = None

    def clear(self) -> None:
        """Forget what was fitted."""
        self.is_fitted.fill_(False)

    def set_centres(self, centres) -> None:
        """Take over the centres of the states; fewer than there is room for are repeated."""
        centres = torch.as_tensor(centres)
        self.centres.copy_(centres[torch.arange(len(self.centres)) % len(centres)])

    def set_posterior(self, posterior: MixedModel, network_weight: float) -> None:
        """Take over a fitted mixed model."""
        for name in ("common", "batch_loc", "batch_sd", "state_loc", "state_sd"):
            getattr(self, name).copy_(torch.as_tensor(getattr(posterior, name)))
        self.state_shrinkage.copy_(torch.as_tensor(posterior.state_shrinkage))
        self.network_weight.fill_(network_weight)
        self.is_fitted.fill_(True)

    def state_of(self, content: Tensor) -> Tensor:
        """State of each cell, of shape ``(n_cells,)``."""
        return torch.cdist(content, self.centres).argmin(1)

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw of all effects from their posterior, ``(n_batch, n_states, n_genes)``."""
        device = self.batch_loc.device if generator is None else generator.device

        def noise(sd: Tensor) -> Tensor:
            return sd * torch.randn(sd.shape, generator=generator, device=device).to(sd.device)

        of_batch = noise(self.batch_sd)[:, None]
        # Given the effect of a batch, data have to be explained by less of that on its states.
        of_states = noise(self.state_sd) - self.state_shrinkage * of_batch
        return self.batch_loc[:, None] + self.state_loc + of_batch + of_states

    def forward(self, content: Tensor, batch_index: Tensor) -> Tensor:
        """Effects on cells of a batch, ``(n_cells, n_genes)``, without the common part.

        While ``fixed`` holds a draw, that is what is looked up.
        """
        state = self.state_of(content)
        if self.fixed is not None:
            return self.fixed[batch_index, state]
        return self.batch_loc[batch_index] + self.state_loc[batch_index, state]

    def common_of(self, content: Tensor) -> Tensor:
        """Fixed part of each cell's state, ``(n_cells, n_genes)``."""
        return self.common[self.state_of(content)]
