"""Write a model's latent into the AnnData."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from scmedal_tools import __version__, _keys

from ._umap import umap_key

if TYPE_CHECKING:
    from anndata import AnnData

    from scmedal_tools.model._base import MedalModel

OBSM_KEYS = {
    "SCMEDAL_FE": _keys.FE,
    "SCMEDAL_FEC": _keys.FEC,
    "SCMEDAL_RE": _keys.RE,
}


def embed(adata: AnnData, model: MedalModel, key_added: str | None = None) -> str:
    """Write the model's latent of every cell to ``adata.obsm``.

    Parameters
    ----------
    adata
        Cells to embed; modified.
    model
        Trained model.
    key_added
        Name in ``obsm``; by default ``"X_scmedal_fe"``, ``"X_scmedal_fec"`` or
        ``"X_scmedal_re"``.

    Returns
    -------
    str
        The name, for ``sc.pp.neighbors(adata, use_rep=...)``.

    Notes
    -----
    Writes ``adata.obsm[key]`` of shape ``(n_cells, n_latent)`` and a record of the model's class,
    preset, settings that replace the preset's, batches and version to
    ``adata.uns["scmedal"][key]``. Drops the UMAP of an embedding that is overwritten.

    Examples
    --------
    >>> key = embed(adata, model)  # doctest: +SKIP
    >>> sc.pp.neighbors(adata, use_rep=key)  # doctest: +SKIP
    """
    key = key_added or OBSM_KEYS[type(model).__name__]
    adata.obsm[key] = model.get_latent_representation(adata)
    adata.obsm.pop(umap_key(key), None)
    setup = model.registry["setup_args"]
    record = {
        "model": type(model).__name__,
        "preset": model.preset_,
        "batch_key": setup["batch_key"],
        "labels_key": setup["labels_key"] or "",
        "settings": json.dumps(model.init_params_["kwargs"]["module_kwargs"], default=str),
        "n_latent": adata.obsm[key].shape[1],
        "epochs": len(model.history["train_loss"]),
        "scmedal_tools": __version__,
    }
    adata.uns[_keys.PROVENANCE] = {**adata.uns.get(_keys.PROVENANCE, {}), key: record}
    return key
