"""The UMAP of one embedding: whose coordinates, in which colours, and what scanpy adds."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex
from mudata import MuData

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
    only = {"groups": ["$a_1$"], "na_in_legend": False}
    on_data = umap(adata, "X_fe", "lot", legend_loc="on data", **only).axes[0].texts
    assert [text.get_text() for text in on_data] == [r"\$a_1\$"]


def test_a_panel_of_a_figure_of_ones_own(adata, tmp_path):
    own, axes = plt.subplots(1, 2)
    assert umap(adata, "X_fe", "donor", ax=axes[1], save=tmp_path / "umap.png") is own
    assert axes[1].get_title() == "donor"
    assert not axes[0].collections
    assert plt.get_fignums() == [own.number]
    assert (tmp_path / "umap.png").exists()
    with pytest.raises(ValueError, match="`ax`"):
        umap(adata, "X_fe", ["donor", "cell_type"], ax=axes[0])


@pytest.mark.parametrize("argument", ["return_fig", "show"])
def test_the_figure_is_returned_in_any_case(adata, argument):
    with pytest.raises(TypeError, match=f"no {argument}.* leave that out"):
        umap(adata, "X_fe", "donor", **{argument: False})


@pytest.mark.parametrize(
    "own",
    [["red", "blue", "lime", "navy"], {"T": "red", "N": "blue", "M": "lime", "B": "navy"}],
)
def test_colors_that_are_kept_are_those_that_are_drawn(adata, own):
    umap(adata, "X_fe", "cell_type")
    ax = umap(adata, "X_fe", "cell_type", palette=own).axes[0]
    of_types = own if isinstance(own, dict) else dict(zip("BMNT", own, strict=True))
    written = dict(zip("BMNT", map(to_hex, adata.uns["cell_type_colors"]), strict=True))
    assert written == {name: to_hex(color) for name, color in of_types.items()}
    places = map(tuple, adata.obsm["X_umap_fe"])
    assert drawn(ax) == dict(zip(places, adata.obs["cell_type"].map(written), strict=True))


def test_truth_values_have_both_colors(adata):
    adata.obs["treated"] = True
    ax = umap(adata, "X_fe", "treated").axes[0]
    assert set(drawn(ax).values()) == {adata.uns["treated_colors"][1]}
    assert len(adata.uns["treated_colors"]) == 2


def test_names_that_are_not_unique_get_no_second_warning(adata):
    with pytest.warns(UserWarning, match="names are not unique"):
        twice = AnnData(adata.X, adata.obs.set_index(np.repeat("cell", 40)), obsm=adata.obsm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        umap(twice, "X_fe", "donor")


def test_a_view_stays_a_view(adata):
    view = adata[adata.obs["donor"] != "a"]
    figure = umap(view, "X_umap_fe", "1")
    assert len(figure.axes[0].collections[0].get_offsets()) == 32
    assert view.is_view


def test_a_modality_is_needed(adata):
    with pytest.raises(ValueError, match=r"pass one modality, such as mdata\['rna'\]"):
        umap(MuData({"rna": adata}), "X_fe")


@pytest.mark.parametrize(("key", "color"), [("X_re", None), ("X_umap", None), ("X_fe", "nothing")])
def test_unknown_names(adata, key, color):
    with pytest.raises(KeyError, match=color or key):
        umap(adata, key, color)
