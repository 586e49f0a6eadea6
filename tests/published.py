"""Miniatures of published files, with invented numbers."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

N_GENES = 64
AML = ("MUTZ3", "AML420B-D0", "AML328-D0", "AML556-D0", "BM1", "BM5-34p", "BM3")


def write_text(file, text):
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "wt") as out:
        out.write(text)


def write_matrix(file, values, genes, cells, corner="Gene", digits=None):
    """Write a table of genes x cells; no corner makes the header a name shorter."""
    form = "{:g}" if digits is None else f"{{:.{digits}g}}"
    header = cells if corner is None else [corner, *cells]
    rows = [
        "\t".join([gene, *map(form.format, row)])
        for gene, row in zip(genes, np.asarray(values), strict=True)
    ]
    write_text(file, "\n".join(["\t".join(header), *rows]) + "\n")


def write_sample(
    folder, sample, types, number=1, genes=("A1BG", "A2M", "TP53"), apart=False, gz=".gz"
):
    """Write the two files of a sample of the leukaemia data and return the counts."""
    cells = [f"{sample}_{'ACGT'[i % 4] * 3}{i}" for i in range(len(types))]
    counts = np.random.default_rng(number).poisson(1.0, (len(genes), len(cells)))
    write_matrix(folder / f"GSM{number}_{sample}.dem.txt{gz}", counts, genes, cells)
    table = pd.DataFrame(
        {
            "Cell": cells,
            "NumberOfReads": np.arange(len(cells)) + 100,
            "NumberOfGenes": 3,
            "CyclingBinary": "no",
            "PredictionRefined": "normal",
            "CellType": types,
        }
    )
    # In another order than the counts, as nothing says that it is the same.
    text = table.iloc[::-1].to_csv(sep="\t", index=False)
    write_text(folder / f"GSM{number + apart}_{sample}.anno.txt{gz}", text)
    return pd.DataFrame(counts.T, index=cells, columns=list(genes))


def write_autism(folder, x, genes, cells, table="meta.tsv", digits=6, **columns):
    """Write the matrix and the table of the autism data; cells are named after their donors."""
    write_matrix(folder / "exprMatrix.tsv.gz", x.T, genes, cells, "gene", digits)
    individual = [cell.rpartition("_")[2] for cell in cells]
    meta = pd.DataFrame(
        {
            "cell": cells,
            "cluster": "L2/3",
            "sample": individual,
            "individual": individual,
            "diagnosis": ["ASD" if donor == "5419" else "Control" for donor in individual],
            "post-mortem interval (hours)": 8,
        }
        | columns
    )
    write_text(folder / table, meta.iloc[::-1].to_csv(sep="\t", index=False))


def heart_cells(n=12, n_genes=9, **columns):
    """Cells with the columns of the file of the heart."""
    places = np.arange(n)
    obs = pd.DataFrame(
        {
            "sample": [f"HCA{i % 3}" for i in places],
            "donor": [f"D{i % 2}" for i in places],
            "region": np.array(["LA", "RV"])[places % 2],
            "version": np.array(["V2", "V3", "V3"])[places % 3],
            "cell_type": np.array(["Myeloid", "NotAssigned"])[places % 2],
            "cell_states": "state",
        }
        | columns,
        index=[f"c{i}" for i in places],
    )
    counts = np.random.default_rng(0).poisson(0.7, (n, n_genes)).astype("float32")
    return AnnData(sparse.csr_matrix(counts), obs=obs)


def write_aml(folder):
    genes = [f"G{i}" for i in range(N_GENES)]
    for number, sample in enumerate(AML):
        types = ["Mono", "Mono-like", "T"] * 7 + [np.nan]
        write_sample(folder, sample, types, 10 * number + 10, genes)


def write_asd(folder):
    donors = ("5419", "5403", "5978", "5242", "6032", "5976")
    cells = [f"AC{i}-1_{donor}" for donor in donors for i in range(20)]
    counts = np.random.default_rng(0).poisson(1.0, (len(cells), N_GENES))
    counts[:, 0] = 1
    write_autism(
        folder, np.log2(1 + counts), [f"E{i}|S{i}" for i in range(N_GENES)], cells,
        cluster=["L2/3", "L4"] * (len(cells) // 2),
        diagnosis=np.repeat(["ASD", "Control"], len(cells) // 2),
    )  # fmt: skip


def write_heart(folder):
    places = np.arange(160)
    cells = heart_cells(
        160,
        N_GENES,
        sample=[f"HCA{i % 5}" for i in places],
        region=np.array(["SP", "SP", "LV", "LV", "LA"])[places % 5],
        cell_type=np.array(["Endothelial", "Myeloid"])[places % 2],
    )
    cells.write_h5ad(folder / "global_raw.h5ad")
