"""Data sets with measured cells of several batches, and which combinations are held out."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import anndata as ad
import numpy as np
from _record import data_folder

import scmedal_tools as smt


class DataSet(NamedTuple):
    file: str
    batch_key: str
    n_genes: int | None
    sizes: tuple[float, float, float]
    draws: list[tuple[int, object]]  # seed of the split, combinations
    min_cells: int
    drop: tuple[str, ...] = ()
    labels_key: str = "cell_type"


KANG_TYPES = ("B cells", "CD14+ Monocytes", "CD4 T cells", "CD8 T cells", "FCGR3A+ Monocytes")
CONDITIONS, PATIENTS = ("ctrl", "panobinostat"), ("PW030", "PW032", "PW034", "PW036", "PW040")
DATA_SETS = {
    "aml": DataSet(
        "aml_vangalen2019_d0.h5ad",
        "donor",
        2916,
        (0.6, 0.2, 0.2),
        [(draw, 6) for draw in (7, 8, 9)],
        50,
        ("AML314", "AML371", "AML722B", "AML997"),  # scMEDAL, supplement 2.2
    ),
    "onek1k": DataSet(
        "onek1k_pbmc_40donors_1000genes.h5ad",
        "donor",
        None,
        (0.6, 0.1, 0.3),
        [(2, 20), (3, 20)],
        20,
    ),
    "kang": DataSet(
        "kang2018_pbmc_ctrl_stim_2000cells.h5ad",
        "condition",
        2000,
        (0.6, 0.1, 0.3),
        [(draw, [("stim", name)]) for draw, name in enumerate(KANG_TYPES)],
        50,
    ),
    # A treatment, of which each sample of a patient is held out in turn.
    "glioblastoma": DataSet(
        "glioblastoma_zhao2021.h5ad",
        "condition",
        None,
        (0.6, 0.1, 0.3),
        [(draw, [pair]) for draw, pair in enumerate(product(CONDITIONS, PATIENTS))],
        50,
        labels_key="patient",
    ),
}


def load_cells(data_set: DataSet) -> ad.AnnData:
    """All cells and genes, log-normalised; counts in a layer, their totals in ``obs``."""
    adata = ad.read_h5ad(data_folder() / data_set.file)
    adata = adata[~adata.obs[data_set.batch_key].isin(data_set.drop)].copy()
    adata.obs["total_counts"] = np.asarray(adata.X.sum(1)).ravel()
    smt.pp.preprocess(adata, batch_key=data_set.batch_key, n_top_genes=None)
    return adata


def select_genes(adata: ad.AnnData, data_set: DataSet, train: np.ndarray) -> ad.AnnData:
    """Highly variable genes of the training cells."""
    if data_set.n_genes is None:
        return adata
    chosen = adata[train].copy()
    chosen.X = chosen.layers["counts"].copy()
    smt.pp.preprocess(chosen, batch_key=data_set.batch_key, n_top_genes=data_set.n_genes)
    return adata[:, chosen.var_names].copy()
