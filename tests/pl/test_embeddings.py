"""The grid of UMAPs: what is drawn, in which colours, and what is written to the data."""

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex, to_rgba_array
from scipy.spatial.distance import cdist

from scmedal_tools.pl import embeddings
from scmedal_tools.pl._palette import OKABE_ITO


@pytest.fixture
def adata():
    """Return 40 cells whose UMAPs exist already, so that no test has to compute one."""
    n = 40
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(np.resize(["a", "b", "c"], n)),
            "cell_type": np.resize(["T", "B"], n),
            "score": np.linspace(0, 1, n),
            "treated": np.resize([True, False], n),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    names = ["pca", "scmedal_fe", "scmedal_fec", "scmedal_re", "other"]
    obsm = {f"X_{name}": rng.normal(size=(n, 4)) for name in names}
    obsm |= {f"X_umap_{name}": rng.normal(size=(n, 2)) for name in names}
    return AnnData(obs=obs, obsm=obsm)


def _legend_labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def _points(ax):
    return np.asarray(ax.collections[0].get_offsets())


def _colors(ax):
    return [to_hex(color) for color in ax.collections[0].get_facecolors()]


def _color_by_position(ax):
    return {tuple(xy): color for xy, color in zip(_points(ax), _colors(ax), strict=True)}


def test_rows_are_colors_and_columns_are_embeddings(adata):
    keys = ["X_pca", "X_scmedal_fe", "X_scmedal_fec", "X_scmedal_re", "X_other"]
    figure = embeddings(adata, keys, ["batch", "cell_type"])
    assert len(figure.axes) == 10
    titles = ["PCA", "scMEDAL FE", "scMEDAL FEC", "scMEDAL RE", "other"]
    assert [ax.get_title() for ax in figure.axes] == titles + [""] * 5
    legends = [ax.get_legend() for ax in figure.axes]
    assert [i for i, legend in enumerate(legends) if legend is not None] == [4, 9]
    assert [legends[i].get_title().get_text() for i in (4, 9)] == ["batch", "cell_type"]


def test_every_cell_is_drawn_at_its_umap_position_in_its_color(adata):
    ax = embeddings(adata, "X_scmedal_fe", "batch").axes[0]
    drawn = _color_by_position(ax)
    palette = dict(zip("abc", adata.uns["batch_colors"], strict=True))
    expected = {
        tuple(xy): palette[batch]
        for xy, batch in zip(adata.obsm["X_umap_scmedal_fe"], adata.obs["batch"], strict=True)
    }
    assert drawn == expected


def test_drawing_order_is_shuffled_and_the_same_each_time(adata):
    first = _points(embeddings(adata, "X_pca", "batch").axes[0])
    second = _points(embeddings(adata, "X_pca", "batch").axes[0])
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, adata.obsm["X_umap_pca"])


def test_legend_has_the_categories_that_have_cells(adata):
    adata.obs["batch"] = adata.obs["batch"].cat.add_categories("unused")
    assert _legend_labels(embeddings(adata, "X_pca", "batch").axes[0]) == ["a", "b", "c"]
    assert len(adata.uns["batch_colors"]) == 4


def test_booleans_are_categories(adata):
    ax = embeddings(adata, "X_pca", "treated").axes[0]
    assert _legend_labels(ax) == ["False", "True"]


def test_existing_colors_are_used_and_kept(adata):
    adata.uns["batch_colors"] = np.array(["#112233", "#445566", "#778899"])
    ax = embeddings(adata, "X_pca", "batch").axes[0]
    assert set(_colors(ax)) == {"#112233", "#445566", "#778899"}
    assert list(adata.uns["batch_colors"]) == ["#112233", "#445566", "#778899"]


@pytest.mark.parametrize("n_categories", [4, 7])
def test_few_categories_get_colors_of_okabe_and_ito(adata, n_categories):
    adata.obs["group"] = pd.Categorical(np.resize(np.arange(n_categories), adata.n_obs))
    embeddings(adata, "X_pca", "group")
    colors = adata.uns["group_colors"]
    assert len(set(colors)) == n_categories
    assert set(colors) <= {color.lower() for color in OKABE_ITO}


def test_colors_of_many_types_beside_many_donors_are_unlike(adata):
    adata.obs["donor"] = pd.Categorical(np.resize(np.arange(18), adata.n_obs))
    adata.obs["cell_type"] = pd.Categorical(np.resize(np.arange(21), adata.n_obs))
    embeddings(adata, "X_pca", ["donor", "cell_type"])
    types = to_rgba_array(adata.uns["cell_type_colors"])
    distances = cdist(types, types) + 9 * np.eye(21)
    assert distances.min() > 0.18
    pale = to_rgba_array(["white", "lightgrey"])
    assert cdist(types, pale).min() > 0.3


