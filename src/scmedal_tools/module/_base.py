"""What the fixed-effects and the random-effects module have in common."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, auto_move_data
from torch.nn import functional as F

from ._distributed import mean_over_processes
from ._factor_levels import levels_of
from ._likelihood import reconstruction_term
from ._scaler import ExpressionScaler
from ._settings import AdversarySettings, ReconstructionSettings, grouped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    import numpy as np
    from torch import Tensor

    from ._layers import Classifier
    from ._statistics import ExpressionStatistics

WEIGHTED = "weighted_"
"""Prefix under which what each term contributes to the loss is logged."""


class MedalModule(BaseModuleClass):
    """Autoencoder on scaled expression, with an optional adversary that predicts the batch.

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
    reconstruction, adversary
        See :class:`~scmedal_tools.module.ReconstructionSettings` and
        :class:`~scmedal_tools.module.AdversarySettings`.
    """

    groups: ClassVar[dict[str, type]] = {
        "reconstruction": ReconstructionSettings,
        "adversary": AdversarySettings,
    }
    fitted_afterwards: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the state that is fitted after the training."""
    batch_entropy: Tensor
    is_fitted: Tensor

    def __init__(
        self,
        n_input: int,
        n_batch: int,
        *,
        n_crossed: Sequence[int] = (),
        reconstruction: ReconstructionSettings,
        adversary: AdversarySettings,
    ):
        super().__init__()
        self.n_batch = n_batch
        self.n_levels = (n_batch, *n_crossed)
        self.adversary: Classifier | None = None
        self.scaler = ExpressionScaler(n_input, reconstruction.scaling)
        self.reconstruction = reconstruction_term(reconstruction.likelihood)
        self.adversarial_objective = adversary.adversarial_objective
        self.reconstruction_weight = reconstruction.reconstruction_weight
        self.adversary_weight = adversary.adversary_weight
        self.register_buffer("batch_entropy", torch.zeros(()))
        self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], **sizes: Any) -> Self:
        """Module from settings by their names alone, as presets have them.

        Parameters
        ----------
        settings
            All settings of the groups and further arguments of the module.
        **sizes
            The other arguments of the module, for example ``n_input`` and ``n_batch``.

        Raises
        ------
        TypeError
            If a setting is missing or the module has none of that name.
        ValueError
            If no network can have the value of a setting.
        """
        return cls(**grouped({**settings, **sizes}, cls.groups))

    def fit_statistics(self, statistics: ExpressionStatistics) -> None:
        """Take over scaling and batch frequencies from the training cells; once, they are kept."""
        if self.is_fitted:
            return
        self.scaler.fit(statistics)
        self.batch_entropy.fill_(statistics.batch_entropy)
        self.is_fitted.fill_(True)

    def trained_state(self) -> dict[str, Tensor]:
        """State without what is fitted after the training."""
        state = self.state_dict()
        return {k: v for k, v in state.items() if not k.startswith(self.fitted_afterwards)}

    def end_training(self) -> None:
        """Set evaluation mode, also after a training that an error has ended."""
        self.eval()

    def adversary_features(self, inference_outputs: dict[str, Tensor]) -> Tensor:
        """Activations from which the adversary guesses the batch, ``(n_cells, n_features)``."""
        return inference_outputs["z"]

    def adversary_cross_entropy(self, features: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy in nats of the adversary's guess."""
        assert self.adversary is not None  # it is asked for its guess only where there is one
        return self.adversary.cross_entropy(features, levels_of(tensors)).mean()

    def adversarial_penalty(self, cross_entropy: Tensor) -> Tensor:
        """Weighted term that the autoencoder pays for a batch that the adversary can predict."""
        if self.training:
            cross_entropy = mean_over_processes(cross_entropy)
        if self.adversarial_objective == "unbounded":
            return -self.adversary_weight * cross_entropy
        return self.adversary_weight * torch.relu(self.batch_entropy - cross_entropy)

    def _get_inference_input(self, tensors: dict[str, Tensor], **kwargs: Any) -> dict[str, Any]:
        return {"x": tensors[REGISTRY_KEYS.X_KEY]}

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Any], **kwargs: Any
    ) -> dict[str, Tensor]:
        return {"z": inference_outputs["z"], "levels": levels_of(tensors)}

    def _reconstruction_loss(
        self, inference_outputs: dict[str, Tensor], generative_outputs: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Per-cell reconstruction term, and the mean squared error of log-expression."""
        x, x_hat = inference_outputs["x_scaled"], generative_outputs["x_hat"]
        per_cell = self.reconstruction(x, x_hat)
        mse = F.mse_loss(x_hat.detach(), x.detach()) * self.scaler.scale.square()
        return per_cell, {"mse": mse}

    @staticmethod
    def total_of(contributions: dict[str, Tensor], metrics: dict[str, Tensor]) -> Tensor:
        """Loss: the sum of its weighted terms, each of which is added to the logged metrics."""
        metrics |= {f"{WEIGHTED}{term}": value for term, value in contributions.items()}
        return reduce(add, contributions.values())

    @auto_move_data
    def reconstruct(
        self, x_hat: Tensor, genes: Sequence[int] | np.ndarray | slice = slice(None)
    ) -> Tensor:
        """Scaled expression, back in log-expression, for some of the genes."""
        return self.scaler.inverse(x_hat)[:, genes]

    def sample(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not offered: the networks model the mean of the expression."""
        raise AttributeError("scmedal modules do not sample expression; use `n_samples`.")
