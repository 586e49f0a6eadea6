"""Figures of a job, as PNG for the report and as PDF for a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from scmedal_tools.pl import save_figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.artist import Artist

ENDINGS = (".png", ".pdf")


def draw_and_save(file: Path, draw: Callable[..., Artist], *what: Any, **options: Any) -> None:
    """Draw a figure, and write it in every format.

    Parameters
    ----------
    file
        Where to write, whatever the ending.
    draw
        Function that gives a figure or axes, of ``what`` and the ``options``.
    """
    figure: Any = draw(*what, **options).get_figure(root=True)
    # Laid out once for all formats, and not twice for each.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ending in ENDINGS:
        save_figure(figure, file.with_suffix(ending))
    plt.close(figure)
