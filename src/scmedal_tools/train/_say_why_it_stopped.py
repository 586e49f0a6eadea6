"""Why a training ended before its last epoch, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info

if TYPE_CHECKING:
    import lightning.pytorch as pl


def say_why_it_stopped(trainer: pl.Trainer, _: pl.LightningModule) -> None:
    """Say that a training no longer improved.

    Of which scvi-tools prints Lightning's "Monitored metric did not improve. Signaling Trainer to
    stop", as if it had failed.
    """
    stopping: Any = trainer.early_stopping_callback
    if "did not improve" in (getattr(stopping, "early_stopping_reason", None) or ""):
        stopping.early_stopping_reason = None
        rank_zero_info(
            f"Training stopped after {trainer.current_epoch} epochs: no longer improving."
        )