def test_too_few_colors_are_replaced(adata):
    adata.uns["batch_colors"] = ["#112233"]
    embeddings(adata, "X_pca", "batch")
    assert len(set(adata.uns["batch_colors"])) == 3


def test_missing_values_are_light_grey_and_lowest(adata):
    adata.obs.loc[adata.obs_names[10:15], "batch"] = np.nan
    ax = embeddings(adata, "X_pca", "batch").axes[0]
    assert _legend_labels(ax) == ["a", "b", "c", "missing"]
    assert _colors(ax)[:5] == [to_hex("lightgrey")] * 5
    lowest = {tuple(xy) for xy in _points(ax)[:5]}
    assert lowest == {tuple(xy) for xy in adata.obsm["X_umap_pca"][10:15]}


@pytest.mark.parametrize("column", ["batch", "score"])
def test_column_without_any_value_is_all_missing(adata, column):
    adata.obs[column] = adata.obs[column].where(np.zeros(adata.n_obs, dtype=bool))
    ax = embeddings(adata, "X_pca", column).axes[0]
    assert _legend_labels(ax) == ["missing"]
    assert set(_colors(ax)) == {to_hex("lightgrey")}


def test_legend_of_too_many_categories_gives_their_number(adata):
    legend = embeddings(adata, "X_pca", "batch", max_legend=2).axes[0].get_legend()
    assert legend.get_texts() == []
    assert legend.get_title().get_text() == "batch\n(3 categories)"


@pytest.fixture
def crowded(adata):
    """Three batches beside each other on one plane, and in twelve groups on the other."""
    adata = ad.concat([adata] * 6, index_unique="-")
    rng = np.random.default_rng(0)
    of_group = np.arange(adata.n_obs) % 12
    adata.obs["group"] = pd.Categorical([f"g{i:02d}" for i in of_group])
    adata.obs.loc[adata.obs_names[0], "group"] = np.nan
    centres = np.stack(np.divmod(of_group, 4), axis=1) * 10.0
    adata.obsm["X_umap_apart"] = centres + rng.normal(size=(adata.n_obs, 2))
    adata.obsm["X_umap_mixed"] = rng.normal(size=(adata.n_obs, 2))
    return adata


def test_many_categories_are_numbered_on_their_cells_where_these_lie_together(crowded):
    apart, mixed = embeddings(crowded, ["X_umap_apart", "X_umap_mixed"], "group").axes
    names = [f"{i + 1}  g{i:02d}" for i in range(12)]
    assert _legend_labels(mixed) == [*names, "missing"]
    assert not mixed.texts
    assert [text.get_text() for text in apart.texts] == [str(i) for i in range(1, 13)]
    for text in apart.texts:
        of_group = (crowded.obs["group"] == f"g{int(text.get_text()) - 1:02d}").to_numpy()
        middle = np.median(crowded.obsm["X_umap_apart"][of_group], axis=0)
        assert np.linalg.norm(np.array(text.get_position()) - middle) < 4


def test_numbers_do_not_overlap(crowded):
    # One group so far away that the others lie in a corner.
    crowded.obsm["X_umap_apart"][(crowded.obs["group"] == "g11").to_numpy()] += 300
    ax = embeddings(crowded, "X_umap_apart", "group").axes[0]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 12
    assert not any(box.count_overlaps(boxes[:i]) for i, box in enumerate(boxes))


def test_few_categories_are_not_numbered(adata):
    ax = embeddings(adata, "X_pca", "batch").axes[0]
    assert _legend_labels(ax) == ["a", "b", "c"]
    assert not ax.texts


def test_too_many_categories_are_not_numbered_either(crowded):
    ax = embeddings(crowded, "X_umap_apart", "group", max_legend=11).axes[0]
    assert not ax.texts
    assert ax.get_legend().get_title().get_text() == "group\n(12 categories)"


@pytest.mark.parametrize("n_categories", [3, 15, 200])
def test_columns_share_no_color(crowded, n_categories):
    crowded.obs["sample"] = pd.Categorical(np.arange(crowded.n_obs) % n_categories)
    embeddings(crowded, "X_umap_mixed", ["sample", "group", "treated"])
    of_columns = [crowded.uns[f"{name}_colors"] for name in ("sample", "group", "treated")]
    assert [len(set(of_one)) for of_one in of_columns[1:]] == [12, 2]
    for i, of_one in enumerate(of_columns):
        assert not set(of_one) & {color for other in of_columns[:i] for color in other}


