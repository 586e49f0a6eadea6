"""Reader of GEO GSE116256: acute myeloid leukaemia, van Galen et al. 2019."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scmedal_tools._progress import tqdm

from ._text_matrix import read_text_matrix

AMBIGUOUS_DONORS: Final = ("AML314", "AML371", "AML722B", "AML997")
"""Donors that the paper leaves out, after Dai et al. 2021 (supplement 2.2)."""

CELL_LINES: Final = ("MUTZ3", "OCI-AML3")
UNDEFINED: Final = frozenset({"", "na", "nan", "unclear", "undefined", "unknown", "unassigned"})
N_PAPER_BATCHES: Final = 19

# Columns of the annotation, and what they are called here.
OUR_NAMES: Final = {
    "CellType": "cell_type",
    "PredictionRefined": "malignancy",
    "CyclingBinary": "cycling",
    "NumberOfReads": "n_reads",
}
DOWNLOAD: Final = "Download GSE116256_RAW.tar from GEO (GSE116256) and unpack it there."


class _Sample(NamedTuple):
    """What the name of a file says."""

    name: str
    geo: str
    donor: str
    patient_group: str
    day: float


def aml(path: str | Path, *, paper_filters: bool = True, progress: bool = True) -> AnnData:
    """Read the bone marrow cells of van Galen et al. from the files at GEO.

    Data are not downloaded: the folder has the files of GSE116256, ``GSM*_<sample>.dem.txt.gz``
    (counts) and ``GSM*_<sample>.anno.txt.gz`` (annotation), as GEO has them or without ``.gz``.

    Parameters
    ----------
    path
        Folder with the files, of all samples or of some.
    paper_filters
        Leave out the cells without a cell type, and the donors AML314, AML371, AML722B and
        AML997, as the scMEDAL paper does (supplement 2.2). Filters of cells by genes and of genes
        by cells are those of :func:`scmedal_tools.pp.preprocess`.
    progress
        Show a bar over the samples.

    Returns
    -------
    Cells x genes with raw counts (float32, CSR) in ``X``, and in ``obs``

    ``donor``
        The batch of the paper: AML patient, healthy donor or cell line; 19 after the filters.
        Time points of a patient, and the two sorted samples of BM5, are one donor.
    ``patient_group``
        ``"AML"``, ``"control"`` or ``"cell line"``.
    ``day``
        Day of the sample since the diagnosis; missing for controls and cell lines.
    ``cell_type``
        Type by the authors; malignant ones end in ``-like``.
    ``malignancy``, ``cycling``, ``n_reads``
        ``PredictionRefined``, ``CyclingBinary`` and ``NumberOfReads``, where the files have them.
    ``sample``, ``geo_sample``
        Name and accession of the sample.

    ``uns["published"]`` says how many cells were read and what was left out.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or it has no samples, or one lacks its annotation.
    ValueError
        If a name is not that of a sample of GSE116256, a file is damaged, two samples have
        different genes, or an annotation is that of other cells.

    Warns
    -----
    UserWarning
        If there are not the 19 batches of the paper after its filters.

    Examples
    --------
    >>> adata = aml("GSE116256")  # doctest: +SKIP
    >>> smt.pp.preprocess(adata, batch_key="donor", n_top_genes=2916)  # doctest: +SKIP
    """
    folder = Path(path)
    files = sorted([*folder.glob("*.dem.txt.gz"), *folder.glob("*.dem.txt")])
    if not files:
        raise FileNotFoundError(f"No files *.dem.txt.gz in {str(folder)!r}. {DOWNLOAD}")
    pairs = [(file, _annotation_of(file)) for file in files]
    samples = [_sample(file) for file in files]
    if len({sample.name for sample in samples}) < len(samples):
        raise ValueError(f"A sample is twice in {str(folder)!r}: remove one of its files.")

    counts, tables, genes = [], [], None
    left_out = [sample.donor in AMBIGUOUS_DONORS and paper_filters for sample in samples]
    n_read = n_untyped = 0
    chosen = [(*pair, s) for pair, s, out in zip(pairs, samples, left_out, strict=True) if not out]
    for file, annotation, sample in tqdm(chosen, desc="Samples", disable=not progress):
        matrix = read_text_matrix(file)
        if genes is not None and matrix.genes != genes:
            raise ValueError(f"{file.name} has other genes than {files[0].name}. {DOWNLOAD}")
        genes = matrix.genes
        obs = _obs(matrix.cells, annotation, sample)
        keep = obs["cell_type"].notna().to_numpy() | (not paper_filters)
        n_read, n_untyped = n_read + len(obs), n_untyped + int((~keep).sum())
        counts.append(matrix.values[keep])
        tables.append(obs[keep])
    if not tables:
        raise FileNotFoundError(f"Only donors that the paper leaves out are there. {DOWNLOAD}")
    obs = pd.concat(tables)
    if not obs.index.is_unique:
        raise ValueError("Two samples name the same cell: keep only one copy of each file.")
    text = obs.columns.difference(["day", "n_reads"])
    obs[text] = obs[text].astype("category")
    adata = AnnData(sparse.vstack(counts, format="csr"), obs=obs, var=pd.DataFrame(index=genes))
    adata.uns["published"] = {
        "source": "GEO GSE116256",
        "cells_read": n_read,
        "cells_without_type_left_out": n_untyped,
        "samples_left_out": [s.name for s, out in zip(samples, left_out, strict=True) if out],
    }
    if paper_filters and obs["donor"].nunique() != N_PAPER_BATCHES:
        warnings.warn(
            f"{obs['donor'].nunique()} batches, where the paper has {N_PAPER_BATCHES}: some "
            f"samples are not in {str(folder)!r}.",
            stacklevel=2,
        )
    return adata


def _sample(file: Path) -> _Sample:
    """Read the sample off a file's name, such as ``GSM3587923_AML1012-D0.dem.txt.gz``."""
    geo, _, name = file.name.partition(".dem.txt")[0].partition("_")
    day = np.nan
    if name in CELL_LINES:
        donor, group = name, "cell line"
    elif patient := re.fullmatch(r"(AML\d+[A-Z]?)-D(\d+)", name):
        donor, group, day = patient[1], "AML", float(patient[2])
    elif control := re.fullmatch(r"(BM\d+)(-\w+)?", name):
        donor, group = control[1], "control"
    else:
        raise ValueError(
            f"{file.name} is not named as a sample of GSE116256: GSM<number>_AML<donor>-D<day>, "
            f"GSM<number>_BM<donor>, or a cell line ({', '.join(CELL_LINES)})."
        )
    return _Sample(name, geo, donor, group, day)


