"""Simulated counts of donors with known effects, and the truth about them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse, stats

from scmedal_tools._data import slots

from ._expectation import ExpectedExpression
from ._genes import Genes

CONDITIONS = ("control", "disease")
MIN_CELLS, MAX_CELLS = 30, 600
N_PROGRAMMES = 3
N_DISPERSIONS = 12
# At confounding=1 the shares of the most tilted types differ exp(4) = 55-fold between conditions.
CONDITION_TILT = 2.0


@dataclass(frozen=True)
class Constants:
    """Parameters half-way between an AML and a healthy blood data set.

    Printed by ``benchmarks/simulation_constants.py``. Natural logarithms; ``sd`` of effects are
    root mean squares over genes, free of sampling noise.
    """

    log_cells_mean: float = 5.699
    log_cells_sd: float = 0.547
    log_type_share_sd: float = 0.808
    composition_sd: float = 1.074
    log_depth_mean: float = 6.378
    log_depth_sd_donors: float = 0.276
    log_depth_sd_cells: float = 0.536
    log_abundance_sd: float = 1.559
    type_sd: float = 1.12
    type_correlation: float = 0.544
    log_phi_mean: float = -0.346
    log_phi_sd: float = 0.907
    programme_sd: float = 0.199
    donor_sd: float = 0.353
    interaction_sd: float = 0.269
    log_effect_spread: float = 0.63
    condition_sd: float = 0.378


CONSTANTS = Constants()


def simulated(
    n_donors: int = 12,
    n_genes: int = 2000,
    n_cell_types: int = 6,
    *,
    confounding: float = 0.5,
    share_without_effect: float = 0.3,
    effect_scale: float = 1.0,
    cell_scale: float = 1.0,
    seed: int = 0,
) -> AnnData:
    r"""Simulate counts of cells from donors whose effects on every gene are known.

    Counts are negative binomial. The spread of gene abundances, dispersions, sequencing depths and
    effect sizes lies half-way between a leukaemia and a healthy blood data set, both cut to some
    of their genes: a cell has about 600 counts, not the thousands of a whole transcriptome.
    Donors have 30 to 600 cells and are nested in a condition. Cell types are uneven, and inside a
    type cells differ continuously along a few programmes.

    Parameters
    ----------
    n_donors
        Number of donors, at least 4; the first half is ``"control"``, the rest ``"disease"``.
    n_genes
        Number of genes, at least 20. The expected counts of a cell do not depend on it.
    n_cell_types
        Number of cell types, at least 2.
    confounding
        How strongly the mixture of types depends on condition and donor, from 0 (every donor has
        the same shares) to 1 (some types are nearly absent in one condition).
    share_without_effect
        Share of genes, from 0 to 0.95, on which neither donor nor condition has an effect. The
        others have a donor, a condition and a donor x cell-type effect.
    effect_scale
        Factor, from 0 to 10, of all effects on the log scale; 1 is realistic.
    cell_scale
        Factor, from 0.2 to 100, of the number of cells of each donor.
    seed
        Seed of the random numbers. The same arguments give the same data.

    Returns
    -------
    Cells x genes with raw counts (float32, CSR) in ``X``; ``donor``, ``condition`` and
    ``cell_type`` in ``obs``; ``has_effect`` in ``var``; and the truth in
    ``varm["true_expression"]``, to be read with :func:`true_shift`.

    Raises
    ------
    ValueError
        If an argument is outside its range.

    Notes
    -----
    The truth is a data frame of genes x scenarios. Column ``"type|A|B"`` is the mean over A's
    cells of the type of :math:`E[\log(1 + 10^4 y / d)]`, where the count :math:`y` is drawn as if
    the cell, with its state and its depth :math:`d`, belonged to donor B. A type of which A has no
    cell has no columns. With 40 donors the truth takes 77 MB.

    The expected proportions of the genes sum to one in every cell and donor, so that :math:`d` is
    the expected total count. Normalising by observed totals instead changes true shifts by some
    0.0003 (root mean square) at the default size, and by about 1 % with only 150 genes.

    Effects act on proportions. They are renormalised among the genes with effect only, so a gene
    without effect has a true shift of exactly zero.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> adata = smt.datasets.simulated(n_donors=4, n_genes=100, n_cell_types=2)
    >>> shift = smt.datasets.true_shift(adata, "type_1", "donor_01", "donor_04")
    >>> shift.shape
    (100,)
    """
    _check("n_donors", n_donors, 4, np.inf)
    _check("n_genes", n_genes, 20, np.inf)
    _check("n_cell_types", n_cell_types, 2, np.inf)
    _check("confounding", confounding, 0, 1)
    _check("share_without_effect", share_without_effect, 0, 0.95)
    _check("effect_scale", effect_scale, 0, 10)
    _check("cell_scale", cell_scale, 0.2, 100)
    rng = np.random.default_rng(seed)
    donors = [f"donor_{i + 1:02d}" for i in range(n_donors)]
    types = [f"type_{i + 1}" for i in range(n_cell_types)]
    names = [f"gene_{i + 1:04d}" for i in range(n_genes)]
    is_disease = np.arange(n_donors) >= (n_donors + 1) // 2

    group_sizes = _group_sizes(rng, is_disease, n_cell_types, confounding, cell_scale)
    genes = _draw_genes(rng, is_disease, n_genes, n_cell_types, share_without_effect, effect_scale)
    donor_of, type_of, depth, state = _draw_cells(rng, group_sizes)
    theta, truth = genes.theta[genes.level], ExpectedExpression(genes, depth)
    counts, columns = [], {}
    for donor, cell_type in np.argwhere(group_sizes).tolist():
        rows = (donor_of == donor) & (type_of == cell_type)
        mean = depth[rows, None] * np.exp(genes.log_rates(cell_type, donor, state[rows]))
        # A Poisson with a gamma rate is negative binomial, of variance mean + mean**2 / theta.
        drawn = rng.poisson(rng.gamma(theta, mean / theta))
        counts.append(sparse.csr_matrix(drawn.astype(np.float32)))
        for name, values in zip(donors, truth(cell_type, depth[rows], state[rows]), strict=True):
            columns[_scenario(types[cell_type], donors[donor], name)] = values

    order = rng.permutation(len(donor_of))
    donor_of, type_of = donor_of[order], type_of[order]
    obs = pd.DataFrame(
        {
            "donor": pd.Categorical.from_codes(donor_of, donors),
            "condition": pd.Categorical.from_codes(is_disease[donor_of].astype(int), CONDITIONS),
            "cell_type": pd.Categorical.from_codes(type_of, types),
        },
        index=[f"cell_{i + 1:05d}-{donors[donor]}" for i, donor in enumerate(donor_of)],
    )
    return AnnData(
        sparse.vstack(counts, format="csr")[order],
        obs=obs,
        var=pd.DataFrame({"has_effect": genes.has_effect}, index=names),
        varm={slots.TRUE_EXPRESSION: pd.DataFrame(columns, index=names)},
    )


def true_shift(adata: AnnData, cell_type: str, source: str, target: str) -> pd.Series:
    """Get the true change of expression if a donor's cells belonged to another donor.

    Parameters
    ----------
    adata
        Data from :func:`simulated`, or any subset of its genes. The truth is always about all the
        cells that were simulated, also where cells have been removed since.
    cell_type
        Type of the cells.
    source
        Donor of the cells.
    target
        Donor to which they are moved, in the same state and with the same depth.

    Returns
    -------
    Shift for each of ``adata.var_names``, in units of ``log1p`` of counts per 10,000; zero if
    ``source`` and ``target`` are the same.

    Raises
    ------
    KeyError
        If ``adata`` holds no truth, or no such donor or cell type.
    ValueError
        If the source donor has no cells of the type.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> adata = smt.datasets.simulated(n_donors=4, n_genes=100, n_cell_types=2)
    >>> unaffected = ~adata.var["has_effect"]
    >>> smt.datasets.true_shift(adata, "type_1", "donor_01", "donor_04")[unaffected].abs().max()
    np.float32(0.0)
    """
    if slots.TRUE_EXPRESSION not in adata.varm:
        msg = f"No varm[{slots.TRUE_EXPRESSION!r}]: pass data made by datasets.simulated()."
        raise KeyError(msg)
    truth = adata.varm[slots.TRUE_EXPRESSION]
    types, sources, targets = zip(*(name.split("|") for name in truth.columns), strict=True)
    for role, name, known in [
        ("cell type", cell_type, types),
        ("source donor", source, targets),
        ("target donor", target, targets),
    ]:
        if name not in known:
            msg = f"No {role} {name!r} in the simulation; choose from {sorted(set(known))}."
            raise KeyError(msg)
    if _scenario(cell_type, source, source) not in truth:
        having = sorted({s for t, s in zip(types, sources, strict=True) if t == cell_type})
        msg = f"Donor {source!r} has no cells of {cell_type!r}; donors that have some: {having}."
        raise ValueError(msg)
    moved = truth[_scenario(cell_type, source, target)]
    return (moved - truth[_scenario(cell_type, source, source)]).rename("true_shift")


def _scenario(cell_type: str, source: str, target: str) -> str:
    """Name of the truth's column for cells of a type moved from one donor to another."""
    return f"{cell_type}|{source}|{target}"


