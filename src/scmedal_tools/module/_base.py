"""What the fixed-effects and the random-effects module have in common."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, auto_move_data

from ._levels import pack
from ._likelihood import Likelihood, reconstruction_term
from ._scaler import ExpressionScaler, Scaling

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from scmedal_tools.train._statistics import ExpressionStatistics

    from ._layers import Classifier

AdversarialObjective = Literal["bounded", "unbounded"]

WEIGHTED = "weighted_"
"""Prefix under which what each term contributes to the loss is logged."""


class MedalModule(BaseModuleClass):
    """Autoencoder on scaled expression, with an optional adversary that reads the batch.

    Subclasses set ``adversary`` (``None`` for none), build the networks and write
    ``inference``, ``generative``, ``adversary_features`` and ``loss``.

    Parameters
    ----------
    n_input
        Number of genes.
    n_batch
        Number of batches.
    n_crossed
        Numbers of levels of further factors of random effects.
    scaling
        How the input is scaled; see :class:`~scmedal_tools.module._scaler.ExpressionScaler`.
    likelihood
        ``"gaussian"``: nats per cell with one learned noise for all genes; ``"gaussian-gene"``:
        with one for each gene; ``"mse"``: mean squared error over genes.
    adversarial_objective
        ``"bounded"``: the autoencoder pays for what the adversary knows beyond the frequencies of
        the batches and gains nothing by misleading it further; ``"unbounded"``: the adversary's
        negative cross-entropy (scMEDAL, Eq. 2).
    reconstruction_weight, adversary_weight
        Weights of the two terms.
    """

    batch_entropy: Tensor
    is_fitted: Tensor

    def __init__(
        self,
        n_input: int,
        n_batch: int,
        *,
        n_crossed: Sequence[int] = (),
        scaling: Scaling,
        likelihood: Likelihood,
        adversarial_objective: AdversarialObjective,
        reconstruction_weight: float,
        adversary_weight: float,
    ):
        super().__init__()
        self.n_batch = n_batch
        self.n_levels = (n_batch, *n_crossed)
        self.adversary: Classifier | None = None
        self.scaler = ExpressionScaler(n_input, scaling)
        self.reconstruction = reconstruction_term(likelihood, n_input)
        self.adversarial_objective = adversarial_objective
        self.reconstruction_weight = reconstruction_weight
        self.adversary_weight = adversary_weight
        self.register_buffer("batch_entropy", torch.zeros(()))
        self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))

    def fit_statistics(self, statistics: ExpressionStatistics) -> None:
        """Take over scaling and batch frequencies from the training cells; once, they are kept."""
        if self.is_fitted:
            return
        self.scaler.fit(statistics)
        self.batch_entropy.fill_(statistics.batch_entropy)
        self.is_fitted.fill_(True)

    def adversary_features(self, inference_outputs: dict[str, Tensor]) -> Tensor:
        """Activations from which the adversary guesses the batch, ``(n_cells, n_features)``."""
        return inference_outputs["z"]

    def adversary_cross_entropy(self, features: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy in nats of the adversary's guess."""
        assert self.adversary is not None  # it is asked for its guess only where there is one
        return self.adversary.cross_entropy(features, batch_of(tensors)).mean()

    def adversarial_penalty(self, cross_entropy: Tensor) -> Tensor:
        """Weighted term that the autoencoder pays for a batch that the adversary can read."""
        if self.adversarial_objective == "unbounded":
            return -self.adversary_weight * cross_entropy
        return self.adversary_weight * torch.relu(self.batch_entropy - cross_entropy)

    def _get_inference_input(
        self, tensors: dict[str, Tensor], **kwargs: Any
    ) -> dict[str, Tensor | None]:
        return {"x": tensors[REGISTRY_KEYS.X_KEY], "batch_index": batch_of(tensors)}

    def _reconstruction_loss(
        self, inference_outputs: dict[str, Tensor], generative_outputs: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-cell reconstruction term, and the mean squared error in squared input units."""
        x, x_hat = inference_outputs["x_scaled"], generative_outputs["x_hat"]
        per_cell = self.reconstruction(x, x_hat)
        mse = (x.detach() - x_hat.detach()).square().mean() * self.scaler.scale.square()
        return per_cell, {"mse": mse}

    @staticmethod
    def total_of(contributions: dict[str, Tensor], metrics: dict[str, Tensor]) -> Tensor:
        """Loss: the sum of its weighted terms, each of which is added to the logged metrics."""
        metrics |= {f"{WEIGHTED}{term}": value for term, value in contributions.items()}
        return reduce(add, contributions.values())

    @auto_move_data
    def reconstruct(
        self, generative_outputs: dict[str, Tensor], genes: Sequence[int] | np.ndarray | slice
    ) -> Tensor:
        """Reconstruction in the units of the input, for some of the genes."""
        return self.scaler.inverse(generative_outputs["x_hat"])[:, genes]

    def sample(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered: the networks model the mean of the expression."""
        raise AttributeError("scmedal modules do not sample expression; use `n_samples`.")


def batch_of(tensors: dict[str, Tensor]) -> Tensor:
    """Batch, and levels of further factors, of each cell of a minibatch, packed into codes."""
    levels = [tensors[REGISTRY_KEYS.BATCH_KEY].long().reshape(-1)]
    if REGISTRY_KEYS.CAT_COVS_KEY in tensors:
        levels += tensors[REGISTRY_KEYS.CAT_COVS_KEY].long().T
    return pack(levels)
