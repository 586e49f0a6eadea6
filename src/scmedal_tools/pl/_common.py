"""What figures share: how they are made and saved, and names that have to exist."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from scmedal_tools._data import check_argument, slots, whole, write_whole

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MAX_NAMED = 30


def new_figure(size: tuple[float, float]) -> Figure:
    """Make a figure of some width and height in inches that is shown only where it is returned."""
    figure = plt.figure(figsize=size, layout="constrained")
    # Made by pyplot so that notebooks know how to show it, closed so that it is shown only once.
    plt.close(figure)
    return figure


def axes_of(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes to draw on, by default those of a new figure, which pyplot shows."""
    return plt.figure(figsize=size, layout="constrained").add_subplot() if ax is None else ax


def figure_of(ax: Axes) -> Figure:
    """Return the whole figure that the axes are in."""
    return ax.figure.figure


def save_figure(figure: Figure, save: str | Path | None) -> None:
    """Write the figure to a file, if there is one."""
    if save is not None:
        write_whole(Path(save), lambda file: figure.savefig(file, bbox_inches="tight", dpi=150))


def plain(name: object) -> str:
    """Return a name from the data as matplotlib draws it letter by letter: ``$`` is not maths."""
    return str(name).replace("$", r"\$")


def widest(names: Iterable[object], size: float) -> float:
    """Return the width in inches of the widest of the names at a font size in points."""
    font = FontProperties(size=size)
    measure = text_to_path.get_text_width_height_descent
    return max(measure(str(name), font, False)[0] for name in names) / 72


def folded(name: str, width: float, size: float, n_lines: int = 3) -> str:
    """Break a name that is wider than some inches; of a long one the middle is left out."""
    if (needed := widest([name], size)) <= width:
        return name
    n_characters = max(int(0.9 * width / needed * len(name)), 4)
    if len(name) > n_lines * n_characters:
        kept = n_lines * n_characters // 2 - 1
        name = f"{name[:kept]}…{name[-kept:]}"
    return "\n".join(textwrap.wrap(name, n_characters))


def checked_names(
    names: str | Sequence[str], argument: str, place: str, known: Collection
) -> list[str]:
    """Return the names as a list, and refuse none and unknown ones."""
    if len(names) == 0:
        raise ValueError(f"`{argument}` is empty: give at least one name of {place}.")
    names = [names] if isinstance(names, str) else list(names)
    if unknown := [name for name in names if name not in known]:
        has = sorted(map(str, slots.without_those_of_scvi(known)))
        more = f" and {len(has) - MAX_NAMED:,} more" if len(has) > MAX_NAMED else ""
        raise KeyError(f"{unknown} not in {place}, which has {has[:MAX_NAMED]}{more}.")
    return names


def chosen_genes(genes: str | Sequence[str] | None, n_genes: int, size: pd.Series) -> list[str]:
    """Return the genes asked for; without any, the ``n_genes`` of the largest ``size``."""
    if genes is not None:
        return checked_names(genes, "genes", "the genes of the model", size.index)
    check_argument("n_genes", n_genes, whole())
    return list(size.dropna().nlargest(n_genes).index)


def is_umap(key: str) -> bool:
    """Return whether coordinates of ``obsm`` are a UMAP: ``X_umap`` or ``X_umap_<name>``."""
    return f"{key}_".startswith(slots.UMAP_PREFIX)


def balanced_columns(n_panels: int, most: int) -> int:
    """Return the columns of a grid of at most so many, its rows as equally full as can be."""
    return math.ceil(n_panels / math.ceil(n_panels / most))


def draw_matrix(ax: Axes, table: pd.DataFrame, cmap: Colormap | str, norm: Normalize) -> AxesImage:
    """Draw a table as coloured cells, its first row on top, every row and column named."""
    image = ax.imshow(table.to_numpy(), cmap=cmap, norm=norm, aspect="auto")
    n_rows, n_columns = table.shape
    ax.set_yticks(np.arange(n_rows), map(plain, table.index), fontsize=8)
    ax.set_xticks(np.arange(n_columns), map(plain, table.columns), fontsize=8, rotation=90)
    ax.set_yticks(np.arange(1, n_rows) - 0.5, minor=True)
    ax.set_xticks(np.arange(1, n_columns) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=0.5)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    return image