def _check(name: str, value: float, low: float, high: float) -> None:
    """Raise a ValueError if an argument is outside its range."""
    if not low <= value <= high:
        allowed = f"at least {low}" if high == np.inf else f"from {low} to {high}"
        msg = f"{name}={value} is outside its range: pass a value {allowed}."
        raise ValueError(msg)


def _group_sizes(
    rng: np.random.Generator,
    is_disease: np.ndarray,
    n_types: int,
    confounding: float,
    cell_scale: float,
) -> np.ndarray:
    """Number of cells of each donor and type, donors x types."""
    log_cells = rng.normal(CONSTANTS.log_cells_mean, CONSTANTS.log_cells_sd, len(is_disease))
    n_cells = (cell_scale * np.clip(np.exp(log_cells), MIN_CELLS, MAX_CELLS)).astype(int)
    quantiles = stats.norm.ppf((np.arange(n_types) + 0.5) / n_types)
    log_share = CONSTANTS.log_type_share_sd * rng.permutation(quantiles)
    tilt = rng.permutation(np.linspace(-CONDITION_TILT, CONDITION_TILT, n_types))
    side = np.where(is_disease, 1.0, -1.0)
    own = rng.normal(0, CONSTANTS.composition_sd, (len(is_disease), n_types))
    share = np.exp(log_share + confounding * (np.outer(side, tilt) + own))
    exact = share / share.sum(axis=1, keepdims=True) * n_cells[:, None]
    # Largest remainders, not a multinomial draw: without confounding the shares must be the same.
    sizes = np.floor(exact).astype(int)
    rank = np.argsort(np.argsort(sizes - exact, axis=1, kind="stable"), axis=1, kind="stable")
    return sizes + (rank < (n_cells - sizes.sum(axis=1))[:, None])


