"""Differential expression of summed counts by PyDESeq2."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from scmedal_tools._compat import give_sizes
from scmedal_tools._data import warn_of_depth
from scmedal_tools._how_to_install import how_to_install
from scmedal_tools._sample_model import MANY_GENES, full_rank

from ._sample_design import sample_design
from ._sample_sums import MEASURED_DEPTH_RATIO, THIN, labels_of, sample_sums

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from ._sample_design import Contrast, SampleDesign
    from ._sample_sums import StateSums

TRIED = f"Up to twofold the p-values were not too small in the few data sets tried. {THIN}"
# Starting processes takes longer than the fits.
OPTIONS = {"quiet": True, "n_cpus": 1}


def pseudobulk_de(
    adata: AnnData,
    formula: str,
    donor_key: str,
    *,
    contrast: Contrast | Mapping[str, Contrast] | None = None,
    labels_key: str | None = None,
    sample_key: str | None = None,
    layer: str | None = None,
    size_factor_key: str | None = None,
    min_cells: int = 10,
    min_counts: float = 3.0,
) -> pd.DataFrame:
    """Test differential expression in sums of counts (pseudobulk), by PyDESeq2.

    The counts of the cells of each sample and cell type are summed, and PyDESeq2 fits a negative
    binomial model to the sums: an independent check of :func:`~scmedal_tools.tl.group_effects`,
    with the same arguments (but ``model``) and the same columns.

    Parameters
    ----------
    adata
        Cells x genes with raw counts, in memory or backed.
    formula
        Of properties of samples, such as ``"~ condition + age"``. Where donors have several
        samples each, the donor has to be in it, as in ``"~ donor + condition"``.
    donor_key
        Column of ``obs`` with the donors.
    contrast, labels_key, sample_key, layer, size_factor_key, min_cells, min_counts
        See :func:`~scmedal_tools.tl.group_effects`; a contrast of several coefficients at once is
        not offered. Size factors are PyDESeq2's, or those of ``group_effects`` where fewer than 50
        genes are tested.

    Returns
    -------
    pandas.DataFrame
        The columns of ``table`` of :func:`~scmedal_tools.tl.group_effects` but ``df`` and
        ``lfsr``, and no ``"overall"`` rows: each cell type is tested by itself. Effects are
        differences of base 2 logarithms, not shrunken. Genes with an outlier (Cook's distance)
        have no p-value, and no part in the adjustment.

    Raises
    ------
    ImportError
        If PyDESeq2 or formulaic-contrasts is not installed.
    ValueError
        As :func:`~scmedal_tools.tl.group_effects`, if donors have several samples and are not in
        the formula, or a contrast has several rows.

    Warns
    -----
    UserWarning
        For states that have too few samples; where cells differ in depth more than twofold with
        the contrast; where PyDESeq2 finds no trend of the dispersion; for counts of cells that
        have nearly the same total, such as SCTransform's; if genes were selected, without the
        totals of all; and if donors may respond differently to what varies within them.

    References
    ----------
    Love et al., Genome Biology 2014 (DESeq2); Muzellec et al., Bioinformatics 2023 (PyDESeq2).

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> table = smt.tl.pseudobulk_de(adata, "~ condition", "donor", layer="counts")
    >>> table.sort_values("p_value").head(10)[["variable", "log_fc", "adj_p_value"]].shape
    (10, 3)
    """
    try:
        import pydeseq2  # noqa: F401
    except ImportError as error:
        raise ImportError(f"tl.pseudobulk_de needs PyDESeq2. {how_to_install('genes')}") from error
    design = sample_design(adata, formula, donor_key, sample_key, contrast)
    if design.has_repeats(np.arange(len(design.samples))) and not design.has_donors:
        raise ValueError(
            f"Donors have several samples each, which PyDESeq2 would take for independent: put "
            f"{donor_key!r} into the formula, or use tl.group_effects, where donors are random. "
            "Samples that differ only in sample_key are summed without it."
        )
    for name, weights in design.contrasts.items():
        if len(weights) > 1:
            raise ValueError(
                f"contrast {name!r} tests several coefficients at once: use tl.group_effects."
            )
    labels = labels_of(adata, labels_key)
    states = sample_sums(adata, design, labels, layer, size_factor_key, min_cells, min_counts)
    tables, no_trend = [], []
    for state in states:  # one fit at a time in memory
        of_state, has_trend = _test(state, design)
        tables += of_state
        if not has_trend:
            no_trend.append(state.name)
    table = pd.concat(tables, ignore_index=True)
    if no_trend:
        warnings.warn(
            "PyDESeq2 found no trend of the dispersion with the mean, as is usual with few genes, "
            f"and used one dispersion as the prior of all genes: {', '.join(no_trend)}.",
            UserWarning,
            stacklevel=2,
        )
    warn_of_depth(table, MEASURED_DEPTH_RATIO, TRIED)
    return table


def _test(state: StateSums, design: SampleDesign) -> tuple[list[pd.DataFrame], bool]:
    """A table for each contrast, and whether the dispersion has a trend."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    samples = design.samples.iloc[state.sample]
    counts = pd.DataFrame(state.sums.counts.astype(int), samples.index, state.genes)
    matrix = design.matrix.iloc[state.sample]
    columns, of_all = full_rank(matrix.to_numpy())
    matrix = matrix.iloc[:, columns]
    fitted = DeseqDataSet(counts=counts, metadata=samples, design=matrix, **OPTIONS)
    if len(state.genes) < MANY_GENES:
        give_sizes(fitted, state.sizes)
    with warnings.catch_warnings():
        # Said for all states at once, with their names.
        warnings.filterwarnings("ignore", message="The dispersion trend curve fitting did not")
        fitted.deseq2()
    tables = []
    for name, weights in state.contrasts.items():
        contrast = weights[0] @ of_all
        tested = DeseqStats(fitted, contrast=contrast, independent_filter=False, **OPTIONS)
        tested.summary()
        found = tested.results_df
        p_values = found["pvalue"].to_numpy()
        adjusted = np.full(len(p_values), np.nan)
        known = ~np.isnan(p_values)
        adjusted[known] = stats.false_discovery_control(p_values[known])
        tables.append(
            pd.DataFrame(
                {
                    "variable": found.index,
                    "state": state.name,
                    "contrast": name,
                    "log_fc": found["log2FoldChange"].to_numpy(),
                    "se": found["lfcSE"].to_numpy(),
                    "p_value": p_values,
                    "adj_p_value": adjusted,
                    **state.numbers(design, weights),
                }
            )
        )
    return tables, fitted.uns["disp_function_type"] != "mean"
