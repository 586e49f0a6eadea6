"""Figures. No function calls ``plt.show``.

Functions that draw one panel take ``ax`` and return it; without it they create a figure of
pyplot, which notebooks show. Functions that draw many panels return their figure.

``plt.style.use("scmedal_tools.style")`` gives figures of your own the same colours and axes.
"""

from __future__ import annotations

# Names imported as themselves (X as X) are for other folders of the package.
from ._admissibility import admissibility
from ._batch_dendrogram import batch_dendrogram
from ._batch_effects import batch_effects
from ._batch_effects_forest import batch_effects_forest
from ._batch_effects_heatmap import batch_effects_heatmap
from ._common import new_figure as new_figure
from ._common import plain as plain
from ._common import save_figure as save_figure
from ._confounding import confounding
from ._counterfactual_shift import counterfactual_shift
from ._differential_abundance import differential_abundance
from ._donor_distances import donor_distances
from ._donor_embedding import donor_embedding
from ._donor_prediction import donor_prediction
from ._embeddings import embeddings
from ._gene_shifts import gene_shifts
from ._genomap_panel import genomap_panel
from ._group_effects import group_effects
from ._palette import BLUE as BLUE
from ._scores import scores
from ._training import training
from ._umap import umap
from ._variance_components import variance_components

__all__ = [
    "admissibility",
    "batch_dendrogram",
    "batch_effects",
    "batch_effects_forest",
    "batch_effects_heatmap",
    "confounding",
    "counterfactual_shift",
    "differential_abundance",
    "donor_distances",
    "donor_embedding",
    "donor_prediction",
    "embeddings",
    "gene_shifts",
    "genomap_panel",
    "group_effects",
    "scores",
    "training",
    "umap",
    "variance_components",
]


def __dir__() -> list[str]:
    return list(__all__)
