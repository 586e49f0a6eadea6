"""Mixed models of samples, fitted to sums of counts: what conditions and covariates change.

``_counts`` sums the counts of every sample and state and says how precise they are, ``_nested``
solves a mixed model for known variances, ``_fit`` finds the variances and tests contrasts,
``_full_rank`` says which contrasts can be estimated.
"""

from ._counts import MANY_GENES, CountSums, Response, sum_counts
from ._fit import Estimates, SampleFit, fit_samples
from ._full_rank import full_rank, is_estimable
from ._nested import NestedModel, Solution

__all__ = [
    "MANY_GENES",
    "CountSums",
    "Estimates",
    "NestedModel",
    "Response",
    "SampleFit",
    "Solution",
    "fit_samples",
    "full_rank",
    "is_estimable",
    "sum_counts",
]
