"""The panel: maps, frames, one colour scale, and the genes that it names."""

from itertools import combinations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from scmedal_tools.pl import genomap_panel
from scmedal_tools.pl._genomap_panel import OWN_FRAME, SIMILAR_FRAME

BATCHES = ["A", "B", "C"]
N_GENES = 11
NAMED = "gene named on the right"


@pytest.fixture
def stack():
    """Two cells, of A and B: to C all genes get something, to B hardly any; gene_4 the most."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(2, N_GENES))
    add = {"A": 0, "B": 0.01 * rng.normal(size=N_GENES), "C": rng.normal(size=N_GENES)}
    add["C"][4] = -9
    parts = [("original", None, base + rng.normal(size=base.shape)), ("FE", None, base)]
    parts += [("RE", name, base + add[name]) for name in BATCHES]
    own = pd.DataFrame({"cell": ["x", "y"], "batch": ["A", "B"], "cell_type": ["T", "B"]})
    obs = pd.concat([own.assign(projection=p, target=t) for p, t, _ in parts], ignore_index=True)
    obs.index = [f"row_{i}" for i in obs.index]
    obs["target"] = pd.Categorical(obs["target"], BATCHES)
    stack = ad.AnnData(np.concatenate([values for *_, values in parts]), obs=obs)
    stack.var_names = [f"gene_{i}" for i in range(N_GENES)]
    grid = np.stack(np.divmod(np.arange(N_GENES), 4), axis=1)
    pixels = pd.DataFrame(grid, stack.var_names, ["row", "column"])
    stack.uns["genomap"] = {"pixels": pixels, "shape": np.array([3, 4])}
    return stack


def maps(figure):
    """Axes with an image, by row."""
    axes = [ax for ax in figure.axes if ax.images]
    rows = {}
    for ax in axes:
        rows.setdefault(ax.get_subplotspec().rowspan.start, []).append(ax)
    return list(rows.values())


def frame(ax):
    spine = ax.spines["left"]
    return to_hex(spine.get_edgecolor()) if spine.get_visible() else None


def names(figure):
    """Names of the genes, for each cell, with the map and the pixel that they point at."""
    return [
        (ax, [(text.get_text(), text.xy) for text in ax.texts]) for ax in figure.axes if ax.texts
    ]


def test_a_model_with_labels_keeps_its_name(stack):
    stack.obs["projection"] = stack.obs["projection"].replace("FE", "FEC")
    assert maps(genomap_panel(stack))[0][1].get_title() == "FEC"


def test_rows_are_cells_and_columns_projections(stack):
    figure = genomap_panel(stack, differences=False)
    titles = [ax.get_title() for ax in maps(figure)[0]]
    assert titles == ["original", "FE", "RE: A", "RE: B", "RE: C"]
    assert [row[0].get_ylabel() for row in maps(figure)] == ["T\nA", "B\nB"]
    for row, cell in zip(maps(figure), "xy", strict=True):
        expected = stack[stack.obs["cell"] == cell].X
        for ax, values in zip(row, expected, strict=True):
            image = ax.images[0].get_array()
            np.testing.assert_allclose(image.compressed(), values, rtol=1e-6)
            assert image.mask[2, 3]


def test_all_maps_have_one_colour_scale_and_blank_spare_pixels(stack):
    figure = genomap_panel(stack, vmax=2.5, differences=False)
    images = [ax.images[0] for row in maps(figure) for ax in row]
    assert {image.get_clim() for image in images} == {(-2.5, 2.5)}
    assert images[0].get_cmap().get_bad()[3] == 0
    low, high = maps(genomap_panel(stack))[0][0].images[0].get_clim()
    assert low == -high
    assert 0 < high < np.abs(stack.X).max()


@pytest.mark.slow
def test_own_batch_is_red_and_similar_ones_purple_on_request(stack):
    red, purple = to_hex(OWN_FRAME["edgecolor"]), to_hex(SIMILAR_FRAME["edgecolor"])
    frames = [[frame(ax) for ax in row] for row in maps(genomap_panel(stack))[::2]]
    assert frames == [[None, None, red, None, None], [None, None, None, red, None]]
    figure = genomap_panel(stack, similar=0.99)
    frames = [[frame(ax) for ax in row] for row in maps(figure)[::2]]
    assert frames == [[None, None, red, purple, None], [None, None, purple, red, None]]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["own batch", "correlation with own batch ≥ 0.99", NAMED]


@pytest.mark.slow
def test_differences_are_to_the_own_batch(stack):
    rows = maps(genomap_panel(stack, n_genes=0))
    assert [len(row) for row in rows] == [5, 3, 5, 3]
    x = stack[(stack.obs["cell"] == "x").to_numpy()].X
    np.testing.assert_allclose(rows[1][0].images[0].get_array().compressed(), 0)
    shown = rows[1][2].images[0].get_array().compressed()
    np.testing.assert_allclose(shown, x[4] - x[2], rtol=1e-5, atol=1e-6)
    assert rows[1][0].images[0].get_clim() == rows[3][2].images[0].get_clim()


@pytest.mark.parametrize("differences", [True, False])
def test_lines_lead_from_the_strongest_genes_to_their_names(stack, differences):
    figure = genomap_panel(stack, differences=differences)
    rows = maps(figure)
    of_cells = names(figure)
    assert [ax for ax, _ in of_cells] == [row[-1] for row in rows[differences :: 1 + differences]]
    pixels = stack.uns["genomap"]["pixels"]
    for (ax, named), cell, own in zip(of_cells, "xy", "AB", strict=True):
        x = stack[(stack.obs["cell"] == cell).to_numpy()].X
        shifts = x[2:] - x[2 + BATCHES.index(own)]
        strongest = np.argsort(-np.abs(shifts).max(0))[:3]
        expected = []
        for gene in sorted(strongest):
            at = np.abs(shifts[:, gene]).argmax()
            text = f"gene_{gene} {shifts[at, gene]:+.1f} s.d. ({BATCHES[at]})"
            expected.append((text, tuple(pixels.iloc[gene][["column", "row"]])))
        assert named == expected
        assert any(text.startswith("gene_4 -9.0 s.d. (C)") for text, _ in named)
        assert all(text.arrow_patch is not None for text in ax.texts)


@pytest.mark.slow
def test_lines_begin_at_the_left_of_their_names_and_cross_no_other(stack):
    figure = genomap_panel(stack)
    figure.draw_without_rendering()
    for text in (text for ax, _ in names(figure) for text in ax.texts):
        name = Text.get_window_extent(text)  # without its line
        line = text.arrow_patch.get_path().transformed(text.arrow_patch.get_transform())
        begins_x, begins_y = line.vertices[0]
        assert begins_x <= name.x0
        assert begins_y == pytest.approx((name.y0 + name.y1) / 2, abs=2)


@pytest.mark.slow
def test_lines_do_not_cross(stack):
    """Of genes in the upper row, of which the first is the leftmost."""
    pixels = stack.uns["genomap"]["pixels"]
    pixels["row"], pixels["column"] = 0, np.arange(N_GENES)
    stack.uns["genomap"]["shape"] = np.array([N_GENES, N_GENES])
    for n_genes in (2, 3, 8):
        figure = genomap_panel(stack, n_genes=n_genes)
        figure.draw_without_rendering()
        for ax, _ in names(figure):
            lines = [
                text.arrow_patch.get_path().transformed(text.arrow_patch.get_transform())
                for text in ax.texts
            ]
            assert not any(line.intersects_path(other) for line, other in combinations(lines, 2))


@pytest.mark.slow
def test_named_genes_are_circled_in_all_counterfactuals(stack):
    figure = genomap_panel(stack)
    for row in maps(figure):
        for ax in row[-3:]:
            points = ax.lines[0].get_xydata()
            assert len(points) == 3
            assert (0, 1) in {tuple(point) for point in points}
    assert not maps(figure)[0][0].lines
    without = genomap_panel(stack, n_genes=0)
    assert names(without) == []
    assert NAMED not in [text.get_text() for text in without.legends[0].get_texts()]


@pytest.mark.slow
def test_own_batch_of_named_cells_is_drawn_after_those_asked_for(stack):
    figure = genomap_panel(stack, ["x"], ["C"])
    row, _ = maps(figure)
    assert [ax.get_title() for ax in row] == ["original", "FE", "RE: C", "RE: A"]
    assert [frame(ax) for ax in row[2:]] == [None, to_hex(OWN_FRAME["edgecolor"])]


def test_number_of_cells_is_of_the_batches_that_are_drawn(stack):
    row, _ = maps(genomap_panel(stack, 2, ["B", "C"]))
    assert row[0].get_ylabel() == "B\nB"
    assert [ax.get_title() for ax in row] == ["original", "FE", "RE: B", "RE: C"]
    with pytest.raises(ValueError, match=r"No cell of the stack is of \['C'\]"):
        genomap_panel(stack, 2, ["C"])


def test_legend_has_only_frames_that_are_drawn(stack):
    entries = genomap_panel(stack, similar=1.0).legends[0].get_texts()
    assert [text.get_text() for text in entries] == ["own batch", NAMED]


LONG = {
    "A": "Patient_AML328_D0",
    "B": "Site-A <donor_02> & Charité Universitätsmedizin Berlin_10x-v3_02",
    "C": "WWWWWWWWWWWWWWWW MMMMMMMMMMMMM",
}


@pytest.mark.slow
def test_long_names_of_batches_lie_apart(stack):
    for column in ("target", "batch"):
        stack.obs[column] = stack.obs[column].astype("category").cat.rename_categories(LONG.get)
    stack.obs["cell_type"] = "CD4-positive, alpha-beta memory T cell"
    figure = genomap_panel(stack)
    figure.draw_without_rendering()
    rows = maps(figure)
    titles = [ax.title.get_window_extent() for ax in rows[0]]
    lists = [
        Text.get_window_extent(text)
        for ax in figure.axes
        for text in ax.texts  # not the line
    ]
    labels = [ax.yaxis.label.get_window_extent() for ax in rows[0][:1] + rows[2][:1]]
    for i, title in enumerate(titles):
        assert not title.count_overlaps(titles[:i] + lists + labels)
    assert not labels[0].overlaps(labels[1])
    maps_there = [ax.get_window_extent() for row in rows for ax in row]
    for i, name in enumerate(lists):
        assert not name.count_overlaps(lists[:i] + maps_there)
    frame_of = figure.bbox
    for box in titles + lists + labels:
        assert frame_of.x0 <= box.x0
        assert box.x1 <= frame_of.x1
    assert min(ax.get_window_extent().width for ax in rows[0]) > 0.8 * figure.dpi


@pytest.mark.slow
def test_figure_is_saved_and_pyplot_keeps_nothing(stack, tmp_path):
    genomap_panel(stack, save=tmp_path / "panel.png")
    assert (tmp_path / "panel.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []


def test_errors(stack):
    with pytest.raises(KeyError, match=r"\['z'\] not in the stack"):
        genomap_panel(stack, ["z"])
    with pytest.raises(KeyError, match=r"\['D'\] not in the stack"):
        genomap_panel(stack, batches=["D"])
    with pytest.raises(KeyError, match="genomap_layout"):
        genomap_panel(stack, key="other")
    with pytest.raises(ValueError, match="cells=0"):
        genomap_panel(stack, 0)
    for absent in ("original", "FE", "RE"):
        part = stack[stack.obs["projection"] != absent]
        with pytest.raises(ValueError, match=r"pass the whole result of tl\.projection_stack"):
            genomap_panel(part)
    del stack.obs["target"]
    with pytest.raises(ValueError, match="projection_stack"):
        genomap_panel(stack)
