"""Splits of the cells into training, validation and test sets."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi.dataloaders import DataSplitter

from scmedal_tools._data import check_read, slots
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.module import n_processes

from ._resident_cells import ResidentCells, resident_loader

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from scvi.data import AnnDataManager
    from scvi.dataloaders import AnnDataLoader
    from torch.utils.data import DataLoader

# Random orders in which combinations are tried, as one order may get stuck.
MAX_DRAWS = 20


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
        If the sizes are negative or do not sum to one, or ``obs`` is read lazily.
    KeyError
        If a column does not exist.

    Examples
    --------
    >>> import pandas as pd
    >>> import scmedal_tools as smt
    >>> obs = pd.DataFrame({"donor": ["A"] * 50 + ["B"] * 10})
    >>> [len(cells) for cells in smt.train.stratified_split(obs, ["donor"])]
    [36, 12, 12]
    """
    if min(sizes) < 0 or not np.isclose(sum(sizes), 1):
        raise ValueError(f"sizes={sizes} must be three shares that sum to 1.")
    check_read(obs, "obs")
    missing = [key for key in keys if key not in obs]
    if missing:
        columns = slots.without_those_of_scvi(obs)
        raise KeyError(f"{missing} not in obs; its columns are {columns}.")
    rng = np.random.default_rng(seed)
    bounds = np.cumsum(sizes)[:-1]
    part = np.empty(len(obs), dtype=int)
    for cells in obs.groupby(list(keys), observed=True, dropna=False).indices.values():
        # Evenly spaced positions with a random start: shares differ by less than one cell.
        position = (rng.permutation(cells.size) + rng.random()) / cells.size
        part[cells] = np.searchsorted(bounds, position, side="right")
    return [np.flatnonzero(part == i) for i in range(3)]


