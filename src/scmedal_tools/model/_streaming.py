"""Counterfactual expression of many cells, written to disk and taken up where it stopped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from ._stores import Contents, store_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anndata import AnnData
    from scvi.module.base import BaseModuleClass

CELLS_PER_BLOCK = 4_096
VALUES_PER_BLOCK = 2**25  # 128 MiB


def stream(
    out: str | Path,
    values_of: Callable[[np.ndarray], np.ndarray],
    cells: np.ndarray,
    adata: AnnData,
    genes: np.ndarray,
    module: BaseModuleClass,
    settings: dict,
) -> Path | np.memmap:
    """Write ``values_of`` all cells to a file, block by block.

    Parameters
    ----------
    out
        Path that ends in ``.zarr`` or ``.npy``. If it holds the first blocks of the same request,
        the rest is added.
    values_of
        Gives the values of the cells at some positions, of shape (targets, cells, genes), or
        (summaries, targets, cells, genes) if ``settings`` have an interval.
    cells, adata, genes
        Positions of all cells and genes to write, and the data in which they are.
    module
        The network, which is part of the request.
    settings
        The rest of the request, with the names of the ``"targets"``.

    Returns
    -------
    pathlib.Path or numpy.memmap
        Path of the zarr store, or the array of the ``.npy`` file.

    Raises
    ------
    ValueError
        If the path has another end, or holds anything else.
    """
    path = Path(out)
    obs, var = adata.obs.iloc[cells], adata.var.iloc[genes]
    targets = ["mean"] if settings["aggregate"] == "mean" else settings["targets"]
    contents = Contents(obs, var, targets, settings, settings["interval"] is not None)
    store = store_at(path, contents)
    request = settings | {
        "hash of the cells": _hash(name.encode() for name in obs.index),
        "hash of the genes": _hash(name.encode() for name in var.index),
        "hash of the model": _hash_of_parameters(module),
    }
    request = json.loads(json.dumps(request, default=np.generic.item))
    values_per_cell = int(np.prod(contents.shape)) // len(cells)
    n_block = int(np.clip(VALUES_PER_BLOCK // values_per_cell, 1, CELLS_PER_BLOCK))
    if path.exists():
        n_done = _cells_done(store.read_record(), request, path)
    else:
        n_done = 0
        store.create(n_block, {"request": request, "n_done": n_done})
    with tqdm(total=len(cells), initial=n_done, desc=path.name, unit=" cells") as bar:
        for start in range(n_done, len(cells), n_block):
            block = cells[start : start + n_block]
            record = {"request": request, "n_done": start + len(block)}
            store.write(start, values_of(block), record)
            bar.update(len(block))
    return store.result()


def _cells_done(record: dict | None, request: dict, path: Path) -> int:
    """Find how many cells the file at the path holds, which has to be of the same request."""
    otherwise = "Delete it, or choose another path."
    if record is None:
        raise ValueError(f"{path} is there, and is not a result of this function. {otherwise}")
    there = record["request"]
    if there != request:
        differing = "; ".join(
            f"{key}: {there.get(key)!r} there, {value!r} now"
            for key, value in request.items()
            if there.get(key) != value
        )
        raise ValueError(f"{path} holds the result of another request ({differing}). {otherwise}")
    return record["n_done"]


def _hash(parts: Iterable) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _hash_of_parameters(module: BaseModuleClass) -> str:
    return _hash(np.ascontiguousarray(value.cpu()) for value in module.state_dict().values())
