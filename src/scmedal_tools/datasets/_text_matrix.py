"""Text tables of genes x cells, read a gene at a time into sparse memory."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from scmedal_tools._progress import tqdm

if TYPE_CHECKING:
    from pathlib import Path


class TextMatrix(NamedTuple):
    """A matrix of cells x genes (float32) and the names of its sides."""

    values: sparse.csr_matrix
    cells: list[str]
    genes: list[str]


def read_text_matrix(file: Path, *, progress: bool = False) -> TextMatrix:
    """Read a tab-separated table with a row for each gene and a column for each cell.

    The first line names the cells, with or without a name for the column of the genes. No more
    than one row is dense at a time.

    Raises
    ------
    ValueError
        If a row has another number of values than there are cells, or holds something else than
        numbers, or names are not unique. The message names the file and the gene.
    """
    genes, columns, values = [], [], []
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
        header = _fields(next(lines, ""))
        n_cells = None
        for line in tqdm(lines, desc=file.name, unit=" genes", disable=not progress):
            gene, _, numbers = line.rstrip("\r\n").partition("\t")
            try:
                row = np.array(numbers.split("\t"), dtype=np.float32)
            except ValueError as error:
                raise ValueError(f"{file.name}, gene {gene!r}: not a number ({error}).") from None
            if not np.isfinite(row).all():
                raise ValueError(f"{file.name}, gene {gene!r}: missing or infinite values.")
            n_cells = len(row) if n_cells is None else n_cells
            if len(row) != n_cells or len(header) - n_cells not in (0, 1):
                raise ValueError(
                    f"{file.name}, gene {gene!r}: {len(row)} values under a header of "
                    f"{len(header)} names. The file is incomplete or not a table of genes x "
                    "cells: download it again."
                )
            at = np.flatnonzero(row).astype(np.int32)
            genes.append(gene.strip('"'))
            columns.append(at)
            values.append(row[at])
    if n_cells is None:
        raise ValueError(f"{file.name} has no genes: download it again.")
    cells = header[len(header) - n_cells :]
    for what, names in (("cell", cells), ("gene", genes)):
        if len(set(names)) < len(names):
            raise ValueError(f"{file.name} names a {what} twice.")
    indptr = np.concatenate([[0], np.cumsum([len(at) for at in columns])])
    by_gene = sparse.csr_matrix(
        (np.concatenate(values), np.concatenate(columns), indptr), shape=(len(genes), n_cells)
    )
    return TextMatrix(by_gene.T.tocsr(), cells, genes)


def _fields(line: str) -> list[str]:
    return [field.strip('"') for field in line.rstrip("\r\n").split("\t")]
