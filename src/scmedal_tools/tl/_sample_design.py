"""Samples, the design of a study by a formula, and contrasts of its coefficients."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmedal_tools._data import check_anndata, check_obs
from scmedal_tools._how_to_install import how_to_install
from scmedal_tools._sample_model import is_estimable

from ._formula_with_stand_ins import formula_with_stand_ins

if TYPE_CHECKING:
    from anndata import AnnData

MIN_FREEDOM = 2
"""Samples more than coefficients."""

type Contrast = str | tuple[str, str, str] | Sequence[str] | np.ndarray | pd.Series
"""A coefficient by its name, ``(column, group, reference)``, several coefficients that are tested
at once, or weights of all coefficients."""


@dataclass(frozen=True)
class SampleDesign:
    """Samples, and what the model knows of them."""

    samples: pd.DataFrame
    """A row for each sample, those of a donor one after the other: donor and variables."""
    matrix: pd.DataFrame
    """Samples x coefficients."""
    of_cells: np.ndarray
    """Sample of each cell, by position."""
    contrasts: dict[str, np.ndarray]
    """By name, rows of the contrast x coefficients."""
    donor: np.ndarray
    """Donor of each sample, from 0."""
    has_donors: bool
    """Whether donors are in the formula."""

    def testable(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Contrasts that some of the samples suffice to estimate and test.

        They need samples of all that is compared, and what does not vary within donors has to
        leave a degree of freedom between them.
        """
        x, donor = self.matrix.to_numpy()[samples], self.donor[samples]
        if not len(x) or len(x) - np.linalg.matrix_rank(x) < MIN_FREEDOM:
            return {}
        between = np.isclose(_within(x, donor), 0).all(0)
        has_freedom = len(np.unique(donor)) > np.linalg.matrix_rank(x[:, between])
        return {
            name: weights
            for name, weights in self.contrasts.items()
            if is_estimable(x, weights) and (has_freedom or not weights[:, between].any())
        }

    def own_responses(self) -> list[str]:
        """Contrasts within donors, of whom several have more samples than one's response needs.

        To the model the others are replicates, as if donors responded equally.
        """
        within = _within(self.matrix.to_numpy(), self.donor)
        within[np.isclose(within, 0)] = 0
        of_donors = [within[self.donor == donor] for donor in np.unique(self.donor)]
        more = sum(len(rows) - 1 > np.linalg.matrix_rank(rows) for rows in of_donors)
        varies = within.any(0)
        return [name for name, c in self.contrasts.items() if more > 1 and c[:, varies].any()]

    def has_repeats(self, samples: np.ndarray) -> bool:
        """Whether a donor has several of these samples."""
        return len(np.unique(self.donor[samples])) < len(samples)


def sample_design(
    adata: AnnData,
    formula: str,
    donor_key: str,
    sample_key: str | None,
    contrast: Contrast | Mapping[str, Contrast] | None,
) -> SampleDesign:
    """Read the samples of a formula from the cells.

    Where the formula varies within donors, a donor's samples that it does not distinguish are
    summed: as replicates they would show how precise a donor's response is, and not how donors
    differ in it.

    Raises
    ------
    ImportError
        If formulaic-contrasts is not installed.
    ValueError
        If a column is missing or has gaps, a number varies within a sample, coefficients cannot be
        separated, there are too few samples or donors, or a contrast is not one of the formula's.

    Warns
    -----
    UserWarning
        If donors may respond differently to what varies within them, which the model leaves out.
    """
    try:
        from formulaic import Formula
        from formulaic.errors import FormulaicError
        from formulaic_contrasts import FormulaicContrasts
    except ImportError as error:
        raise ImportError(
            f"A formula needs formulaic-contrasts. {how_to_install('genes')}"
        ) from error
    check_anndata(adata)
    check_obs(adata, donor_key, what="donor_key")
    readable, stand_ins = formula_with_stand_ins(formula, adata.obs.columns)
    names = {stand_in: name for name, stand_in in stand_ins.items()}
    try:
        variables = sorted(names.get(x, x) for x in Formula(readable).required_variables)
    except FormulaicError as error:
        raise ValueError(f"formula={formula!r} cannot be read: {error}") from error
    for name in variables:
        check_obs(adata, name, what="formula")
    obs = pd.DataFrame({name: _plain(adata.obs[name]) for name in [donor_key, *variables]})
    obs[donor_key] = _names(adata.obs[donor_key])
    if sample_key is None:
        numbers = [name for name in variables if pd.api.types.is_numeric_dtype(obs[name])]
        keys = [donor_key, *(name for name in variables if name not in (donor_key, *numbers))]
    else:
        check_obs(adata, sample_key, what="sample_key")
        keys = [donor_key, sample_key]
        obs[sample_key] = _names(adata.obs[sample_key])
    of_cells = obs.groupby(keys, observed=True, sort=True).ngroup().to_numpy()
    samples = obs.groupby(of_cells).first()
    varying = [
        name for name in obs if (obs[name].to_numpy() != samples[name].to_numpy()[of_cells]).any()
    ]
    if varying:
        raise ValueError(
            f"{varying[0]!r} varies within {'a sample' if sample_key else 'the cells of a donor'}:"
            " variables of the formula are properties of samples. Name the column with the samples"
            " by sample_key, or average the variable over their cells; if its numbers stand for "
            f"groups, write adata.obs[{varying[0]!r}].astype('category')."
        )
    try:
        parsed = FormulaicContrasts(samples.rename(columns=stand_ins), readable)
    except FormulaicError as error:
        raise ValueError(f"formula={formula!r} cannot be computed: {error}") from error
    matrix = pd.DataFrame(parsed.design_matrix).astype(float)
    for stand_in, name in names.items():
        matrix.columns = matrix.columns.str.replace(stand_in, name, regex=False)
    if np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        raise ValueError(
            f"The coefficients of {formula!r} cannot be separated in {len(samples)} samples "
            f"({', '.join(matrix)}): one is a combination of others. Leave a variable out."
        )
    donor = samples[donor_key].cat.codes.to_numpy()
    if not np.allclose(_within(matrix.to_numpy(), donor), 0):
        same = matrix.groupby([donor, *(matrix[name] for name in matrix)], sort=False)
        merged = same.ngroup().to_numpy()
        samples, matrix = _merged(samples, merged), matrix.groupby(merged).first()
        of_cells = merged[of_cells]
    # Names of samples that are unique over donors.
    samples.index = samples[list(dict.fromkeys(keys))].astype(str).agg(" | ".join, axis=1)
    matrix.index = samples.index
    donor = pd.factorize(samples[donor_key])[0]
    contrasts = _named(parsed, matrix, donor_key, contrast, stand_ins)
    design = SampleDesign(samples, matrix, of_cells, contrasts, donor, donor_key in variables)
    if found := design.own_responses():
        warnings.warn(
            f"Donors have more samples than it takes to see what {' and '.join(found)} changes in "
            "each of them. If donors respond differently the p-values are too small: leave out "
            "of the formula what need not be distinguished, so that such samples are summed, or "
            "keep two samples of each donor, such as the first and the last visit.",
            UserWarning,
            stacklevel=3,
        )
    if len(design.testable(np.arange(len(samples)))) < len(contrasts):
        raise ValueError(
            f"{len(samples)} samples of {donor.max() + 1} donors are too few for the "
            f"{matrix.shape[1]} coefficients of {formula!r}: the donors of a group have to be "
            "compared with each other. Leave out variables, or add donors."
        )
    return design


