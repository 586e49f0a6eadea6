"""The mixed models of single genes: solver, fit, posterior and prediction, in NumPy and PyTorch.

``_group_sums`` sums what there is to be explained over groups of cells, ``_states`` finds these,
``_content`` finds what remains of the batch in the content, ``_equations`` solves a mixed model
for known variances, ``_fit`` finds the variances, ``_probability_of_following`` finds which genes
follow the network, ``_posterior`` holds the result, and ``_effects`` predicts with it.
"""

from ._content import batch_share_of_content, share_of_new
from ._effects import GeneEffects, GeneEffectsDraw, LevelFreePart
from ._equations import (
    MixedEquations,
    covariance_of,
    restricted_likelihoods,
    state_correlation,
)
from ._fit import (
    NEGLIGIBLE,
    MixedModel,
    backfitting_order,
    fit_crossed_models,
    fit_mixed_model,
    points,
    posterior_over_genes,
)
from ._group_sums import GroupSums
from ._look_up import effects_of
from ._posterior import SPREAD, MixedEffects
from ._probability_of_following import NETWORK_SHARE, probability_of_following
from ._states import find_states, harmony_clusters

__all__ = [
    "NEGLIGIBLE",
    "NETWORK_SHARE",
    "SPREAD",
    "GeneEffects",
    "GeneEffectsDraw",
    "GroupSums",
    "LevelFreePart",
    "MixedEffects",
    "MixedEquations",
    "MixedModel",
    "backfitting_order",
    "batch_share_of_content",
    "covariance_of",
    "effects_of",
    "find_states",
    "fit_crossed_models",
    "fit_mixed_model",
    "harmony_clusters",
    "points",
    "posterior_over_genes",
    "probability_of_following",
    "restricted_likelihoods",
    "share_of_new",
    "state_correlation",
]
