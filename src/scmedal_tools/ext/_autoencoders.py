"""Autoencoders of the paper: the tied fixed-effects network without its adversary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.model import SCMEDAL_FE, SCMEDAL_FEC

from ._common import ComparatorRun, need_labels, random_state, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData

# scMEDAL, supplementary Tables S2-S4.
PAPER_WEIGHTS: dict[type, dict[str, float]] = {
    SCMEDAL_FE: {"reconstruction_weight": 1.0},
    SCMEDAL_FEC: {"reconstruction_weight": 100.0, "label_weight": 0.1},
}
PAPER_LABEL_WEIGHT_AML = 0.6
# No adversary, and no batch either.
PLAIN: dict[str, Any] = {"adversary_weight": 0.0, "decoder": "tied", "input_dropout": 0.0}


@with_shared_parts
def ae(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    splits: Sequence[np.ndarray] | None = None,
    key_added: str = "X_ae",
    seed: int = 0,
    preset: str = "default",
    max_epochs: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> str:
    """Autoencoder (AE) that is not given the batch, and has no adversary.

    It is the network of the paper's :class:`~scmedal_tools.model.SCMEDAL_FE`.

    Parameters
    ----------
    adata, batch_key, labels_key, key_added
        See :func:`pca`; neither column is used.
    %(splits)s
        Without validation cells a tenth of the training cells serves as such.
    %(network_seed)s
    preset
        Settings of the network and its training: ``"default"``, or the paper's with its weights
        of the AE, ``"paper"`` (as for AML), ``"paper-aml"``, ``"paper-asd"``, ``"paper-heart"``.
    max_epochs
        Largest number of epochs; by default the preset's.
    %(progress)s
    **settings
        Arguments of the model that replace the preset's, for example ``n_latent`` or
        ``reconstruction_weight``.

    %(key)s

    Raises
    ------
    %(as_pca)s

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.ext.ae(adata, batch_key="donor", n_latent=5, max_epochs=2, progress=False)
    'X_ae'
    >>> adata.obsm["X_ae"].shape
    (240, 5)
    """
    run = ComparatorRun("ae", adata, batch_key, None, splits, key_added, seed)
    return _autoencode(run, SCMEDAL_FE, preset, settings, max_epochs, progress)


@with_shared_parts
def aec(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    splits: Sequence[np.ndarray] | None = None,
    key_added: str = "X_aec",
    seed: int = 0,
    preset: str = "default",
    max_epochs: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> str:
    """Autoencoder-classifier (AEC): an autoencoder whose latent also predicts the cell type.

    It is not given the batch, and has no adversary.

    Parameters
    ----------
    adata, batch_key, splits, key_added, seed, preset, max_epochs, progress, **settings
        See :func:`ae`; ``preset="paper"`` has the paper's weights of the AEC, and
        ``label_weight`` is the weight of the classifier.
    %(learned_labels)s

    %(key)s

    Raises
    ------
    ValueError
        As :func:`pca`, and without ``labels_key``.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.ext.aec(
    ...     adata,
    ...     batch_key="donor",
    ...     labels_key="cell_type",
    ...     n_latent=5,
    ...     max_epochs=2,
    ...     progress=False,
    ... )
    'X_aec'
    >>> adata.obsm["X_aec"].shape
    (240, 5)
    """
    need_labels("aec", labels_key)
    run = ComparatorRun("aec", adata, batch_key, labels_key, splits, key_added, seed)
    return _autoencode(run, SCMEDAL_FEC, preset, settings, max_epochs, progress)


@with_shared_parts
def aec_batch(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    splits: Sequence[np.ndarray] | None = None,
    key_added: str = "X_aec_batch",
    seed: int = 0,
    preset: str = "default",
    max_epochs: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> str:
    """AEC whose latent predicts the batch instead of the cell type (the paper's ablation).

    It shows what a classifier of the batch gives without random effects.

    Parameters
    ----------
    adata, batch_key, splits, key_added, seed, preset, max_epochs, progress, **settings
        See :func:`aec`.
    labels_key
        Not used.

    %(key)s

    Raises
    ------
    %(as_pca)s

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.ext.aec_batch(adata, batch_key="donor", n_latent=5, max_epochs=2, progress=False)
    'X_aec_batch'
    >>> adata.obsm["X_aec_batch"].shape
    (240, 5)
    """
    run = ComparatorRun("aec_batch", adata, batch_key, batch_key, splits, key_added, seed)
    return _autoencode(run, SCMEDAL_FEC, preset, settings, max_epochs, progress)


def _autoencode(
    run: ComparatorRun,
    model_class: type[SCMEDAL_FE | SCMEDAL_FEC],
    preset: str,
    settings: dict[str, Any],
    max_epochs: int | None,
    progress: bool,
) -> str:
    settings = _paper_weights(model_class, preset) | settings
    cells = run.own_cells()
    model_class.setup_anndata(cells, batch_key=run.batch_key, labels_key=run.labels_key)
    with random_state(run.seed):
        model = model_class(cells, preset=preset, **PLAIN, **settings)
        splits = run.splits_with_validation()
        train(model, splits, progress=progress, max_epochs=max_epochs)
    latent = model.get_latent_representation()
    model.deregister_manager(cells)
    settings = {"preset": preset, "max_epochs": max_epochs} | settings
    return run.write(latent, settings, epochs=model.trainer.current_epoch)


def _paper_weights(model_class: type, preset: str) -> dict[str, float]:
    if not preset.startswith("paper"):
        return {}
    weights = PAPER_WEIGHTS[model_class]
    if model_class is SCMEDAL_FEC and preset in ("paper", "paper-aml"):
        weights = weights | {"label_weight": PAPER_LABEL_WEIGHT_AML}
    return weights
