"""Reader of text tables against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmedal_tools.datasets._text_matrix import read_text_matrix

from ..published import write_matrix, write_text


@pytest.mark.parametrize("name", ["counts.tsv", "counts.tsv.gz"])
@pytest.mark.parametrize("corner", ["gene", "", None])
def test_equals_pandas(tmp_path, name, corner):
    values = np.random.default_rng(0).poisson(0.5, (7, 5)) * 0.25
    write_matrix(tmp_path / name, values, list("abcdefg"), [f"c{i}" for i in range(5)], corner)
    matrix = read_text_matrix(tmp_path / name)
    table = pd.read_csv(tmp_path / name, sep="\t", index_col=0)
    assert isinstance(matrix.values, sparse.csr_matrix)
    assert matrix.values.dtype == np.float32
    np.testing.assert_array_equal(matrix.values.toarray(), table.to_numpy().T)
    assert (matrix.genes, matrix.cells) == (list(table.index), list(table.columns))


def test_zeros_take_no_memory(tmp_path):
    write_matrix(tmp_path / "m.tsv", np.eye(4), list("abcd"), list("wxyz"))
    assert read_text_matrix(tmp_path / "m.tsv").values.nnz == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no genes"),
        ("gene\tx\ty\n", "no genes"),
        ("gene\tx\ty\na\t1\t2\nb\t1\n", "gene 'b': 1 values"),
        ("gene\tx\ty\tz\ta\na\t1\t2\n", "gene 'a': 2 values under a header of 5"),
        ("gene\tx\ty\na\t1\ttwo\n", "gene 'a': not a number"),
        ("gene\tx\ty\na\t1\tnan\n", "gene 'a': missing"),
        ("gene\tx\tx\na\t1\t2\n", "names a cell twice"),
        ("gene\tx\ty\na\t1\t2\na\t1\t2\n", "names a gene twice"),
    ],
)
def test_damaged_file_is_named(tmp_path, text, said):
    write_text(tmp_path / "m.tsv", text)
    with pytest.raises(ValueError, match=f"m.tsv.*{said}"):
        read_text_matrix(tmp_path / "m.tsv")
