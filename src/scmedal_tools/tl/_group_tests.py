"""Tests of every gene for a difference between two groups of donors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from joblib import Parallel, delayed
from scipy import stats
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator

# Equal up to the precision in which a network computes.
RESOLUTION = 1e-6
GENES_PER_TASK = 8
# statsmodels' default optimisers stop with a standard error up to 70 % off, without saying so.
OPTIMISER = "powell"


def differ(means: np.ndarray) -> np.ndarray:
    """Whether the donors' means of each gene differ at all; ``(n_donors, n_genes)``."""
    return np.ptp(means, axis=0) > RESOLUTION


def welch(means: np.ndarray, in_group: np.ndarray) -> dict[str, np.ndarray]:
    """Welch's t-test over donors, and Cohen's d; ``means`` has the shape (n_donors, n_genes)."""
    first, second = means[in_group], means[~in_group]
    effect = first.mean(0) - second.mean(0)
    variance, df = _variance_of_difference(first.var(0, ddof=1), second.var(0, ddof=1), in_group)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = effect / np.sqrt(variance)
    return {
        "se": np.sqrt(variance),
        "statistic": statistic,
        "df": df,
        "p_value": 2 * stats.t.sf(np.abs(statistic), df),
        "cohens_d": cohens_d(means, in_group),
    }


def rubin(draws: np.ndarray, in_group: np.ndarray) -> np.ndarray:
    """P-values of Welch's t-test in all draws, pooled by Rubin's rules.

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
    first, second = draws[:, in_group], draws[:, ~in_group]
    effects = first.mean(1) - second.mean(1)
    within, df = _variance_of_difference(
        first.var(1, ddof=1).mean(0), second.var(1, ddof=1).mean(0), in_group
    )
    between = (1 + 1 / len(draws)) * effects.var(0, ddof=1)
    total = within + between
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
    first, second = means[in_group], means[~in_group]
    squares = sum(np.square(x - x.mean(0)).sum(0) for x in (first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (first.mean(0) - second.mean(0)) / np.sqrt(squares / (len(means) - 2))


def _variance_of_difference(
    first: np.ndarray, second: np.ndarray, in_group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Variance of the difference of two means, and its degrees of freedom (Satterthwaite)."""
    n_first, n_second = in_group.sum(), (~in_group).sum()
    first, second = first / n_first, second / n_second
    with np.errstate(divide="ignore", invalid="ignore"):
        df = (first + second) ** 2 / (first**2 / (n_first - 1) + second**2 / (n_second - 1))
    return first + second, df
