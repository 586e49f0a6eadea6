"""Bars of variance components: their lengths, order and parts."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scmedal_tools.pl import variance_components


@pytest.fixture
def components():
    """Six genes; the fifth does not vary."""
    shares = np.random.default_rng(0).dirichlet([3, 1, 1, 2], 6)
    shares[4] = np.nan
    names = ["content", "batch", "protocol", "residual"]
    table = pd.DataFrame(shares, [f"gene{i}" for i in range(6)], names)
    return (2 * table).join(table.add_suffix("_share"))


def parts(ax):
    """Start and length of every bar, by part."""
    return {
        part.get_label(): np.array([(bar.get_x(), bar.get_width()) for bar in part])
        for part in ax.containers
    }


def rows(ax):
    bottom, top = ax.get_ylim()
    assert bottom > top
    return [text.get_text() for text in ax.get_yticklabels()]


def test_bars_are_the_shares_stacked_from_the_batch(components):
    ax = variance_components(components)
    drawn = parts(ax)
    assert list(drawn) == ["batch", "protocol", "content", "residual"]
    start = 0
    for name, bars in drawn.items():
        np.testing.assert_allclose(bars[:, 0], start, atol=1e-12)
        np.testing.assert_allclose(bars[:, 1], components.loc[rows(ax), f"{name}_share"])
        start = start + bars[:, 1]
    np.testing.assert_allclose(start, 1)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(drawn)


def test_parts_have_colors_of_their_own(components):
    ax = variance_components(components)
    colors = [part[0].get_facecolor() for part in ax.containers]
    assert len(set(colors)) == 4


def test_genes_with_the_largest_share_of_the_batch_come_first(components):
    order = list(components["batch_share"].drop("gene4").sort_values(ascending=False).index)
    assert rows(variance_components(components, n_genes=3)) == order[:3]
    assert rows(variance_components(components)) == order


def test_genes_asked_for_are_drawn_in_their_order(components):
    ax = variance_components(components, ["gene4", "gene1"])
    assert rows(ax) == ["gene4", "gene1"]
    lengths = parts(ax)["batch"][:, 1]
    assert np.isnan(lengths[0])
    assert lengths[1] == components.loc["gene1", "batch_share"]


def test_legend_is_beside_the_bars(components):
    ax = variance_components(components)
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1


def test_is_saved_and_drawn_on_axes_of_the_caller(components, tmp_path):
    _, ax = plt.subplots()
    assert variance_components(components, ax=ax, save=tmp_path / "bars.pdf") is ax
    assert (tmp_path / "bars.pdf").read_bytes().startswith(b"%PDF")


def test_unknown_gene(components):
    with pytest.raises(KeyError, match=r"XIST.*gene0"):
        variance_components(components, "XIST")


def test_another_table(components):
    with pytest.raises(ValueError, match=r"no shares of \['batch'\].*tl.variance_components"):
        variance_components(components.drop(columns="batch_share"))
