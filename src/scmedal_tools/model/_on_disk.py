"""Registration of cells on disk, which annbatch gives minibatch by minibatch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

from scmedal_tools._compat import obs_on_disk
from scmedal_tools._data import (
    check_factors,
    check_labels,
    check_log_normalised,
    check_names,
    check_obs,
    same_names,
)
from scmedal_tools._how_to_install import how_to_install

from ._collection import build, check_columns_there, check_record, is_complete

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scvi.dataloaders import AnnbatchDataModule

BY_DATA_MODULE = "setup_datamodule"
INSTEAD = {
    "states_key": "states that are given need cells in memory (setup_anndata)",
    "categorical_covariate_keys": "name further factors in random_effect_keys",
    "adatas": "write the cells to files, and pass their paths",
}
# Cells of a file whose expression is looked at before it is copied.
N_FIRST = 1_000


class OnDiskMixin(BaseModelClass):
    """Registration of cells on disk; subclasses give the model."""

    @classmethod
    def setup_annbatch(
        cls,
        collection_path: str | Path,
        paths: Sequence[str | Path] | None = None,
        *,
        batch_key: str,
        labels_key: str | None = None,
        layer: str | None = None,
        unlabeled_category: str = "unlabeled",
        random_effect_keys: Sequence[str] | None = None,
        rebuild: bool = False,
        shuffle: bool = True,
        dataset_size: int | str = "2GB",
        batch_size: int = 4096,
        chunk_size: int = 256,
        preload_nchunks: int = 32,
        **others: Any,
    ) -> AnnbatchDataModule:
        """Register cells in files, more than fit in memory; needs the extra ``outofcore``.

        Copies them once into a collection, in random order, from which annbatch reads them in
        training. The model is made without cells, from the registry of the result.

        The order is that of ``scvi.settings.seed``, if there is one. Where the cells fit into
        ``dataset_size``, it is wholly random. Otherwise runs of 100 neighbouring cells are
        distributed at random over parts of this size, and mixed within these: of a batch of a few
        hundred cells, which stand together in their file, none may be among the validation cells,
        the beginning of the collection. ``train`` warns of such batches.

        Parameters
        ----------
        collection_path
            Folder of the collection. If it is there, it is used, and has to be of these ``paths``
            and ``layer``. What an interrupted call left is built anew.
        paths
            The ``.h5ad`` files to build it from, with the same genes in the same order. Not needed
            if it is there.
        batch_key, labels_key, unlabeled_category, random_effect_keys
            See :meth:`setup_anndata`. Levels are text in the model, also if they are numbers.
        layer
            Layer with the log-normalised expression; ``None`` for ``X``.
        rebuild
            Build the collection anew.
        shuffle
            Bring the cells into random order. Otherwise the first cells of the first file are the
            validation cells, and cells that stand together are read together.
        dataset_size
            Cells that are held in memory when the collection is built, or their size.
        batch_size
            Cells in a minibatch of ``inference_dataloader()``; ``train`` has its own, which has to
            divide ``chunk_size * preload_nchunks``.
        chunk_size, preload_nchunks
            Cells that are read together, and how many such chunks are held in memory and mixed.
        **others
            Nothing else of scvi-tools' method is offered: states that are given (``states_key``)
            and samples drawn by class need cells in memory.

        Returns
        -------
        scvi.dataloaders.AnnbatchDataModule
            For ``train(datamodule=...)``. Its ``registry`` makes the model, and its
            ``inference_dataloader()`` is a ``dataloader`` of all cells, in the collection's order.

        Raises
        ------
        ImportError
            If annbatch is not installed.
        TypeError
            For an argument that is not offered.
        ValueError
            If the first cells of a file are not log-normalised, the files differ in genes or are
            stored gene by gene, a column is missing, incomplete or has a single level, or the
            collection is there and was built from other files or another layer.

        Examples
        --------
        >>> import scmedal_tools as smt
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> adata.write_h5ad(folder / "cells.h5ad")
        >>> cells = smt.model.SCMEDAL_FE.setup_annbatch(
        ...     folder / "cells.zarr", [folder / "cells.h5ad"], batch_key="donor"
        ... )
        >>> model = smt.model.SCMEDAL_FE(registry=cells.registry)
        >>> model.train(datamodule=cells, max_epochs=2, enable_progress_bar=False)
        >>> model.get_latent_representation(dataloader=cells.inference_dataloader()).shape
        (240, 50)
        """
        if others:
            hints = "; ".join(INSTEAD[name] for name in others if name in INSTEAD)
            raise TypeError(
                f"setup_annbatch of scmedal-tools does not take {', '.join(others)}"
                f"{hints and ': '}{hints}."
            )
        if find_spec("annbatch") is None:
            raise ImportError(f"setup_annbatch needs annbatch. {how_to_install('outofcore')}")
        factors = None if random_effect_keys is None else list(random_effect_keys)
        columns = [batch_key, *([labels_key] if labels_key else []), *(factors or [])]
        place = Path(collection_path)
        is_used_again = is_complete(place) and not rebuild
        if is_used_again:
            check_record(place, paths, layer)
            check_columns_there(place, columns)
        else:
            obs = _obs_of_checked(paths or (), columns, layer)
            _check_columns(obs, batch_key, labels_key, factors, unlabeled_category)
            build(place, paths or (), layer, shuffle, dataset_size)
        cells: AnnbatchDataModule = super().setup_annbatch(
            str(place),
            batch_key=batch_key,
            labels_key=labels_key,
            unlabeled_category=unlabeled_category,
            layer=layer,
            categorical_covariate_keys=factors,
            rebuild=False,
            batch_size=batch_size,
            chunk_size=chunk_size,
            preload_nchunks=preload_nchunks,
            preload_to_gpu=torch.cuda.is_available() and find_spec("cupy") is not None,
            shuffle=shuffle,
        )
        if is_used_again:
            first = next(iter(cells.inference_dataloader()))[REGISTRY_KEYS.X_KEY]
            check_log_normalised(AnnData(first.cpu().numpy()))
            obs = obs_on_disk(cells)
            _check_columns(obs, batch_key, labels_key, factors, unlabeled_category)
        if cells.label_encoder is not None:
            # As in memory: the code after those of the cell types means unlabelled.
            labels = cells.label_encoder.classes_
            places = np.flatnonzero(labels == unlabeled_category)
            labels[[*places, -1]] = labels[[-1, *places]]
        return cells


def _obs_of_checked(
    paths: Sequence[str | Path], columns: list[str], layer: str | None
) -> pd.DataFrame:
    """Columns of all files, before anything is copied; refuses files that do not fit."""
    genes: pd.Index | None = None
    obs = []
    for path in paths:
        with h5py.File(path) as file:
            if layer is not None and layer not in file.get("layers", ()):
                there = ", ".join(map(repr, file.get("layers", ()))) or "no layer"
                raise ValueError(f"{path}: layer={layer!r} is not there. It has {there}.")
            stored = file["X" if layer is None else f"layers/{layer}"]
            if stored.attrs.get("encoding-type") == "csc_matrix":
                raise ValueError(
                    f"{path} keeps expression gene by gene, and cells are read one by one: write "
                    "it as a csr_matrix (`adata.X = adata.X.tocsr()`)."
                )
            first = _first_cells(file, stored, layer)
            check_log_normalised(first, layer)
            check_names(first)
            of_file = read_elem(file["obs"])
        genes = first.var_names if genes is None else genes
        if not same_names(first.var_names, genes):
            raise ValueError(
                f"{path}: its genes are not those of {paths[0]}, in the same order. Take those "
                "that all files have, in one order, before they are written."
            )
        missing = [column for column in columns if column not in of_file]
        if missing:
            there = ", ".join(map(repr, of_file))
            raise ValueError(f"{path}: obs has no column {missing[0]!r}. It has {there}.")
        obs.append(of_file[columns])
    if not obs:
        raise ValueError("There is no collection yet: pass `paths`, the files to build it from.")
    return pd.concat(obs, ignore_index=True).rename(index=str)


def _first_cells(file: h5py.File, stored: h5py.Group | h5py.Dataset, layer: str | None) -> AnnData:
    x = (sparse_dataset(stored) if isinstance(stored, h5py.Group) else stored)[:N_FIRST]
    return AnnData(x, var=read_elem(file["var"])[[]], layers={} if layer is None else {layer: x})


def _check_columns(
    obs: pd.DataFrame,
    batch_key: str,
    labels_key: str | None,
    factors: list[str] | None,
    unlabeled_category: str,
) -> None:
    cells = AnnData(obs=obs)
    check_obs(cells, batch_key)
    if factors is not None:
        check_factors(cells, factors, obs[batch_key])
    if labels_key is not None:
        check_labels(cells, labels_key, unlabeled_category)


def as_if_in_memory(registry: dict) -> dict:
    """Registry of a data module, as :meth:`setup_anndata` would have made it of its cells.

    So that a model of cells on disk takes cells in memory too, and is saved without the module.
    """
    if registry.get("setup_method_name") != BY_DATA_MODULE:
        return registry
    setup, fields = registry["setup_args"], registry["field_registries"]
    crossed = setup["categorical_covariate_keys"]
    states = {key: dict(field["state_registry"]) for key, field in fields.items()}
    batches, labels = states[REGISTRY_KEYS.BATCH_KEY], states[REGISTRY_KEYS.LABELS_KEY]
    batches["categorical_mapping"] = np.asarray(batches["categorical_mapping"], dtype=object)
    unlabeled = labels["unlabeled_category"]
    if setup["labels_key"] is None:
        labels = {"categorical_mapping": np.zeros(1, dtype=int), "original_key": "_scvi_labels"}
    kept = {
        REGISTRY_KEYS.X_KEY: states[REGISTRY_KEYS.X_KEY],
        REGISTRY_KEYS.BATCH_KEY: batches,
        REGISTRY_KEYS.LABELS_KEY: labels,
    }
    if crossed is not None:
        joint = states[REGISTRY_KEYS.CAT_COVS_KEY]
        joint["mappings"] = joint.pop("mapping")
        kept[REGISTRY_KEYS.CAT_COVS_KEY] = joint
    return {
        "scvi_version": registry["scvi_version"],
        "model_name": registry["model_name"],
        "setup_method_name": "setup_anndata",
        "setup_args": {
            "batch_key": setup["batch_key"],
            "labels_key": setup["labels_key"],
            "layer": setup["layer"],
            "unlabeled_category": unlabeled,
            "random_effect_keys": crossed,
            "states_key": None,
        },
        "field_registries": {
            key: fields[key] | {"state_registry": state} for key, state in kept.items()
        },
    }
