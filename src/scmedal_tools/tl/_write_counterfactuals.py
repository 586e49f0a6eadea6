"""Counterfactual expression of many cells, written to disk and taken up where it stopped."""

from __future__ import annotations

import errno
import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from scvi import settings

from scmedal_tools._data import EXPRESSION, check_argument, one_of, part_of, whole
from scmedal_tools._docs import with_shared_parts
from scmedal_tools._progress import tqdm
from scmedal_tools.model import (
    check_interval_of_draws,
    checked_request,
    in_parts,
    warn_of_extrapolation,
)

from ._models import check_has_draws
from ._stores import Contents, store_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData
    from scvi.module.base import BaseModuleClass

    from scmedal_tools.model import SCMEDAL_RE, Swap, Target, UnseenBatch

CELLS_PER_BLOCK = 4_096
VALUES_PER_BLOCK = 2**25  # 128 MiB


@with_shared_parts
def write_counterfactuals(
    model: SCMEDAL_RE,
    adata: AnnData | MuData,
    transform_batch: Target | Sequence[Target],
    path: str | Path,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    gene_list: Sequence[str] | None = None,
    n_samples: int | None = None,
    interval: float | None = None,
    swap: Swap | None = None,
    aggregate: Literal["mean"] | None = None,
    keep_residual: bool = False,
    batch_size: int | None = None,
    unseen_batch: UnseenBatch = "error",
    progress: bool = True,
) -> Path | np.memmap:
    """Write counterfactual expression of many cells to a file, in blocks of cells.

    The result is never held in memory. A call that was interrupted goes on where it stopped.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`.
    adata
        Cells, in memory or backed by a file.
    path
        Where to write. A path that ends in ``.zarr`` gives a store for :func:`anndata.read_zarr`:
        the cells' ``obs``, the genes' ``var``, and a layer for each target (of its mean, with
        ``interval`` also ``"<target>_sd"``, ``"<target>_lower"`` and ``"<target>_upper"``; ``/``
        in a name becomes ``_``). One in ``.npy`` gives an array of shape ``(n_targets, n_cells,
        n_genes)``, with ``interval`` ``(4, n_targets, n_cells, n_genes)``.
    transform_batch, indices, gene_list, n_samples, interval, swap
        See :meth:`~scmedal_tools.model.SCMEDAL_RE.get_counterfactual_expression`.
    aggregate, keep_residual, batch_size, unseen_batch
        See there too.
    progress
        Show a progress bar over the cells.

    Returns
    -------
    pathlib.Path or numpy.memmap
        Path of the zarr store, or the array in the ``.npy`` file, opened to be read.

    Raises
    ------
    %(not_re)s
    ValueError
        If the path has another end, or holds anything but the beginning of the same result; and
        as ``get_counterfactual_expression``.
    OSError
        If the disk is full. The same call goes on once there is space.

    Warns
    -----
    UserWarning
        As ``get_counterfactual_expression``, once for all cells.

    Examples
    --------
    >>> import anndata as ad
    >>> import scmedal_tools as smt
    >>> targets = ["donor_02", "population"]
    >>> path = smt.tl.write_counterfactuals(model, adata, targets, "c.zarr", progress=False)
    >>> sorted(ad.read_zarr(path).layers)
    ['donor_02', 'population']
    """
    path = Path(path)
    check_has_draws(model, 1 if n_samples is None else n_samples)
    # The model refuses these too, but only with the first cells, when there is a file already.
    check_argument("batch_size", batch_size, whole(), or_none=True)
    check_argument("aggregate", aggregate, one_of(Literal["mean"]), or_none=True)
    if interval is not None:
        check_interval_of_draws(interval, n_samples)
    asked = checked_request(model, adata, indices, transform_batch, gene_list, swap, unseen_batch)
    adata, cells = asked.adata, asked.cells
    expression = part_of(adata, model.registry["setup_args"], EXPRESSION)
    targets = [str(name) for name in asked.targets]
    request = {
        "targets": targets,
        "aggregate": aggregate,
        "swap": asked.swap,
        "keep_residual": keep_residual,
        "n_samples": n_samples,
        "interval": interval,
        "unseen_batch": unseen_batch,
        "seed": None if n_samples is None else settings.seed or 0,
    }
    obs = expression.obs.iloc[cells]
    var = expression.var.iloc[asked.genes]
    written = ["mean"] if aggregate == "mean" else targets
    contents = Contents(obs, var, written, dict(request), interval is not None)
    store = store_at(path, contents)
    request |= {
        "hash of the cells": _hash(name.encode() for name in obs.index),
        "hash of the genes": _hash(name.encode() for name in var.index),
        "hash of the model": _hash_of_parameters(model.module),
    }
    request = json.loads(json.dumps(request, default=np.generic.item))
    values_per_cell = int(np.prod(contents.shape)) // len(cells)
    n_block = int(np.clip(VALUES_PER_BLOCK // values_per_cell, 1, CELLS_PER_BLOCK))
    n_done = _cells_done(store.read_record(), request, path) if path.exists() else 0
    if n_done < len(cells):
        warn_of_extrapolation(model, transform_batch, adata, cells, unseen_batch)

    def values_of(block: np.ndarray) -> np.ndarray:
        found = model.get_counterfactual_expression(
            adata,
            block,
            transform_batch,
            gene_list,
            n_samples,
            return_numpy=True,
            batch_size=batch_size,
            swap=swap,
            aggregate=aggregate,
            keep_residual=keep_residual,
            interval=interval,
            unseen_batch=unseen_batch,
        )
        return np.stack(list(found.values()) if isinstance(found, dict) else [found], axis=-3)

    bar = tqdm(
        total=len(cells), initial=n_done, desc=path.name, unit=" cells", disable=not progress
    )
    with bar, in_parts(model, adata), _full_disk_explained(path):
        for start in range(n_done, len(cells), n_block):
            block = cells[start : start + n_block]
            record = {"request": request, "n_done": start + len(block)}
            if not path.exists():
                store.create(n_block, {"request": request, "n_done": 0})
            store.write(start, values_of(block), record)
            bar.update(len(block))
    return store.result()


@contextmanager
def _full_disk_explained(path: Path) -> Iterator[None]:
    """Context in which a full disk ends with what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        message = (
            f"The disk is full. The cells that are finished can be read in {path}. Free some "
            "space and make the same call again: it goes on from there."
        )
        raise OSError(errno.ENOSPC, message) from error


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
