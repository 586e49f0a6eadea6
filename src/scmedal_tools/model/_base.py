"""What all models share: construction and training."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import scvi
import torch
from lightning.pytorch.callbacks import Callback, LambdaCallback
from lightning.pytorch.utilities import rank_zero_info
from scipy import sparse
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin

from scmedal_tools._compat import given_settings, manager_of
from scmedal_tools._data import check_cells, check_settings_by_name
from scmedal_tools.train import (
    SELECTION,
    BestWeights,
    DivergedError,
    MedalDataSplitter,
    MedalTrainingPlan,
    StoppableTrainRunner,
    get_preset,
    say_why_it_stopped,
)

from ._absent_methods import AbsentMethodsMixin
from ._check_set_up import check_set_up
from ._check_training import check_training, check_validation_cells
from ._datamodules import check_codes, check_early_stopping, set_batch_size
from ._inference import InferenceMixin
from ._memory_advice import TRAINING, memory_advice
from ._on_disk import OnDiskMixin, as_if_in_memory
from ._registration import RegistrationMixin
from ._saving import SavingMixin
from ._summary import SummaryMixin
from ._training_cells import TrainingCellsMixin
from ._unseen import UnseenBatchMixin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from lightning import LightningDataModule
    from mudata import MuData

    from scmedal_tools.train import Preset

# By default the epochs are this over the number of cells; see docs/design/presets.md.
CELLS_SEEN = 400_000
EPOCH_RANGE = (10, 100)
# Beside weights and history, what a model keeps of its training.
OF_TRAINING = (
    "train_indices_",
    "validation_indices_",
    "test_indices_",
    "training_cells_",
    "_datamodule",
    "seed_",
)


class MedalModel(
    AbsentMethodsMixin,
    SummaryMixin,
    SavingMixin,
    RegistrationMixin,
    OnDiskMixin,
    TrainingCellsMixin,
    InferenceMixin,
    UnseenBatchMixin,
    UnsupervisedTrainingMixin,
    BaseModelClass,
):
    """Base of the scMEDAL models."""

    seed_: int | None = None
    """``scvi.settings.seed`` of the last training."""
    taken_as_: str | None = None
    """What the expression was taken for when it was registered."""
    _data_splitter_cls = MedalDataSplitter
    _training_plan_cls = MedalTrainingPlan
    _train_runner_cls = StoppableTrainRunner

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict | None = None,
        n_hidden: Sequence[int] = (512, 132),
        n_latent: int = 50,
        preset: str = "default",
        **module_kwargs: Any,
    ):
        if adata is not None:
            check_cells(adata)
            check_set_up(type(self), adata)
        if isinstance(n_hidden, Integral):
            raise TypeError(
                f"n_hidden={n_hidden} is one number: pass the width of each hidden layer, for "
                f"example n_hidden=({n_hidden},) for one layer."
            )
        super().__init__(adata, registry and as_if_in_memory(registry))
        name, of_preset = type(self).__name__, self._named_preset(preset)
        check_settings_by_name(name, module_kwargs, of_preset.module)
        self.preset_ = preset
        self.best_epoch_: int | None = None
        self.taken_as_ = getattr(manager_of(self), "taken_as", None)
        n_genes, n_batch = self.summary_stats.n_vars, self.summary_stats.n_batch
        self.module = self._module_cls.from_settings(
            of_preset.with_module(**module_kwargs | self._settings_of_data()).module,
            n_input=n_genes,
            n_batch=n_batch,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_crossed=[len(names) for names in list(self.factors.values())[1:]],
        )
        self._model_summary_string = (
            f"{name}, preset {preset!r}: {n_genes} genes, {n_batch} batches, "
            f"n_hidden {tuple(n_hidden)}, n_latent {n_latent}"
        )
        self.init_params_ = self._get_init_params(locals())

    def _settings_of_data(self) -> dict[str, int]:
        """Settings of the module that follow from the registered cells; none by default."""
        return {}

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        load_sparse_tensor: bool | None = None,
        batch_size: int | None = None,
        early_stopping: bool | None = None,
        datasplitter_kwargs: dict | None = None,
        plan_config: Any = None,
        plan_kwargs: dict | None = None,
        datamodule: LightningDataModule | None = None,
        trainer_config: Any = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        Calling it again continues from the trained weights; make a new model for other splits. If
        it is interrupted (Ctrl-C) after the first epoch, the model is finished with the weights of
        the best epoch so far, or the last ones without early stopping, and can be used and saved.

        Parameters
        ----------
        max_epochs
            Largest number of epochs. By default the preset's, or 400,000 over the number of
            registered cells, between 10 and 100.
        accelerator, devices
            Where to train, as in scvi-tools.
        train_size, validation_size
            Shares of the cells for training (0.9) and validation (the rest).
        shuffle_set_split
            Draw the cells of these at random.
        load_sparse_tensor
            Move minibatches to the device sparse; by default where that is quicker. Not used where
            all cells are kept on a GPU, which needs three times the memory that they take.
        batch_size
            Cells in a minibatch, of each process if there are several; by default the preset's
            (256; the paper's 512).
        early_stopping
            Stop when the validation loss no longer improves, and restore the weights of the best
            epoch. By default the preset's: on, except for the paper's presets. The epoch is
            selected by the reconstruction term, plus what the adversary can still predict of
            the batch.
        datasplitter_kwargs
            Arguments of the splitter. ``external_indexing`` takes the arrays of
            :func:`scmedal_tools.train.stratified_split`.
        plan_kwargs
            Arguments of the training plan: ``lr``, ``adversary_lr``, ``adversary_steps``,
            ``lr_decay``, ``effects_optimizer`` and ``effects_lr`` (``SCMEDAL_RE`` only),
            ``weight_decay``, ``eps``.
        datamodule
            Data module to train with instead of the registered cells, for example that of
            :meth:`~scmedal_tools.model.SCMEDAL_FE.setup_annbatch`; in one process only.
        plan_config, trainer_config
            The same as a mapping, or a config of :mod:`scvi.train`; ``plan_kwargs`` and other
            arguments win over both. Of a config only what is not its default wins over the preset:
            ``TrainerConfig(early_stopping=False)`` changes nothing, as False is the default there.
            Pass such a value as an argument or in a mapping.
        **trainer_kwargs
            Arguments of :class:`scvi.train.Trainer`, for example ``early_stopping_patience``,
            ``precision``, ``strategy`` or ``num_nodes``.

        Raises
        ------
        ValueError
            If a number is outside its range, such as an epoch or cells of a minibatch below 1,
            early stopping has no validation cells to look at or looks at what is not logged, no
            gene varies, the data module has other genes or levels than the model, ``devices`` are
            more than the cores of a CPU, or the training diverges.
        TypeError
            If ``plan_kwargs`` or ``datasplitter_kwargs`` name what there is not.
        KeyboardInterrupt
            If it was interrupted, once the model is finished.

        Notes
        -----
        Scaling is fitted on the training cells and saved with the model. Every term of the loss
        is in ``model.history``, for training and validation cells.

        Examples
        --------
        >>> import scmedal_tools as smt
        >>> smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="donor")
        >>> model = smt.model.SCMEDAL_FE(adata)
        >>> splits = smt.train.stratified_split(adata.obs, ["donor", "cell_type"])
        >>> model.train(
        ...     max_epochs=2,
        ...     datasplitter_kwargs={"external_indexing": splits},
        ...     enable_progress_bar=False,
        ... )
        >>> len(model.history["train_loss"])
        2
        """
        self._check_unchanged()
        preset = self._preset()
        asked: dict[str, Any] = {
            "max_epochs": max_epochs,
            "accelerator": accelerator,
            "devices": devices,
            "batch_size": batch_size,
            "early_stopping": early_stopping,
        }
        settings_: dict[str, Any] = {"accelerator": "auto", "devices": "auto"}
        settings_ |= {"check_val_every_n_epoch": 1} | preset.train
        settings_ |= given_settings(trainer_config) | trainer_kwargs
        settings_ |= {k: v for k, v in asked.items() if v not in (None, "auto")}
        if settings_.get("max_epochs") is None:
            settings_["max_epochs"] = self._default_epochs()
        check_training(settings_, train_size, validation_size, datasplitter_kwargs)
        default_size = settings_.pop("train_size", None)
        if train_size is None and default_size is not None:
            train_size = default_size - (validation_size or 0.0)
        of_user = settings_.pop("callbacks", [])
        callbacks: list[Callback] = [
            LambdaCallback(
                on_train_start=self._remember_training_cells, on_fit_end=say_why_it_stopped
            ),
            *of_user,
        ]
        best: BestWeights | None = None
        if settings_["early_stopping"]:
            n_cells = self.summary_stats.n_cells
            check_validation_cells(n_cells, train_size, validation_size, datasplitter_kwargs)
            callbacks.append(best := _best_weights(settings_, others_log=bool(of_user)))
        given = given_settings(plan_config) | (plan_kwargs or {})
        plan_kwargs = {"batch_names": list(self.batch_names)} | preset.plan | given
        self._before_training(plan_kwargs)
        if datamodule is not None:
            self._prepare_datamodule(datamodule, settings_, datasplitter_kwargs)
        if load_sparse_tensor is None:
            load_sparse_tensor = self._moves_sparse(settings_["accelerator"])
        if n_epochs := len((self.history or {}).get("train_loss", ())):
            rank_zero_info(
                f"The training continues from {n_epochs:,} epoch(s). A new model starts anew."
            )
        with memory_advice(TRAINING), self._as_before_if_it_diverges():
            self._datamodule = datamodule
            self.seed_ = scvi.settings.seed
            super().train(
                train_size=train_size,
                validation_size=validation_size,
                shuffle_set_split=shuffle_set_split,
                load_sparse_tensor=load_sparse_tensor,
                datasplitter_kwargs=datasplitter_kwargs,
                plan_kwargs=plan_kwargs,
                datamodule=datamodule,
                callbacks=callbacks,
                **settings_,
            )
            self.best_epoch_ = None if best is None else best.best_epoch
            self._after_training()
        if self.trainer.stopped_in is not None:
            self._report_interruption()
            raise KeyboardInterrupt

    @contextmanager
    def _as_before_if_it_diverges(self) -> Iterator[None]:
        """Context in which no failed training leaves weights that are not numbers in the model."""
        if not self.is_trained_:
            yield
            return
        weights = {name: x.clone() for name, x in self.module.trained_state().items()}
        of_training = {name: getattr(self, name) for name in OF_TRAINING}
        try:
            yield
        except Exception as error:
            state = self.module.trained_state()
            finite = all(values.isfinite().all() for values in state.values())
            if isinstance(error, DivergedError) or not finite:
                for name, values in weights.items():
                    state[name].copy_(values)
                for name, value in of_training.items():
                    setattr(self, name, value)
                error.add_note("The model is as it was before this training.")
            raise

    def _report_interruption(self) -> None:
        kept = "the last step" if self.best_epoch_ is None else f"epoch {self.best_epoch_}"
        warnings.warn(
            f"Training was interrupted in epoch {self.trainer.stopped_in} of "
            f"{self.trainer.max_epochs}, counted from 0. The model has the weights of {kept} and "
            "can be used and saved; `train()` continues from these weights.",
            UserWarning,
            stacklevel=3,
        )

    def _preset(self) -> Preset:
        """Settings by which the model is trained."""
        return self._named_preset(self.preset_)

    @classmethod
    def _named_preset(cls, name: str) -> Preset:
        return get_preset(cls.__name__, name)

    def _before_training(self, plan_kwargs: dict) -> None:
        """Warn about a training plan that does not suit the data; called by :meth:`train`."""

    def _after_training(self) -> None:
        """Whatever a model settles once its weights are final."""

    def _prepare_datamodule(
        self, datamodule: LightningDataModule, settings: dict[str, Any], of_splitter: dict | None
    ) -> None:
        """Check a data module, and give it the size of the minibatches."""
        if of_splitter:
            raise ValueError(
                f"datamodule divides its cells itself: {', '.join(of_splitter)} in "
                "datasplitter_kwargs would not be used. Leave them out, or train on "
                "registered cells."
            )
        if settings["early_stopping"]:
            check_early_stopping(datamodule)
        self._check_codes(datamodule)
        set_batch_size(datamodule, settings["batch_size"])

    def _check_codes(self, datamodule: LightningDataModule) -> None:
        check_codes(self.registry, datamodule, with_labels=hasattr(type(self), "label_names"))

    def _default_epochs(self) -> int:
        return int(np.clip(round(CELLS_SEEN / self.summary_stats.n_cells), *EPOCH_RANGE))

    def _moves_sparse(self, accelerator: str) -> bool:
        """Whether minibatches travel to the device sparse and become dense there."""
        if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
            return False
        return self.adata is not None and sparse.issparse(
            self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY)
        )


def _best_weights(settings: dict[str, Any], others_log: bool) -> BestWeights:
    """Callback for the best epoch by what early stopping looks at, which is set by default."""
    return BestWeights(
        settings.setdefault("early_stopping_monitor", SELECTION),
        settings.get("early_stopping_warmup_epochs", 0),
        settings.get("early_stopping_mode", "min"),
        others_log,
    )