def _annotation_of(file: Path) -> Path:
    """Annotation of a sample; its accession is in part that of the counts, in part the next."""
    name = _sample(file).name
    found = sorted(file.parent.glob(f"*_{name}.anno.txt*"))
    if not found:
        raise FileNotFoundError(f"{file.name} lacks its *_{name}.anno.txt.gz. {DOWNLOAD}")
    return found[0]


def _obs(cells: list[str], annotation: Path, sample: _Sample) -> pd.DataFrame:
    """Columns of ``obs`` for the cells of a sample."""
    table = pd.read_csv(annotation, sep="\t")
    if missing := {"Cell", "CellType"} - set(table.columns):
        raise ValueError(f"{annotation.name} has no column {sorted(missing)[0]!r}. {DOWNLOAD}")
    table = table.set_index("Cell")
    known = [column for column in OUR_NAMES if column in table]
    if not table.index.is_unique or not pd.Index(cells).isin(table.index).all():
        raise ValueError(f"{annotation.name} lists other cells than its count file. {DOWNLOAD}")
    obs = table[known].rename(columns=OUR_NAMES).reindex(cells)
    undefined = obs["cell_type"].astype(str).str.strip().str.lower().isin(UNDEFINED)
    obs["cell_type"] = obs["cell_type"].mask(undefined)
    obs.index.name = None
    return obs.assign(
        donor=sample.donor,
        patient_group=sample.patient_group,
        day=sample.day,
        sample=sample.name,
        geo_sample=sample.geo,
    )
