"""Training that the user stops: what was learned until then is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scvi.dataloaders import DataSplitter
from scvi.train import Trainer, TrainRunner

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass


class StoppableTrainer(Trainer):
    """Trainer that returns when the user interrupts it, where Lightning ends the process.

    Attributes
    ----------
    stopped_in
        Epoch in which it was interrupted, ``None`` if it was not.
    """

    _model: BaseModelClass
    stopped_in: int | None = None

    def fit(self, *args: Any, **kwargs: Any) -> None:
        """Train, and return after an interruption if there is something to keep."""
        try:
            super().fit(*args, **kwargs)
        except SystemExit as end:
            if not isinstance(end.__context__, KeyboardInterrupt):
                raise
            if not (self.current_epoch or self._has_changed_a_trained_model()):
                raise KeyboardInterrupt from None
            self.stopped_in = self.current_epoch
        finally:
            # After an error an earlier training's model can still be used, but not with dropout.
            self._model.module.end_training()

    def _has_changed_a_trained_model(self) -> bool:
        # The plan, which drops what is to be fitted anew, puts the module in training mode first.
        begun = self.global_step > 0 or self._model.module.training
        return self._model.is_trained_ and begun


class StoppableTrainRunner(TrainRunner):
    """Runner with a :class:`StoppableTrainer`.

    Raises
    ------
    ValueError
        If several processes are to train with a data module that is no splitter.
    """

    _trainer_cls = StoppableTrainer

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        n_processes = self.trainer.num_devices * self.trainer.num_nodes
        if n_processes > 1 and not isinstance(self.data_splitter, DataSplitter):
            raise ValueError(
                f"A data module in {n_processes} processes is not supported: train with devices=1 "
                "and num_nodes=1, or on registered cells."
            )
