"""Tools: what comes after training."""

from ._counterfactual_means import counterfactual_means
from ._effects_diagnostics import EffectsDiagnostics, effects_diagnostics
from ._embed import embed
from ._umap import umap

__all__ = ["EffectsDiagnostics", "counterfactual_means", "effects_diagnostics", "embed", "umap"]
