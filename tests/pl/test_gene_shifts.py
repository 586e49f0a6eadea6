"""Predicted against measured shifts of genes: those that bm judges, and readable names."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scmedal_tools import bm
from scmedal_tools.pl import gene_shifts

N_GENES = 30
OF = {"cell_type": "x", "source": "A", "target": "B"}
PARTS = {"train": np.arange(0, 160, 2), "test": np.arange(1, 160, 2)}


@pytest.fixture
def adata():
    """Cells of two batches and two types, in which B differs from A in every gene."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"donor": np.repeat(["A", "B"], 80), "type": np.tile(["x", "y"], 80)})
    obs = obs.sort_values(["donor", "type"]).set_index(obs.index.astype(str))
    is_b = (obs["donor"] == "B").to_numpy()[:, None]
    x = rng.normal(size=(160, N_GENES)) + is_b * rng.normal(size=N_GENES)
    return AnnData(x, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)]))


@pytest.fixture
def halves(adata):
    """Counterfactual with an effect that depends on the cells."""

    def predict(cells, target):
        return adata.X[cells] * (0.5 if target == "B" else 1.0)

    return predict


def draw(model, adata, **kwargs):
    return gene_shifts(model, adata, "donor", "type", **(OF | PARTS | kwargs))


def test_points_are_predicted_and_measured_shifts(adata, halves):
    drawn = draw(halves, adata).collections[0].get_offsets().data
    groups = {
        (batch, part): adata.X[
            [i for i in PARTS[part] if tuple(adata.obs.iloc[i]) == (batch, "x")]
        ]
        for batch in "AB"
        for part in PARTS
    }
    predicted = -0.5 * groups["A", "train"].mean(0)
    measured = groups["B", "test"].mean(0) - groups["A", "test"].mean(0)
    np.testing.assert_allclose(drawn, np.stack([predicted, measured], axis=1))


def test_title_has_the_correlation_of_the_benchmark(adata, halves):
    shifts = bm.counterfactual_shift(
        halves, adata, "donor", "type", baselines=False, progress=False, **PARTS
    )
    row = shifts.set_index(["cell_type", "source", "target"]).loc[tuple(OF.values())]
    title = draw(halves, adata).get_title()
    assert title == f"A → B (x)\ncorrelation {row['correlation']:.2f}"


def test_identity_line(adata, halves):
    (line,) = draw(halves, adata, n_names=0).lines
    assert line.get_xy1() == (0, 0)
    assert line.get_slope() == 1


def test_sparse_expression(adata, halves):
    dense = draw(halves, adata).collections[0].get_offsets().data
    adata_sparse = adata.copy()
    adata_sparse.X = sparse.csr_matrix(adata.X)
    np.testing.assert_allclose(
        draw(halves, adata_sparse).collections[0].get_offsets().data, dense, rtol=1e-6
    )


def test_genes_with_the_largest_shifts_are_named_beside_their_points(adata, halves):
    ax = draw(halves, adata, n_names=3)
    shifts = pd.DataFrame(ax.collections[0].get_offsets().data, adata.var_names)
    largest = shifts.abs().max(axis=1).nlargest(3).index
    assert {text.get_text() for text in ax.texts} <= set(largest)
    assert ax.texts[0].get_text() == largest[0]
    for text in ax.texts:
        between = np.array(text.get_position()) - shifts.loc[text.get_text()]
        assert np.abs(between / np.ptp(shifts, axis=0)).max() < 0.3


def test_names_cover_neither_each_other_nor_points(adata, halves):
    ax = draw(halves, adata, n_names=N_GENES)
    assert len(ax.texts) > 10
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    points = ax.transData.transform(ax.collections[0].get_offsets().data)
    for i, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:i])
        assert not box.count_contains(points)


def test_trained_model(fit, cells):
    split = [np.arange(0, 128), np.arange(128, 160), np.arange(160, 240)]
    model = fit("SCMEDAL_RE", cells.copy(), datasplitter_kwargs={"external_indexing": split})
    counts = model.adata.obs[["donor", "cell_type"]].iloc[split[2]].value_counts()
    (source, label) = next(iter(counts.index))
    target = next(d for d, of_type in counts.index if of_type == label and d != source)
    ax = gene_shifts(
        model,
        model.adata,
        "donor",
        "cell_type",
        cell_type=label,
        source=source,
        target=target,
    )
    assert len(ax.collections[0].get_offsets()) == model.adata.n_vars


@pytest.mark.parametrize(("share", "is_hollow"), [(0.4, True), (0.5, False)])
def test_is_hollow_where_the_target_supports_few_of_the_cells(adata, halves, share, is_hollow):
    """Of the cells that are predicted; others do not count."""
    of_type = np.flatnonzero((adata.obs["donor"] == "A") & (adata.obs["type"] == "x"))
    from_cells = of_type[of_type % 2 == 0]
    supported = pd.DataFrame(is_hollow, adata.obs_names, ["A", "B"])
    supported.iloc[from_cells, 1] = np.arange(len(from_cells)) < share * len(from_cells)
    ax = draw(halves, adata, supported=supported)
    assert (len(ax.collections[0].get_facecolors()) == 0) == is_hollow
    assert ("hollow" in ax.get_title()) == is_hollow
    filled = draw(halves, adata)
    np.testing.assert_array_equal(
        ax.collections[0].get_offsets(), filled.collections[0].get_offsets()
    )
    assert len(filled.collections[0].get_facecolors())


@pytest.mark.parametrize("lacks", ["B", "cells"])
def test_support_of_other_cells_or_donors_is_refused(adata, halves, lacks):
    names = adata.obs_names[1:] if lacks == "cells" else adata.obs_names
    supported = pd.DataFrame(True, names, ["A"] if lacks == "B" else ["A", "B"])
    with pytest.raises(ValueError, match="no column 'B', or lacks cells"):
        draw(halves, adata, supported=supported)


def test_is_saved_and_drawn_on_axes_of_the_caller(adata, halves, tmp_path):
    _, ax = plt.subplots()
    assert draw(halves, adata, ax=ax, save=tmp_path / "genes.png") is ax
    assert (tmp_path / "genes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("of", "match"),
    [
        ({"source": "C"}, "No training cells of 'x' in 'C'"),
        ({"target": "C"}, "No test cells of 'x' in 'C'"),
        ({"train": None}, "Which cells are the train cells"),
    ],
)
def test_without_cells(adata, halves, of, match):
    with pytest.raises(ValueError, match=match):
        draw(halves, adata, **of)


def test_the_diagonal_runs_through_no_name(adata):
    """Of genes that are predicted well, whose points lie on it."""
    effect = adata.X[(adata.obs["donor"] == "B").to_numpy()].mean(0)

    def predict(cells, target):
        return adata.X[cells] + effect * (target == "B")

    ax = draw(predict, adata)
    ax.figure.canvas.draw()
    inverse = ax.transData.inverted()
    boxes = [text.get_window_extent().transformed(inverse) for text in ax.texts]
    assert len(boxes) > 4
    assert [box for box in boxes if box.x0 < box.y1 and box.y0 < box.x1] == []
