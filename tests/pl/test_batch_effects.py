"""Forest plot, heat map and tree of a model's batch effects: what is drawn, where, in what."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform
from scipy.stats import norm

from scmedal_tools import tl
from scmedal_tools.pl import (
    batch_dendrogram,
    batch_effects,
    batch_effects_forest,
    batch_effects_heatmap,
)
from scmedal_tools.pl._batches import batch_colors

from .tick_labels import tick_labels

QUICK = {"n_samples": 5, "n_cells": 20}
FIGURES = [batch_effects, batch_effects_forest, batch_effects_heatmap, batch_dendrogram]
FIGURES_OF_PANELS, FIGURES_OF_ONE = FIGURES[:2], FIGURES[2:]
OF_GENES = FIGURES[:3]
FEW_GENES = {draw: {"n_genes": 2} if draw in OF_GENES else {} for draw in FIGURES}
COLORS = {f"donor_0{i}": f"#00000{i}" for i in range(1, 5)}


@pytest.fixture(scope="module")
def model(fit, cells):
    """Two factors with effects that are large enough to differ, colours chosen by the user."""
    import torch

    adata = cells.copy()
    adata.obs["protocol"] = np.resize(["v2", "v3"], adata.n_obs)
    model = fit("SCMEDAL_RE", adata, {"random_effect_keys": ["protocol"]})
    generator = torch.Generator().manual_seed(0)
    for table in model.module.effect_tables.values():
        table.loc.data += 0.3 * torch.randn(table.loc.shape, generator=generator)
    # scanpy's colours are in the order of the categories, here another one than the model's.
    adata.obs["donor"] = pd.Categorical(adata.obs["donor"], list(COLORS)[::-1])
    adata.uns["donor_colors"] = list(COLORS.values())[::-1]
    return model


@pytest.fixture(scope="module")
def effects(model):
    return model.get_batch_effects(**QUICK)


class TestForest:
    def test_points_are_effects_and_lines_their_intervals(self, model, effects):
        genes = list(model.gene_names[[3, 1]])
        figure = batch_effects_forest(model, genes, interval=0.8, **QUICK)
        assert [ax.get_title() for ax in figure.axes] == genes
        for ax, gene in zip(figure.axes, genes, strict=True):
            expected = effects.xs(gene, level="gene")
            lines, points = ax.collections
            np.testing.assert_allclose(points.get_offsets().data[:, 0], expected["effect"])
            ends = np.array([segment[:, 0] for segment in lines.get_segments()])
            np.testing.assert_allclose(ends.mean(1), expected["effect"], rtol=1e-6)
            np.testing.assert_allclose(
                np.diff(ends).ravel() / 2, norm.ppf(0.9) * expected["sd"], rtol=1e-6
            )

    def test_batches_are_rows_in_their_order_from_the_top(self, model):
        ax = batch_effects_forest(model, n_genes=1, **QUICK).axes[0]
        assert tick_labels(ax.yaxis) == list(model.batch_names)
        np.testing.assert_array_equal(ax.collections[1].get_offsets().data[:, 1], range(4))
        bottom, top = ax.get_ylim()
        assert bottom > top

    def test_points_have_the_colors_of_the_batches(self, model):
        ax = batch_effects_forest(model, n_genes=1, **QUICK).axes[0]
        drawn = [to_hex(color) for color in ax.collections[1].get_facecolors()]
        assert dict(zip(tick_labels(ax.yaxis), drawn, strict=True)) == COLORS

    def test_line_is_black_where_the_effect_is_on_one_side_of_zero(self, model, effects):
        gene = model.gene_names[0]
        z = np.abs(effects.xs(gene, level="gene")["z"])
        # Half of the intervals hold zero.
        interval = 2 * norm.cdf(z.median()) - 1
        figure = batch_effects_forest(model, gene, interval=interval, **QUICK)
        drawn = [to_hex(color) for color in figure.axes[0].collections[0].get_colors()]
        assert drawn == [to_hex("black" if sure else "0.65") for sure in z > z.median()]

    @pytest.mark.parametrize(("n_genes", "shape"), [(5, (1, 5)), (6, (2, 3)), (11, (3, 4))])
    def test_panels_share_an_axis_in_a_balanced_grid(self, model, n_genes, shape):
        axes = batch_effects_forest(model, n_genes=n_genes, **QUICK).axes
        assert len(axes) == n_genes
        assert len({ax.get_xlim() for ax in axes}) == 1
        assert axes[0].get_gridspec().get_geometry() == shape
        labelled = [ax.xaxis.get_tick_params()["labelbottom"] for ax in axes]
        assert labelled == [False] * (n_genes - shape[1]) + [True] * shape[1]

    @pytest.mark.parametrize("interval", [0, 1, 90])
    def test_interval_that_is_no_share(self, model, interval):
        with pytest.raises(ValueError, match=f"interval={interval} is outside its range"):
            batch_effects_forest(model, interval=interval)


class TestHeatmap:
    def test_cells_are_effects_in_the_order_of_the_tree(self, model, effects):
        ax = batch_effects_heatmap(model, n_genes=5, **QUICK)
        genes, batches = tick_labels(ax.yaxis), tick_labels(ax.xaxis)
        expected = effects["effect"].unstack().loc[batches, genes].T
        np.testing.assert_allclose(ax.images[0].get_array(), expected)
        assert batches == tick_labels(batch_dendrogram(model, **QUICK).yaxis)

    def test_genes_with_similar_effects_are_neighbours(self, model, effects):
        ax = batch_effects_heatmap(model, n_genes=20, **QUICK)
        table = effects["effect"].unstack()[tick_labels(ax.yaxis)].T
        joined = squareform(cophenet(linkage(table, "average")))
        # A gene and the one below it are joined as early as any two across the line between them.
        for i in range(1, len(table)):
            assert joined[i - 1, i] == joined[:i, i:].min()

    def test_tree_is_above_its_batches(self, model):
        ax = batch_effects_heatmap(model, n_genes=5, **QUICK)
        leaves = ax.collections[0]
        x, y = leaves.get_offsets().T
        np.testing.assert_array_equal(x, range(4))
        assert (y < -0.5).all()
        assert all(max(line.get_ydata()) <= y[0] for line in ax.lines)
        assert len(ax.lines) == 3
        drawn = [to_hex(color) for color in leaves.get_facecolors()]
        assert drawn == [COLORS[name] for name in tick_labels(ax.xaxis)]

    def test_colors_are_centred_at_no_effect(self, model, effects):
        image = batch_effects_heatmap(model, n_genes=60, **QUICK).images[0]
        largest = effects["effect"].abs().max()
        assert image.get_clim() == pytest.approx((-largest, largest))

    def test_bar_and_its_label_are_above_the_map(self, model):
        ax = batch_effects_heatmap(model, n_genes=5, **QUICK)
        ax.figure.draw_without_rendering()
        (bar,) = (axes for axes in ax.figure.axes if axes is not ax)
        label = bar.xaxis.label
        assert label.get_text() == "effect on log-expression"
        tops = [x.get_window_extent().y1 for x in (ax, bar, label)]
        assert sorted(tops) == tops

    def test_model_without_effects(self, fit, cells):
        model = fit("SCMEDAL_RE", cells.copy(), model={"n_states": 0})
        for table in model.module.effect_tables.values():
            table.loc.data.zero_()
            table.rho.data.fill_(-100)
        image = batch_effects_heatmap(model, n_genes=2, **QUICK).images[0]
        assert not image.get_array().any()
        np.testing.assert_allclose(image.norm(0.0), 0.5)


class TestTwoBatches:
    """The factor has two levels, and one gene is drawn: nothing is squeezed into a number."""

    OPTIONS = QUICK | {"factor": "protocol"}

    def test_forest(self, model):
        (ax,) = batch_effects_forest(model, n_genes=1, **self.OPTIONS).axes
        assert tick_labels(ax.yaxis) == ["v2", "v3"]
        assert len(ax.collections[0].get_segments()) == 2

    def test_heatmap(self, model):
        ax = batch_effects_heatmap(model, n_genes=1, **self.OPTIONS)
        assert ax.images[0].get_array().shape == (1, 2)
        assert sorted(tick_labels(ax.xaxis)) == ["v2", "v3"]

    def test_dendrogram_is_one_branch(self, model):
        ax = batch_dendrogram(model, **self.OPTIONS)
        (branch,) = ax.lines
        distance = tl.batch_similarity(model, progress=False, **self.OPTIONS).to_numpy()[0, 1]
        np.testing.assert_allclose(branch.get_xdata(), [0, distance, distance, 0])
        np.testing.assert_array_equal(branch.get_ydata(), [0, 0, 1, 1])
        assert ax.get_xlim() == pytest.approx((1.02 * distance, 0))

    def test_all_in_one(self, model):
        heatmap, _, forest = batch_effects(model, n_genes=1, **self.OPTIONS).axes
        assert len(forest.collections[0].get_segments()) == 2
        assert len(heatmap.lines) == 1
        assert heatmap.images[0].get_array().shape == (1, 2)


class TestDendrogram:
    def test_batches_join_at_their_distance(self, model):
        ax = batch_dendrogram(model, **QUICK)
        distances = tl.batch_similarity(model, progress=False, **QUICK)
        tree = linkage(squareform(distances.to_numpy()), "average")
        np.testing.assert_allclose(
            sorted(line.get_xdata()[1] for line in ax.lines), np.sort(tree[:, 2])
        )
        # The two batches that are most alike are neighbours, and joined first.
        joined = squareform(cophenet(tree))
        first, second = np.argwhere(joined == joined[joined > 0].min())[0]
        order = tick_labels(ax.yaxis)
        rows = [order.index(distances.index[i]) for i in (first, second)]
        innermost = min(ax.lines, key=lambda line: line.get_xdata()[1])
        assert sorted(rows) == [innermost.get_ydata()[0], innermost.get_ydata()[-1]]

    def test_leaves_have_the_colors_of_the_batches(self, model):
        ax = batch_dendrogram(model, **QUICK)
        drawn = [to_hex(color) for color in ax.collections[0].get_facecolors()]
        assert dict(zip(tick_labels(ax.yaxis), drawn, strict=True)) == COLORS


class TestTogether:
    @pytest.fixture(scope="class")
    def panels(self, model):
        """Axes of the whole figure: heat map, its colour bar, and the forest."""
        figure = batch_effects(model, n_genes=45, interval=0.8, **QUICK)
        figure.draw_without_rendering()
        return figure.axes

    @pytest.mark.slow
    def test_forest_has_the_first_genes_of_the_heat_map(self, model, panels, effects):
        heatmap, _, *forest = panels
        rms = np.square(effects["effect"].unstack()).mean()
        assert [ax.get_title() for ax in forest] == list(rms.nlargest(6).index)
        assert sorted(tick_labels(heatmap.yaxis)) == sorted(rms.nlargest(45).index)

    def test_heat_map_is_that_of_its_own_function(self, model, panels):
        alone = batch_effects_heatmap(model, n_genes=45, **QUICK)
        np.testing.assert_allclose(panels[0].images[0].get_array(), alone.images[0].get_array())
        assert tick_labels(panels[0].xaxis) == tick_labels(alone.xaxis)

    def test_forest_is_beside_the_heat_map(self, panels):
        heatmap, _, *forest = (ax.get_window_extent() for ax in panels)
        assert all(ax.x0 > heatmap.x1 for ax in forest)
        assert heatmap.height > 0.7 * panels[0].figure.figure.bbox.height

    def test_interval_is_that_of_the_forest(self, panels, effects):
        gene = panels[2].get_title()
        ends = np.array([line[:, 0] for line in panels[2].collections[0].get_segments()])
        expected = 2 * norm.ppf(0.9) * effects.xs(gene, level="gene")["sd"]
        np.testing.assert_allclose(np.diff(ends).ravel(), expected, rtol=1e-6)

    def test_interval_that_is_no_share(self, model):
        with pytest.raises(ValueError, match="interval=2 is outside its range"):
            batch_effects(model, interval=2)


@pytest.mark.parametrize("draw", FIGURES)
class TestAll:
    def test_further_factor(self, model, draw):
        drawn = draw(model, factor="protocol", **FEW_GENES[draw], **QUICK)
        ax = drawn if draw in FIGURES_OF_ONE else drawn.axes[0]
        of_batches = ax.xaxis if ax.images else ax.yaxis
        assert sorted(tick_labels(of_batches)) == ["v2", "v3"]
        assert len(model.adata.uns["protocol_colors"]) == 2

    @pytest.mark.slow
    def test_is_saved(self, model, draw, tmp_path):
        draw(model, save=tmp_path / "effects.png", **FEW_GENES[draw], **QUICK)
        assert (tmp_path / "effects.png").read_bytes().startswith(b"\x89PNG")

    def test_model_without_random_effects(self, build, adata, draw):
        with pytest.raises(TypeError, match="SCMEDAL_FE has no random effects"):
            draw(build("SCMEDAL_FE", adata))

    def test_unknown_factor(self, model, draw):
        with pytest.raises(ValueError, match="factor='site' is not a factor"):
            draw(model, factor="site")


@pytest.mark.parametrize("draw", OF_GENES)
class TestGenes:
    def test_default_are_those_with_the_largest_effects(self, model, effects, draw):
        squares = np.square(effects["effect"].unstack())
        expected = list(squares.mean().nlargest(3).index)
        drawn = draw(model, n_genes=3, **QUICK)
        if draw is batch_effects_heatmap:
            assert sorted(tick_labels(drawn.yaxis)) == sorted(expected)
        else:
            assert [ax.get_title() for ax in drawn.axes][-3:] == expected

    def test_unknown(self, model, draw):
        with pytest.raises(KeyError, match=r"XIST.*not in the genes of the model.*30 more"):
            draw(model, ["XIST"], **QUICK)

    def test_none(self, model, draw):
        with pytest.raises(ValueError, match="`genes` is empty"):
            draw(model, [], **QUICK)
        with pytest.raises(ValueError, match="n_genes=0 has to be at least 1"):
            draw(model, n_genes=0, **QUICK)


@pytest.mark.parametrize("draw", FIGURES_OF_ONE)
def test_axes_of_the_caller_are_drawn_on(model, draw):
    figure, (left, right) = plt.subplots(1, 2)
    assert draw(model, ax=right, **QUICK) is right
    assert not left.has_data()
    assert plt.get_fignums() == [figure.number]


def test_colors_of_batches_without_cells():
    """A model that learned new batches holds only their cells."""
    adata = AnnData(obs=pd.DataFrame({"donor": pd.Categorical(["new"])}, ["cell"]))
    adata.uns["donor_colors"] = ["#112233"]
    model = SimpleNamespace(
        adata=adata, factors={"donor": ["old", "new"]}, registry={"setup_args": {}}
    )
    assert batch_colors(model, None) == {"old": "lightgrey", "new": "#112233"}
