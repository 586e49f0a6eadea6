"""Figures. Nothing here calls ``plt.show``.

Functions of one panel take ``ax`` and return it; the figure that they make without is one of
pyplot's, which notebooks show. Those of many panels return their figure.
"""

from __future__ import annotations

from scmedal_tools.pl._batch_dendrogram import batch_dendrogram
from scmedal_tools.pl._batch_effects import batch_effects
from scmedal_tools.pl._batch_effects_forest import batch_effects_forest
from scmedal_tools.pl._batch_effects_heatmap import batch_effects_heatmap
from scmedal_tools.pl._confounding import confounding
from scmedal_tools.pl._counterfactual_shift import counterfactual_shift
from scmedal_tools.pl._embeddings import embeddings
from scmedal_tools.pl._gene_shifts import gene_shifts
from scmedal_tools.pl._genomap_panel import genomap_panel
from scmedal_tools.pl._group_effects import group_effects
from scmedal_tools.pl._scores import scores
from scmedal_tools.pl._training import training
from scmedal_tools.pl._variance_components import variance_components

__all__ = [
    "batch_dendrogram",
    "batch_effects",
    "batch_effects_forest",
    "batch_effects_heatmap",
    "confounding",
    "counterfactual_shift",
    "embeddings",
    "gene_shifts",
    "genomap_panel",
    "group_effects",
    "scores",
    "training",
    "variance_components",
]
