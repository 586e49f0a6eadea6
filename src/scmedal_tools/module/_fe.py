"""Fixed-effects network: an autoencoder whose encoder hides the batch from an adversary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import LossOutput, auto_move_data
from torch.nn import functional as F

from ._autoencoders import BatchAutoencoder, TiedAutoencoder
from ._base import MedalModule
from ._distributed import mean_over_processes, n_processes
from ._layers import Classifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ._layers import Normalization
    from ._settings import Activation, AdversarySettings, Decoder
    from ._statistics import ExpressionStatistics


class FEModule(MedalModule):
    """Module of :class:`~scmedal_tools.model.SCMEDAL_FE` and ``SCMEDAL_FEC``.

    scMEDAL, section 4.2.1 and Eq. 2 (FE), section 4.3.2 and Eq. 10 (FEC).

    Parameters
    ----------
    n_input, n_batch, n_labels
        Numbers of genes, batches and cell types; without cell types there is no classifier.
    n_hidden, n_latent
        Widths of the encoder.
    label_hidden
        Hidden widths of the cell-type classifier.
    label_weight
        Weight of the cell-type classifier's cross-entropy.
    decoder
        ``"batch"``: the decoder is given the batch, and the adversary reads the latent;
        ``"tied"``: the decoder has the transposed weights of the encoder and no batch, and the
        adversary reads all layers of the encoder, as in the paper.
    normalization, latent_activation, input_dropout
        See :class:`~scmedal_tools.module._autoencoders.Encoder`.
    adversary
        See :class:`~scmedal_tools.module.AdversarySettings`. Without ``adversary_weight`` there is
        no adversary.
    **kwargs
        See :class:`~scmedal_tools.module._base.MedalModule`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> import torch
    >>> settings = smt.train.get_preset("SCMEDAL_FE", "default").module
    >>> module = smt.module.FEModule.from_settings(
    ...     settings, n_input=60, n_batch=4, n_hidden=(16, 8), n_latent=4
    ... )
    >>> outputs = module.inference(torch.rand(10, 60))
    >>> outputs["z"].shape
    torch.Size([10, 4])
    """

    def __init__(
        self,
        n_input: int,
        n_batch: int,
        n_labels: int = 0,
        n_hidden: Sequence[int] = (512, 132),
        n_latent: int = 50,
        *,
        decoder: Decoder,
        normalization: Normalization,
        latent_activation: Activation,
        input_dropout: float,
        adversary: AdversarySettings,
        label_hidden: Sequence[int] = (),
        label_weight: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(n_input, n_batch, adversary=adversary, **kwargs)
        self.n_labels = n_labels
        self.label_weight = label_weight
        self.tied = decoder == "tied"
        widths = [n_input, *n_hidden, n_latent]
        options: dict[str, Any] = {
            "normalization": normalization,
            "latent_activation": latent_activation,
            "input_dropout": input_dropout,
        }
        self.autoencoder = (
            TiedAutoencoder(widths, **options)
            if self.tied
            else BatchAutoencoder(widths, n_levels=self.n_levels, **options)
        )
        if self.adversary_weight:
            self.adversary = Classifier(
                sum(widths[1:]) if self.tied else n_latent,
                adversary.adversary_hidden,
                self.n_levels,
                adversary.adversary_dropout,
            )
        self.label_classifier = Classifier(n_latent, label_hidden, n_labels) if n_labels else None

    def fit_statistics(self, statistics: ExpressionStatistics) -> None:
        """Take over scaling, frequencies and levels that there are from the training cells."""
        if not self.is_fitted and isinstance(self.autoencoder, BatchAutoencoder):
            for effects in self.autoencoder.effects:
                effects.fit_levels(statistics.cells_per_level)
        super().fit_statistics(statistics)

    @auto_move_data
    def inference(self, x: Tensor) -> dict[str, Any]:
        """Latent and the encoder's activations; the batch is not used."""
        x_scaled = self.scaler(x)
        activations = self.autoencoder.encode(x_scaled)
        return {"z": activations[-1], "activations": activations, "x_scaled": x_scaled}

    @auto_move_data
    def generative(self, z: Tensor, levels: Tensor | None = None) -> dict[str, Tensor]:
        """Scaled reconstruction and, with cell types, their logits.

        Without ``levels`` the batch terms of every layer are at their average, zero.
        """
        outputs = {"x_hat": self.autoencoder.decode(z, levels)}
        if self.label_classifier is not None:
            outputs["label_logits"] = self.label_classifier(z)
        return outputs

    def adversary_features(self, inference_outputs: dict[str, Any]) -> Tensor:
        """Latent, or the activations of all encoder layers (scMEDAL, section 4.2.1)."""
        if not self.tied:
            return inference_outputs["z"]
        return torch.cat(inference_outputs["activations"], dim=1)

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Tensor],
    ) -> LossOutput:
        """Loss of the autoencoder; the adversary's own loss belongs to the training plan."""
        per_cell, metrics = self._reconstruction_loss(inference_outputs, generative_outputs)
        contributions = {"reconstruction": self.reconstruction_weight * per_cell.mean()}
        if self.adversary is not None:
            features = self.adversary_features(inference_outputs)
            metrics["adversary_ce"] = self.adversary_cross_entropy(features, tensors)
            contributions["adversary"] = self.adversarial_penalty(metrics["adversary_ce"])
        if self.label_classifier is not None:
            metrics["label_ce"] = self._label_cross_entropy(tensors, generative_outputs)
            contributions["label"] = self.label_weight * metrics["label_ce"]
        loss = self.total_of(contributions, metrics)
        return LossOutput(loss=loss, reconstruction_loss=per_cell, extra_metrics=metrics)

    def _label_cross_entropy(
        self, tensors: dict[str, Tensor], generative_outputs: dict[str, Tensor]
    ) -> Tensor:
        """Mean over the labelled cells; the code after the last cell type means unlabelled."""
        label = tensors[REGISTRY_KEYS.LABELS_KEY].long().reshape(-1)
        labelled = label < self.n_labels
        total = F.cross_entropy(
            generative_outputs["label_logits"],
            torch.where(labelled, label, -100),
            reduction="sum",
        )
        n_labelled = labelled.sum()
        if self.training:
            n_labelled = mean_over_processes(n_labelled)
        return total / n_labelled.clamp_min(1 / n_processes())
