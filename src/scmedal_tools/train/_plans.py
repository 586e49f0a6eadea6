"""Training plans: how the networks are optimised."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from scvi.train import TrainingPlan

from ._statistics import check_statistics, training_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from scmedal_tools.module._base import MedalModule

SELECTION = "selection_validation"
"""Logged quantity by which an epoch is judged."""


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
    batch_names
        Names of the batches, for messages.
    **kwargs
        See :class:`scvi.train.TrainingPlan`.
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
        batch_names: Sequence[str] | None = None,
        **kwargs,
    ):
        if kwargs.get("reduce_lr_on_plateau"):
            raise ValueError("reduce_lr_on_plateau is not offered: two optimisers take turns.")
        super().__init__(module, lr=lr, eps=eps, weight_decay=weight_decay, **kwargs)
        self.automatic_optimization = False
        self.adversary_lr = adversary_lr
        self.adversary_steps = adversary_steps
        self.batch_names = batch_names or range(module.n_batch)

    def on_fit_start(self) -> None:
        """Fit the scaling to the training cells; a later training keeps the first."""
        # scvi-tools leaves a trained module in evaluation mode, and Lightning keeps it there.
        self.module.train()
        if self.module.is_fitted:
            return
        statistics = training_statistics(self.trainer.datamodule, self.module.n_batch)
        check_statistics(statistics, self.batch_names)
        self.module.fit_statistics(statistics)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step of the adversary and one of the autoencoder."""
        optimizer, *adversary_optimizer = self._optimizers()
        inference = self.module.inference(**self.module._get_inference_input(batch))
        if adversary_optimizer:
            features = self.module.adversary_features(inference).detach()
            self._train_adversary(features, batch, *adversary_optimizer)
        generative = self.module.generative(**self.module._get_generative_input(batch, inference))
        with _frozen(self.module.adversary):
            output = self.module.loss(batch, inference, generative, **self.loss_kwargs)
            self._step(optimizer, output.loss)
        self.log("train_loss", output.loss, on_step=False, on_epoch=True, prog_bar=True)
        self.compute_and_log_metrics(output, self.train_metrics, "train")
        return output.loss

    def on_validation_epoch_end(self) -> None:
        """Log by what the epoch is judged: reconstruction, plus what the adversary can read.

        Never the total loss, which rewards a weak adversary.
        """
        metrics = self.trainer.callback_metrics
        selection = metrics["reconstruction_loss_validation"] * self.module.reconstruction_weight
        if self.module.adversary is not None:
            readable = self.module.batch_entropy - metrics["adversary_ce_validation"]
            selection = selection + self.module.adversary_weight * readable.clamp_min(0)
        self.log(SELECTION, selection)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the autoencoder and, if there is one, Adam for the adversary."""
        optimizers = [self.get_optimizer_creator()(self._parameter_groups())]
        if self.module.adversary is not None:
            optimizers.append(
                torch.optim.Adam(
                    self.module.adversary.parameters(),
                    lr=self.adversary_lr,
                    eps=self.eps,
                    weight_decay=self.weight_decay,
                )
            )
        return optimizers

    def _parameter_groups(self) -> list[dict]:
        return [{"params": self._autoencoder_parameters()}]

    def _autoencoder_parameters(self) -> list[nn.Parameter]:
        return [
            parameter
            for name, parameter in self.module.named_parameters()
            if parameter.requires_grad and not name.startswith("adversary.")
        ]

    def _optimizers(self) -> Sequence[torch.optim.Optimizer]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _train_adversary(
        self, features: Tensor, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        for _ in range(self.adversary_steps):
            self._step(optimizer, self.module.adversary_cross_entropy(features, batch))

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


class RETrainingPlan(MedalTrainingPlan):
    """Plan of the random-effects network: the effects have a learning rate of their own.

    Parameters
    ----------
    effects_lr
        Learning rate of the posteriors and prior scales. Adam moves a parameter by about its
        learning rate a step, so that a posterior far from its start needs a larger one.
    **kwargs
        See :class:`MedalTrainingPlan`.
    """

    def __init__(self, module: MedalModule, *, effects_lr: float = 1e-2, **kwargs):
        super().__init__(module, **kwargs)
        self.effects_lr = effects_lr

    def _parameter_groups(self) -> list[dict]:
        tables = self.module.effect_tables.values()
        effects = {id(parameter) for table in tables for parameter in table.parameters()}
        parameters = self._autoencoder_parameters()
        return [
            {"params": [p for p in parameters if id(p) not in effects]},
            {"params": [p for p in parameters if id(p) in effects], "lr": self.effects_lr},
        ]


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
