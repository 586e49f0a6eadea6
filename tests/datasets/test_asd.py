"""Reader of the autism data on miniatures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scmedal_tools.datasets import asd

from ..published import write_autism

GENES = [f"ENSG{i:03d}|G{i // 2}" for i in range(30)]  # symbols are not unique
CELLS = [f"{base}-1_{sample}" for base in ("AAA", "CCC", "GGG") for sample in ("5419", "1823")]


@pytest.fixture
def counts():
    """Cells x genes; the smallest count of each cell is one."""
    counts = np.random.default_rng(0).negative_binomial(1, 0.2, (len(CELLS), len(GENES)))
    counts[:, 0] = 1
    return counts


def write(folder, x, genes=GENES, **options):
    write_autism(folder, x, genes, CELLS, **options)


@pytest.mark.parametrize("total", [None, 1e4])
@pytest.mark.parametrize("digits", [4, 6])
def test_counts_come_back(tmp_path, counts, total, digits):
    """Whether or not cells were brought to the same total before the logarithm."""
    scale = np.ones(len(counts)) if total is None else total / counts.sum(axis=1)
    write(tmp_path, np.log2(1 + counts * scale[:, None]), digits=digits)
    adata = asd(tmp_path, progress=False)
    np.testing.assert_array_equal(adata.X.toarray(), counts)
    np.testing.assert_allclose(adata.obs["count_unit"], scale, rtol=0.01)
    assert list(adata.obs_names) == CELLS


def test_columns(tmp_path, counts):
    write(tmp_path, np.log2(1 + counts), table="meta.txt")
    adata = asd(tmp_path, progress=False)
    assert adata.obs["donor"].tolist() == ["5419", "1823"] * 3  # text, not numbers
    assert adata.obs["diagnosis"].tolist() == ["ASD", "Control"] * 3
    assert set(adata.obs["cell_type"]) == {"L2/3"}
    assert "post-mortem interval (hours)" in adata.obs
    assert list(adata.var_names) == [gene.split("|")[0] for gene in GENES]
    assert adata.var["symbol"].tolist() == [gene.split("|")[1] for gene in GENES]
    adata.write_h5ad(tmp_path / "asd.h5ad")


def test_genes_with_one_name(tmp_path, counts):
    genes = [gene.split("|")[0] for gene in GENES]
    write(tmp_path, np.log2(1 + counts), genes)
    adata = asd(tmp_path, progress=False)
    assert list(adata.var_names) == genes
    assert "symbol" not in adata.var


def test_cell_without_counts(tmp_path, counts):
    counts[2] = 0
    write(tmp_path, np.log2(1 + counts))
    adata = asd(tmp_path, progress=False)
    np.testing.assert_array_equal(adata.X.toarray(), counts)


@pytest.mark.parametrize("transform", [np.log1p, np.sqrt, lambda counts: np.log2(1 + counts) + 1])
def test_other_transformations_are_refused(tmp_path, counts, transform):
    x = np.where(counts > 0, transform(counts * 1.7), 0)
    write(tmp_path, x)
    with pytest.raises(ValueError, match=r"whole multiples.*exprMatrix\.tsv\.gz"):
        asd(tmp_path, progress=False)


def test_values_that_are_no_multiples_are_announced(tmp_path, counts):
    x = np.log2(1 + counts.astype(float))
    x[0, np.flatnonzero(counts[0] == 2)[:1]] = np.log2(2.5)
    x = np.tile(x, (1, 4))
    write(tmp_path, x, [f"E{i}" for i in range(x.shape[1])])
    with pytest.warns(UserWarning, match="1 cells have values that are no whole multiples"):
        asd(tmp_path, progress=False)


@pytest.mark.parametrize("missing", ["exprMatrix.tsv.gz", "meta.tsv"])
def test_missing_file(tmp_path, counts, missing):
    write(tmp_path, np.log2(1 + counts))
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"No {missing}.*cells.ucsc.edu"):
        asd(tmp_path, progress=False)


def test_missing_column_and_cells(tmp_path, counts):
    write(tmp_path, np.log2(1 + counts))
    meta = pd.read_csv(tmp_path / "meta.tsv", sep="\t")
    meta.drop(columns="individual").to_csv(tmp_path / "meta.tsv", sep="\t", index=False)
    with pytest.raises(ValueError, match="no column 'individual'"):
        asd(tmp_path, progress=False)
    meta.iloc[:-2].to_csv(tmp_path / "meta.tsv", sep="\t", index=False)
    with pytest.raises(ValueError, match="lacks 2 of the cells"):
        asd(tmp_path, progress=False)


def test_negative_values(tmp_path, counts):
    x = np.log2(1 + counts)
    x[0, 0] = -1
    write(tmp_path, x)
    with pytest.raises(ValueError, match="below zero"):
        asd(tmp_path, progress=False)


def test_counts_are_refused(tmp_path, counts):
    write(tmp_path, counts)
    with pytest.raises(ValueError, match="whole numbers, which are no logarithms"):
        asd(tmp_path, progress=False)
