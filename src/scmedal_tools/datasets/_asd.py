"""Reader of the autism data of the UCSC cell browser, Velmeshev et al. 2019."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from anndata import AnnData

from ._text_matrix import read_text_matrix

if TYPE_CHECKING:
    from scipy import sparse

OUR_NAMES: Final = {"cluster": "cell_type", "individual": "donor"}
NEEDED_COLUMNS: Final = (*OUR_NAMES, "diagnosis")
DOWNLOAD: Final = (
    "Download exprMatrix.tsv.gz and meta.tsv of the data set autism at cells.ucsc.edu."
)
# Larger multiples are not judged: the file's digits limit them.
JUDGED_BELOW, TOLERANCE, LEAST_SHARE = 20, 0.1, 0.99


def asd(path: str | Path, *, progress: bool = True) -> AnnData:
    """Read the nuclei of autistic and control donors from the files of the UCSC cell browser.

    Data are not downloaded: the folder has ``exprMatrix.tsv.gz`` (genes x cells) and ``meta.tsv``
    (or ``meta.txt``). The matrix is read a gene at a time and stays sparse.

    The matrix holds log2-transformed counts. ``2**x - 1`` is proportional to the counts of a cell,
    so that its values are whole multiples of the smallest, which stands for one count. This is
    checked, and the multiples are what is returned.

    Parameters
    ----------
    path
        Folder with the two files.
    progress
        Show a bar over the genes.

    Returns
    -------
    Cells x genes with counts (float32, CSR) in ``X``. In ``obs`` all columns of the table, of
    which two are renamed: ``donor`` (``individual``), the batch of the paper, and ``cell_type``
    (``cluster``); ``diagnosis`` keeps its name. ``obs["count_unit"]`` is what one count was before
    the rounding: ``X * count_unit`` is ``2**x - 1``. Where genes are written as
    ``Ensembl|symbol``, the first names them and ``var["symbol"]`` has the other.

    The paper removes no cells beyond those that :func:`scmedal_tools.pp.preprocess` does.

    Raises
    ------
    FileNotFoundError
        If one of the files is not there.
    ValueError
        If a file is damaged, a column or a cell is missing in the table, a value is negative, or
        the values are not those of log2-transformed counts.

    Warns
    -----
    UserWarning
        If some cells have values that are no whole multiples of their smallest one.

    Notes
    -----
    The paper writes that the transformation was reversed "by applying an exponential function
    (base 2) to the data after adding 1" (supplement 2.2). ``2**(x + 1)`` would give an absent gene
    two counts; it is taken for ``2**x - 1`` here.

    Examples
    --------
    >>> adata = asd("autism")  # doctest: +SKIP
    >>> smt.pp.preprocess(adata, batch_key="donor", n_top_genes=2916)  # doctest: +SKIP
    """
    folder = Path(path)
    matrix_file = _file(folder, "exprMatrix.tsv.gz", "exprMatrix.tsv")
    table_file = _file(folder, "meta.tsv", "meta.txt", "meta.tsv.gz")
    # Identifiers are numbers, and would be read as such.
    table = pd.read_csv(table_file, sep="\t", dtype={0: str, "individual": str, "sample": str})
    if missing := [column for column in NEEDED_COLUMNS if column not in table]:
        raise ValueError(f"{table_file.name} has no column {missing[0]!r}. {DOWNLOAD}")
    obs = table.set_index(table.columns[0]).rename(columns=OUR_NAMES)

    matrix = read_text_matrix(matrix_file, progress=progress)
    unknown = [cell for cell in matrix.cells if cell not in obs.index]
    if unknown or not obs.index.is_unique:
        raise ValueError(
            f"{table_file.name} names cells twice or lacks {len(unknown)} of the cells of "
            f"{matrix_file.name}. {DOWNLOAD}"
        )
    obs = obs.loc[matrix.cells]
    obs.index.name = None
    obs["count_unit"] = _to_counts(matrix.values)
    for column in obs.select_dtypes(exclude="number"):
        obs[column] = obs[column].astype("category")
    return AnnData(matrix.values, obs=obs, var=_var(matrix.genes))


def _file(folder: Path, *names: str) -> Path:
    """First of the files that is in the folder."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"No {names[0]} in {str(folder)!r}. {DOWNLOAD}")


def _var(genes: list[str]) -> pd.DataFrame:
    """Names of the genes, split into identifier and symbol where there are both."""
    parts = pd.Series(genes).str.partition("|")
    if (parts[1] == "").any() or not parts[0].is_unique:
        return pd.DataFrame(index=genes)
    return pd.DataFrame({"symbol": parts[2].to_numpy()}, index=parts[0].to_numpy())


def _to_counts(x: sparse.csr_matrix) -> np.ndarray:
    """Turn log2-transformed counts into counts, in place, and return the unit of each cell."""
    if x.nnz and x.data.max() > 1 and not (x.data % 1).any():
        raise ValueError(f"exprMatrix has whole numbers, which are no logarithms. {DOWNLOAD}")
    unit = np.ones(x.shape[0])
    n_judged = n_whole = n_odd_cells = 0
    for cell, (start, stop) in enumerate(zip(x.indptr[:-1], x.indptr[1:], strict=True)):
        if start == stop:
            continue
        values = np.exp2(x.data[start:stop].astype(float)) - 1
        unit[cell] = values.min()
        if unit[cell] <= 0:
            raise ValueError(f"exprMatrix has values below zero or none. {DOWNLOAD}")
        multiples = values / unit[cell]
        counts = np.rint(multiples)
        judged = (multiples > 1) & (multiples < JUDGED_BELOW)
        whole = np.abs(multiples - counts)[judged] < TOLERANCE
        n_judged, n_whole = n_judged + len(whole), n_whole + int(whole.sum())
        n_odd_cells += not whole.all()
        x.data[start:stop] = counts
    if n_judged and n_whole / n_judged < LEAST_SHARE:
        raise ValueError(
            "The values are no log2-transformed counts: of 2**x - 1 only "
            f"{n_whole / n_judged:.0%} are whole multiples of a cell's smallest value. {DOWNLOAD}"
        )
    if n_odd_cells:
        warnings.warn(
            f"{n_odd_cells:,} cells have values that are no whole multiples of their smallest "
            "one; they were rounded.",
            stacklevel=3,
        )
    return unit
