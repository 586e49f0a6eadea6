"""SAUCIE's batch correction, written from its publication on the package's own trunk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.model import SCMEDAL_FE
from scmedal_tools.module import WEIGHTED, FEModule, levels_of
from scmedal_tools.train import get_preset

from ._common import ComparatorRun, random_state, train
from ._mmd_to_reference import mmd_to_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData
    from scvi.module.base import LossOutput
    from torch import Tensor

    from scmedal_tools.module import ExpressionStatistics
    from scmedal_tools.train import Preset


class SaucieModule(FEModule):
    r"""Autoencoder that pays for the distance of every batch to a reference in the latent.

    The reference is the batch with the most training cells.

    Parameters
    ----------
    n_input
        Number of genes; a cell's squared errors are summed over them.
    mmd_weight
        Weight of the distance, SAUCIE's :math:`\lambda_b`.
    *args, **kwargs
        See :class:`~scmedal_tools.module.FEModule`.
    """

    reference: Tensor

    def __init__(self, n_input: int, *args: Any, mmd_weight: float, **kwargs: Any):
        super().__init__(n_input, *args, **kwargs)
        self.reconstruction_weight *= n_input
        self.mmd_weight = mmd_weight
        self.register_buffer("reference", torch.zeros((), dtype=torch.long))

    def fit_statistics(self, statistics: ExpressionStatistics) -> None:
        """Take over scaling and reference from the training cells."""
        super().fit_statistics(statistics)
        self.reference.fill_(int(statistics.cells_per_batch.argmax()))

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Tensor],
    ) -> LossOutput:
        """Loss of the autoencoder, and the weighted distance between the batches."""
        output = super().loss(tensors, inference_outputs, generative_outputs)
        z, batch = inference_outputs["z"], levels_of(tensors)[:, 0]
        mmd = mmd_to_reference(z, batch, self.n_batch, self.reference)
        contribution = self.mmd_weight * mmd
        metrics = {"mmd": mmd, f"{WEIGHTED}mmd": contribution}
        return replace(
            output,
            loss=output.loss + contribution,
            extra_metrics=output.extra_metrics | metrics,
        )


class Saucie(SCMEDAL_FE):
    """Model around the module: registration, scaling and training are those of SCMEDAL_FE."""

    _module_cls = SaucieModule

    @classmethod
    def _named_preset(cls, name: str) -> Preset:
        """The paper's trunk and optimiser, with the linear latent of SAUCIE's publication."""
        return get_preset("SCMEDAL_FE", "paper").with_module(
            adversary_weight=0.0,
            reconstruction_weight=1.0,
            latent_activation="linear",
            mmd_weight=1e-3,
        )


@with_shared_parts
def saucie(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    splits: Sequence[np.ndarray] | None = None,
    key_added: str = "X_saucie",
    seed: int = 0,
    mmd_weight: float = 1e-3,
    max_epochs: int = 50,
    progress: bool = True,
    **settings: Any,
) -> str:
    r"""SAUCIE's batch correction (Amodio et al., 2019), rebuilt: not the authors' program.

    An autoencoder of widths 512, 132 and 50, whose loss is the squared error of a cell's scaled
    expression, summed over the genes, plus ``mmd_weight`` times the squared maximum mean
    discrepancy, in the latent, of every batch to the one with the most training cells. As in the
    scMEDAL paper (supplement 2.3.3) the clustering terms are off, :math:`\lambda_c = \lambda_d =
    0`, and it is trained for 50 epochs with a learning rate of 1e-4.

    Parameters
    ----------
    adata, batch_key, labels_key, key_added
        See :func:`pca`; the batch is what is corrected.
    %(splits)s
        Only the first are used, as there is no early stopping.
    seed
        Random state of the network and its training.
    mmd_weight
        SAUCIE's :math:`\lambda_b`: 0.001 as for ASD and AML; the paper has 0.0005 for the heart.
    max_epochs
        Number of epochs.
    %(progress)s
    **settings
        Arguments of the model that replace these, for example ``n_hidden`` and ``n_latent``.

    %(key)s

    Raises
    ------
    %(as_pca)s

    Notes
    -----
    SAUCIE has no maintained package. What its publication leaves open, or what the trunk brings,
    is ours: SELU with batch normalisation, tied weights, min-max scaling, minibatches of 512, a
    kernel of five widths, the unbiased estimate of the discrepancy. That errors are summed over
    the genes, and not averaged, was chosen as it is nearer to what the scMEDAL paper prints.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.ext.saucie(adata, batch_key="donor", n_latent=5, max_epochs=2, progress=False)
    'X_saucie'
    >>> adata.obsm["X_saucie"].shape
    (240, 5)
    """
    run = ComparatorRun("saucie", adata, batch_key, None, splits, key_added, seed)
    settings = {"mmd_weight": mmd_weight, **settings}
    cells = run.own_cells()
    Saucie.setup_anndata(cells, batch_key=batch_key)
    with random_state(seed):
        model = Saucie(cells, **settings)
        train(model, run.parts, progress=progress, max_epochs=max_epochs)
    latent = model.get_latent_representation()
    model.deregister_manager(cells)
    return run.write(latent, settings, epochs=model.trainer.current_epoch)
