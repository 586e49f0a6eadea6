"""Checks of what is given for cells: an AnnData, in memory, with expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._expression_messages import available_layers, where

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


def check_cells(adata: AnnData | MuData) -> None:
    """Refuse what is neither an AnnData nor a MuData, such as a model in the place of the cells.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not hasattr(adata, "obs"):
        raise TypeError(
            f"This is {type(adata).__name__}, and an AnnData is needed: check the order of the "
            "arguments."
        )


def check_anndata(adata: AnnData | MuData) -> None:
    """Refuse a MuData where the expression of one modality is needed.

    Raises
    ------
    TypeError
        As :func:`check_cells`.
    ValueError
        If it is one.
    """
    check_cells(adata)
    if hasattr(adata, "mod"):
        raise ValueError(
            "This is a MuData, and an AnnData is needed: pass one modality, such as "
            f"mdata[{next(iter(adata.mod))!r}]."
        )


def check_in_memory(adata: AnnData) -> None:
    """Refuse what is no AnnData, is backed by a file, or computed when it is needed.

    Raises
    ------
    TypeError
        As :func:`check_cells`.
    ValueError
        If it is. The message ends with the line that reads it.
    """
    check_anndata(adata)
    check_not_backed(adata)


def check_not_backed(adata: AnnData | MuData) -> None:
    """Refuse data that are backed by a file, or computed when they are needed.

    Raises
    ------
    TypeError
        As :func:`check_cells`.
    ValueError
        If they are. The message ends with the line that reads them.
    """
    check_cells(adata)
    _check_computed(getattr(adata, "X", None), "adata.X")
    if stays_on_disk(adata):
        raise ValueError(f"adata is backed by a file or store. Run:\n{_read(adata)}")


def read_first(adata: AnnData | MuData, message: str) -> str:
    """Message whose last line, which fixes the cells, first reads them if they are on disk."""
    before, new_line, fix = message.rpartition("\n")
    if not new_line or not stays_on_disk(adata):
        return message
    code = fix.lstrip()
    return f"{before}\n{fix.removesuffix(code)}{_read(adata)}; {code}"


def _read(adata: AnnData | MuData) -> str:
    in_memory = "adata.to_memory()" if hasattr(adata, "to_memory") else "mudata.read_h5mu(file)"
    return f"adata = {in_memory}"


def stays_on_disk(adata: AnnData | MuData) -> bool:
    """Whether the expression is read from a file or store when it is needed."""
    from anndata.abc import CSCDataset, CSRDataset  # the command checks names without anndata

    return adata.isbacked or isinstance(getattr(adata, "X", None), (CSCDataset, CSRDataset))


def check_read(obs: pd.DataFrame, name: str = "adata") -> None:
    """Refuse annotation that is read when it is needed, by ``anndata.experimental.read_lazy``.

    Raises
    ------
    ValueError
        If it is. The message ends with the line that reads what has that name.
    """
    if hasattr(obs, "to_memory"):
        raise ValueError(f"{name} is read lazily. Run:\n{name} = {name}.to_memory()")


def expression_of(adata: AnnData, layer: str | None) -> Any:
    check_cells(adata)
    if layer is not None and layer not in adata.layers:
        raise ValueError(
            f"layer={layer!r} is not in adata.layers. {available_layers(adata)}".rstrip()
        )
    if 0 in adata.shape:
        raise ValueError(
            f"adata has {adata.n_obs:,} cells and {adata.n_vars:,} genes: nothing is left to "
            "learn from. Check the last selection or filter before this line."
        )
    x = adata.X if layer is None else adata.layers[layer]
    if x is None:
        raise ValueError(f"adata.X is empty (None). {available_layers(adata)}".rstrip())
    _check_computed(x, where(layer))
    return x


def _check_computed(x: Any, name: str) -> None:
    of_zarr = type(x).__module__.partition(".")[0] == "zarr"
    if of_zarr or hasattr(x, "dask"):
        kind = "an array in a store of zarr" if of_zarr else "a dask array"
        raise ValueError(f"{name} is {kind}. Run:\nadata = adata.to_memory()")


def same_names(first: pd.Index, second: pd.Index) -> bool:
    """Whether names are the same, of whatever dtype: pandas 2 takes other dtypes for others."""
    return first.astype(object).equals(second.astype(object))
