"""Images hold what the layout says, and are made when asked for."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmedal_tools import tl


@pytest.fixture
def adata():
    x = np.arange(1, 21, dtype=np.float32).reshape(4, 5)
    adata = ad.AnnData(x, layers={"sparse": sparse.csr_matrix(2 * x)})
    pixels = pd.DataFrame({"row": [0, 0, 1, 1], "column": [1, 0, 2, 0]}, ["3", "1", "0", "4"])
    adata.uns["genomap"] = {"pixels": pixels, "shape": np.array([2, 3])}
    return adata


def test_values_are_at_the_pixels_of_their_genes(adata):
    images = tl.genomap_images(adata)
    expected = [[[7, 9, np.nan], [10, np.nan, 6]]]
    np.testing.assert_array_equal(images[1:2], expected)
    np.testing.assert_array_equal(images[1], expected[0])
    np.testing.assert_array_equal(tl.genomap_images(adata, layer="sparse")["1"], 2 * images[1])


def test_shape_and_length(adata):
    images = tl.genomap_images(adata)
    assert images.shape == (4, 2, 3)
    assert len(list(images)) == len(images) == 4


@pytest.mark.parametrize(
    "cells", [[1, 3], slice(1, None, 2), ["1", "3"], np.array([0, 1, 0, 1], bool), [-3, -1]]
)
def test_cells_are_chosen_in_many_ways(adata, cells):
    images = tl.genomap_images(adata)
    np.testing.assert_array_equal(images[cells], np.stack([images[1], images[3]]))


def test_nothing_is_read_before_it_is_asked_for(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    expected = tl.genomap_images(adata)[:]
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    images = tl.genomap_images(backed)
    np.testing.assert_array_equal(images[:], expected)
    backed.file.close()


def test_layout_of_other_cells(adata):
    other = adata.copy()
    layout = other.uns.pop("genomap")
    images = tl.genomap_images(other, layout=layout)
    np.testing.assert_array_equal(images[0], tl.genomap_images(adata)[0])
    of_pixels = tl.genomap_images(other, layout=layout["pixels"])
    np.testing.assert_array_equal(of_pixels[0], images[0])


def test_genes_without_a_pixel_are_not_drawn(adata):
    pixels = adata.uns["genomap"]["pixels"].astype(float)
    pixels.loc["4"] = np.nan
    expected = [[7, 9, np.nan], [np.nan, np.nan, 6]]
    np.testing.assert_array_equal(tl.genomap_images(adata, layout=pixels)[1], expected)


def test_errors(adata):
    with pytest.raises(KeyError, match="genomap_layout"):
        tl.genomap_images(adata, key="other")
    with pytest.raises(KeyError, match="not cells"):
        tl.genomap_images(adata)[["1", "9"]]
    with pytest.raises(ValueError, match="1 genes of the layout are not in adata: 4"):
        tl.genomap_images(adata[:, :4].copy())


@pytest.mark.parametrize("layer", [None, "sparse"])
@pytest.mark.parametrize("cells", [[3, 1], slice(None, None, -1), ["3", "0"], [1, 1], [-1, 0]])
def test_a_file_is_read_in_any_order(adata, tmp_path, cells, layer):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    images = tl.genomap_images(backed, layer=layer)
    np.testing.assert_array_equal(images[cells], tl.genomap_images(adata, layer=layer)[cells])
    backed.file.close()
