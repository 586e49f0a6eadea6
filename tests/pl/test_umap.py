"""The UMAP of one embedding: whose coordinates, in which colours, and what scanpy adds."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from scmedal_tools.pl import embeddings, umap


@pytest.fixture
def adata():
    """Return 40 cells whose UMAP exists already."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical(np.resize(list("abcde"), 40)),
            "cell_type": pd.Categorical(np.resize(list("TBMN"), 40)),
            "score": np.arange(40.0),
        },
        index=[f"cell{i}" for i in range(40)],
    )
    obsm = {"X_fe": rng.normal(size=(40, 4)), "X_umap_fe": rng.normal(size=(40, 2))}
    return AnnData(rng.normal(size=(40, 2)), obs=obs, obsm=obsm)


def drawn(ax):
    """Colour of each place."""
    (points,) = ax.collections[:1]
    colors = map(to_hex, points.get_facecolors())
    return {tuple(xy): color for xy, color in zip(points.get_offsets().data, colors, strict=True)}


def test_colors_are_those_of_the_other_figures(adata):
    panel = embeddings(adata, "X_fe", ["donor", "cell_type"]).axes[1]
    kept = dict(adata.uns)
    fresh = AnnData(obs=adata.obs, obsm=dict(adata.obsm))
    figure = umap(fresh, "X_fe", ["donor", "cell_type"])
    assert fresh.uns["cell_type_colors"] == kept["cell_type_colors"]
    assert fresh.uns["donor_colors"] == kept["donor_colors"]
    assert drawn(figure.axes[1]) == drawn(panel)


def test_genes_and_numbers_get_color_bars(adata):
    figure = umap(adata, "X_fe", ["score", "1"])
    panels = {ax.get_title(): ax for ax in figure.axes}
    assert {"score", "1"} < set(panels)
    np.testing.assert_allclose(np.sort(panels["1"].collections[0].get_array()),
                               np.sort(adata.X[:, 1]))  # fmt: skip
    assert not adata.uns


def test_arguments_of_scanpy(adata):
    is_a = (adata.obs["donor"] == "a").to_numpy()
    ax = umap(adata, "X_umap_fe", "cell_type", mask_obs=is_a, na_color="0.5").axes[0]
    grey = [xy for xy, color in drawn(ax).items() if color == to_hex("0.5")]
    assert {tuple(xy) for xy in grey} == {tuple(xy) for xy in adata.obsm["X_umap_fe"][~is_a]}


def test_absent_umap_is_computed_and_the_figure_saved(adata, tmp_path):
    del adata.obsm["X_umap_fe"]
    umap(adata, "X_fe", save=tmp_path / "umap.png")
    assert adata.obsm["X_umap_fe"].shape == (40, 2)
    assert (tmp_path / "umap.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_columns_stay_as_they_are_and_names_are_no_maths(adata):
    adata.obs["lot"] = np.resize(["$a_1$", "b"], 40)
    before = adata.obs.copy()
    figure = umap(adata, "X_fe", "lot")
    pd.testing.assert_frame_equal(adata.obs, before)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == [r"\$a_1\$", "b"]


@pytest.mark.parametrize(("key", "color"), [("X_re", None), ("X_umap", None), ("X_fe", "nothing")])
def test_unknown_names(adata, key, color):
    with pytest.raises(KeyError, match=color or key):
        umap(adata, key, color)