def _gene_scales(rng: np.random.Generator, rms: float, n_genes: int) -> np.ndarray:
    """Log-normal effect scales of genes with a given root mean square."""
    spread = CONSTANTS.log_effect_spread
    return rms * np.exp(rng.normal(-(spread**2), spread, n_genes))


def _draw_genes(
    rng: np.random.Generator,
    is_disease: np.ndarray,
    n_genes: int,
    n_types: int,
    share_without_effect: float,
    effect_scale: float,
) -> Genes:
    """Draw abundances, programmes, effects and dispersions of all genes."""
    abundance = rng.normal(0, CONSTANTS.log_abundance_sd, n_genes)
    log_base = abundance + _type_profiles(rng, n_types, n_genes)
    loadings = rng.normal(size=(n_types, N_PROGRAMMES, n_genes))
    loadings[:, 0] = loadings[0, 0]  # the first programme is common to all types
    loadings *= CONSTANTS.programme_sd / np.sqrt(N_PROGRAMMES)

    scale = effect_scale * _gene_scales(rng, 1.0, n_genes)
    side = np.where(is_disease, 0.5, -0.5)[:, None]
    main = CONSTANTS.donor_sd * rng.normal(size=(len(is_disease), n_genes))
    main += CONSTANTS.condition_sd * side * rng.normal(size=n_genes)
    interaction = CONSTANTS.interaction_sd * rng.normal(size=(len(main), n_types, n_genes))
    has_effect = rng.permutation(n_genes) >= round(share_without_effect * n_genes)
    effects = np.where(has_effect, scale * (main[:, None] + interaction), 0.0)

    # A few dispersion levels instead of a value per gene keep the truth's lookup table small.
    quantiles = stats.norm.ppf((np.arange(N_DISPERSIONS) + 0.5) / N_DISPERSIONS)
    theta = np.exp(-CONSTANTS.log_phi_mean - CONSTANTS.log_phi_sd * quantiles)
    level = rng.integers(N_DISPERSIONS, size=n_genes)
    return Genes(log_base, loadings, effects, has_effect, theta, level)


def _type_profiles(rng: np.random.Generator, n_types: int, n_genes: int) -> np.ndarray:
    """Log-fold profiles of types along a line, in which neighbours are similar; types x genes."""
    correlation = CONSTANTS.type_correlation
    profiles = rng.normal(size=(n_types, n_genes))
    for before, profile in pairwise(profiles):
        profile[:] = correlation * before + np.sqrt(1 - correlation**2) * profile
    return profiles * _gene_scales(rng, CONSTANTS.type_sd, n_genes)


def _draw_cells(rng: np.random.Generator, group_sizes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Donor, type, depth, and state along the programmes, of all cells, group by group."""
    donors, types = np.nonzero(group_sizes)
    donor_of, type_of = (np.repeat(code, group_sizes[donors, types]) for code in (donors, types))
    means = rng.normal(CONSTANTS.log_depth_mean, CONSTANTS.log_depth_sd_donors, len(group_sizes))
    depth = np.exp(rng.normal(means[donor_of], CONSTANTS.log_depth_sd_cells))
    return donor_of, type_of, depth, rng.normal(size=(len(depth), N_PROGRAMMES))