@with_shared_parts
def hold_out_combinations(
    obs: pd.DataFrame,
    batch_key: str,
    labels_key: str,
    combinations: int | Sequence[tuple[str, str]],
    *,
    min_cells: int = 50,
    sizes: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> tuple[list[np.ndarray], list[tuple[str, str]]]:
    """Split cells so that some combinations of batch and cell type are in no training set.

    The other cells are split by :func:`stratified_split` of both columns. Combinations that are
    drawn have ``min_cells`` cells, of types that two other batches have, in batches with other
    types; no two are of the same batch.

    Parameters
    ----------
    obs
        Annotation of the cells, such as ``adata.obs``.
    %(columns)s
    combinations
        Pairs (batch, cell type) to hold out, or how many to draw.
    min_cells
        Fewest cells of a drawn combination.
    sizes, seed
        See :func:`stratified_split`; the seed is also that of the draw.

    Returns
    -------
    list of numpy.ndarray
        Positions of the training, validation and test cells; all cells of the combinations are
        among the test cells.
    list of tuple
        The combinations.

    Raises
    ------
    ValueError
        If fewer combinations can be drawn, one that is named has no cell, or ``obs`` is read
        lazily.

    Examples
    --------
    >>> import pandas as pd
    >>> import scmedal_tools as smt
    >>> obs = pd.DataFrame({"donor": list("ABC") * 60, "type": ["T"] * 90 + ["B"] * 90})
    >>> parts, held_out = smt.train.hold_out_combinations(obs, "donor", "type", [("A", "T")])
    >>> obs.iloc[parts[0]].value_counts(sort=False).loc["A"].to_dict()
    {'B': 18}
    """
    keys = [batch_key, labels_key]
    parts = stratified_split(obs, keys, sizes, seed)
    pairs = pd.MultiIndex.from_frame(obs[keys].astype(str))
    named = combinations
    if isinstance(named, int | np.integer):
        known = obs[keys].notna().all(axis=1).to_numpy()
        named = _draw_combinations(pairs[known], int(named), min_cells, seed)
    chosen = [(str(batch), str(label)) for batch, label in named]
    held_out = pairs.isin(chosen)
    existing = set(pairs)
    missing = [pair for pair in chosen if pair not in existing]
    if missing:
        raise ValueError(f"No cell is of the combinations {missing}.")
    train, validation, test = (part[~held_out[part]] for part in parts)
    return [train, validation, np.union1d(test, np.flatnonzero(held_out))], chosen


def _draw_combinations(
    pairs: pd.MultiIndex, n: int, min_cells: int, seed: int
) -> list[tuple[str, str]]:
    sizes = pairs.value_counts().sort_index()
    large = sizes.index[sizes >= min_cells]
    per_type = large.get_level_values(1).value_counts()
    per_batch = sizes.index.get_level_values(0).value_counts()
    candidates = [pair for pair in large if per_type[pair[1]] > 2 and per_batch[pair[0]] > 1]
    rng = np.random.default_rng(seed)
    most = 0
    for _ in range(MAX_DRAWS):
        drawn: dict[str, tuple[str, str]] = {}
        for i in rng.permutation(len(candidates)):
            batch, label = candidates[i]
            already = sum(other == label for _, other in drawn.values())
            if len(drawn) < n and batch not in drawn and per_type[label] - already > 2:
                drawn[batch] = candidates[i]
        if len(drawn) == n:
            return list(drawn.values())
        most = max(most, len(drawn))
    raise ValueError(
        f"Found only {most} batches ({pairs.names[0]!r}) that have a combination with {min_cells} "
        f"cells of a type ({pairs.names[1]!r}) that two other batches have, not {n}. Lower "
        "`min_cells`."
    )


class MedalDataSplitter(DataSplitter):
    """scvi-tools' splitter, which never leaves a training minibatch of a single cell.

    Batch normalisation cannot use one cell; the cell that is left out changes with every epoch.

    Parameters
    ----------
    adata_manager
        Manager of the registered data, ``model.adata_manager``.
    external_indexing
        Positions of the training, validation and test cells, which hold every cell once; see
        :func:`stratified_split`.
    *args, **kwargs
        See :class:`scvi.dataloaders.DataSplitter`.

    Raises
    ------
    ValueError
        If ``external_indexing`` names a cell twice, not at all, or one that is not there.

    Examples
    --------
    Models use it by themselves; its arguments are passed through ``train``:

    >>> import scmedal_tools as smt
    >>> splits = smt.train.stratified_split(adata.obs, ["donor"])
    >>> splitter = smt.train.MedalDataSplitter(
    ...     model.adata_manager, external_indexing=splits, batch_size=64
    ... )
    >>> splitter.setup()
    >>> splitter.n_train
    144
    """

    train_idx: np.ndarray
    val_idx: np.ndarray
    test_idx: np.ndarray

    def __init__(
        self,
        adata_manager: AnnDataManager,
        *args: Any,
        external_indexing: Sequence[np.ndarray] | None = None,
        **kwargs: Any,
    ):
        self._asked_to_drop_last: bool = kwargs.get("drop_last", False)
        if external_indexing is not None:
            external_indexing = [np.asarray(cells, dtype=int) for cells in external_indexing]
            check_external_indexing(external_indexing, adata_manager.adata.n_obs)
            kwargs.setdefault("drop_last", len(external_indexing[0]) % kwargs["batch_size"] == 1)
        super().__init__(adata_manager, *args, external_indexing=external_indexing, **kwargs)
        if self.n_train % kwargs["batch_size"] == 1 and self.n_train > 1:
            self.drop_last = True
        self._cells: ResidentCells | None = None

    def setup(self, stage: str | None = None) -> None:
        """Split the cells, in the same way in all processes.

        Raises
        ------
        ValueError
            If several processes would each be given all cells.
        """
        super().setup(stage)
        if n_processes() == 1:
            return
        if not self.data_loader_kwargs.get("distributed_sampler"):
            raise ValueError("Name the strategy of several processes: train(strategy='ddp').")
        assert self.trainer is not None  # it has started the processes
        # Each has drawn its own, unless there is a seed.
        parts = (self.train_idx, self.val_idx, self.test_idx)
        self.train_idx, self.val_idx, self.test_idx = self.trainer.strategy.broadcast(parts)
        of_process = ceil(self.n_train / n_processes())
        one_is_left = of_process % self.data_loader_kwargs["batch_size"] == 1
        self.drop_last = self._asked_to_drop_last or one_is_left

    def train_dataloader(self) -> DataLoader:
        """Minibatches of the training cells."""
        return self.on_device(super().train_dataloader())

    def val_dataloader(self) -> DataLoader | list:
        """Minibatches of the validation cells; none if there are no such cells."""
        loader = super().val_dataloader()
        return [] if loader is None else self.on_device(loader)

    def on_device(self, loader: AnnDataLoader) -> DataLoader:
        """Loader of the same minibatches from a GPU's memory, if the cells fit there."""
        if self._cells is None and (device := self._device_for_cells()):
            self._cells = ResidentCells(self.adata_manager, device)
        return resident_loader(loader, self._cells) if self._cells else loader

    def teardown(self, stage: str) -> None:
        """Free the GPU's memory, though the trainer keeps its loaders."""
        if self._cells is not None:
            self._cells.release()
            self._cells = None

    def on_exception(self, exception: BaseException) -> None:
        """Free it after an interruption or an error too, when nothing is torn down."""
        self.teardown("fit")

    def _device_for_cells(self) -> torch.device | None:
        """GPU that has room for all cells; ``None`` if there is none, or they are shared out."""
        if self.trainer is None or n_processes() > 1:
            return None
        device = self.trainer.strategy.root_device
        room = device.type == "cuda" and ResidentCells.fit(self.adata_manager, device)
        return device if room else None


def check_external_indexing(
    parts: list[np.ndarray], n_obs: int, argument: str = "external_indexing"
) -> None:
    """Explain what scvi-tools refuses without saying which cells it means."""
    times = np.bincount(np.concatenate(parts), minlength=n_obs)
    if times.size > n_obs:
        raise ValueError(f"{argument} names cell {times.size - 1}; there are {n_obs:,}.")
    for count, problem in ((times == 0, "in no part"), (times > 1, "named more than once")):
        if count.any():
            raise ValueError(
                f"{argument}: {count.sum():,} of {n_obs:,} cells are {problem}. Give three "
                "arrays (training, validation, test) that hold every cell once; cells to be left "
                "out belong in the third."
            )