def _within(x: np.ndarray, donor: np.ndarray) -> np.ndarray:
    """Deviations of samples from the mean of their donor."""
    return x - pd.DataFrame(x).groupby(donor).transform("mean").to_numpy()


def _merged(samples: pd.DataFrame, merged: np.ndarray) -> pd.DataFrame:
    """Samples that are one: the mean of what is a number, all of the names."""
    grouped = samples.groupby(merged)
    result = grouped.first()
    for name in samples.columns[(grouped.nunique() > 1).any()]:
        if pd.api.types.is_numeric_dtype(samples[name]):
            result[name] = grouped[name].mean()
        else:
            result[name] = grouped[name].agg(lambda names: "+".join(names.unique()))
    return result


def _plain(column: pd.Series) -> pd.Series:
    """Numbers as they are, everything else as names."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column
    return _names(column)


def groups_of(column: pd.Series) -> list[Any]:
    """Names by which a formula knows the groups of a column; the first is the reference."""
    return _plain(column).astype("category").cat.categories.tolist()


def _names(column: pd.Series) -> pd.Series:
    """Categories that occur, in their order; numbers of donors are names too."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(str).astype("category")
    return column.cat.remove_unused_categories()


def _named(
    parsed: Any,
    matrix: pd.DataFrame,
    donor_key: str,
    contrast: Contrast | Mapping[str, Contrast] | None,
    stand_ins: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """Contrasts by name; by default all coefficients but the intercept and the donors."""
    if contrast is None:
        nuisance = ("Intercept", f"{donor_key}[", f"C({donor_key})", f"C({donor_key},")
        contrast = {name: name for name in matrix if not name.startswith(nuisance)}
    if not isinstance(contrast, Mapping):
        contrast = {_name(contrast): contrast}
    if not contrast:
        raise ValueError("The formula has no variable: there is nothing to estimate or test.")
    return {name: _weights(parsed, matrix, value, stand_ins) for name, value in contrast.items()}


def _name(contrast: Contrast) -> str:
    if isinstance(contrast, str):
        return contrast
    if isinstance(contrast, tuple):
        column, group, reference = contrast
        return f"{column}: {group} - {reference}"
    if isinstance(contrast, (np.ndarray, pd.Series)):
        return "contrast"
    return " & ".join(contrast)


def _weights(
    parsed: Any, matrix: pd.DataFrame, contrast: Contrast, stand_ins: Mapping[str, str]
) -> np.ndarray:
    if isinstance(contrast, tuple):
        column, group, reference = contrast
        column = stand_ins.get(column, column)
        weights = parsed.contrast(column, reference, group).to_numpy(dtype=float)
    elif isinstance(contrast, (np.ndarray, pd.Series)):
        weights = np.asarray(contrast, dtype=float)
    else:
        names = [contrast] if isinstance(contrast, str) else list(contrast)
        if unknown := [name for name in names if name not in matrix]:
            raise ValueError(
                f"contrast={unknown[0]!r} is not a coefficient of the formula. Choose from "
                f"{', '.join(map(repr, matrix))}, or pass (column, group, reference)."
            )
        weights = np.eye(matrix.shape[1])[[matrix.columns.get_loc(name) for name in names]]
    weights = np.atleast_2d(weights)
    if weights.shape[1] != matrix.shape[1] or np.linalg.matrix_rank(weights) < len(weights):
        raise ValueError(
            f"A contrast has weights of {weights.shape[1]} coefficients, and the formula has "
            f"{matrix.shape[1]} ({', '.join(matrix)}); those that are tested at once must differ."
        )
    return weights
