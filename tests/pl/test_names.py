"""Every figure with names as they come: with dollars, an underscore first, very long ones."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scmedal_tools import bm, pl, tl

pytestmark = pytest.mark.slow

DONORS = ["lot_$a_$b", "_x", "Site-A <10x v3> & Charité Universitätsmedizin Berlin_03", "$"]
TYPES = ["CD4-positive, alpha-beta memory T cell of $a_$b", "_unassigned", "T"]
GENES = ["MT-$1$", "ENSG00000223972.5_a_very_long_name_$a_$b"]
QUICK = {"n_samples": 5, "n_cells": 20}


@pytest.fixture(scope="module")
def named(cells):
    adata = cells.copy()
    for column, names in {"donor": DONORS, "cell_type": TYPES}.items():
        adata.obs[column] = adata.obs[column].cat.rename_categories(names)
    adata.var_names = [*GENES, *adata.var_names[2:]]
    adata.obs["cost $a_$b"] = np.linspace(0, 1, adata.n_obs)
    plane = np.random.default_rng(0).normal(size=(adata.n_obs, 2))
    adata.obsm.update(dict.fromkeys(["X_umap_$a_$b", "X_umap", "X_$a_$b"], plane))
    return adata


@pytest.fixture(scope="module")
def models(fit, named):
    split = [np.arange(0, 128), np.arange(128, 160), np.arange(160, 240)]
    parts = {"external_indexing": split}
    setup = {"labels_key": "cell_type"}
    return [
        fit(name, named, setup, datasplitter_kwargs=parts) for name in ("SCMEDAL_FE", "SCMEDAL_RE")
    ]


@pytest.fixture(scope="module")
def drawers(named, models):
    """Functions that draw one figure each."""
    re = models[1]
    stack = tl.projection_stack(named, *models, 8)
    side = int(np.ceil(np.sqrt(stack.n_vars)))
    pixels = np.stack(np.divmod(np.arange(stack.n_vars), side), axis=1)
    layout = pd.DataFrame(pixels, stack.var_names, ["row", "column"])
    stack.uns["genomap"] = {"pixels": layout, "shape": np.array([side, side])}
    design = bm.confounding(named, "donor", ["cell_type", "condition"])
    shifts = bm.counterfactual_shift(
        {"$a_$b": re}, named, "donor", "cell_type", min_cells=2, progress=False
    )
    of = shifts.iloc[0][["cell_type", "source", "target"]].to_dict()
    scores = pd.DataFrame(
        {"embedding": ["$a_$b", "RE"], "of": "$a_$b", "metric": "$a_$b", "mean": [0.4, 0.5]}
    ).assign(lower=0.3, upper=0.6)
    components = tl.variance_components(re, n_samples=5, progress=False)
    losses = pd.DataFrame({"x": [2.0, 1.0]})
    features = pd.DataFrame({"features": ["$a_$b", TYPES[0]], "metric": "$a_$b", "value": 0.4})
    prediction = features.assign(method="ridge", chance=0.1, p_value=0.5, n_donors=4)
    groups = named.obs.groupby("donor", observed=True)["condition"].first().map("$a_$b {}".format)
    found = tl.differential_abundance(re, group_key="condition", n_neighbors=20, n_centres=5)
    tested = tl.group_effects(
        named, "~ condition", "donor", labels_key="cell_type", layer="counts",
        min_cells=3, min_counts=0.1,
    )  # fmt: skip
    columns = ["donor", "cell_type", "cost $a_$b"]
    return {
        "admissibility": lambda: pl.admissibility(tl.admissibility(re), named.obs["cell_type"]),
        "differential_abundance": lambda: pl.differential_abundance(found, named, "X_$a_$b"),
        "donor_distances": lambda: pl.donor_distances(
            tl.donor_distances(re, by="cell_type", n_samples=2)
        ),
        "donor_embedding": lambda: pl.donor_embedding(tl.donor_embedding(re), groups),
        "donor_prediction": lambda: pl.donor_prediction(
            bm.DonorPrediction(prediction, prediction)
        ),
        "group_effects": lambda: pl.group_effects(tested, GENES[1], "condition"),
        "embeddings": lambda: pl.embeddings(named, ["X_umap_$a_$b", "X_umap"], columns),
        "training": lambda: pl.training({"$a_$b_train": losses, "weighted_$a_$b_train": losses}),
        "batch_effects": lambda: pl.batch_effects(re, GENES, **QUICK),
        "batch_effects_forest": lambda: pl.batch_effects_forest(re, GENES, **QUICK),
        "batch_effects_heatmap": lambda: pl.batch_effects_heatmap(re, GENES, **QUICK),
        "batch_dendrogram": lambda: pl.batch_dendrogram(re, **QUICK),
        "variance_components": lambda: pl.variance_components(components, GENES),
        "confounding": lambda: pl.confounding(design),
        "counterfactual_shift": lambda: pl.counterfactual_shift(shifts),
        "gene_shifts": lambda: pl.gene_shifts(re, named, "donor", "cell_type", **of),
        "genomap_panel": lambda: pl.genomap_panel(stack, 3),
        "scores": lambda: pl.scores(scores, "$a_$b"),
        # No legend: scanpy puts it beyond the figure, of which saved files and notebooks show all.
        "umap": lambda: pl.umap(named, "X_umap_$a_$b", "cost $a_$b", frameon=True),
    }


def texts(figure):
    return [text for text in figure.findobj(plt.Text) if text.get_visible() and text.get_text()]


@pytest.fixture(scope="module", params=pl.__all__)
def figure(request, drawers):
    """A drawn figure, as it is without ``bbox_inches="tight"``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="constrained_layout not applied")
        drawn = drawers[request.param]()
        figure = drawn if isinstance(drawn, plt.Figure) else drawn.figure
        figure.draw_without_rendering()
    return figure


def test_names_are_drawn_letter_by_letter(figure):
    of_data = [text.get_text() for text in texts(figure) if r"\$" in text.get_text()]
    assert of_data
    assert not any("$" in text.replace(r"\$", "") for text in of_data)


def test_long_names_lie_inside_and_leave_room(figure):
    drawn = figure.get_tightbbox()  # in inches
    assert min(drawn.x0, drawn.y0) >= -0.1
    assert drawn.x1 <= figure.get_figwidth() + 0.1
    assert drawn.y1 <= figure.get_figheight() + 0.1
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    assert min(ax.bbox.size.min() for ax in panels) > 0.3 * figure.dpi
