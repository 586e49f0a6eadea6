"""Miniatures of published files, with invented numbers."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest


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


@pytest.fixture
def write_sample():
    """Give a function that writes the two files of a sample and returns the counts."""

    def write(
        folder, sample, types, number=1, genes=("A1BG", "A2M", "TP53"), apart=False, gz=".gz"
    ):
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

    return write
