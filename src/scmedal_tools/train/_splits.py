"""Splits of the cells into training, validation and test sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scvi.dataloaders import DataSplitter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


def stratified_split(
    obs: pd.DataFrame,
    keys: Sequence[str],
    sizes: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> list[np.ndarray]:
    """Split cells so that every combination of some columns is divided in the same proportions.

    Rounding is random for each combination, so that the sets have the stated sizes in expectation
    however small the combinations are.

    Parameters
    ----------
    obs
        Annotation of the cells, such as ``adata.obs``.
    keys
        Columns whose combinations are divided, for example batch and cell type.
    sizes
        Shares of training, validation and test cells; they sum to one.
    seed
        Seed of the split.

    Returns
    -------
    list of numpy.ndarray
        Sorted positions of the training, validation and test cells, in the form that
        ``model.train(datasplitter_kwargs={"external_indexing": ...})`` takes.

    Raises
    ------
    ValueError
        If the sizes are negative or do not sum to one.
    KeyError
        If a column does not exist.

    Examples
    --------
    >>> import pandas as pd
    >>> obs = pd.DataFrame({"donor": ["A"] * 50 + ["B"] * 10})
    >>> [len(cells) for cells in stratified_split(obs, ["donor"])]
    [36, 12, 12]
    """
    if min(sizes) < 0 or not np.isclose(sum(sizes), 1):
        raise ValueError(f"sizes={sizes} must be three shares that sum to 1.")
    missing = [key for key in keys if key not in obs]
    if missing:
        raise KeyError(f"{missing} not in obs; its columns are {list(obs.columns)}.")
    rng = np.random.default_rng(seed)
    bounds = np.cumsum(sizes)[:-1]
    part = np.empty(len(obs), dtype=int)
    for cells in obs.groupby(list(keys), observed=True, dropna=False).indices.values():
        # Evenly spaced positions with a random start: shares differ by less than one cell.
        position = (rng.permutation(cells.size) + rng.random()) / cells.size
        part[cells] = np.searchsorted(bounds, position, side="right")
    return [np.flatnonzero(part == i) for i in range(3)]


class MedalDataSplitter(DataSplitter):
    """scvi-tools' splitter, which never leaves a training minibatch of a single cell.

    Batch normalisation cannot use one cell; the cell that is left out changes with every epoch.
    """

    def __init__(self, adata_manager, *args, external_indexing=None, **kwargs):
        if external_indexing is not None:
            external_indexing = [np.asarray(cells, dtype=int) for cells in external_indexing]
            _check_external_indexing(external_indexing, adata_manager.adata.n_obs)
            kwargs.setdefault("drop_last", len(external_indexing[0]) % kwargs["batch_size"] == 1)
        super().__init__(adata_manager, *args, external_indexing=external_indexing, **kwargs)
        if self.n_train % kwargs["batch_size"] == 1 and self.n_train > 1:
            self.drop_last = True

    def val_dataloader(self):
        """Minibatches of the validation cells; none if there are no such cells."""
        return super().val_dataloader() or []


def _check_external_indexing(parts: list[np.ndarray], n_obs: int) -> None:
    """Explain what scvi-tools refuses without saying which cells it means."""
    times = np.bincount(np.concatenate(parts), minlength=n_obs)
    if times.size > n_obs:
        raise ValueError(f"external_indexing names cell {times.size - 1}; there are {n_obs:,}.")
    for count, problem in ((times == 0, "in no part"), (times > 1, "named more than once")):
        if count.any():
            raise ValueError(
                f"external_indexing: {count.sum():,} of {n_obs:,} cells are {problem}. Give three "
                "arrays (training, validation, test) that hold every cell once; cells to be left "
                "out belong in the third."
            )
