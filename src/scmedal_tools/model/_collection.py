"""A collection of cells on disk: built once from files, with a record of what it is built from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import h5py
import numpy as np
from anndata.experimental import read_elem_lazy
from anndata.io import read_elem
from scvi import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

BUILT_FROM = "scmedal-tools"
# Neighbouring cells that are read together. Fewer spread a small batch over the collection
# better, whose beginning is for validation, and cost time.
CELLS_TOGETHER = 100
ANEW = "Build the collection anew with rebuild=True, or choose another collection_path."


def is_complete(path: Path) -> bool:
    """Whether the collection is there and whole; an interrupted build is not.

    Raises
    ------
    ValueError
        If something else is there, which building would delete.
    """
    import zarr
    from annbatch import DatasetCollection

    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return False
    try:
        group = zarr.open_group(path, mode="r")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{path} is there and is no collection: choose another collection_path."
        ) from error
    return not DatasetCollection(group).is_empty


def build(
    path: Path,
    files: Sequence[str | Path],
    layer: str | None,
    shuffle: bool,
    dataset_size: int | str,
) -> None:
    """Copy the cells of files into a collection, in place of what is there."""
    import zarr
    from annbatch import DatasetCollection

    group = zarr.open_group(path, mode="w")
    sizes = [[Path(file).name, _n_cells(file)] for file in files]
    group.update_attributes({BUILT_FROM: {"layer": layer, "files": sizes}})
    together = CELLS_TOGETHER
    if isinstance(dataset_size, int):
        together = min(together, dataset_size)
    with ad.settings.override(zarr_write_format=3):  # the one that annbatch can shard
        DatasetCollection(group).add_adatas(
            [str(file) for file in files],
            load_adata=partial(_read_lazily, layer=layer),
            shuffle=shuffle,
            shuffle_chunk_size=together,
            dataset_size=dataset_size,
            rng=np.random.default_rng(settings.seed),
        )


def check_record(path: Path, files: Sequence[str | Path] | None, layer: str | None) -> None:
    """Refuse a collection that was built from another layer or other files than are named now."""
    import zarr

    record: Any = zarr.open_group(path, mode="r").attrs.get(BUILT_FROM)
    if record is None:  # built by scvi-tools or annbatch
        return
    if record["layer"] != layer:
        raise ValueError(
            f"{path} was built with layer={record['layer']!r}, not layer={layer!r}: pass that "
            f"one. {ANEW}"
        )
    if files is None:
        return
    built = sorted(map(tuple, record["files"]))
    sizes = dict(built)
    # The files may be gone once the collection is there.
    given = [(Path(f).name, _n_cells(f) if Path(f).exists() else None) for f in files]
    given = sorted((name, sizes.get(name) if n is None else n) for name, n in given)
    if given != built:
        raise ValueError(
            f"{path} was built from {_listed(built)}, and `paths` has {_listed(given)}. {ANEW}"
        )


def check_columns_there(path: Path, columns: Sequence[str]) -> None:
    """Refuse a collection whose cells lack a column of ``obs``."""
    import zarr
    from annbatch import DatasetCollection

    for part in DatasetCollection(zarr.open_group(path, mode="r")):
        there = list(part["obs"].attrs["column-order"])
        missing = [column for column in columns if column not in there]
        if missing:
            raise ValueError(
                f"The cells in {path} have no column {missing[0]!r}, but {_quoted(there)}. Build "
                "the collection anew, from files that have it, with rebuild=True."
            )


def _read_lazily(path: str, layer: str | None) -> ad.AnnData:
    with h5py.File(path) as file:
        stored = file["X" if layer is None else f"layers/{layer}"]
        var = read_elem(file["var"])[[]]
        x = read_elem_lazy(stored, chunks=(CELLS_TOGETHER, len(var)))
        return ad.AnnData(x, obs=read_elem(file["obs"]), var=var)


def _n_cells(path: str | Path) -> int:
    with h5py.File(path) as file:
        obs = file["obs"]
        index = obs[obs.attrs["_index"]]
        return len(index["values"] if isinstance(index, h5py.Group) else index)


def _listed(files: Sequence[tuple[str, int | None]]) -> str:
    shown = [f"{name} ({'?' if n is None else f'{n:,}'} cells)" for name, n in files[:5]]
    return ", ".join([*shown, *(["..."] if len(files) > 5 else [])])


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
