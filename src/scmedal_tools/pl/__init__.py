"""Figures. No function calls ``plt.show``.

Functions that draw one panel take ``ax`` and return it; without it they create a figure of
pyplot, which notebooks show. Functions that draw many panels return their figure.
"""

from __future__ import annotations

from scmedal_tools.pl._admissibility import admissibility
from scmedal_tools.pl._batch_dendrogram import batch_dendrogram
from scmedal_tools.pl._batch_effects import batch_effects
from scmedal_tools.pl._batch_effects_forest import batch_effects_forest
from scmedal_tools.pl._batch_effects_heatmap import batch_effects_heatmap
from scmedal_tools.pl._confounding import confounding
from scmedal_tools.pl._counterfactual_shift import counterfactual_shift
from scmedal_tools.pl._differential_abundance import differential_abundance
from scmedal_tools.pl._donor_distances import donor_distances
from scmedal_tools.pl._donor_embedding import donor_embedding
from scmedal_tools.pl._donor_prediction import donor_prediction
from scmedal_tools.pl._embeddings import embeddings
from scmedal_tools.pl._gene_shifts import gene_shifts
from scmedal_tools.pl._genomap_panel import genomap_panel
from scmedal_tools.pl._group_effects import group_effects
from scmedal_tools.pl._scores import scores
from scmedal_tools.pl._training import training
from scmedal_tools.pl._variance_components import variance_components

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
    "variance_components",
]
