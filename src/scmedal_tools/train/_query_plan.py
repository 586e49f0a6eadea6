"""Training plan for the effects of new batches, beside a network that stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ._plans import MedalTrainingPlan, batch_norms
from ._re_plan import RETrainingPlan

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from scmedal_tools.module import MedalModule

    from ._epoch_means import MinibatchMeans


# Steps are large, as nothing but a few rows of effects moves.
EFFECTS_LR = {"natural": 0.05, "adam": 0.01}


class QueryTrainingPlan(RETrainingPlan):
    """Plan of a network to which batches were added: only their effects learn.

    Parameters and buffers of the network, and the effects of the batches that it was trained on,
    keep their bytes.

    Parameters
    ----------
    effects_optimizer
        See :class:`~scmedal_tools.train.RETrainingPlan`.
    effects_lr
        Step size; ``None`` for 0.05 with the natural gradient and 0.01 with Adam.
    **kwargs
        See :class:`~scmedal_tools.train.RETrainingPlan`. Weight decay is not offered: it would
        move what has no gradient.
    """

    def __init__(
        self,
        module: MedalModule,
        *,
        effects_optimizer: Literal["natural", "adam"] = "natural",
        effects_lr: float | None = None,
        **kwargs: Any,
    ):
        if kwargs.get("weight_decay"):
            raise ValueError("weight_decay would move effects that are to stay: leave it out.")
        if effects_lr is None:
            effects_lr = EFFECTS_LR.get(effects_optimizer, 0.0)
        super().__init__(
            module, effects_optimizer=effects_optimizer, effects_lr=effects_lr, **kwargs
        )

    @property
    def adversary(self) -> None:
        """No adversary is trained: it does not know the new batches."""
        return None

    def on_fit_start(self) -> None:
        """Train, but for statistics of batches that a normalisation keeps."""
        self.module.train()
        for layer in batch_norms(self.module):
            layer.eval()

    def _minibatches_per_move(self, batch: dict[str, Tensor]) -> int:
        """One, as only a few rows move."""
        return 1

    def _update(self, batch: dict[str, Tensor]) -> tuple[MinibatchMeans, Tensor]:
        """Step of the effects of the new batches."""
        return MedalTrainingPlan._update(self, batch)

    def _backward(self, loss: Tensor, optimizers: list) -> None:
        super()._backward(loss, optimizers)
        for table in self._tables():
            trained = slice(table.learned.start)
            for parameter in (table.loc, table.rho):
                if parameter.grad is not None:  # of rho only with Adam
                    parameter.grad[trained] = 0.0

    def _tables(self) -> list:
        return [table for table in self.module.effect_tables.values() if table.n_new]

    def _autoencoder_optimizers(self) -> list[torch.optim.Optimizer]:
        tables = self._tables()
        if self.effects_optimizer == "natural":
            return [self._natural_gradient(tables)]
        learned = [parameter for table in tables for parameter in (table.loc, table.rho)]
        return [self.get_optimizer_creator()([{"params": learned, "lr": self.effects_lr}])]
