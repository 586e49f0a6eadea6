"""Colours of batches, cell types and conditions."""

from __future__ import annotations

import math
from functools import cache
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb
from scanpy.pl import palettes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

# Of Okabe and Ito: distinguishable with every common colour vision deficiency.
BLUE, VERMILLION, YELLOW, PURPLE = "#0072B2", "#D55E00", "#F0E442", "#CC79A7"
GREEN, ORANGE, SKY_BLUE = "#009E73", "#E69F00", "#56B4E9"
# The first two differ most, and so on; yellow is pale on white.
OKABE_ITO = [BLUE, VERMILLION, SKY_BLUE, PURPLE, ORANGE, GREEN, YELLOW]
# Of Tol: muted, distinguishable with every common colour vision deficiency, and unlike those.
GROUP_COLORS = ["#999933", "#332288", "#882255"]
TOL = ["#CC6677", "#DDCC77", "#117733", "#88CCEE", "#44AA99", "#AA4499", "#661100", "#6699CC"]
FURTHER_COLORS = [*TOL, *OKABE_ITO, *palettes.default_28, *palettes.default_102]
PALE_OR_BLACK = ["white", "lightgrey", "black"]
# Distances from which on two colours of a column, and of two columns, count as different.
UNLIKE, UNLIKE_OTHERS = 0.10, 0.07
# Of Oklab: responses of the cones to linear red, green and blue, and its axes.
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def categories_of(column: pd.Series) -> pd.Categorical:
    """Return the values as categories. Boolean columns always have both, as in scanpy."""
    cells = pd.Categorical(column)
    return cells.set_categories([False, True]) if cells.categories.dtype == bool else cells


def is_categorical(column: pd.Series) -> bool:
    """Return whether values have a colour each, and no colour bar, for which they give a range."""
    kind = pd.api.types
    is_number = kind.is_numeric_dtype(column) and not kind.is_bool_dtype(column)
    return not is_number or not column.notna().any()


def palette(adata: AnnData, column: str) -> dict[Any, str]:
    """Return the colour of each category in ``uns``, after writing new ones if these are too few.

    A column gets :func:`default_colors`, or if these are like those of another column, others, so
    that a colour means one thing.
    """
    names, uns_key = categories_of(adata.obs[column]).categories, f"{column}_colors"
    if len(adata.uns.get(uns_key, ())) < len(names):
        taken = {
            to_hex(color)
            for other in adata.obs.columns.drop(column)
            for color in adata.uns.get(f"{other}_colors", ())
        }
        chosen = default_colors(len(names))
        if not all(_is_unlike(color, taken, UNLIKE_OTHERS) for color in chosen[: len(names)]):
            chosen = _further_colors(taken)
        adata.uns[uns_key] = list(islice(cycle(chosen), len(names)))
    return dict(zip(names, adata.uns.get(uns_key, ()), strict=False))


def default_colors(n_colors: int) -> list[str]:
    """Return colours for a column: of two or three groups those that no larger column gets.

    Of up to seven they are Okabe and Ito's, of more those scanpy sets where no style is in use.
    """
    if 1 < n_colors <= len(GROUP_COLORS):
        return [to_hex(color) for color in GROUP_COLORS]
    all_of = [OKABE_ITO, palettes.vega_10, palettes.default_20, palettes.default_28]
    unlike_groups = [_unlike_groups(colors) for colors in (*all_of, palettes.default_102)]
    return next((c for c in unlike_groups if len(c) >= n_colors), unlike_groups[-1])


def _unlike_groups(colors: Iterable[str]) -> list[str]:
    return [to_hex(color) for color in colors if _is_unlike(color, GROUP_COLORS, UNLIKE_OTHERS)]


def _further_colors(taken: set[str]) -> list[str]:
    """Return colours that are not taken, first those unlike all taken and unlike each other."""
    further = _unlike_groups(FURTHER_COLORS)
    free = [color for color in further if color not in taken]
    free.sort(key=lambda color: not _is_unlike(color, taken, UNLIKE_OTHERS))
    chosen: list[str] = []
    for color in free:
        if _is_unlike(color, [*chosen, *PALE_OR_BLACK, *GROUP_COLORS], UNLIKE):
            chosen.append(color)
    chosen += [color for color in dict.fromkeys(free) if color not in chosen]
    return chosen or further


def _is_unlike(color: str, others: Iterable[str], distance: float) -> bool:
    return all(math.dist(_oklab(color), _oklab(other)) >= distance for other in others)


@cache
def _oklab(color: str) -> tuple[float, ...]:
    """Coordinates in which distances are those that people see (Oklab, Ottosson 2020)."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return tuple(OKLAB @ np.cbrt(CONES @ linear))
