"""Names beside points that cover neither each other nor other points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import textalloc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

STYLE: dict[str, Any] = {"linecolor": "0.5", "linewidth": 0.6, "draw_all": False}
STYLE |= {"avoid_label_lines_overlap": True}


def name_points(
    ax: Axes, points: NDArray, names: Sequence[str], around: NDArray | None = None, **style: Any
) -> None:
    """Write names beside points, with a line to those farther away.

    Parameters
    ----------
    ax
        Axes, with all else drawn: what comes later may move the points.
    points
        Coordinates of shape ``(n_names, 2)``. Names without a place are left out, last ones first.
    around
        Coordinates of points that are not to be covered, by default those that are named.
    **style
        See :func:`textalloc.allocate`.
    """
    if not len(names):
        return
    (x, y), around = points.T, points if around is None else around
    style = STYLE | style | dict(zip(("x_scatter", "y_scatter"), around.T, strict=True))
    textalloc.allocate(ax, x, y, list(names), **style)