@pytest.mark.parametrize("n_batches", [4, 10, 20])
def test_colors_of_a_column_are_unlike_those_of_another_that_is_shown_with_it(crowded, n_batches):
    crowded.obs["sample"] = pd.Categorical(np.arange(crowded.n_obs) % n_batches)
    embeddings(crowded, "X_umap_mixed", ["sample", "group"])
    of_columns = [to_rgba_array(crowded.uns[f"{name}_colors"]) for name in ("sample", "group")]
    assert cdist(*of_columns).min() > 0.15


def test_numbers_get_a_color_bar(adata):
    adata.obs.loc["cell7", "score"] = np.nan
    ax = embeddings(adata, "X_pca", "score").axes[0]
    (bar,) = ax.child_axes
    assert ax.get_legend() is None
    assert bar.get_ylabel() == "score"
    assert bar.get_ylim() == (0, 1)
    drawn = _color_by_position(ax)
    assert drawn[tuple(adata.obsm["X_umap_pca"][7])] == to_hex("lightgrey")
    assert drawn[tuple(adata.obsm["X_umap_pca"][0])] == to_hex(plt.get_cmap("viridis")(0))
    assert "score_colors" not in adata.uns


def test_only_colors_are_added_when_the_umap_exists(adata):
    obsm = {key: value.copy() for key, value in adata.obsm.items()}
    obs = adata.obs.copy()
    embeddings(adata, ["X_pca", "X_scmedal_re"], ["batch", "cell_type", "score"])
    assert set(adata.uns) == {"batch_colors", "cell_type_colors"}
    assert set(adata.obsm) == set(obsm)
    assert all(np.array_equal(adata.obsm[key], obsm[key]) for key in obsm)
    assert not adata.obsp
    pd.testing.assert_frame_equal(adata.obs, obs)


def test_absent_umap_is_computed(adata):
    del adata.obsm["X_umap_scmedal_fe"]
    ax = embeddings(adata, "X_scmedal_fe", "batch").axes[0]
    assert adata.obsm["X_umap_scmedal_fe"].shape == (adata.n_obs, 2)
    np.testing.assert_allclose(
        np.sort(_points(ax), axis=0), np.sort(adata.obsm["X_umap_scmedal_fe"], axis=0)
    )


def test_umap_of_the_caller_is_drawn_as_it_is(adata):
    adata.obsm["X_umap"] = np.arange(80.0).reshape(40, 2)
    ax = embeddings(adata, "X_umap", "batch").axes[0]
    assert ax.get_title() == "UMAP"
    assert "X_umap_umap" not in adata.obsm
    np.testing.assert_array_equal(np.sort(_points(ax), axis=0), adata.obsm["X_umap"])


def test_figure_is_saved_and_returned(adata, tmp_path):
    figure = embeddings(adata, "X_pca", "batch", save=tmp_path / "umap.png")
    assert (tmp_path / "umap.png").read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes) == 1


def test_legend_lies_inside_the_figure_and_panels_stay_square(adata):
    adata.obs["batch"] = adata.obs["batch"].cat.rename_categories({"a": "a rather " * 6})
    figure = embeddings(adata, ["X_pca", "X_scmedal_fe"], "batch")
    figure.draw_without_rendering()
    legend = figure.axes[1].get_legend().get_window_extent()
    panel = figure.axes[1].get_window_extent()
    assert legend.x0 >= panel.x1
    assert legend.x1 <= figure.bbox.x1
    assert panel.width == pytest.approx(panel.height)
    assert panel.width > 2 * figure.dpi


def test_pyplot_keeps_neither_figure_nor_settings(adata):
    figures, settings = plt.get_fignums(), dict(plt.rcParams)
    embeddings(adata, "X_pca", ["batch", "score"])
    assert plt.get_fignums() == figures
    assert dict(plt.rcParams) == settings


@pytest.mark.parametrize(
    ("keys", "color", "match"),
    [
        ("X_absent", "batch", "X_absent.*X_scmedal_fe"),
        (["X_pca", "X_absent"], "batch", "X_absent"),
        ("X_pca", "absent", "absent.*cell_type"),
    ],
)
def test_unknown_name_is_refused_with_what_there_is(adata, keys, color, match):
    with pytest.raises(KeyError, match=match):
        embeddings(adata, keys, color)
    assert not adata.uns


def test_columns_of_scvi_are_not_offered(adata):
    adata.obs["_scvi_batch"] = 0
    with pytest.raises(KeyError, match="absent") as error:
        embeddings(adata, "X_pca", "absent")
    assert "_scvi" not in str(error.value)


@pytest.mark.parametrize(("keys", "color"), [([], "batch"), ("X_pca", [])])
def test_nothing_to_draw_is_refused(adata, keys, color):
    with pytest.raises(ValueError, match="is empty"):
        embeddings(adata, keys, color)
