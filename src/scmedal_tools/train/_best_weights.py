"""Callbacks of the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    import lightning.pytorch as pl


class BestWeights(Callback):
    """Keep the weights of the best validation epoch in memory and restore them at the end.

    Parameters
    ----------
    monitor
        Logged quantity by which an epoch is selected.
    warmup_epochs
        Epochs at the start that are not considered.
    mode
        Whether the smallest value is the best, or the largest.
    """

    def __init__(self, monitor: str, warmup_epochs: int = 0, mode: Literal["min", "max"] = "min"):
        self.monitor = monitor
        self.warmup_epochs = warmup_epochs
        self.best_epoch: int | None = None
        self._sign = -1.0 if mode == "max" else 1.0
        self._best = float("inf")
        self._weights: dict[str, torch.Tensor] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the weights if the epoch is the best so far."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is None or trainer.current_epoch < self.warmup_epochs:
            return
        loss = self._sign * float(value)
        if loss < self._best:
            self._best = loss
            self.best_epoch = trainer.current_epoch
            weights = _trained(pl_module)
            if self._weights is None:
                self._weights = {k: torch.empty_like(v, device="cpu") for k, v in weights.items()}
            _copy(weights, self._weights)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the best weights of a training that the user or an error stops."""
        self.on_fit_end(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the best weights."""
        if self._weights is not None:
            _copy(self._weights, _trained(pl_module))
        self._weights = None


def _trained(pl_module: pl.LightningModule) -> dict[str, torch.Tensor]:
    """Weights of the network, without the effects on genes, which are fitted afterwards."""
    state = cast("torch.nn.Module", pl_module.module).state_dict()
    return {name: x for name, x in state.items() if not name.startswith("gene_effects.")}


def _copy(source: dict[str, torch.Tensor], into: dict[str, torch.Tensor]) -> None:
    for name, values in source.items():
        into[name].copy_(values)
