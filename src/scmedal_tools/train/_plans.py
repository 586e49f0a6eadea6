"""Training plans: how the networks are optimised."""

from __future__ import annotations

import math
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

import torch
from scvi import REGISTRY_KEYS
from scvi.train import TrainingPlan
from torch import nn

from scmedal_tools._compat import adam_of
from scmedal_tools._data import (
    NOT_NEGATIVE,
    check_argument,
    check_settings_by_name,
    number,
    whole,
)
from scmedal_tools.module import average_over_processes, n_processes

from ._epoch_means import EpochMeans, MinibatchMeans
from ._statistics import check_statistics, training_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scvi.module.base import LossOutput
    from torch import Tensor

    from scmedal_tools.module import Classifier, MedalModule

Stage = Literal["train", "validation"]

SELECTION = "selection_validation"
"""Logged quantity by which an epoch is selected."""
SHARE_OF_STEPS = number(lambda x: 0 <= x <= 1, "has to be a share of the steps, from 0 to 1")


class DivergedError(ValueError):
    """The loss is no longer a finite number."""


class MedalTrainingPlan(TrainingPlan):
    """Autoencoder and adversary in turn, on one forward pass through the encoder.

    In every step the adversary learns from the detached activations; then the autoencoder learns
    from the same activations against the adversary held fixed, in one backward pass.

    Parameters
    ----------
    module
        Module to train.
    lr, adversary_lr
        Learning rates of the autoencoder and of the adversary.
    adversary_steps
        Steps of the adversary for each step of the autoencoder.
    eps, weight_decay
        Settings of both Adam optimisers.
    lr_decay
        Share of the steps of ``max_epochs``, at the end, over which the autoencoder's learning
        rates fall to zero. A training that is stopped early may not get there.
    batch_names
        Names of the batches, for messages.
    **kwargs
        See :class:`scvi.train.TrainingPlan`.

    Examples
    --------
    Models use it by themselves; its arguments are passed through ``train``:

    >>> import scmedal_tools as smt
    >>> smt.model.SCMEDAL_FE.setup_anndata(adata, batch_key="donor")
    >>> model = smt.model.SCMEDAL_FE(adata)
    >>> plan = {"adversary_steps": 1, "lr": 5e-4}
    >>> model.train(max_epochs=1, plan_kwargs=plan, enable_progress_bar=False)
    >>> model.trainer.lightning_module.adversary_steps
    1
    """

    def __init__(
        self,
        module: MedalModule,
        *,
        lr: float = 1e-3,
        adversary_lr: float = 1e-3,
        adversary_steps: int = 1,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        lr_decay: float = 0.0,
        batch_names: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        if kwargs.get("reduce_lr_on_plateau"):
            raise ValueError("reduce_lr_on_plateau is not offered: two optimisers take turns.")
        if kwargs.get("on_step") or not kwargs.get("on_epoch", True):
            raise ValueError("on_step and on_epoch are not offered: losses are logged by epoch.")
        check_settings_by_name("plan_kwargs", kwargs, self._arguments())
        for name, value, allowed in (
            ("lr", lr, NOT_NEGATIVE),
            ("adversary_lr", adversary_lr, NOT_NEGATIVE),
            ("adversary_steps", adversary_steps, whole(0)),
            ("eps", eps, NOT_NEGATIVE),
            ("weight_decay", weight_decay, NOT_NEGATIVE),
            ("lr_decay", lr_decay, SHARE_OF_STEPS),
        ):
            check_argument(name, value, allowed)
        super().__init__(module, lr=lr, eps=eps, weight_decay=weight_decay, **kwargs)
        self.automatic_optimization = False
        self.adversary_lr = adversary_lr
        self.adversary_steps = adversary_steps
        self.lr_decay = lr_decay
        self._means: dict[Stage, EpochMeans] = {"train": EpochMeans(), "validation": EpochMeans()}
        self.batch_names = batch_names or [str(k) for k in range(module.n_batch)]

    @classmethod
    def _arguments(cls) -> set[str]:
        """What ``plan_kwargs`` may name: scvi-tools passes all else to the loss, which fails."""
        plans = [plan for plan in cls.__mro__ if issubclass(plan, TrainingPlan)]
        parameters = [p for plan in plans for p in signature(plan).parameters.values()]
        return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def adversary(self) -> Classifier | None:
        """Adversary that is trained, if there is one."""
        return self.module.adversary

    @property
    def logged(self) -> set[str]:
        """Names of what is logged, once there was a step."""
        terms = self._means["train"].names
        return {SELECTION} | {_logged_name(term, stage) for term in terms for stage in self._means}

    def setup(self, stage: str) -> None:
        """Count the training cells, if the data module does not say how many it has."""
        if self.n_obs_training is None:
            statistics = training_statistics(self.trainer.datamodule, self.module.n_levels)
            self.n_obs_training: int | None = statistics.n_cells

    def on_fit_start(self) -> None:
        """Fit the scaling to the training cells; a later training keeps the first."""
        # scvi-tools leaves a trained module in evaluation mode, and Lightning keeps it there.
        self.module.train()
        if self.module.is_fitted:
            return
        statistics = training_statistics(self.trainer.datamodule, self.module.n_levels)
        check_statistics(statistics, self.batch_names)
        self.module.fit_statistics(statistics)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step of the adversary and one of the autoencoder."""
        self._decay(batch_idx)
        means, z = self._update(batch)
        self._means["train"].add(means, len(z))
        if self.trainer.is_last_batch:
            self._log_means("train")
        self._keep_for_scib(z, batch, "training")
        return means.values[means.names.index("loss")]

    def _update(self, batch: dict[str, Tensor]) -> tuple[MinibatchMeans, Tensor]:
        """Change the weights by a minibatch; give what is logged of it, and its latent."""
        optimizers, adversary_optimizers = self._optimizers()
        inference = self.module.inference(**self.module._get_inference_input(batch))
        if adversary_optimizers:
            features = self.module.adversary_features(inference).detach()
            self._train_adversary(features, batch, adversary_optimizers)
        generative = self.module.generative(**self.module._get_generative_input(batch, inference))
        with _frozen(self.adversary):
            output = self.module.loss(batch, inference, generative, **self.loss_kwargs)
            self._step(optimizers, output.loss)
        self._average_running_statistics()
        return self._means_of(output, "train"), inference["z"]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Count in the loss of some validation cells and its terms."""
        inference, _, output = self.forward(batch, loss_kwargs=self.loss_kwargs)
        self._means["validation"].add(self._means_of(output, "validation"), len(inference["z"]))
        self._keep_for_scib(inference["z"], batch, "validation")

    def _means_of(self, output: LossOutput, stage: Stage) -> MinibatchMeans:
        n_cells = output.n_obs_minibatch
        # The terms that scvi-tools logs; those of the networks follow.
        terms = {
            "loss": output.loss,
            "reconstruction_loss": output.reconstruction_loss_sum / n_cells,
            "kl_local": output.kl_local_sum / n_cells,
            "kl_global": output.kl_global_sum,
        }
        n_obs = self.n_obs_training if stage == "train" else self.n_obs_validation
        kl = terms["kl_local"] + terms["kl_global"] / max(n_obs or 1, 1)
        terms["elbo"] = terms["reconstruction_loss"] + kl
        return MinibatchMeans.of(terms | output.extra_metrics)

    def _log_means(self, stage: Stage) -> None:
        n_cells = self._means[stage].n_cells
        for term, mean in self._means[stage].take().items():
            self.log(
                _logged_name(term, stage),
                mean,
                prog_bar=term == "loss" and stage == "train",
                on_step=False,
                on_epoch=True,
                batch_size=n_cells,
                sync_dist=self.use_sync_dist,
            )

    def _keep_for_scib(self, z: Tensor, batch: dict[str, Tensor], stage: str) -> None:
        """Keep what the callbacks that tune by scib-metrics look for, if there are any."""
        levels = batch[REGISTRY_KEYS.BATCH_KEY]
        labels = batch.get(REGISTRY_KEYS.LABELS_KEY, torch.zeros_like(levels))
        self.prepare_scib_autotune({"z": z, "batch": levels, "labels": labels}, stage)

    def on_train_epoch_end(self) -> None:
        """Log what is left of an epoch that ended before its last minibatch.

        Raises
        ------
        ValueError
            If the loss is no longer a finite number: the training has diverged.
        """
        self._log_means("train")
        if not self.trainer.callback_metrics["train_loss"].isfinite():
            raise DivergedError(
                f"The loss of epoch {self.current_epoch} is not a finite number: the training has "
                "diverged. Lower the learning rates, plan_kwargs={'lr': ..., 'adversary_lr': ...}"
                ", or train in full precision if you do not."
            )

    def on_validation_epoch_end(self) -> None:
        """Log what selects the epoch: reconstruction, plus what the adversary can predict.

        The total loss is not used to select: it rewards a weak adversary.
        """
        self._log_means("validation")
        metrics = self.trainer.callback_metrics
        selection = metrics["reconstruction_loss_validation"] * self.module.reconstruction_weight
        if "adversary_ce_validation" in metrics:
            readable = self.module.batch_entropy - metrics["adversary_ce_validation"]
            selection = selection + self.module.adversary_weight * readable.clamp_min(0)
        self.log(SELECTION, selection, sync_dist=self.use_sync_dist)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Optimisers of the autoencoder and, if there is one, Adam for the adversary."""
        optimizers = self._autoencoder_optimizers()
        if self.adversary is not None:
            group = {"params": list(self.adversary.parameters()), "lr": self.adversary_lr}
            optimizers.append(adam_of(self, [group]))
        return optimizers

    def _autoencoder_optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.get_optimizer_creator()([{"params": self._autoencoder_parameters()}])]

    def _autoencoder_parameters(self) -> list[nn.Parameter]:
        return [
            parameter
            for name, parameter in self.module.named_parameters()
            if parameter.requires_grad and not name.startswith("adversary.")
        ]

    def _optimizers(self) -> tuple[list, list]:
        """Optimisers of the autoencoder, and of the adversary, as Lightning wraps them."""
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        n_adversary = int(self.adversary is not None)
        n_autoencoder = len(optimizers) - n_adversary
        return optimizers[:n_autoencoder], optimizers[n_autoencoder:]

    def _decay(self, batch_idx: int) -> None:
        """Lower the learning rates linearly to zero over the last ``lr_decay`` of the steps."""
        n_steps = self._n_steps()
        if not self.lr_decay or n_steps == math.inf:
            return
        factor = min(1.0, (n_steps - self._done(batch_idx)) / (self.lr_decay * n_steps))
        for optimizer in self._optimizers()[0]:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def _done(self, batch_idx: int) -> int:
        """Steps before this one."""
        return self.trainer.current_epoch * self.trainer.num_training_batches + batch_idx

    def _n_steps(self) -> float:
        """Steps of the whole training, infinite if it has no last epoch."""
        n_steps = self.trainer.max_epochs * self.trainer.num_training_batches
        return n_steps if n_steps > 0 else math.inf

    def _train_adversary(
        self, features: Tensor, batch: dict[str, Tensor], optimizers: list
    ) -> None:
        for _ in range(self.adversary_steps):
            self._step(optimizers, self.module.adversary_cross_entropy(features, batch))

    def _step(self, optimizers: list, loss: Tensor) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        self._backward(loss, optimizers)
        for optimizer in optimizers:
            optimizer.step()

    def _backward(self, loss: Tensor, optimizers: list) -> None:
        """Gradients of a loss, and their mean over the processes.

        Lightning's own exchange expects one backward pass of all parameters for each forward
        pass: here the adversary has some of its own.
        """
        with getattr(self.trainer.model, "no_sync", nullcontext)():
            self.manual_backward(loss)
        if n_processes() == 1:
            return
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        parameters = [parameter for group in groups for parameter in group["params"]]
        average_over_processes([p.grad for p in parameters if p.grad is not None])

    def _average_running_statistics(self) -> None:
        """Give all processes the mean of what batch normalisation keeps of theirs."""
        if n_processes() == 1:
            return
        layers = [layer for layer in batch_norms(self.module) if layer.training]
        names = ("running_mean", "running_var")
        average_over_processes([layer.get_buffer(name) for layer in layers for name in names])


def _logged_name(term: str, stage: Stage) -> str:
    return f"{stage}_loss" if term == "loss" else f"{term}_{stage}"


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """Layers that keep statistics of the training."""
    # Lightning's `sync_batchnorm` makes one kind of the other.
    kinds = nn.BatchNorm1d | nn.SyncBatchNorm
    return [layer for layer in module.modules() if isinstance(layer, kinds)]


@contextmanager
def _frozen(module: nn.Module | None) -> Iterator[None]:
    """Context in which a module's parameters take no gradient."""
    parameters = list(module.parameters()) if module is not None else []
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
