"""Means and confidence intervals over the folds of a cross-validation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats


def summarise_folds(table: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Mean over folds, with an interval from the t distribution.

    The limits are ``mean ± t * s / sqrt(n)``, with the standard deviation *s* of *n* folds
    (``n - 1`` in its denominator) and the quantile *t* of ``n - 1`` degrees of freedom. Folds
    share most of their training cells, and often donors: the interval says how much the folds
    differ, not what other donors would give.

    Parameters
    ----------
    table
        Columns ``fold`` and ``value``; all other columns say what was measured.
    level
        Coverage of the interval.

    Returns
    -------
    pandas.DataFrame
        A row for each combination of the other columns, in their order: ``mean``, ``lower``,
        ``upper`` and ``n``, the number of folds with a value. One fold has no limits (NaN).

    Raises
    ------
    KeyError
        If there is no column ``fold`` or ``value``.
    ValueError
        If nothing but these columns is there, or a fold has several values of the same thing,
        which would make the interval too narrow.

    Examples
    --------
    >>> import pandas as pd
    >>> import scmedal_tools as smt
    >>> table = pd.DataFrame({"fold": [0, 1, 2], "metric": "ASW", "value": [0.1, 0.2, 0.3]})
    >>> smt.bm.summarise_folds(table).round(3)
      metric  mean  lower  upper  n
    0    ASW   0.2 -0.048  0.448  3
    """
    missing = [name for name in ("fold", "value") if name not in table]
    if missing:
        raise KeyError(f"{missing} not in the table; its columns are {list(table)}.")
    keys = [name for name in table if name not in ("fold", "value")]
    if not keys:
        raise ValueError("No column says what was measured: add one, for example 'metric'.")
    repeated = table.duplicated(["fold", *keys])
    if repeated.any():
        row = table.loc[repeated, ["fold", *keys]].iloc[0].to_dict()
        raise ValueError(
            f"Folds have several values of the same thing, for example {row}: add the column in "
            "which they differ, such as the seed, or average over it."
        )
    values = table.groupby(keys, observed=True, sort=False, dropna=False)["value"]
    summary = values.agg(["mean", "std", "count"])
    n = summary["count"]
    quantile = stats.t.ppf((1 + level) / 2, (n - 1).where(n > 1))
    half = quantile * summary["std"] / np.sqrt(n)
    mean = summary["mean"]
    limits = {"mean": mean, "lower": mean - half, "upper": mean + half, "n": n}
    return pd.DataFrame(limits).reset_index()
