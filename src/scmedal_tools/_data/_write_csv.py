"""CSV files for people, whose spreadsheets would run what looks like a formula."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from ._writing import write_whole

if TYPE_CHECKING:
    from pathlib import Path

BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(file: Path, table: pd.DataFrame, **options: Any) -> None:
    """Write a table that people open; see :func:`without_formulas`.

    Parameters
    ----------
    file
        Where to write, whole or not at all.
    table
        The table.
    **options
        Arguments of :meth:`pandas.DataFrame.to_csv`.
    """
    write_whole(file, partial(without_formulas(table).to_csv, **options))


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Put a quote before text in cells, headers and index that would be a formula.

    Numbers stay as they are, also where they are text.
    """
    table = table.copy()
    for name in table.columns[~table.dtypes.map(is_numeric_dtype).to_numpy(dtype=bool)]:
        table[name] = table[name].map(_as_text)
    return table.rename(index=_as_text, columns=_as_text).rename_axis(index=_as_text)


def _as_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    formula = value.startswith(BEGINNINGS)
    # Before Python 3.13, a carriage return is not quoted and ends the row.
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    if not formula:
        return value
    return value if pd.notna(pd.to_numeric(value, errors="coerce")) else f"'{value}"
