"""Write a model's latent to the data from which it was computed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from scmedal_tools import __version__
from scmedal_tools._data import EXPRESSION, check_key, part_of, slots
from scmedal_tools._docs import with_shared_parts

from ._models import check_is_model
from ._umap import umap_key

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from scmedal_tools.model import MedalModel, UnseenBatch

OBSM_KEYS = {
    "SCMEDAL_FE": slots.FE_LATENT,
    "SCMEDAL_FEC": slots.FEC_LATENT,
    "SCMEDAL_RE": slots.RE_LATENT,
}


@with_shared_parts
def embed(
    adata: AnnData | MuData,
    model: MedalModel,
    key_added: str | None = None,
    unseen_batch: UnseenBatch = "error",
) -> str:
    """Write the model's latent of every cell to ``adata.obsm``.

    Of a MuData, to ``obsm`` of the modality with the expression: ``mdata["rna"].obsm``.

    Parameters
    ----------
    adata
        Cells to embed; modified. A MuData if the model was registered with one.
    model
        Trained model.
    key_added
        Name in ``obsm``; by default ``"X_scmedal_fe"``, ``"X_scmedal_fec"`` or
        ``"X_scmedal_re"``.
    unseen_batch
        See :meth:`~scmedal_tools.model.SCMEDAL_FE.get_latent_representation`.

    Returns
    -------
    str
        The name, for ``sc.pp.neighbors(adata, use_rep=...)``, of a MuData
        ``sc.pp.neighbors(mdata["rna"], use_rep=...)``.

    Raises
    ------
    TypeError
        If ``model`` is not a model of this package.
    %(untrained)s
    ValueError
        If the cells do not fit the training data, or no file can hold ``key_added``.

    Notes
    -----
    Writes ``adata.obsm[key]`` of shape ``(n_cells, n_latent)`` and a record of the model's class,
    preset, settings that replace the preset's, batches, version, what the expression was taken
    for (``taken_as``), the ``seed`` and, unless it was trained with ``logger=False``, epochs to
    ``adata.uns["scmedal"][key]``; of a MuData both to the modality.
    Drops the UMAP of an embedding that is overwritten.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.tl.embed(adata, model)
    'X_scmedal_re'
    >>> adata.obsm["X_scmedal_re"].shape
    (240, 4)
    >>> adata.uns["scmedal"]["X_scmedal_re"]["batch_key"]
    'donor'
    """
    check_is_model(model, "tl.embed(adata, model)")
    key = OBSM_KEYS[type(model).__name__] if key_added is None else key_added
    check_key(key)
    latent = model.get_latent_representation(adata, unseen_batch=unseen_batch)
    setup = model.registry["setup_args"]
    cells = part_of(adata, setup, EXPRESSION)
    record = {
        "model": type(model).__name__,
        "preset": model.preset_,
        "batch_key": setup["batch_key"],
        "labels_key": setup["labels_key"] or "",
        "settings": json.dumps(model.init_params_["kwargs"]["module_kwargs"], default=str),
    }
    if "train_loss" in (model.history or {}):  # not after train(logger=...)
        record["epochs"] = len(model.history["train_loss"])
    # A file holds no None: it stands for no seed, or a model saved before these were kept.
    known = {"taken_as": model.taken_as_, "seed": model.seed_}
    record |= {name: value for name, value in known.items() if value is not None}
    write_embedding(cells, key, latent, record)
    return key


def write_embedding(adata: AnnData, key: str, latent: np.ndarray, record: dict[str, Any]) -> None:
    """Write an embedding and the record of its origin; drop the UMAP of one that it replaces."""
    adata.obsm[key] = latent
    adata.obsm.pop(umap_key(key), None)
    record = record | {"n_latent": latent.shape[1], "scmedal_tools": __version__}
    adata.uns[slots.PROVENANCE] = {**adata.uns.get(slots.PROVENANCE, {}), key: record}
