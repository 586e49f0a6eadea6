"""Layouts: a pixel for each gene, and correlated genes beside each other."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scmedal_tools import tl
from scmedal_tools.tl._genomap_layout import gene_dissimilarity
from scmedal_tools.tl._gromov_wasserstein import kl_loss

# After torch, which aborts where POT has loaded TensorFlow before.
pytest.importorskip("ot")

QUIET = {"progress": False}


@pytest.fixture
def groups():
    """Cells x 36 genes that are correlated in four groups of nine, in mixed order."""
    rng = np.random.default_rng(0)
    of_gene = rng.permutation(np.repeat(np.arange(4), 9))
    x = rng.normal(size=(200, 4))[:, of_gene] + 0.5 * rng.normal(size=(200, 36))
    adata = ad.AnnData(x.astype(np.float32))
    adata.var["group"] = of_gene
    return adata


def pixels(adata, **arguments):
    tl.genomap_layout(adata, **QUIET | arguments)
    return adata.uns["genomap"]["pixels"]


@pytest.mark.parametrize("sparsity", [np.asarray, sparse.csr_matrix])
def test_dissimilarity_is_that_of_numpy(sparsity):
    x = np.random.default_rng(0).poisson(1.0, (50, 8)).astype(np.float32)
    expected = 1 - np.corrcoef(x.T)
    np.testing.assert_allclose(gene_dissimilarity(sparsity(x)), expected, atol=1e-9)


def test_constant_genes_are_correlated_with_none():
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    x[:, [0, 2]] = 0, 0.1
    found = gene_dissimilarity(x)
    assert (found[[0, 2]][:, [1, 3]] == 1).all()
    assert found[0, 2] == 1
    assert (found.diagonal() == 0).all()


@pytest.mark.parametrize("layout", ["grid", "rings"])
class TestEveryLayout:
    def test_gives_each_gene_a_pixel_of_its_own(self, groups, layout):
        found = pixels(groups, layout=layout)
        assert list(found.index) == list(groups.var_names)
        assert not found.duplicated().any()
        assert tuple(groups.uns["genomap"]["shape"]) == (6, 6)
        assert found.min().min() == 0
        assert found.max().max() == 5

    def test_leaves_the_outermost_pixels_blank(self, groups, layout):
        part = groups[:, :30].copy()
        found = pixels(part, layout=layout, shape=(7, 6))
        used = np.zeros((7, 6), dtype=bool)
        used[found["row"], found["column"]] = True
        rows, columns = np.indices(used.shape)
        radius = np.hypot(rows - 3, columns - 2.5)
        assert used.sum() == 30
        assert radius[used].max() <= radius[~used].min()

    def test_is_the_same_again_and_survives_a_file(self, groups, layout, tmp_path):
        found = pixels(groups, layout=layout)
        again = pixels(groups.copy(), layout=layout)
        assert found.equals(again)
        groups.write_h5ad(tmp_path / "cells.h5ad")
        kept, read = groups.uns["genomap"], ad.read_h5ad(tmp_path / "cells.h5ad").uns["genomap"]
        assert (read["pixels"].to_numpy() == found.to_numpy()).all()
        assert list(read["pixels"].index) == list(found.index)
        assert tuple(read["shape"]) == (6, 6)
        assert (read["layout"], read["objective"]) == (layout, kept["objective"])

    def test_takes_a_constant_gene(self, groups, layout):
        groups.X[:, 3] = 1
        assert not pixels(groups, layout=layout).duplicated().any()
        assert np.isfinite(groups.uns["genomap"]["objective"])

    def test_changes_nothing_else(self, groups, layout):
        before = groups.copy()
        tl.genomap_layout(groups, layout=layout, key_added="map", indices=range(100), **QUIET)
        assert set(groups.uns) == {"map"}
        assert groups.uns["map"]["n_cells"] == 100
        np.testing.assert_array_equal(groups.X, before.X)


def test_grid_puts_groups_together(groups):
    positions = pixels(groups, layout="grid").to_numpy()
    of_gene = groups.var["group"].to_numpy()
    distance = np.hypot(*(positions[:, None] - positions).transpose(2, 0, 1))
    same = of_gene[:, None] == of_gene
    # Nine pixels cannot be closer than in a square of 3 x 3: 1.7 pixels, counting themselves.
    assert distance[same].mean() < 2.0
    assert distance[~same].mean() > 3.0


def test_objective_of_rings_is_that_of_the_paper(groups):
    found = pixels(groups, layout="rings").to_numpy()
    radii = [np.sqrt((row - 2.5) ** 2 + (column - 2.5) ** 2) for row, column in found]
    d = 1 - np.corrcoef(groups.X.T)
    loss = [
        d[i, j] * np.log((d[i, j] + 1e-15) / (abs(a - b) + 1e-15)) - d[i, j] + abs(a - b)
        for i, a in enumerate(radii)
        for j, b in enumerate(radii)
        if i != j
    ]
    assert groups.uns["genomap"]["objective"] == pytest.approx(sum(loss) / 36**2, abs=1e-4)
    rng = np.random.default_rng(0)
    at_random = []
    for _ in range(50):
        moved = rng.permutation(radii)
        at_random.append(kl_loss(np.clip(d, 0, 2), np.abs(moved[:, None] - moved)))
    assert groups.uns["genomap"]["objective"] < min(at_random)


@pytest.mark.parametrize(("n_genes", "shape"), [(36, (6, 6)), (30, (5, 6)), (26, (5, 6))])
def test_default_shape_is_the_smallest(groups, n_genes, shape):
    part = groups[:, :n_genes].copy()
    pixels(part)
    assert tuple(part.uns["genomap"]["shape"]) == shape


class TestErrors:
    def test_of_arguments(self, groups):
        with pytest.raises(ValueError, match="20 pixels for 36 genes"):
            pixels(groups, shape=(4, 5))
        with pytest.raises(ValueError, match="layout='ring' is not one of"):
            pixels(groups, layout="ring")
        with pytest.raises(ValueError, match="layer='scaled' is not in"):
            pixels(groups, layer="scaled")

    def test_of_values(self, groups):
        groups.X[3, 3] = np.nan
        with pytest.raises(ValueError, match="missing or infinite"):
            pixels(groups)
        with pytest.raises(ValueError, match="1 cells and 36 genes"):
            pixels(groups, indices=[0])


class TestReference:
    """The package itself is not needed: a stand-in returns images as it does."""

    @pytest.fixture
    def called(self, monkeypatch):
        called = {}

        def construct_genomap(data, n_rows, n_columns, epsilon, num_iter):
            called.update(epsilon=epsilon, num_iter=num_iter)
            images = data[:, ::-1].reshape(len(data), n_rows, n_columns, 1).copy()
            images[-1] = 0
            return images

        module = SimpleNamespace(construct_genomap=construct_genomap)
        monkeypatch.setitem(sys.modules, "genomap", module)
        return called

    def test_pixels_are_read_off_the_images(self, groups, called):
        with pytest.warns(UserWarning, match="non-commercial"):
            found = pixels(groups, layout="genomap", max_iter=7)
        assert called == {"epsilon": 0.0, "num_iter": 7}
        expected = np.stack(np.divmod(np.arange(36)[::-1], 6), axis=1)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.filterwarnings("ignore:The original genomap package")
    def test_what_it_cannot_take(self, groups, called):
        with pytest.raises(ValueError, match=r"fills all pixels, and \(6, 7\)"):
            pixels(groups, layout="genomap", shape=(6, 7))
        groups.X[:, 3] = 1
        with pytest.raises(ValueError, match="1 genes are the same in all cells"):
            pixels(groups, layout="genomap")

    def test_not_installed(self, groups, monkeypatch):
        monkeypatch.setitem(sys.modules, "genomap", None)
        with pytest.raises(ImportError, match=r"\.\[genomap-reference\]"):
            pixels(groups, layout="genomap")


@pytest.mark.skipif(find_spec("genomap") is None, reason="the original package is not installed")
@pytest.mark.filterwarnings("ignore")
def test_rings_reach_the_objective_of_the_original_package():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 400)) + rng.normal(size=(300, 400))
    adata = ad.AnnData(x.astype(np.float32))
    pixels(adata, layout="genomap", max_iter=200)
    original = adata.uns["genomap"]["objective"]
    pixels(adata, layout="rings")
    assert adata.uns["genomap"]["objective"] <= original + 1e-4
