"""Callbacks of the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from scmedal_tools.module import MedalModule

    from ._plans import MedalTrainingPlan


class BestWeights(Callback):
    """Keep the weights of the best validation epoch in memory and restore them at the end.

    Which weights, the module says by ``trained_state()``: not those fitted after the training.

    Parameters
    ----------
    monitor
        Logged quantity by which an epoch is selected.
    warmup_epochs
        Epochs at the start that are not considered.
    mode
        Whether the smallest value is the best, or the largest.
    others_log
        Whether other callbacks may log the quantity, so that it need not be one of the plan's.
    """

    def __init__(
        self,
        monitor: str,
        warmup_epochs: int = 0,
        mode: Literal["min", "max"] = "min",
        others_log: bool = True,
    ):
        self.monitor, self.others_log = monitor, others_log
        self.warmup_epochs = warmup_epochs
        self.best_epoch: int | None = None
        self._sign = -1.0 if mode == "max" else 1.0
        self._best = float("inf")
        self._weights: dict[str, torch.Tensor] | None = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Refuse a quantity that is never logged at once; Lightning does after an epoch.

        Raises
        ------
        ValueError
            If it is not.
        """
        logged = cast("MedalTrainingPlan", pl_module).logged
        if not self.others_log and self.monitor not in logged:
            raise ValueError(
                f"early_stopping_monitor={self.monitor!r} is not logged. Choose from "
                f"{', '.join(sorted(logged))}."
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the weights if the epoch is the best so far."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is None or trainer.current_epoch < self.warmup_epochs:
            return
        loss = self._sign * float(value)
        if loss < self._best:
            self._best = loss
            self.best_epoch = trainer.current_epoch
            weights = _trained_state(pl_module)
            if self._weights is None:
                self._weights = {k: torch.empty_like(v) for k, v in weights.items()}
            _copy(weights, self._weights)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the best weights of a training that the user or an error stops."""
        self.on_fit_end(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the best weights."""
        if self._weights is not None:
            _copy(self._weights, _trained_state(pl_module))
        self._weights = None


def _trained_state(pl_module: pl.LightningModule) -> dict[str, torch.Tensor]:
    return cast("MedalModule", pl_module.module).trained_state()


def _copy(source: dict[str, torch.Tensor], into: dict[str, torch.Tensor]) -> None:
    if differ := sorted(source.keys() ^ into.keys()):
        raise RuntimeError(
            f"The network has gained or lost weights since its best epoch ({', '.join(differ)}): "
            "leave its layers as they are while it is trained."
        )
    for name, values in source.items():
        into[name].copy_(values)
