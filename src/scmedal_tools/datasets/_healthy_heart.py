"""Reader of the healthy heart of the Heart Cell Atlas, Litvinukova et al. 2020."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import anndata as ad
import pandas as pd
from scipy import sparse

from scmedal_tools._data import check_counts, check_names

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE_COLUMNS: Final = {
    "batch": "sample",
    "donor": "donor",
    "tissue": "region",
    "protocol": "version",
    "cell_type": "cell_type",
}
DOWNLOAD: Final = (
    "Download the file with the raw counts of all cells (global_raw.h5ad) of the Heart Cell Atlas "
    "(heartcellatlas.org), or the heart of figshare 10.6084/m9.figshare.20499630.v2."
)


def healthy_heart(path: str | Path, *, columns: Mapping[str, str] | None = None) -> ad.AnnData:
    """Read the cells and nuclei of healthy hearts from the h5ad of the Heart Cell Atlas.

    Data are not downloaded. The paper took the copy at figshare (10.6084/m9.figshare.20499630.v2),
    of 486,134 cells, and kept all of them, also those of type "NotAssigned". Filters of cells by
    genes and of genes by cells are those of :func:`scmedal_tools.pp.preprocess`.

    Parameters
    ----------
    path
        The h5ad file with raw counts.
    columns
        Columns of the file for ``batch``, ``donor``, ``tissue``, ``protocol`` and ``cell_type``,
        where they differ from those of the atlas: ``sample``, ``donor``, ``region``, ``version``
        (of the 10x chemistry) and ``cell_type``.

    Returns
    -------
    What is in the file, cells x genes with raw counts (CSR) in ``X``, and five categorical columns
    in ``obs``: ``batch``, ``donor``, ``tissue``, ``protocol`` and ``cell_type``. A column of the
    file that has one of these names but another meaning is kept as ``<name>_in_file``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If ``columns`` names something else, the file lacks a column, cells have no batch, names
        are not unique, or ``X`` does not hold raw counts.

    Notes
    -----
    The paper names no column: it says "technical batch", of which there are 147. A sample of the
    atlas is one 10x library, of one donor, tissue and protocol. Compare
    ``adata.obs["batch"].nunique()`` with 147.

    Examples
    --------
    >>> adata = healthy_heart("global_raw.h5ad")  # doctest: +SKIP
    >>> smt.pp.preprocess(adata, batch_key="batch", n_top_genes=3000)  # doctest: +SKIP
    """
    columns = dict(columns or {})
    if other := set(columns) - set(SOURCE_COLUMNS):
        raise ValueError(f"columns has {sorted(other)}; it may have {list(SOURCE_COLUMNS)}.")
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"No file {str(file)!r}. {DOWNLOAD}")
    adata = ad.read_h5ad(file)
    sources = SOURCE_COLUMNS | columns
    if missing := {role: name for role, name in sources.items() if name not in adata.obs}:
        raise ValueError(
            f"obs lacks {missing} (as role: column). Name the right ones with columns=, out of "
            f"{list(adata.obs.columns)}. {DOWNLOAD}"
        )
    check_names(adata)
    check_counts(adata)
    if without := int(adata.obs[sources["batch"]].isna().sum()):
        raise ValueError(f"{without:,} cells have no {sources['batch']!r}.")
    taken = {
        role: adata.obs[name].astype(str).where(adata.obs[name].notna())
        for role, name in sources.items()
    }
    for role, values in taken.items():
        if role in adata.obs and sources[role] != role:
            adata.obs[f"{role}_in_file"] = adata.obs[role]
        adata.obs[role] = pd.Categorical(values)
    adata.X = sparse.csr_matrix(adata.X)
    return adata
