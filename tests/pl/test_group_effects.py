"""What is drawn of a gene is what the table and the samples have."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

import scmedal_tools as smt
from scmedal_tools.pl._palette import GROUP_COLORS


@pytest.fixture(scope="module")
def result():
    adata = smt.datasets.simulated(n_donors=8, n_genes=40, n_cell_types=2, confounding=0)
    adata.obs["half"] = np.where(np.arange(adata.n_obs) % 2, "x", "y")
    return smt.tl.group_effects(
        adata, "~ condition + half", "donor", labels_key="cell_type", min_cells=3
    )


def test_effects_with_their_intervals(result):
    gene, contrast = result.table["variable"][0], "condition[T.disease]"
    figure = smt.pl.group_effects(result, gene, "condition")
    table = result.table.set_index(["variable", "contrast"]).loc[(gene, contrast)]
    forest = figure.axes[0]
    assert [label.get_text() for label in forest.get_yticklabels()] == list(table["state"])
    (points,) = forest.collections[1:]
    np.testing.assert_allclose(points.get_offsets()[:, 0], table["log_fc"])
    np.testing.assert_allclose(widths(forest), 2 * 1.96 * table["se"], rtol=1e-3)
    assert contrast in figure.get_suptitle()
    assert figure.number not in plt.get_fignums()


def widths(forest):
    return [line[1, 0] - line[0, 0] for line in forest.collections[0].get_segments()]


def test_intervals_where_few_donors_decide(result):
    gene = result.table["variable"][0]
    few = smt.tl.GroupEffects(result.table.assign(df=5.0), result.samples)
    forest = smt.pl.group_effects(few, gene, "condition", interval=0.99).axes[0]
    table = result.table[result.table["contrast"] == result.table["contrast"].iloc[0]]
    # 99% of a t of five degrees of freedom lie within 4.032, whose variance is 5/3.
    expected = 2 * 4.032 * np.sqrt(3 / 5) * table.set_index("variable").loc[[gene], "se"]
    np.testing.assert_allclose(widths(forest), expected, rtol=1e-3)


def test_a_point_for_each_sample_and_lines_for_donors(result):
    gene = result.table["variable"][0]
    ax = smt.pl.group_effects(result, gene, "half", contrast="half[T.y]").axes[1]
    drawn = np.concatenate([c.get_offsets()[:, 0] for c in ax.collections])
    values = result.samples[:, gene].X.ravel()
    np.testing.assert_allclose(np.sort(drawn), np.sort(values))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["x", "y"]
    pairs = result.samples.obs.groupby(["state", "donor"], observed=True).size()
    assert len(ax.lines) == (pairs > 1).sum() > 0


def test_groups_are_in_the_order_of_their_categories():
    adata = smt.datasets.simulated(n_donors=6, n_genes=40, n_cell_types=2, confounding=0)
    groups = adata.obs["condition"].astype("category")
    adata.obs["condition"] = groups.cat.reorder_categories(["disease", "control"])
    found = smt.tl.group_effects(adata, "~ condition", "donor", min_cells=3)
    ax = smt.pl.group_effects(found, found.table["variable"][0], "condition").axes[1]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["disease", "control"]
    # The first lies above the second, and has the first colour.
    above, below = (points.get_offsets()[:, 1].mean() for points in ax.collections)
    assert above < below
    assert to_hex(ax.collections[0].get_facecolor()[0]) == GROUP_COLORS[0]


@pytest.mark.parametrize(
    ("gene", "options"),
    [("nothing", {}), ("gene_0001", {"color": "nothing"}), ("gene_0001", {"contrast": "nothing"})],
)
def test_unknown_names(result, gene, options):
    with pytest.raises(KeyError, match="nothing"):
        smt.pl.group_effects(result, gene, **{"color": "condition"} | options)


def test_genes_that_were_tested_are_named_once(result):
    with pytest.raises(KeyError, match=r"'MPO' was not tested: .*min_counts") as error:
        smt.pl.group_effects(result, "MPO", "condition")
    tested = result.table["variable"].unique()
    assert f"Tested were {len(tested)} genes: {', '.join(tested[:10])}, ..." in str(error.value)
