"""Which genes differ between groups of donors, in the same cells projected to all of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse, stats

from scmedal_tools._data import (
    BATCH,
    EXPRESSION,
    check_argument,
    check_not_backed,
    check_obs,
    checked_part,
    random_cells,
    stays_on_disk,
    whole,
)
from scmedal_tools._docs import with_shared_parts
from scmedal_tools._progress import tqdm
from scmedal_tools.model import in_parts, warn_of_extrapolation

from ._counterfactual_means import check_alike, draws_of, group_means
from ._gene_test_checks import (
    Method,
    check_depth,
    check_numbers,
    check_statsmodels,
    check_training_cells,
    chosen_groups,
    group_of_each,
)
from ._genomap_images import pixels_of
from ._group_tests import cohens_d, differ, mann_whitney, mixed_models, rubin, student

if TYPE_CHECKING:
    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE, Swap


@with_shared_parts
def counterfactual_de(
    model: SCMEDAL_RE | Sequence[SCMEDAL_RE],
    adata: AnnData | MuData,
    groups: str,
    cells: int = 300,
    method: Method = "donor",
    *,
    group: str | None = None,
    reference: str | None = None,
    labels_key: str | None = None,
    label: str | None = None,
    layout: dict | pd.DataFrame | None = None,
    swap: Swap | None = None,
    depth_key: str | None = None,
    n_samples: int = 20,
    n_jobs: int = -1,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    r"""Test differential expression between two groups of donors, by counterfactuals.

    The same random cells are projected to every donor (batch), so that the donors' mixtures of
    cells make no difference; then the donors of one group are compared with those of the other.
    The unit is the donor: more cells make a donor's value more precise, but no further donors.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`, or several, trained on the same cells
        from different seeds: an ensemble, whose projections are averaged and whose draws are
        pooled.
    adata
        Cells, in a MuData if the model was registered with one. Donors without a cell in it are
        left out. An AnnData may be backed: only the cells that are projected are read.
    groups
        Column of ``obs`` with the group of each donor, such as a diagnosis; in a MuData where the
        batches are.
    cells
        Number of cells that are projected, drawn at random from all donors.
    method
        ``"donor"``: Student's t-test of one value for each donor, the mean of the projected cells.
        ``"mannwhitney"``: Mann-Whitney's test of the same values, as in the paper's analysis of
        AML. ``"lme"``: a linear mixed model of the projected cells, with a random intercept for
        each donor, as in the paper's analysis of ASD; it needs statsmodels, takes minutes, and its
        p-values are too small when there are few donors, which it warns of.
    group, reference
        Groups to compare; effects are those of ``group`` against ``reference``. Of two groups the
        first is the reference by default; of more, both have to be named.
    labels_key, label
        Column of ``obs`` with cell types, and the type of the cells that are projected; all cells
        by default.
    layout
        Layout of :func:`genomap_layout`, ``stack.uns["genomap"]``, or its table of pixels with
        the columns ``"row"`` and ``"column"`` and genes as the index. It need not have all genes.
    %(swap)s
    depth_key
        Column of ``obs`` with the total counts of each cell over all genes, for the warning of
        unequal depth: after :func:`~scmedal_tools.pp.preprocess`, ``"total_counts_all_genes"``.
        By default the sum of ``layers["counts"]``, or, without it, the number of expressed genes.
    n_samples
        Number of posterior draws of the random effects, seeded by ``scvi.settings.seed``. An
        ensemble shares them out.
    n_jobs
        Number of processes that fit mixed models; -1 for one on each core.
    seed
        Seed of the choice of the cells.
    progress
        Show progress bars over draws and mixed models.

    Returns
    -------
    pandas.DataFrame
        A row for each gene, in the model's order:

        - ``group`` and ``reference``, their numbers of donors ``n_group`` and ``n_reference``,
          their means ``mean_group`` and ``mean_reference``, in log-expression.
        - ``log_fc``: difference of the means. Of log-normalised input it is in natural
          logarithms, not the base 2 of scanpy's ``logfoldchanges``.
        - ``posterior_sd``: posterior standard deviation of ``log_fc``, how uncertain the model is
          about these donors.
        - ``se``: standard error of ``log_fc``, for other donors of the same kind (not of
          ``"mannwhitney"``).
        - ``statistic``: t, U of ``group`` or z, and with ``"donor"`` the degrees of freedom
          ``df``.
        - ``cohens_d``, the difference in units of the pooled standard deviation between donors, or
          ``rank_biserial`` with ``"mannwhitney"``.
        - ``p_value``, and ``adj_p_value``, adjusted by Benjamini and Hochberg's procedure; 1 where
          all donors are equal.
        - ``p_value_rubin`` and ``adj_p_value_rubin`` with ``"donor"``: with the posterior variance
          added to that between donors, see below.
        - ``row`` and ``column`` with ``layout``, NaN for genes without a pixel.

    Raises
    ------
    TypeError
        If a model is not a ``SCMEDAL_RE``.
    ValueError
        If the method is unknown, the group varies within a donor, there are fewer than two donors
        in a group, more than two groups and none chosen, no cells to project, too few draws, or
        a MuData is backed by a file.
    ImportError
        If statsmodels is not installed and needed.

    Warns
    -----
    UserWarning
        If there are fewer cells than asked for, so few donors that no p-value of Mann-Whitney's
        test is below 0.05, with ``"lme"``, or if p-values of any method are too small as the
        smaller group has the donors with more training cells, in all or like those of ``label``,
        or as cells of one group have 1.25 times the counts of those of the other, or more
        (``depth_key``); or if most of the
        projected cells are in states of which a donor had next to no training cells.

    Notes
    -----
    With the mean :math:`m_k` of donor :math:`k` at the posterior mean of the effects, ``"donor"``
    has

    .. math::

        t = \frac{\bar m_1 - \bar m_0}{s \sqrt{1 / K_1 + 1 / K_0}}

    with the numbers of donors :math:`K`, the pooled standard deviation :math:`s` between donors of
    a group, and :math:`K_1 + K_0 - 2` degrees of freedom. Welch's test, without the assumption
    that donors vary equally in both groups, has too small p-values with two or three donors in a
    group. A donor's estimation error is part of :math:`m_k`, and so of :math:`s`. Rubin's rules
    add the posterior variance once more, in every draw and between draws, so that
    ``p_value_rubin`` errs on the safe side. It is the only p-value with posterior uncertainty:
    ``p_value`` of all methods takes the posterior means as they are, with ``posterior_sd`` beside
    it.

    A difference is one between donors as the model describes them. It is not causal. These are the
    paper's analyses; :func:`~scmedal_tools.tl.group_effects` takes covariates and
    pairs, and is not misled by depth.

    References
    ----------
    scMEDAL, supplement, on Tables S13 and S14. Barnard and Rubin, Biometrika 86 (1999) 948.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> genes = smt.tl.counterfactual_de(model, adata, "condition", 100, n_samples=10)
    >>> genes[["group", "reference", "n_group", "n_reference"]].drop_duplicates().to_numpy()
    array([['disease', 'control', 2, 2]], dtype=object)
    >>> genes.sort_values("p_value").head(10)[["log_fc", "p_value", "adj_p_value"]].shape
    (10, 3)
    """
    models = list(model) if isinstance(model, Sequence) else [model]
    check_alike(models)
    if method not in get_args(Method):
        raise ValueError(f"method={method!r} is not one of {get_args(Method)}.")
    if n_samples < max(2, len(models)):
        raise ValueError(
            f"n_samples={n_samples} is too few: pass at least 2, and one for each model."
        )
    if method == "lme":
        check_statsmodels()
    first = models[0]
    setup = first.registry["setup_args"]
    with checked_part(adata, setup, BATCH) as part:
        check_obs(part, setup["batch_key"], min_levels=1)
        check_obs(part, groups, what="groups")
        of_donors = group_of_each(part.obs[setup["batch_key"]], part.obs[groups])
    group, reference = chosen_groups(of_donors, groups, group, reference)
    of_donors = of_donors[of_donors.isin([group, reference])]
    donors, in_group = list(of_donors.index), (of_donors == group).to_numpy()
    check_numbers(in_group, group, reference, method)
    pixels = None if layout is None else _pixels(layout, first.gene_names)
    projected = _copied(adata, _drawn(adata, setup, cells, labels_key, label, seed))
    check_training_cells(models, projected, donors, in_group, label)
    for of_ensemble in models:  # which refuses cells that do not fit the model
        warn_of_extrapolation(of_ensemble, donors, projected)
    in_memory = projected if adata.isbacked else adata
    check_depth(in_memory, setup, of_donors, group, reference, depth_key)

    everything = sparse.csc_array(np.full((1, projected.n_obs), 1 / projected.n_obs))
    options: dict[str, Any] = {
        "adata": projected,
        "targets": donors,
        "membership": everything,
        "swap": swap,
    }

    def of_donors_alone(found: dict) -> np.ndarray:
        return np.concatenate([found[donor] for donor in donors])

    means = np.mean([of_donors_alone(next(group_means(m, **options))) for m in models], axis=0)
    draws = np.empty((n_samples, *means.shape))
    drawn = draws_of(models, n_samples, **options)
    bar = tqdm(drawn, total=n_samples, disable=not progress, desc="Draws")
    for of_draw, found in zip(draws, bar, strict=True):
        of_draw[:] = of_donors_alone(found)
    varies = differ(means)
    if method == "donor":
        tested = student(means, in_group) | {"p_value_rubin": rubin(draws, in_group)}
    elif method == "mannwhitney":
        tested = mann_whitney(means, in_group)
    else:
        expression = np.mean([_projections(m, projected, donors, swap) for m in models], axis=0)
        tested = mixed_models(expression, in_group, varies, n_jobs, progress)
        tested["cohens_d"] = cohens_d(means, in_group)
    table = _table(first.gene_names, means, draws, in_group, varies, tested, pixels)
    table.insert(0, "group", group)
    table.insert(1, "reference", reference)
    return table


def _drawn(
    adata: AnnData | MuData,
    setup: dict,
    n_cells: int,
    labels_key: str | None,
    label: str | None,
    seed: int,
) -> np.ndarray:
    """Positions of the cells to project."""
    if (labels_key is None) != (label is None):
        raise ValueError("labels_key and label go together: pass both, or neither.")
    check_argument("cells", n_cells, whole())
    candidates, of_type = np.arange(adata.n_obs), ""
    if labels_key is not None:
        with checked_part(adata, setup, EXPRESSION) as part:
            check_obs(part, labels_key, what="labels_key", min_levels=1)
            labels = part.obs[labels_key]
        candidates, of_type = np.flatnonzero(labels == label), f" of {label!r}"
        if not len(candidates):
            raise ValueError(
                f"label={label!r}: no cell has it in {labels_key!r}. Choose from "
                f"{', '.join(map(repr, labels.unique()[:20]))}."
            )
    if len(candidates) < n_cells:
        warnings.warn(
            f"There are only {len(candidates):,} cells{of_type}: all are projected.",
            UserWarning,
            stacklevel=3,
        )
    return random_cells(candidates, n_cells, seed)


def _copied(adata: AnnData | MuData, cells: np.ndarray) -> AnnData | MuData:
    """Some of the cells in an object of its own, which also reads them from a file."""
    if isinstance(adata, AnnData) and stays_on_disk(adata):
        return adata[cells].to_memory().copy()  # without the copy dense expression stays a view
    check_not_backed(adata)
    return adata[cells].copy()


def _projections(
    model: SCMEDAL_RE, cells: AnnData | MuData, donors: list, swap: Swap | None
) -> np.ndarray:
    """Every cell projected to each donor, donors x cells x genes."""
    with in_parts(model, cells):  # which are checked, and warned of, before
        projected = model.get_counterfactual_expression(
            cells, transform_batch=donors, swap=swap, return_numpy=True
        )
    projected = cast("dict[str, np.ndarray]", projected)
    return np.stack([projected[donor] for donor in donors])


def _table(
    genes: pd.Index,
    means: np.ndarray,
    draws: np.ndarray,
    in_group: np.ndarray,
    varies: np.ndarray,
    tested: dict[str, np.ndarray],
    pixels: pd.DataFrame | None,
) -> pd.DataFrame:
    mean_group, mean_reference = means[in_group].mean(0), means[~in_group].mean(0)
    drawn = draws[:, in_group].mean(1) - draws[:, ~in_group].mean(1)
    columns = {
        "n_group": in_group.sum(),
        "n_reference": (~in_group).sum(),
        "mean_group": mean_group,
        "mean_reference": mean_reference,
        "log_fc": mean_group - mean_reference,
        "posterior_sd": drawn.std(0, ddof=1),
    }
    table = pd.DataFrame(columns | tested, genes)
    p_values = [name for name in table if name.startswith("p_value")]
    table.loc[~varies, p_values] = 1.0
    for name in p_values:
        adjusted = stats.false_discovery_control(table[name])
        table.insert(table.columns.get_loc(name) + 1, f"adj_{name}", adjusted)
    return table if pixels is None else table.join(pixels)


def _pixels(layout: dict | pd.DataFrame, genes: pd.Index) -> pd.DataFrame:
    """Row and column of each gene, NaN of those without a pixel."""
    pixels, _ = pixels_of(layout)
    if not genes.isin(pixels.index).any():
        raise ValueError(
            f"layout has no pixel for any of {len(genes):,} genes: its index holds names of genes."
        )
    return pixels.reindex(genes)
