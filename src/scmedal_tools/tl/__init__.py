"""Tools: what comes after training."""

from ._batch_similarity import batch_similarity
from ._combine import combine
from ._counterfactual_de import counterfactual_de
from ._counterfactual_means import counterfactual_means
from ._effects_diagnostics import EffectsDiagnostics, effects_diagnostics
from ._embed import embed
from ._umap import umap
from ._variance_components import variance_components

__all__ = [
    "EffectsDiagnostics",
    "batch_similarity",
    "combine",
    "counterfactual_de",
    "counterfactual_means",
    "effects_diagnostics",
    "embed",
    "umap",
    "variance_components",
]
