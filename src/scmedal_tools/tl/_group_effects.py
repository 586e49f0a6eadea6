"""What conditions and covariates change, per gene and cell type, when donors vary."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats

from scmedal_tools._data import extent, warn_of_depth
from scmedal_tools._sample_model import Response, fit_samples

from ._sample_design import sample_design
from ._sample_sums import (
    MEASURED_DEPTH_RATIO,
    THIN,
    labels_of,
    merge_states,
    sample_sums,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scmedal_tools._sample_model import Estimates, SampleFit
    from scmedal_tools.model import SCMEDAL_RE

    from ._sample_design import Contrast, SampleDesign
    from ._sample_sums import StateSums

OVERALL = "overall"
MEASURED = f"Up to twofold the p-values were right where it was measured. {THIN}"
# Of what is not measured, in natural logarithms: nothing that is has a weight near it.
NOT_MEASURED = 1e4
# Degrees of freedom from which on Student's t is reported as the normal distribution that it is.
NORMAL = 1e6
# Genes below which what they say of variances leaves p-values too small.
FEW_GENES = 20


@dataclass(frozen=True)
class GroupEffects:
    """Result of :func:`group_effects`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> found = smt.tl.group_effects(adata, "~ condition", "donor", layer="counts")
    >>> found.samples.obs[["donor", "condition"]].to_numpy().tolist()[0]
    ['donor_01', 'control']
    """

    table: pd.DataFrame
    """A row for each gene, state and contrast."""
    samples: AnnData
    """What the model was fitted to, samples in a state x genes."""


def group_effects(
    adata: AnnData,
    formula: str,
    donor_key: str,
    *,
    contrast: Contrast | Mapping[str, Contrast] | None = None,
    labels_key: str | None = None,
    model: SCMEDAL_RE | None = None,
    sample_key: str | None = None,
    layer: str | None = None,
    size_factor_key: str | None = None,
    min_cells: int = 10,
    min_counts: float = 3.0,
) -> GroupEffects:
    r"""Test differential expression between conditions, with donors as random effects.

    Counts are summed over the cells of each sample and cell type; a mixed model of each gene is
    fitted to their logarithms, which knows from the cells how precise each sum is. No network is
    needed. A sample is what a donor has under one combination of the formula's variables, so that
    a condition may differ between donors or within them (pairs, visits).

    Parameters
    ----------
    adata
        Cells x genes with raw counts, in memory or backed.
    formula
        Of properties of samples, such as ``"~ condition + age + sex"``; interactions and functions
        as in the package formulaic.
    donor_key
        Column of ``obs`` with the donors, the random effects.
    contrast
        What to estimate: the name of a coefficient; ``(column, group, reference)``; weights of all
        coefficients; a list of coefficients, which are tested at once, without an estimate; or
        several of these by names, as a dictionary. By default every coefficient but the intercept.
    labels_key
        Column of ``obs`` with cell types or states: effects are estimated in each, and over all of
        them. By default all cells are of one.
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE` of the donors, whose states of the content
        take the place of cell types where there are none.
    sample_key
        Column of ``obs`` with samples, where donors have several with the same values of the
        formula's variables, or numbers that vary within a donor. If the formula varies within
        donors, those of a donor with the same values are summed, as without ``sample_key``.
    layer
        Layer with the raw counts; ``None`` for ``adata.X``.
    size_factor_key
        Column of ``obs`` with the total counts of each cell over all genes, where ``adata`` has
        only some of them: after :func:`~scmedal_tools.pp.preprocess`,
        ``"total_counts_all_genes"``. By default the sum of the given counts. Sizes of samples are
        these totals times a trimmed mean over genes, or, where fewer than 50 genes have 3 counts
        in the mean of the samples, the plain totals.
    min_cells
        Fewest cells of a sample in a state; a sample with less is left out there.
    min_counts
        Fewest counts of a gene in the mean of the samples in a state; genes with less are not
        tested there.

    Returns
    -------
    GroupEffects
        ``table`` has the columns

        - ``variable``, the gene; ``state``, a cell type, ``"overall"`` for what all of them have
          in common, or ``"all cells"`` without types; and ``contrast``.
        - ``log_fc``: the effect, as a difference of base 2 logarithms, and ``se``, its standard
          error. Both are missing where several coefficients are tested.
        - ``df``: degrees of freedom of the p-value's Student's t, which is scaled so that its
          standard deviation is ``se``: few where few donors decide, 6 or more for a coefficient;
          infinite, a normal distribution, where none do.
        - ``p_value``, and ``adj_p_value``, adjusted by Benjamini and Hochberg's procedure over the
          genes of a state.
        - ``lfsr``: local false sign rate, the probability that the true effect is zero or has the
          opposite sign.
        - ``n_donors``, ``n_samples`` and ``n_cells``: numbers of donors, samples and cells used,
          those of the state, and *overall* those of all states in which the gene is measured.
        - ``depth_ratio``: factor by which the counts of a cell differ with the contrast; for a
          number, over its range.

        ``samples`` has a row for each sample and state: base 2 logarithms of counts per million in
        ``X``, what the model makes of the sample in ``layers["fitted"]``, and in ``obs`` its
        ``state``, the donor, the variables, ``n_cells`` and ``depth``, the mean counts of a cell.
        Genes that are not tested in a state are missing in its rows.

    Raises
    ------
    ImportError
        If formulaic-contrasts is not installed.
    ValueError
        If there are no raw counts, a column is missing or has gaps, a number varies within a
        sample, coefficients cannot be separated, or samples, donors or counts are too few.

    Warns
    -----
    UserWarning
        For states that have too few samples, or none of something that a contrast compares, which
        is left out there; where cells differ in depth more than twofold with the contrast; for
        counts of cells that have nearly the same total, such as SCTransform's; if genes were
        selected, without the totals of all; where fewer than 20 genes are tested; and where
        donors have more samples than it takes to see how each responds.

    Notes
    -----
    With the counts :math:`Y_{js}` of a gene in sample :math:`j` and state :math:`s`, the size
    :math:`N_{js}` of the sample (a trimmed mean over genes), and the overdispersion
    :math:`\phi_{js}` of the counts of cells within samples, which grows with their depth,

    .. math::

        \log \frac{Y_{js} + \phi_{js} / 2}{N_{js}}
        = c_s + x_j^\top \beta_s + b_{k(j)} + d_{js} + e_{js},
        \qquad e_{js} \sim N\!\Big(0, \frac{\phi_{js}}{N_{js} \, p_s}\Big)

    with random effects of the donor, :math:`b`, where it has several samples, and of the sample,
    :math:`d`. Their variances have a prior that is estimated from all genes, and everything is
    averaged over their posterior. *Overall* all states have the same :math:`\beta`, and the
    donor's :math:`b` in common.

    Where few donors decide about an effect, as with a skewed number or a donor who is alone in a
    group, p-values have the tails of Student's t: genes may have outliers among donors, which
    residuals do not show there.

    Where nothing differs, at most 5% of data sets should have any gene with an adjusted p-value
    below .05. Of data sets made of real cells 5% had (48 of 960, or 33 of 600 in designs with
    unequal groups) between two groups, most where three donors had half the depth of nine others
    (6 of 30), and with a number 3% (3 of 90), or 8% (28 of 360) with the sets that served to find
    and to choose the correction.

    An effect is a difference between samples. Whether the condition causes it depends on how
    donors came to it.

    References
    ----------
    Crowell et al., Nature Communications 2020 (sums of counts); Law et al., Genome Biology 2014
    (their precision); Smyth, Statistical Applications in Genetics 2004 (a prior of variances);
    Stephens, Biostatistics 2017 (local false sign rate); Box and Watson, Biometrika 1962 (few
    donors that decide).

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> found = smt.tl.group_effects(
    ...     adata, "~ condition", "donor", labels_key="cell_type", layer="counts", min_cells=5
    ... )
    >>> found.table.sort_values("p_value")[["variable", "state", "log_fc", "lfsr"]].shape[1]
    4
    """
    design = sample_design(adata, formula, donor_key, sample_key, contrast)
    labels = labels_of(adata, labels_key, model)
    states = sample_sums(adata, design, labels, layer, size_factor_key, min_cells, min_counts)
    _warn_of_few_genes(states)
    fitted = [_fitted(state, design) for state in states]
    tables = [table for part in fitted for table in _tables(part, design)]
    if len(states) > 1:
        tables += _overall(fitted, design)
    table = pd.concat(tables, ignore_index=True)
    warn_of_depth(table, MEASURED_DEPTH_RATIO, MEASURED)
    return GroupEffects(table, _samples(adata, design, fitted))


def _warn_of_few_genes(states: list[StateSums]) -> None:
    few = [f"{len(state.genes)} in {state.name}" for state in states
           if len(state.genes) < FEW_GENES]  # fmt: skip
    if few:
        warnings.warn(
            f"Few genes are tested: {', '.join(few[:10])}{', ...' if len(few) > 10 else ''}. How "
            f"much donors vary is learned from all of them: with fewer than {FEW_GENES} p-values "
            "are too small. Pass the counts of all genes, and look up those of interest in the "
            "table.",
            UserWarning,
            stacklevel=3,
        )


class _Fitted(NamedTuple):
    state: StateSums
    response: Response
    fit: SampleFit


def _fitted(state: StateSums, design: SampleDesign) -> _Fitted:
    response = state.sums.response(state.sizes)
    matrix = design.matrix.to_numpy()[state.sample]
    levels = [design.donor[state.sample]] if design.has_repeats(state.sample) else []
    contrasts = list(state.contrasts.values())
    return _Fitted(state, response, fit_samples(response, matrix, levels, contrasts))


def _tables(part: _Fitted, design: SampleDesign) -> list[pd.DataFrame]:
    """A table for each contrast in a state."""
    state = part.state
    return [
        _table(state.name, name, state.genes, found, design, state.numbers(design, weights))
        for (name, weights), found in zip(state.contrasts.items(), part.fit.contrasts, strict=True)
    ]


def _overall(fitted: list[_Fitted], design: SampleDesign) -> list[pd.DataFrame]:
    """What all states have in common: one effect, and a donor's deviation in all of them."""
    genes = fitted[0].state.genes
    for part in fitted[1:]:
        genes = genes.union(part.state.genes, sort=False)
    sample = np.concatenate([part.state.sample for part in fitted])
    of_state = np.repeat(np.arange(len(fitted)), [len(part.state.sample) for part in fitted])
    order = np.lexsort((of_state, sample))  # rows of a sample, and of a donor, in succession
    response = Response(
        np.zeros((len(sample), len(genes))), np.full((len(sample), len(genes)), NOT_MEASURED)
    )
    for i, part in enumerate(fitted):
        where = np.ix_(of_state == i, genes.get_indexer(part.state.genes))
        for total, values in zip(response, part.response, strict=True):
            total[where] = values
    response = Response(*(values[order] for values in response))
    sample, of_state = sample[order], of_state[order]
    # Intercepts of all states but the first, which has that of the formula.
    intercepts = np.eye(len(fitted))[of_state][:, 1:]
    matrix = np.hstack([intercepts, design.matrix.to_numpy()[sample]])
    names = [c for c in design.contrasts if any(c in part.state.contrasts for part in fitted)]
    before = intercepts.shape[1]
    contrasts = [np.pad(design.contrasts[name], ((0, 0), (before, 0))) for name in names]
    levels = [design.donor[sample]]
    if design.has_repeats(np.unique(sample)):
        levels.insert(0, sample)
    fit = fit_samples(response, matrix, levels, contrasts)
    measured = np.array([genes.isin(part.state.genes) for part in fitted])
    tables = []
    for name, found in zip(names, fit.contrasts, strict=True):
        in_state = np.array([name in part.state.contrasts for part in fitted])
        tested = measured[in_state].any(0)
        numbers = _numbers([part.state for part in fitted], measured[:, tested], design, name)
        found = found.of_genes(tested)
        tables.append(_table(OVERALL, name, genes[tested], found, design, numbers))
    return tables


def _numbers(
    states: list[StateSums], measured: np.ndarray, design: SampleDesign, contrast: str
) -> dict[str, np.ndarray]:
    """What is used for a contrast of each gene, by the states (rows) in which it is measured."""
    kinds, of_genes = np.unique(measured, axis=1, return_inverse=True)
    merged = [merge_states([s for s, there in zip(states, kind, strict=True) if there], OVERALL)
              for kind in kinds.T]  # fmt: skip
    table = pd.DataFrame([of.numbers(design, design.contrasts[contrast]) for of in merged])
    return {name: table[name].to_numpy()[of_genes] for name in table}


def _table(
    state: str,
    contrast: str,
    genes: pd.Index,
    found: Estimates,
    design: SampleDesign,
    numbers: Mapping[str, float | np.ndarray],
) -> pd.DataFrame:
    """Rows of the genes in a state."""
    weights = design.contrasts[contrast]
    single = len(weights) == 1
    p_values = found.p_values()
    return pd.DataFrame(
        {
            "variable": genes,
            "state": state,
            "contrast": contrast,
            "log_fc": found.mean / np.log(2) if single else np.nan,
            "se": found.sd / np.log(2) if single else np.nan,
            "df": np.where(found.df < NORMAL, found.df, np.inf),
            "p_value": p_values,
            "adj_p_value": stats.false_discovery_control(p_values),
            "lfsr": found.lfsr(extent(design.matrix.to_numpy(), weights)[0]) if single else np.nan,
            **numbers,
        }
    )


def _samples(adata: AnnData, design: SampleDesign, fitted: list[_Fitted]) -> AnnData:
    """Samples in each state, as base 2 logarithms of counts per million."""
    parts = []
    for state, response, fit in fitted:
        obs = design.samples.iloc[state.sample].assign(
            state=state.name, n_cells=state.sums.n_cells, depth=state.depth
        )
        obs.index += f" | {state.name}"
        part = AnnData(_log_cpm(response.values), obs, pd.DataFrame(index=state.genes))
        part.layers["fitted"] = _log_cpm(fit.fixed + fit.effects)
        parts.append(part)
    samples = anndata.concat(parts, join="outer", fill_value=np.nan)
    return samples[:, adata.var_names[adata.var_names.isin(samples.var_names)]].copy()


def _log_cpm(log_shares: np.ndarray) -> np.ndarray:
    return (log_shares + np.log(1e6)) / np.log(2)
