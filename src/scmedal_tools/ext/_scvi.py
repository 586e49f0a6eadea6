"""scVI and scANVI, as scvi-tools has them, with the paper's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.callbacks import LambdaCallback
from scvi.model import SCANVI, SCVI

from scmedal_tools._data import check_counts, slots
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.train import say_why_it_stopped

from ._common import ComparatorRun, need_labels, random_state, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData
    from scvi.model.base import BaseModelClass

# scMEDAL, supplement 2.3.3.
PAPER_SETTINGS: Final = {
    "n_hidden": 132,
    "n_latent": 50,
    "n_layers": 2,
    "gene_likelihood": "zinb",
    "dispersion": "gene",
}
UNLABELED = "unlabeled"


@with_shared_parts
def scvi(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    splits: Sequence[np.ndarray] | None = None,
    key_added: str = "X_scvi",
    seed: int = 0,
    layer: str = slots.COUNTS_LAYER,
    max_epochs: int = 500,
    batch_size: int = 512,
    patience: int = 30,
    progress: bool = True,
    **settings: Any,
) -> str:
    """Means of scVI's latent (Lopez et al., 2018).

    Parameters
    ----------
    adata, batch_key, labels_key, key_added
        See :func:`pca`; the batch is scVI's covariate, and ``X`` is not used.
    %(splits)s
        Training stops when the validation loss no longer improves. Without validation cells a
        tenth of the training cells serves as such: pass ``[train, [], rest]`` for the paper's
        protocol.
    %(network_seed)s
    layer
        Layer with the raw counts.
    max_epochs, batch_size
        Largest number of epochs, and cells in a minibatch.
    patience
        Epochs without gain after which training stops. The last weights are kept.
    %(progress)s
    **settings
        Arguments of :class:`scvi.model.SCVI` that replace the paper's: ``n_hidden=132``,
        ``n_latent=50``, ``n_layers=2``, ``gene_likelihood="zinb"``, ``dispersion="gene"``.

    %(key)s

    Raises
    ------
    ValueError
        If the layer does not exist or does not hold raw counts, or the columns or splits are
        not usable.

    Notes
    -----
    The batch is not an input of the encoder, so cells of batches without training cells are
    embedded like all others.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.ext.scvi(adata, batch_key="donor", n_latent=5, max_epochs=2, progress=False)
    'X_scvi'
    >>> adata.obsm["X_scvi"].shape
    (240, 5)
    """
    run = ComparatorRun("scvi", adata, batch_key, None, splits, key_added, seed)
    return _embed(run, layer, settings, max_epochs, batch_size, patience, progress)


@with_shared_parts
def scanvi(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    splits: Sequence[np.ndarray] | None = None,
    key_added: str = "X_scanvi",
    seed: int = 0,
    layer: str = slots.COUNTS_LAYER,
    max_epochs: int = 500,
    batch_size: int = 512,
    patience: int = 30,
    progress: bool = True,
    **settings: Any,
) -> str:
    """Means of scANVI's latent (Xu et al., 2021), whose training starts from :func:`scvi`.

    Parameters
    ----------
    adata, batch_key, splits, key_added, seed, layer, progress, **settings
        See :func:`scvi`.
    %(learned_labels)s
    max_epochs, batch_size, patience
        See :func:`scvi`; they hold for both trainings.

    %(key)s

    Raises
    ------
    ValueError
        As :func:`scvi`, and without ``labels_key``.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.ext.scanvi(
    ...     adata,
    ...     batch_key="donor",
    ...     labels_key="cell_type",
    ...     n_latent=5,
    ...     max_epochs=2,
    ...     progress=False,
    ... )
    'X_scanvi'
    >>> adata.obsm["X_scanvi"].shape
    (240, 5)
    """
    need_labels("scanvi", labels_key)
    run = ComparatorRun("scanvi", adata, batch_key, labels_key, splits, key_added, seed)
    return _embed(run, layer, settings, max_epochs, batch_size, patience, progress)


def _embed(
    run: ComparatorRun,
    layer: str,
    settings: dict[str, Any],
    max_epochs: int,
    batch_size: int,
    patience: int,
    progress: bool,
) -> str:
    check_counts(run.adata, layer)
    settings = PAPER_SETTINGS | settings
    cells, splits = run.own_cells(layer), run.splits_with_validation()
    training = {"max_epochs": max_epochs, "batch_size": batch_size}

    def fit(model: BaseModelClass) -> None:
        train(
            model,
            splits,
            progress=progress,
            early_stopping=True,
            early_stopping_patience=patience,
            callbacks=[LambdaCallback(on_fit_end=say_why_it_stopped)],
            # Batch normalisation cannot use a minibatch of one cell.
            datasplitter_kwargs={"drop_last": splits[0].size % batch_size == 1},
            **training,
        )

    with random_state(run.seed):  # the registration, too, draws from numpy's global generator
        SCVI.setup_anndata(cells, batch_key=run.batch_key, labels_key=run.labels_key)
        models = [SCVI(cells, **settings)]
        fit(models[0])
        if run.method == "scanvi":
            models.append(SCANVI.from_scvi_model(models[0], unlabeled_category=UNLABELED))
            fit(models[1])
        latent = models[-1].get_latent_representation()
    for model in models:
        model.deregister_manager(cells)
    settings = settings | training | {"layer": layer, "patience": patience}
    return run.write(latent, settings, epochs=models[-1].trainer.current_epoch)
