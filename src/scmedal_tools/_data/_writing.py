"""Files that are written completely or not at all, and what can be written into them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import h5py
import pandas as pd
from anndata import settings
from anndata.io import write_elem
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anndata import AnnData


UNFINISHED = "unfinished-{}-{}"
"""Name of a file that is not whole yet: of the process, and of the file."""


def any_text() -> AbstractContextManager[None]:
    """Context in which pandas' ``string`` is written, which anndata refuses with pandas 2."""
    if Version(pd.__version__).major > 2:
        return nullcontext()
    return settings.override(allow_write_nullable_strings=True)


def write_whole(file: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its place, and move it there once it is whole.

    Parameters
    ----------
    file
        Where to write; the folder is made where needed, and a file that is there is replaced.
    write
        Called with the path to write to, which has the same ending.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(UNFINISHED.format(os.getpid(), file.name))
    try:
        with any_text():
            write(unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(file: Path) -> None:
    """Remove what processes that were killed have left of a file."""
    for unfinished in file.parent.glob(UNFINISHED.format("*", file.name)):
        unfinished.unlink()


def check_key(key: str, argument: str = "key_added") -> None:
    """Refuse a name that no file can hold.

    Raises
    ------
    ValueError
        If it is empty or has a slash.
    """
    if not key or "/" in key:
        raise ValueError(
            f"{argument}={key!r} cannot be written to a file, where a slash begins a folder: "
            f"choose another name, for example {key.replace('/', '_') or 'X_scmedal'!r}."
        )


def make_names_writable(adata: AnnData) -> dict[str, dict[str, str]]:
    """Give columns of ``obs``, ``var`` and ``raw.var`` with a slash a name that can be written.

    An index with such a name, or with that of a column, has none afterwards.

    Returns
    -------
    dict
        For ``"obs"``, ``"var"`` and ``"raw.var"`` the new names of columns by the old ones.
    """
    renamed = {}
    for place, table in _tables(adata).items():
        names: dict[str, str] = {}
        for old in filter(lambda name: "/" in str(name), table.columns):
            names[old] = _free_name(old.replace("/", "_"), {*table.columns, *names.values()})
        table.columns = [names.get(name, name) for name in table.columns]
        index = table.index.name
        if not isinstance(index, str) or "/" in index or index in table.columns:
            table.index = table.index.rename(None)
        renamed[place] = names
    return renamed


def check_writable(adata: AnnData) -> None:
    """Refuse annotation that no file can hold, by writing it into memory.

    Raises
    ------
    ValueError
        If there is any. The message names it, and the line that takes it out.
    """
    annotation: dict[str, Any] = {}
    for place, table in _tables(adata).items():
        annotation |= {f"adata.{place}[{name!r}]": table[[name]] for name in table}
    for place in ("obsm", "varm", "obsp", "varp", "layers"):
        for name, value in getattr(adata, place).items():
            if name is not None:  # X, since anndata 0.13
                # Of numbers, any row shows whether all can be written.
                part = value if isinstance(value, pd.DataFrame) else value[:1]
                annotation[f"adata.{place}[{name!r}]"] = {name: part}
    annotation |= {f"adata.uns[{name!r}]": {name: value} for name, value in adata.uns.items()}
    with any_text(), h5py.File("trial", "w", driver="core", backing_store=False) as trial:
        for i, (code, value) in enumerate(annotation.items()):
            try:
                write_elem(trial, str(i), value)
            except Exception as error:  # whatever h5py and anndata raise
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"{code} cannot be written to an .h5ad file ({reason}). Rename or convert it, "
                    f"or take it out:\ndel {code}"
                ) from error


def _tables(adata: AnnData) -> dict[str, pd.DataFrame]:
    tables = {"obs": adata.obs, "var": adata.var}
    return tables if adata.raw is None else tables | {"raw.var": adata.raw.var}


def _free_name(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name
