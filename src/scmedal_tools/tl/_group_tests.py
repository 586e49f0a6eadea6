"""Tests of every gene for a difference between two groups of donors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from joblib import Parallel, delayed
from scipy import stats

from scmedal_tools._progress import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator

# Equal up to the precision in which a network computes.
RESOLUTION = 1e-6
GENES_PER_TASK = 8
# L-BFGS may stop with a standard error 70 % off the optimum's, without saying so.
OPTIMISER = "powell"


def differ(means: np.ndarray) -> np.ndarray:
    """Whether the donors' means of each gene differ at all; ``(n_donors, n_genes)``."""
    return np.ptp(means, axis=0) > RESOLUTION


def student(means: np.ndarray, in_group: np.ndarray) -> dict[str, np.ndarray]:
    """Student's t-test over donors, and Cohen's d; ``means`` has the shape (n_donors, n_genes)."""
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # genes in which donors do not differ
        test = stats.ttest_ind(means[in_group], means[~in_group])
    return {
        "se": np.sqrt(_variance_of_difference(means, in_group)),
        "statistic": test.statistic,
        "df": np.full(means.shape[1], len(means) - 2),
        "p_value": test.pvalue,
        "cohens_d": cohens_d(means, in_group),
    }


def rubin(draws: np.ndarray, in_group: np.ndarray) -> np.ndarray:
    """P-values of Student's t-test in all draws, pooled by Rubin's rules.

    Parameters
    ----------
    draws
        Draws of the donors' means, shape ``(n_draws, n_donors, n_genes)``.
    in_group
        Whether a donor is of the group.

    Returns
    -------
    P-values of the genes, with the degrees of freedom of Barnard and Rubin (1999).
    """
    effects = np.array([_difference(means, in_group) for means in draws])
    within = np.mean([_variance_of_difference(means, in_group) for means in draws], axis=0)
    between = (1 + 1 / len(draws)) * effects.var(0, ddof=1)
    total, df = within + between, len(in_group) - 2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = between / total
        df_draws = (len(draws) - 1) / share**2
        df_donors = (df + 1) / (df + 3) * df * (1 - share)
        statistic = effects.mean(0) / np.sqrt(total)
        return 2 * stats.t.sf(np.abs(statistic), 1 / (1 / df_draws + 1 / df_donors))


def mann_whitney(means: np.ndarray, in_group: np.ndarray) -> dict[str, np.ndarray]:
    """Mann-Whitney's test over donors, and the rank-biserial correlation."""
    first, second = means[in_group], means[~in_group]
    statistic, p_value = np.empty((2, means.shape[1]))
    # One gene with ties would deprive all genes of a call of their exact p-values.
    tied = (np.diff(np.sort(means, axis=0), axis=0) == 0).any(axis=0)
    for genes in (tied, ~tied):
        if genes.any():
            found = stats.mannwhitneyu(first[:, genes], second[:, genes], axis=0)
            statistic[genes], p_value[genes] = found
    n_pairs = len(first) * len(second)
    return {
        "statistic": statistic,
        "p_value": p_value,
        "rank_biserial": 2 * statistic / n_pairs - 1,
    }


def mixed_models(
    expression: np.ndarray,
    in_group: np.ndarray,
    genes: np.ndarray | None = None,
    n_jobs: int = -1,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """``gene ~ group + (1 | donor)`` by restricted likelihood, for each gene.

    Parameters
    ----------
    expression
        Projected cells, shape ``(n_donors, n_cells, n_genes)``.
    in_group
        Whether a donor is of the group.
    genes
        Whether to fit each gene; the others get NaN.
    n_jobs, progress
        Number of processes; whether to show a progress bar.
    """
    n_genes = expression.shape[2]
    fitted = np.arange(n_genes) if genes is None else np.flatnonzero(genes)
    blocks = np.split(fitted, range(GENES_PER_TASK, len(fitted), GENES_PER_TASK))
    tasks = (delayed(_fit)(expression[:, :, block], in_group) for block in blocks)
    results = np.full((n_genes, 3), np.nan)
    found: Iterator[np.ndarray] = Parallel(n_jobs, return_as="generator")(tasks)
    with tqdm(total=len(fitted), disable=not progress, desc="Mixed models", unit="gene") as bar:
        for block, values in zip(blocks, found, strict=True):
            results[block] = values
            bar.update(len(block))
    return dict(zip(("se", "statistic", "p_value"), results.T, strict=True))


def _fit(expression: np.ndarray, in_group: np.ndarray) -> np.ndarray:
    """Standard error, z and p-value of the group; genes x 3."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    n_donors, n_cells, _ = expression.shape
    design = np.column_stack([np.ones(n_donors), in_group]).repeat(n_cells, axis=0)
    donors = np.arange(n_donors).repeat(n_cells)
    per_variance = 1 / in_group.sum() + 1 / (~in_group).sum()
    results = []
    for y in expression.reshape(n_donors * n_cells, -1).T.astype(np.float64):
        with warnings.catch_warnings():
            # That the donors' variance is estimated as zero is a result, not a fault.
            warnings.simplefilter("ignore")
            # In units of its s.d., so that the optimiser's tolerances fit every gene.
            fit = MixedLM(y / y.std(), design, donors).fit(method=OPTIMISER)
        # Given the variances; where that of the donors is zero statsmodels' own s.e. is NaN.
        se = np.sqrt((fit.cov_re[0, 0] + fit.scale / n_cells) * per_variance)
        z = fit.fe_params[1] / se
        results.append((se * y.std(), z, 2 * stats.norm.sf(abs(z))))
    return np.array(results)


def cohens_d(means: np.ndarray, in_group: np.ndarray) -> np.ndarray:
    """Difference of the groups' means in units of the pooled s.d. between donors."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _difference(means, in_group) / np.sqrt(_pooled_variance(means, in_group))


def _difference(means: np.ndarray, in_group: np.ndarray) -> np.ndarray:
    return means[in_group].mean(0) - means[~in_group].mean(0)


def _pooled_variance(means: np.ndarray, in_group: np.ndarray) -> np.ndarray:
    """Variance between the donors of a group, common to both."""
    squares = sum(np.square(x - x.mean(0)).sum(0) for x in (means[in_group], means[~in_group]))
    return squares / (len(means) - 2)


def _variance_of_difference(means: np.ndarray, in_group: np.ndarray) -> np.ndarray:
    per_variance = 1 / in_group.sum() + 1 / (~in_group).sum()
    return _pooled_variance(means, in_group) * per_variance
